/* The store's setting for new chunks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/store_internal.h"

enum { ZSTD_LEVEL_DEFAULT = 3, ZSTD_LEVEL_MAX = 19 };

int store_parse_compression(const char *text, struct store_compression *ret, struct errbuf *err)
{
	char *end;
	long level;

	if (strcmp(text, "none") == 0) {
		*ret = (struct store_compression){CODEC_NONE, 0};
		return 0;
	}
	if (strcmp(text, "lz4") == 0) {
		*ret = (struct store_compression){CODEC_LZ4, 0};
		return 0;
	}
	if (strcmp(text, "zstd") == 0) {
		*ret = (struct store_compression){CODEC_ZSTD, ZSTD_LEVEL_DEFAULT};
		return 0;
	}
	if (strncmp(text, "zstd:", 5) == 0 && text[5] >= '1' && text[5] <= '9') {
		level = strtol(text + 5, &end, 10);
		if (!*end && level <= ZSTD_LEVEL_MAX) {
			*ret = (struct store_compression){CODEC_ZSTD, (int)level};
			return 0;
		}
	}
	return err_set(err, -EINVAL,
		       "unknown compression \"%s\": use none, lz4, zstd or zstd:LEVEL (1 to %d)",
		       text, ZSTD_LEVEL_MAX);
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

void store_get_compression(struct store *store, struct store_compression *ret)
{
	uint64_t both = atomic_load(&store->compression);

	ret->codec = (enum codec)(both >> 32);
	ret->level = (int)(both & UINT32_MAX);
}

bool compression_is_valid(const struct store_compression *compression)
{
	bool zstd = compression->codec == CODEC_ZSTD;

	return (unsigned)compression->codec <= CODEC_ZSTD && compression->level >= (zstd ? 1 : 0) &&
	       compression->level <= (zstd ? ZSTD_LEVEL_MAX : 0);
}

int store_set_compression(struct store *store, const struct store_compression *compression)
{
	if (!compression_is_valid(compression))
		return -EINVAL;
	atomic_store(&store->compression,
		     (uint64_t)compression->codec << 32 | (uint64_t)compression->level);
	return 0;
}
