/* What came over, and what was in conflict, in order of path. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/array.h"
#include "snapshot/carry_internal.h"
#include "snapshot/path.h"

char *path_in_head(struct merge *merge, uint64_t directory, const char *name, size_t length)
{
	char *path;
	if (path_of_name(merge->graft.to, merge->reader, directory, name, length, &path) == 0)
		return path;
	return strndup(name, length);
}

int conflict_add(struct merge *merge, enum carry_conflict kind, uint32_t mode, uint64_t size,
		 char *path, struct conflict **ret)
{
	if (!path)
		return -ENOMEM;
	struct conflict *grown = array_reserve(merge->conflicts, merge->conflict_count + 1,
					       &merge->conflict_capacity, sizeof(grown[0]));
	if (!grown) {
		free(path);
		return -ENOMEM;
	}
	merge->conflicts = grown;
	struct conflict *conflict = &merge->conflicts[merge->conflict_count++];
	*conflict = (struct conflict){
		.kind = kind,
		.resolved = merge->options->policy,
		.path = path,
		.mode = mode,
		.size = size,
	};
	*ret = conflict;
	return 0;
}

static int compare_paths(const void *left, const void *right)
{
	const struct conflict *a = left, *b = right;
	return strcmp(a->path, b->path);
}

static int compare_conflicts(const void *left, const void *right)
{
	const struct conflict *a = left, *b = right;
	int order = compare_paths(a, b);
	return order ? order : (int)a->kind - (int)b->kind;
}

struct reporting {
	struct merge *merge;
	struct diff_summary summary;
	size_t next; /* conflict */
};

static int report(struct reporting *reporting, const struct carry_entry *entry)
{
	const struct carry_options *options = reporting->merge->options;
	return options->entry ? options->entry(entry, options->context) : 0;
}

static struct carry_entry of_conflict(const struct conflict *conflict)
{
	return (struct carry_entry){
		.op = conflict->kind == CARRY_DELETED_CHANGED ? DIFF_REMOVED
		      : conflict->kind == CARRY_BOTH_CHANGED  ? DIFF_MODIFIED
		      : conflict->kind == CARRY_RENAMED_TWICE || conflict->kind == CARRY_CYCLE
			      ? DIFF_RENAMED
			      : DIFF_ADDED,
		.path = conflict->path,
		.mode = conflict->mode,
		.size = conflict->size,
		.conflict = conflict->kind,
		.resolved = conflict->resolved,
		.copy_path = conflict->copy_path,
	};
}

/* Conflicts whose path comes before `path` (NULL: all that are left). */
static int report_conflicts(struct reporting *reporting, const char *path)
{
	struct merge *merge = reporting->merge;
	for (; reporting->next < merge->conflict_count; reporting->next++) {
		const struct conflict *conflict = &merge->conflicts[reporting->next];
		if (path && strcmp(conflict->path, path) > 0)
			return 0;
		const struct carry_entry entry = of_conflict(conflict);
		int result = report(reporting, &entry);
		if (result)
			return result;
	}
	return 0;
}

/* The change that a conflict's resolution made is told by the conflict. */
static bool is_told(const struct reporting *reporting, const char *path)
{
	const struct merge *merge = reporting->merge;
	const struct conflict wanted = {.path = (char *)path};
	return merge->conflict_count && bsearch(&wanted, merge->conflicts, merge->conflict_count,
						sizeof(merge->conflicts[0]), compare_paths);
}

static int visit_change(const struct diff_entry *change, void *context)
{
	struct reporting *reporting = context;
	struct diff_summary *summary = &reporting->summary;
	uint64_t *count = change->op == DIFF_ADDED     ? &summary->added
			  : change->op == DIFF_REMOVED ? &summary->removed
						       : &summary->modified;
	++*count;
	int result = report_conflicts(reporting, change->path);
	if (result || is_told(reporting, change->path))
		return result;
	const struct carry_entry entry = {
		.op = change->op,
		.path = change->path,
		.old_path = change->old_path,
		.mode = change->mode,
		.size = change->op == DIFF_REMOVED ? change->old_size : change->new_size,
	};
	return report(reporting, &entry);
}

int merge_report(struct merge *merge, struct diff_summary *ret)
{
	struct reporting reporting = {.merge = merge};
	if (merge->conflict_count)
		qsort(merge->conflicts, merge->conflict_count, sizeof(merge->conflicts[0]),
		      compare_conflicts);
	int result = diff_trees(merge->head, merge->graft.to, merge->reader, visit_change,
				&reporting, merge->err);
	if (!result)
		result = report_conflicts(&reporting, NULL);
	if (!result)
		*ret = reporting.summary;
	return result;
}
