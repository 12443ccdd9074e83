/* How the entries of a diff look to people. */
#ifndef CAIRN_TOOLS_CHANGES_H
#define CAIRN_TOOLS_CHANGES_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

struct changes {
	long long added, removed, modified, attributes, renamed;
	long long old_bytes, new_bytes; /* of regular files */
};

void changes_count(const json_t *entries, struct changes *ret);
/* "3 added, 1 removed, …; 1.0 KiB before, 1.5 KiB now", a line */
void changes_print_counts(FILE *stream, const struct changes *changes);
json_t *changes_json(const struct changes *changes); /* NULL: no memory */

/* A line an entry, "+ path", of the first `limit`; in colour on a terminal. -ENOMEM. */
int changes_print(FILE *stream, const json_t *entries, size_t limit);

#endif
