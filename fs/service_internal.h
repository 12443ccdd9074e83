/* What the files of the service share (internal to fs/). */
#ifndef CAIRN_FS_SERVICE_INTERNAL_H
#define CAIRN_FS_SERVICE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>

#include "fs/mount.h"
#include "fs/service.h"
#include "index/reader.h"
#include "index/sweep.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"
#include "snapshot/workspace.h"

struct mounts;

/* The detail of the error of a daemon that takes no more requests (-ESHUTDOWN). */
#define SERVICE_ENDING "Its last mount is gone, and it writes what is left."

/* What points and heads hold together (snapshot/usage.h). */
struct store_space {
	bool known;
	uint64_t exclusive_bytes; /* sum of what each point holds alone */
	uint64_t shared_bytes;
};

struct service {
	struct repo *repo;	  /* owned, fixed after open */
	bool read_only;		  /* fixed after open */
	struct mounts *mounts;	  /* borrowed from the daemon; NULL in a command's own process */
	_Atomic int commit_error; /* of the daemon's last commit by itself; 0: it worked */

	pthread_mutex_t collect_lock; /* around each collection, dry ones too */
	pthread_mutex_t lock;	      /* innermost: nothing is taken under it */
	bool gc_running;	      /* lock: one gc at a time */
	uint64_t reclaimable;	      /* lock: found by the last marking … */
	uint64_t reclaimable_commit;  /* lock: … at this commit; UINT64_MAX: unknown */
	struct store_space space;     /* lock: the same of status' figures of points */
	uint64_t space_commit;	      /* lock */
};

/* Who asks, and how to talk to him meanwhile.  `progress` and `gone` may be NULL. */
struct asker {
	uid_t uid;
	gid_t gid;
	bool remote; /* over the socket */
	service_progress *progress;
	bool (*gone)(void *context); /* nobody waits for the result any more */
	void *context;
};

/* One request on its way through a handler. */
struct request {
	struct service *service;
	const json_t *arguments; /* names and types were checked against the operation's table */
	const struct asker *asker;
	const char *by;	   /* the argument, or the asker's name */
	const char *user;  /* the asker's name, whatever the argument says */
	struct errbuf err; /* for the error's message */
	json_t *detail;	   /* owned; for the error, NULL: none */
};

/* Fills `ret` with what goes under "ok" and returns 0, or returns negative errno. */
typedef int service_handler(struct request *request, json_t **ret);

json_t *service_execute(struct service *service, const json_t *request, const struct asker *asker);

/* ---- arguments (service.c) ---- */

const char *request_text(const struct request *request, const char *name); /* NULL: absent */
bool request_flag(const struct request *request, const char *name);	   /* absent: false */
const json_t *request_value(const struct request *request, const char *name);
/* A path, decoded and malloc'ed; "" where absent. */
int request_path(const struct request *request, const char *name, char **ret);
/* The texts of an array, borrowed; free the array itself. NULL, 0 where absent or empty. */
int request_texts(const struct request *request, const char *name, const char ***ret,
		  size_t *ret_count);
/* The workspace that is meant: as named, or by `spec` (may be NULL), or the default. malloc'ed. */
int request_workspace(struct request *request, const char *spec, char **ret);
int request_point(struct request *request, const char *name, struct point *ret);
/* "@head" or "WORKSPACE@head"? (service_state.c) */
bool spec_is_head(const char *spec);
/* request_workspace() for a spec that may be one of these.  malloc'ed. */
int request_spec_workspace(struct request *request, const char *spec, char **ret);
/* A time to come; 0 where absent. */
int request_until(struct request *request, const char *name, int64_t *ret);
int request_verdict(struct request *request, enum verdict *ret); /* "verdict", must be there */

/* Paths, decoded: free with free_paths().  NULL, 0 where absent or empty. */
int request_paths(const struct request *request, const char *name, char ***ret,
		  size_t *ret_count);
void free_paths(char **paths, size_t count);

/* ---- changing a workspace from below (service_restore.c) ---- */

json_t *summary_json(const struct diff_summary *summary);
int users_json(const struct mount_user *users, size_t count, json_t **ret);
int revise_workspace(struct request *request, const char *workspace,
		     const struct mount_revision *revision, json_t **ret_blockers);
int safety_json(struct repo *repo, const struct point *safety, bool dry_run, json_t **ret);

/* ---- handlers ---- */

#define SERVICE_HANDLERS(X)                                                                        \
	X(ping)                                                                                    \
	X(mount)                                                                                   \
	X(umount)                                                                                  \
	X(sync)                                                                                    \
	X(status)                                                                                  \
	X(freeze)                                                                                  \
	X(restore)                                                                                 \
	X(carry)                                                                                   \
	X(log)                                                                                     \
	X(show)                                                                                    \
	X(diff)                                                                                    \
	X(ls)                                                                                      \
	X(cat)                                                                                     \
	X(find)                                                                                    \
	X(clone)                                                                                   \
	X(workspace_list)                                                                          \
	X(workspace_create)                                                                        \
	X(workspace_rename)                                                                        \
	X(workspace_delete)                                                                        \
	X(rename)                                                                                  \
	X(delete)                                                                                  \
	X(hold)                                                                                    \
	X(release)                                                                                 \
	X(verdict)                                                                                 \
	X(tag)                                                                                     \
	X(journal)                                                                                 \
	X(journal_verify)                                                                          \
	X(prune)                                                                                   \
	X(usage)                                                                                   \
	X(digest)                                                                                  \
	X(digest_check)                                                                            \
	X(extract)                                                                                 \
	X(gc)                                                                                      \
	X(check)

