/* SHA-256, and the lines that directories are digested from. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "index/util/array.h"
#include "snapshot/digest_internal.h"
#include "snapshot/xattr.h"

/* ---- hashing ---- */

int hasher_init(struct hasher *ret)
{
	/* Fetched once: looking an algorithm up costs more than hashing a small file. */
	struct hasher hasher = {EVP_MD_fetch(NULL, "SHA256", NULL), EVP_MD_CTX_new()};

	if (!hasher.method || !hasher.context) {
		hasher_release(&hasher);
		return -ENOMEM;
	}
	*ret = hasher;
	return 0;
}

void hasher_release(struct hasher *hasher)
{
	EVP_MD_CTX_free(hasher->context);
	EVP_MD_free(hasher->method);
	*hasher = (struct hasher){0};
}

int hasher_begin(struct hasher *hasher)
{
	return EVP_DigestInit_ex2(hasher->context, hasher->method, NULL) == 1 ? 0 : -EIO;
}

int hasher_add(struct hasher *hasher, const void *data, size_t length)
{
	return EVP_DigestUpdate(hasher->context, data, length) == 1 ? 0 : -EIO;
}

int hasher_end(struct hasher *hasher, struct digest *ret)
{
	return EVP_DigestFinal_ex(hasher->context, ret->bytes, NULL) == 1 ? 0 : -EIO;
}

static void write_hex(char *to, const uint8_t *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++) {
		to[2 * i] = digits[bytes[i] >> 4];
		to[2 * i + 1] = digits[bytes[i] & 15];
	}
}

void digest_text(const struct digest *digest, char ret[DIGEST_TEXT])
{
	write_hex(ret, digest->bytes, DIGEST_BYTES);
	ret[2 * DIGEST_BYTES] = '\0';
}

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

int digest_parse(const char *text, struct digest *ret)
{
	struct digest digest;

	if (strlen(text) != 2 * DIGEST_BYTES)
		return -EINVAL;
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		digest.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*ret = digest;
	return 0;
}

int digest_decode(const struct tree_item *item, struct digest *ret)
{
	if (item->length != DIGEST_BYTES || item->key.offset != 0)
		return -EUCLEAN;
	memcpy(ret->bytes, item->value, DIGEST_BYTES);
	return 0;
}

/* ---- names ---- */

static size_t escape(const char *name, size_t length, const char *special, char *ret)
{
	char *to = ret;

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)name[i];

		if (byte && strchr(special, byte)) {
			*to++ = '\\';
			*to++ = (char)('0' + (byte >> 6));
			*to++ = (char)('0' + (byte >> 3 & 7));
			*to++ = (char)('0' + (byte & 7));
		} else {
			*to++ = (char)byte;
		}
	}
	*to = '\0';
	return (size_t)(to - ret);
}

size_t digest_name(const char *name, size_t length, char ret[DIGEST_NAME_MAX])
{
	return escape(name, length, "\\\n\r", ret);
}

/* ---- extended attributes ---- */

enum {
	LIST_BYTES = 1 << 16, /* the kernel's limit */
	VALUE_BYTES = 1 << 16,
};

struct xattr_lines {
	char **lines; /* owned, and each of them */
	size_t count, capacity;
	uint8_t *value; /* owned: VALUE_BYTES bytes */
};

static void xattr_lines_release(struct xattr_lines *lines)
{
	for (size_t i = 0; i < lines->count; i++)
		free(lines->lines[i]);
	free(lines->lines);
	free(lines->value);
}

static char *xattr_line(const char *name, const uint8_t *value, size_t length)
{
	size_t name_length = strlen(name);
	char *line = malloc(4 * name_length + 2 * length + sizeof("=0x\n"));

	if (!line)
		return NULL;
	char *to = line + escape(name, name_length, "\\\n\r=", line);
	memcpy(to, "=0x", 3);
	write_hex(to + 3, value, length);
	memcpy(to + 3 + 2 * length, "\n", 2);
	return line;
}

static int xattr_lines_add(struct xattr_lines *lines, struct tree *tree, struct reader *reader,
			   uint64_t ino, const char *name)
{
	char **grown =
		array_reserve(lines->lines, lines->count + 1, &lines->capacity, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	lines->lines = grown;
	ssize_t length = xattr_get(tree, reader, ino, name, lines->value, VALUE_BYTES);
	if (length < 0)
		return length == -ENODATA ? -EUCLEAN : (int)length;
	char *line = xattr_line(name, lines->value, (size_t)length);
	if (!line)
		return -ENOMEM;
	lines->lines[lines->count++] = line;
	return 0;
}

static int xattr_lines_fill(struct xattr_lines *lines, struct tree *tree, struct reader *reader,
			    uint64_t ino)
{
	char *names = malloc(LIST_BYTES);
	lines->value = malloc(VALUE_BYTES);
	ssize_t length =
		names && lines->value ? xattr_list(tree, reader, ino, names, LIST_BYTES) : -ENOMEM;
	int error = length < 0 ? (int)length : 0;
	for (const char *name = names; !error && name < names + length; name += strlen(name) + 1)
		if (strcmp(name, "security.selinux") != 0)
			error = xattr_lines_add(lines, tree, reader, ino, name);
	free(names);
	return error;
}

static int line_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int xattrs_field(struct tree *tree, struct reader *reader, uint64_t ino,
			const struct inode_attr *attr, struct hasher *hasher, char ret[DIGEST_TEXT])
{
	struct xattr_lines lines = {0};
	struct digest digest;

	memcpy(ret, "-", 2);
	if (!(attr->flags & INODE_HAS_XATTRS))
		return 0;
	int error = xattr_lines_fill(&lines, tree, reader, ino);
	if (!error && lines.count) {
		qsort(lines.lines, lines.count, sizeof(lines.lines[0]), line_compare);
		error = hasher_begin(hasher);
		for (size_t i = 0; !error && i < lines.count; i++)
			error = hasher_add(hasher, lines.lines[i], strlen(lines.lines[i]));
		if (!error)
			error = hasher_end(hasher, &digest);
		if (!error)
			digest_text(&digest, ret);
	}
	xattr_lines_release(&lines);
	return error;
}

/* ---- lines ---- */

bool digest_is_kept(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode);
}

void digest_of_special(const struct inode_attr *attr, char ret[DIGEST_TEXT])
{
	if (S_ISCHR(attr->mode) || S_ISBLK(attr->mode))
		snprintf(ret, DIGEST_TEXT, "%u:%u", major(attr->rdev), minor(attr->rdev));
	else
		memcpy(ret, "-", 2);
}

static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	default:
		return 'f';
	}
}

int digest_fields(struct tree *tree, struct reader *reader, uint64_t ino,
		  const struct inode_attr *attr, struct hasher *xattrs, char ret[DIGEST_FIELDS_MAX])
{
	char mtime[40] = "-", size[24] = "-", names[DIGEST_TEXT];

	if (!S_ISDIR(attr->mode))
		snprintf(mtime, sizeof(mtime), "%lld.%09ld", (long long)attr->mtime.tv_sec,
			 attr->mtime.tv_nsec);
	if (S_ISREG(attr->mode) || S_ISLNK(attr->mode))
		snprintf(size, sizeof(size), "%llu", (unsigned long long)attr->size);
	int error = xattrs_field(tree, reader, ino, attr, xattrs, names);
	if (!error)
		snprintf(ret, DIGEST_FIELDS_MAX, "%c %o %u %u %s %s %s ", type_letter(attr->mode),
			 attr->mode & 07777, attr->uid, attr->gid, mtime, size, names);
	return error;
}
