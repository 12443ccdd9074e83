#include "tools/output.h"

#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/command.h"
#include "tools/failure.h"

int64_t get_number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_real(value) ? (int64_t)json_real_value(value) : json_integer_value(value);
}

double get_real(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

const char *get_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

char *get_path(const json_t *object, const char *key)
{
	return service_decode_text(get_text(object, key));
}

char *get_quoted_path(const json_t *object, const char *key)
{
	char *path = get_path(object, key), *text = path ? format_path(path) : NULL;

	free(path);
	return text;
}

char *join_texts(const json_t *array, const char *separator)
{
	size_t size = 1, i;
	const json_t *item;
	char *result, *end;

	json_array_foreach(array, i, item) size += json_string_length(item) + strlen(separator);
	result = end = calloc(1, size);
	if (!result)
		return NULL;
	json_array_foreach(array, i, item)
	{
		if (i > 0)
			end = stpcpy(end, separator);
		if (json_is_string(item))
			end = stpcpy(end, json_string_value(item));
	}
	return result;
}

void output_json(const json_t *document)
{
	if (json_dumpf(document, stdout,
		       JSON_INDENT(2) | JSON_REAL_PRECISION(12) | JSON_ENCODE_ANY))
		fputs("{\"error\": {\"code\": \"failed\", \"message\": \"out of memory\", "
		      "\"detail\": null}}",
		      stdout);
	putchar('\n');
}

void print_process(FILE *stream, const json_t *process)
{
	char *path = get_quoted_path(process, "path");

	fprintf(stream, "  pid %lld (%s, user %s): %s\n", (long long)get_number(process, "pid"),
		get_text(process, "command"), get_text(process, "user"), path ? path : "");
	free(path);
}

/* Escaped into one line; names that are not UTF-8 as the bytes that they are. */
static char *one_line(const char *text)
{
	char *decoded = service_decode_text(text);
	char *escaped = decoded ? format_escape(decoded) : NULL;

	free(decoded);
	return escaped;
}

/* A value for -H: exact, without tabs and newlines; "-" where there is none. */
static char *raw_value(const json_t *value)
{
	char *text, *escaped;

	if (json_is_string(value) && json_string_length(value) > 0)
		return one_line(json_string_value(value));
	if (json_is_integer(value)) {
		if (asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(value)) < 0)
			return NULL;
		return text;
	}
	if (json_is_real(value)) {
		if (asprintf(&text, "%.6g", json_real_value(value)) < 0)
			return NULL;
		return text;
	}
	if (json_is_boolean(value))
		return strdup(json_is_true(value) ? "true" : "false");
	if (!json_is_array(value) || json_array_size(value) == 0)
		return strdup("-");
	text = join_texts(value, ",");
	escaped = text ? one_line(text) : NULL;
	free(text);
	return escaped;
}

static int print_raw_value(const struct invocation *invocation, const json_t *value, char end)
{
	char *text = raw_value(value);

	if (!text)
		return failure_memory(invocation);
	printf("%s%c", text, end);
	free(text);
	return 0;
}

static int output_raw(const struct invocation *invocation, const struct column *columns,
		      const json_t *rows)
{
	const struct column *last = NULL;
	const json_t *row;
	size_t i;

	for (const struct column *c = columns; c->title; c++)
		if (!(c->flags & COLUMN_TABLE_ONLY))
			last = c;
	json_array_foreach(rows, i, row)
	{
		for (const struct column *c = columns; c->title; c++) {
			if (c->flags & COLUMN_TABLE_ONLY)
				continue;
			if (print_raw_value(invocation, json_object_get(row, c->key),
					    c == last ? '\n' : '\t'))
				return 1;
		}
	}
	return 0;
}

int output_properties(const struct invocation *invocation, const json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)object, key, value)
	{
		const json_t *first = json_array_get(value, 0);

		if (json_is_object(value) || json_is_object(first))
			continue;
		printf("%s\t", key);
		if (print_raw_value(invocation, value, '\n'))
			return 1;
	}
	return 0;
}

static char *first_line(const char *text)
{
	char *line = strndup(text, strcspn(text, "\n"));
	char *escaped = line ? one_line(line) : NULL;

	free(line);
	return escaped;
}

static char *cell_text(const struct column *column, const json_t *row)
{
	const json_t *value = json_object_get(row, column->key);
	char buffer[FORMAT_MAX] = "";
	int64_t seconds;

	if (column->text)
		return column->text(row);
	switch (column->kind) {
	case COLUMN_TEXT:
		return first_line(get_text(row, column->key));
	case COLUMN_LIST:
		return join_texts(value, ",");
	case COLUMN_NUMBER:
		snprintf(buffer, sizeof(buffer), "%lld", (long long)get_number(row, column->key));
		break;
	case COLUMN_SIZE:
		format_size((uint64_t)get_number(row, column->key), buffer);
		break;
	case COLUMN_AGE:
		if (format_parse_time(json_string_value(value), &seconds))
			format_age(seconds, (int64_t)time(NULL), buffer);
		break;
	}
	return strdup(buffer);
}

static int fill_line(struct libscols_line *line, const struct column *columns, const json_t *row)
{
	size_t number = 0;

	for (const struct column *c = columns; c->title; c++) {
		char *text;

		if (c->flags & COLUMN_RAW_ONLY)
			continue;
		text = cell_text(c, row);
		if (!text || scols_line_refer_data(line, number++, text))
			return -1;
	}
	return 0;
}

static int fill_table(struct libscols_table *table, const struct column *columns,
		      const json_t *rows)
{
	const json_t *row;
	size_t i;

	for (const struct column *c = columns; c->title; c++) {
		bool right = c->kind == COLUMN_NUMBER || c->kind == COLUMN_SIZE;
		int flags = (right ? SCOLS_FL_RIGHT : 0) |
			    (c->flags & COLUMN_SHRINKS ? SCOLS_FL_TRUNC : 0);

		if (!(c->flags & COLUMN_RAW_ONLY) &&
		    !scols_table_new_column(table, c->title, 0, flags))
			return -1;
	}
	json_array_foreach(rows, i, row)
	{
		struct libscols_line *line = scols_table_new_line(table, NULL);

		if (!line || fill_line(line, columns, row))
			return -1;
	}
	return scols_print_table(table);
}

static int output_table(const struct invocation *invocation, const struct column *columns,
			const json_t *rows)
{
	struct libscols_table *table;
	int error;

	if (json_array_size(rows) == 0)
		return 0;
	table = scols_new_table();
	if (!table)
		return failure_memory(invocation);
	error = fill_table(table, columns, rows);
	scols_unref_table(table);
	return error ? failure_memory(invocation) : 0;
}

int output_rows(const struct invocation *invocation, const struct column *columns,
		const json_t *rows)
{
	if (invocation->json) {
		output_json(rows);
		return 0;
	}
	return invocation->raw ? output_raw(invocation, columns, rows)
			       : output_table(invocation, columns, rows);
}