#define SERVICE_DECLARE(name) int service_##name(struct request *request, json_t **ret);
SERVICE_HANDLERS(SERVICE_DECLARE)
#undef SERVICE_DECLARE

/* ---- space (service_store.c, service_space.c) ---- */

/* For collections and the like, whose context is the request. */
int request_progress(const char *phase, uint64_t done, uint64_t total, void *context);
int request_stop_if_gone(const char *phase, uint64_t done, uint64_t total, void *context);

/* Collects, after the collection that may be running now. */
int service_collect(struct request *request, bool dry_run, struct sweep_result *ret);
/* What a marking found: for status, as long as nothing is committed. */
void service_remember_reclaimable(struct service *service, uint64_t bytes);

/* Adds exclusive_bytes and shared_bytes; null where the store is damaged. */
int point_space_json(struct request *request, const struct point *point, json_t *object);
int store_space_measure(struct request *request, struct store_space *ret);

/* ---- states: what a spec stands for, as immutable trees (service_state.c) ---- */

enum { STATES_MAX = 2 };

struct state {
	bool is_head;
	char *workspace;    /* owned; of a head */
	struct point point; /* of a point */
	struct tree *tree;  /* owned */
};

/* All trees are read through the one reader, so that they belong to one commit. */
struct states {
	struct service *service;
	struct state list[STATES_MAX];
	int count;
	struct reader *reader; /* owned */
};

/* Specs of points, or @head (also WORKSPACE@head): then first everything that was written so far is
 * committed, and that commit is shown. */
int states_open(struct request *request, const char *const *specs, int count, struct states *ret);
/* For points only: lets go of an old reader (it holds back the reuse of pages). */
int states_renew(struct states *states);
void states_release(struct states *states);

/* ---- mounts of this daemon (service_mounts.c) ---- */

/* A mount that is held here neither stops nor is freed until it is put back. */
struct mount_slot;
struct mount *slot_mount(struct mount_slot *slot);

/* The mount of a workspace, or NULL (also in a command's own process).  Where somebody is about
 * to unmount it, waits for the outcome. */
struct mount_slot *mounts_take(struct service *service, const char *workspace);
void mounts_put(struct service *service, struct mount_slot *slot);
/* All of them, except (unless `wait`) those that are about to stop. */
int mounts_take_all(struct service *service, bool wait, struct mount_slot ***ret,
		    size_t *ret_count);
void mounts_put_all(struct service *service, struct mount_slot **slots, size_t count);
/* Points of a workspace came, went or have other names. */
void mounts_points_changed(struct service *service, uint64_t workspace);

/* For the daemon. `wake` is an eventfd that is written to whenever a mount has ended. */
struct mounts *mounts_new(struct engine *engine, int wake);
struct mounts *mounts_free(struct mounts *mounts); /* none may be left */
void mounts_reap(struct mounts *mounts);	   /* frees those that have ended */
bool mounts_are_empty(struct mounts *mounts);
/* True where there is none (left) and none on its way; from then on none is accepted. */
bool mounts_close(struct mounts *mounts);
void mounts_refuse(struct mounts *mounts); /* from now on none is accepted, whatever there is */
/* Unmounts all of them, lazily where they are busy. 0 if none is left. */
int mounts_stop_all(struct mounts *mounts);

/* ---- JSON (service_json.c) ---- */

json_t *json_text(const char *bytes); /* encoded; NULL gives null */
json_t *json_text_of(const char *bytes, size_t length);
json_t *json_time(int64_t ns);
json_t *json_timespec(const struct timespec *time);
json_t *json_number(uint64_t number);
json_t *json_hex(const uint8_t *bytes, size_t length);
const char *json_file_type(uint32_t mode);

/* The workspaces of a store, for the names in points. */
struct names {
	struct workspace *workspaces; /* owned */
	size_t count;
};
int names_load(struct repo *repo, struct names *ret);
void names_release(struct names *names);
const char *names_of_workspace(const struct names *names, uint64_t id); /* NULL: unknown */

int point_json(struct repo *repo, const struct names *names, const struct point *point,
	       json_t **ret);
/* The same where it is the only one. */
int point_json_alone(struct repo *repo, const struct point *point, json_t **ret);
/* Reads the point again first. */
int point_json_by_id(struct repo *repo, uint64_t id, json_t **ret);
int workspace_json(struct repo *repo, const struct workspace *workspace, json_t **ret);

/* Takes `json` over: 0, or -ENOMEM where it is NULL. */
int json_result(json_t *json, json_t **ret);

json_t *service_error_detail(enum service_code code, const char *message, json_t *detail);
enum service_code service_code_of(int error);

uint64_t service_clock(void); /* monotonic, ns */
/* Adds "elapsed_ns". */
int json_set_elapsed(json_t *object, uint64_t since);

/* What a check finds, for the "findings" of its result; at most 1000 are kept. */
struct findings {
	json_t *array; /* owned */
	bool lost;     /* memory was out */
};
void findings_add(const char *finding, void *findings);

#endif
