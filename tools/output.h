/*
 * Results on stdout.  A list is an array of JSON objects; one description of its columns makes
 * the table for people, the lines of -H, and --json prints the array as it is.
 */
#ifndef CAIRN_TOOLS_OUTPUT_H
#define CAIRN_TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "tools/format.h"

struct invocation;

enum column_kind {
	COLUMN_TEXT, /* the first line of it, control characters escaped */
	COLUMN_NUMBER,
	COLUMN_SIZE,
	COLUMN_AGE,  /* an RFC 3339 time */
	COLUMN_LIST, /* array of texts, joined with commas */
};

enum column_flags {
	COLUMN_RAW_ONLY = 1 << 0,
	COLUMN_TABLE_ONLY = 1 << 1,
	COLUMN_SHRINKS = 1 << 2, /* cut where the terminal is too narrow */
};

struct column {
	const char *key;   /* in the row */
	const char *title; /* NULL ends a table */
	enum column_kind kind;
	unsigned flags;
	/* For tables, where the kind is not enough; malloc'ed, NULL without memory. */
	char *(*text)(const json_t *row);
};

/* --json, -H or table, as asked. Returns an exit code. */
int output_rows(const struct invocation *invocation, const struct column *columns,
		const json_t *rows);
/* "key<TAB>value" for each scalar of an object: -H of what is no list. */
int output_properties(const struct invocation *invocation, const json_t *object);
void output_json(const json_t *document);

/* "  pid 123 (vim): /path" for {"pid", "command", "path"}. */
void print_process(FILE *stream, const json_t *process);

/* Reading results; a key that is missing or null is 0 or "". */
int64_t get_number(const json_t *object, const char *key);
double get_real(const json_t *object, const char *key);
const char *get_text(const json_t *object, const char *key);
/* A path or file name as it is: not every name is UTF-8 (fs/service.h).  malloc'ed; NULL without
 * memory. */
char *get_path(const json_t *object, const char *key);
/* The same in one line, quoted where it must be (format_path). */
char *get_quoted_path(const json_t *object, const char *key);
/* An array of texts joined with ", "; malloc'ed, NULL without memory. */
char *join_texts(const json_t *array, const char *separator);

#endif
