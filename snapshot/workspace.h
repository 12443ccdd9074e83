/* Workspaces: named, mutable trees in a store. Names follow the rules of points' names and may not
 * contain '@'.  Whatever changes one is one commit, with its entry in the journal; `by` NULL: the
 * user of this process. */
#ifndef CAIRN_SNAPSHOT_WORKSPACE_H
#define CAIRN_SNAPSHOT_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

#include "snapshot/point.h"
#include "snapshot/repo.h"

struct workspace {
	uint64_t id;
	char *name;
	uint64_t root;
	uint64_t generation;
	uint64_t base; /* point id, 0: none */
	int64_t created_ns;
	struct head_counters counters;
	uint64_t *carried; /* points whose work came over (carry) since the base was made */
	size_t carried_count;
};

void workspace_release(struct workspace *workspace);
int workspace_check_name(const char *name, struct errbuf *err);

/* Makes an empty workspace: a root directory with mode 0755 owned by uid and gid. -EEXIST. */
int workspace_create(struct repo *repo, const char *name, uint32_t uid, uint32_t gid,
		     const char *by, struct errbuf *err);
/* A new workspace that starts as the point is; O(1). -EEXIST. */
int workspace_clone(struct repo *repo, const struct point *point, const char *name, const char *by,
		    struct errbuf *err);
/* The same from the present state of a workspace; its base is the base of that. */
int workspace_clone_head(struct head *head, const char *name, const char *by, struct errbuf *err);
int workspace_get(struct repo *repo, const char *name, struct workspace *ret); /* -ENOENT */
int workspace_list(struct repo *repo, struct workspace **ret, size_t *ret_count);
void workspaces_free(struct workspace *workspaces, size_t count);
int workspace_rename(struct repo *repo, const char *name, const char *new_name, const char *by,
		     struct errbuf *err);
/* Deletes a workspace with all its points.  -EBUSY while its head is open, or a point held. */
int workspace_delete(struct repo *repo, const char *name, bool dry_run, const char *by,
		     struct errbuf *err);

#endif
