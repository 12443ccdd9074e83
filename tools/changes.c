#include "tools/changes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/output.h"

static const char *colour_of(char op)
{
	switch (op) {
	case '+':
		return "\033[32m";
	case '-':
		return "\033[31m";
	case 'R':
		return "\033[36m";
	default:
		return "\033[33m";
	}
}

int changes_print(FILE *stream, const json_t *entries, size_t limit)
{
	bool colour = format_has_colour(fileno(stream));
	const json_t *entry;
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		const char *op = get_text(entry, "op");
		char *path, *old_path;
		bool good;

		if (i == limit)
			break;
		path = get_quoted_path(entry, "path");
		old_path = get_quoted_path(entry, "old_path");
		good = path && old_path;
		if (good)
			fprintf(stream, "%s%s %s%s%s%s\n", colour ? colour_of(op[0]) : "", op,
				old_path, old_path[0] ? " -> " : "", path, colour ? "\033[m" : "");
		free(path);
		free(old_path);
		if (!good)
			return -ENOMEM;
	}
	return 0;
}

void changes_count(const json_t *entries, struct changes *ret)
{
	struct changes changes = {0};
	const json_t *entry;
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		switch (get_text(entry, "op")[0]) {
		case '+':
			changes.added++;
			break;
		case '-':
			changes.removed++;
			break;
		case 'm':
			changes.attributes++;
			break;
		case 'R':
			changes.renamed++;
			break;
		default:
			changes.modified++;
		}
		if (strcmp(get_text(entry, "type"), "file") == 0) {
			changes.old_bytes += get_number(entry, "old_size");
			changes.new_bytes += get_number(entry, "new_size");
		}
	}
	*ret = changes;
}

void changes_print_counts(FILE *stream, const struct changes *changes)
{
	char old_size[FORMAT_MAX], new_size[FORMAT_MAX];

	fprintf(stream,
		"%lld added, %lld removed, %lld modified, %lld attributes only, %lld renamed; "
		"%s before, %s now\n",
		changes->added, changes->removed, changes->modified, changes->attributes,
		changes->renamed, format_size((uint64_t)changes->old_bytes, old_size),
		format_size((uint64_t)changes->new_bytes, new_size));
}

json_t *changes_json(const struct changes *changes)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "added", changes->added, "removed",
			 changes->removed, "modified", changes->modified, "attributes",
			 changes->attributes, "renamed", changes->renamed, "old_bytes",
			 changes->old_bytes, "new_bytes", changes->new_bytes);
}
