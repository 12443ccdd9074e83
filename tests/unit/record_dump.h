/* Records against their dumps in index/FORMAT.md.  With CAIRN_PRINT_VECTORS they are printed. */
#ifndef CAIRN_TESTS_RECORD_DUMP_H
#define CAIRN_TESTS_RECORD_DUMP_H

#include "index/reader.h"
#include "repo_testing.h"

/* As FORMAT.md shows it. */
static UNUSED void print_record(const char *name, struct bytes bytes)
{
	const uint8_t *data = bytes.data;
	printf("```record %s\n", name);
	for (size_t i = 0; i < bytes.length; i++) {
		if (i % 16 == 0)
			printf("%s%04zx ", i ? "\n" : "", i);
		printf(" %02x", data[i]);
	}
	printf("\n```\n");
}

static void assert_hex(struct bytes bytes, const char *expected)
{
	const uint8_t *data = bytes.data;
	for (size_t i = 0; i < bytes.length; i++) {
		unsigned byte;
		assert_int_equal(sscanf(expected, " %2x", &byte), 1);
		if (data[i] != byte)
			fail_msg("byte %zu is %02x, not %02x", i, data[i], byte);
		expected = strpbrk(expected, "0123456789abcdef") + 2;
	}
	assert_null(strpbrk(expected, "0123456789abcdef"));
}

/* The dump of that name in index/FORMAT.md as digits; false where there is none. */
static bool read_record(const char *name, char *ret, size_t capacity)
{
	char path[4096], line[256], fence[64];
	bool inside = false, found = false;
	snprintf(path, sizeof(path), "%.*s/../../index/FORMAT.md",
		 (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
	snprintf(fence, sizeof(fence), "```record %s\n", name);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	ret[0] = 0;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "```", 3) == 0) {
			inside = strcmp(line, fence) == 0;
			found = found || inside;
		} else if (inside) {
			assert_true(strlen(line) > 6 && strlen(ret) + strlen(line) < capacity);
			strcat(ret, line + 6); /* behind the offset */
		}
	}
	fclose(file);
	return found;
}

static UNUSED void assert_record(const char *name, struct bytes bytes, const char *vector)
{
	char text[4096];
	if (getenv("CAIRN_PRINT_VECTORS"))
		print_record(name, bytes);
	assert_hex(bytes, vector);
	if (read_record(name, text, sizeof(text)))
		assert_hex(bytes, text);
}

/* The dump is in the document alone, and must be there. */
static UNUSED void assert_dumped(const char *name, struct bytes bytes)
{
	char text[4096];
	if (getenv("CAIRN_PRINT_VECTORS"))
		print_record(name, bytes);
	assert_true(read_record(name, text, sizeof(text)));
	assert_hex(bytes, text);
}

#endif
