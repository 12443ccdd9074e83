/* Workspace records, for the files of snapshot/ that change them. */
#ifndef CAIRN_SNAPSHOT_WORKSPACE_INTERNAL_H
#define CAIRN_SNAPSHOT_WORKSPACE_INTERNAL_H

#include "index/redo.h"
#include "snapshot/repo_internal.h"
#include "snapshot/workspace.h"

/* Puts a head's state into its record; all else in the record stays. */
int workspace_put_state(struct commit *commit, uint64_t id, const struct head_state *state);

/* The same for the redo log: the record is that of the last commit. */
int workspace_log_state(struct redo *redo, struct reader *reader, uint64_t id,
			const struct head_state *state);

/* Replaces what was carried over into the head since its base. */
int workspace_put_carried(struct commit *commit, uint64_t id, const uint64_t *carried,
			  size_t count);

/* Hands it over (malloc'ed): the record has none any more. */
int workspace_take_carried(struct commit *commit, uint64_t id, uint64_t **ret, size_t *ret_count);

int workspace_decode(uint64_t id, struct bytes value, struct workspace *ret);
/* Reads by id: -ENOENT. */
int workspace_read(struct reader *reader, uint64_t id, struct workspace *ret);
int workspace_read_in_commit(struct commit *commit, uint64_t id, struct workspace *ret);

/* -ENOENT with a message that lists the workspaces there are. */
int workspace_not_found(struct repo *repo, const char *name, struct errbuf *err);

/* All workspaces as a commit or a reader sees them, in order of id; workspaces_free(). */
int workspaces_read(struct reader *reader, struct workspace **ret, size_t *ret_count);
int workspaces_read_in_commit(struct commit *commit, struct workspace **ret, size_t *ret_count);

#endif
