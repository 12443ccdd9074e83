/* The store's setting for new chunks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/store_internal.h"

enum { ZSTD_LEVEL_DEFAULT = 3, ZSTD_LEVEL_MAX = 19, ZSTD_LEVEL_REST = 3 };

/* "zstd" or "zstd:LEVEL"; 0 where it is neither. */
static int parse_zstd(const char *text, int preset)
{
	char *end;
	long level;

	if (strcmp(text, "zstd") == 0)
		return preset;
	if (strncmp(text, "zstd:", 5) != 0 || text[5] < '1' || text[5] > '9')
		return 0;
	level = strtol(text + 5, &end, 10);
	return !*end && level <= ZSTD_LEVEL_MAX ? (int)level : 0;
}

int store_parse_compression(const char *text, struct store_compression *ret, struct errbuf *err)
{
	int level = parse_zstd(text, ZSTD_LEVEL_DEFAULT);

	if (strcmp(text, "none") == 0) {
		*ret = (struct store_compression){.codec = CODEC_NONE};
		return 0;
	}
	if (strcmp(text, "lz4") == 0) {
		*ret = (struct store_compression){.codec = CODEC_LZ4};
		return 0;
	}
	if (level) {
		*ret = (struct store_compression){.codec = CODEC_ZSTD, .level = level};
		return 0;
	}
	return err_set(err, -EINVAL,
		       "unknown compression \"%s\": use none, lz4, zstd or zstd:LEVEL (1 to %d)",
		       text, ZSTD_LEVEL_MAX);
}

int store_parse_rest_compression(const char *text, struct store_compression *ret,
				 struct errbuf *err)
{
	int level = parse_zstd(text, ZSTD_LEVEL_REST);

	if (strcmp(text, "none") == 0)
		level = REST_OFF;
	if (!level)
		return err_set(err, -EINVAL,
			       "unknown compression at rest \"%s\": use none, zstd or zstd:LEVEL "
			       "(1 to %d)",
			       text, ZSTD_LEVEL_MAX);
	ret->rest_level = level;
	return 0;
}

void store_format_compression(const struct store_compression *compression, char ret[16])
{
	switch (compression->codec) {
	case CODEC_NONE:
		snprintf(ret, 16, "none");
		break;
	case CODEC_LZ4:
		snprintf(ret, 16, "lz4");
		break;
	case CODEC_ZSTD:
		snprintf(ret, 16, "zstd:%d", compression->level % 100);
		break;
	}
}

/* One word, so that who reads it sees one setting. */
static uint64_t pack_setting(const struct store_compression *compression)
{
	return (uint64_t)compression->codec << 32 |
	       (uint64_t)(uint8_t)compression->rest_level << 16 |
	       (uint64_t)(uint8_t)compression->level;
}

void store_get_compression(struct store *store, struct store_compression *ret)
{
	uint64_t setting = atomic_load(&store->compression);

	ret->codec = (enum codec)(setting >> 32);
	ret->rest_level = (int8_t)(setting >> 16 & 0xff);
	ret->level = (int)(setting & 0xff);
}

void store_get_rest_compression(struct store *store, struct store_compression *ret)
{
	struct store_compression setting;
	int level;

	store_get_compression(store, &setting);
	level = setting.rest_level;
	if (level == REST_DEFAULT)
		level = setting.codec == CODEC_LZ4 ? ZSTD_LEVEL_REST : REST_OFF;
	*ret = level == REST_OFF ? (struct store_compression){.codec = CODEC_NONE}
				 : (struct store_compression){.codec = CODEC_ZSTD, .level = level};
}

bool compression_is_valid(const struct store_compression *compression)
{
	bool zstd = compression->codec == CODEC_ZSTD;

	return (unsigned)compression->codec <= CODEC_ZSTD && compression->level >= (zstd ? 1 : 0) &&
	       compression->level <= (zstd ? ZSTD_LEVEL_MAX : 0) &&
	       compression->rest_level >= REST_OFF && compression->rest_level <= ZSTD_LEVEL_MAX;
}

int store_set_compression(struct store *store, const struct store_compression *compression)
{
	if (!compression_is_valid(compression))
		return -EINVAL;
	atomic_store(&store->compression, pack_setting(compression));
	return 0;
}
