/*
 * What the files of a mount share (internal to fs/).
 *
 *   mount.c            life cycle            mount_options.c   the -o list
 *   unmount.c          taking it away        mount_table.c     what umount(8) knows of it
 *   dispatch.c         the request loop      deferred.c        what waits: fsync, throttled
 *                                            writes, seeks
 *   ring.c             requests through io_uring: ring_serve.c, on uring.c
 *   nodes.c            node numbers, look-up counts, unlinked files
 *   scope.c            where a request reads and what it may change
 *   ops_*.c            the operations        acl.c             POSIX ACL arithmetic
 *   coherence.c        barrier, freeze       restore.c         restore: switch.c is its moment,
 *                                            tell_kernel.c the invalidation
 *   revise.c           carry and restore of paths, beside programs at work
 *   users.c            who has files open     awake.c           quick turns with clients
 *   atime.c            access times
 *
 * Threads: the dispatcher reads requests and answers what does not wait, and so do the threads of
 * the ring, one a processor, where there is one; the sync thread answers
 * FSYNC; the throttle thread takes in writes that are over the budget; the seek thread answers
 * LSEEK on files that are open for writing, and RENAME that moved directories; the engine's workers
 * answer reads from packs.
 *
 * Lock order (outermost first):
 *   1. mount->restore_lock   one restore at a time
 *      mount->still_lock     one restore or freeze at a time
 *   2. head lock             snapshot/repo.h; covers the tree, hot inodes, handles, aliases
 *   3. nodes.lock, views.lock, deferred.lock, questions_lock, state_lock: leaves, nothing is taken
 *      under them
 * Replies are sent with no lock held: the kernel may come back at once (with a FORGET), and a
 * reply to an interrupted request must not be waited for.
 */
#ifndef CAIRN_FS_MOUNT_INTERNAL_H
#define CAIRN_FS_MOUNT_INTERNAL_H

#include <dirent.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "fs/awake.h"
#include "fs/buffer.h"
#include "fs/data.h"
#include "fs/inode.h"
#include "fs/log.h"
#include "fs/mount.h"
#include "fs/ring.h"
#include "index/reader.h"
#include "index/util/u64map.h"
#include "snapshot/dirent.h"
#include "snapshot/inode.h"
#include "snapshot/repo.h"
#include "snapshot/xattr.h"

/*
 * Node numbers.
 *
 *   live tree     epoch (22 bits) | ino (40 bits); the epoch is 0 but for aliases (below)
 *   .snapshots    NODE_VIEW
 *   in a point    NODE_VIEW | point id (22 bits) | ino (40 bits)
 *
 * Aliases.  With its writeback cache the kernel believes its own size and times of a regular
 * file for as long as it knows the inode, whatever we answer; and pages that are dirty when a
 * forced restore comes must not get into the restored file.  So a regular file that a restore
 * changed gets a new epoch where the kernel knows it: later look-ups return another node number,
 * the kernel makes a new inode, and all requests on the old number answer ESTALE.
 * So does a directory that was removed and that a restore brings back, as the kernel may still
 * hold the removed one and would refuse to work in it.
 */
#define NODE_VIEW (UINT64_C(1) << 62)
enum { NODE_INO_BITS = 40, NODE_EPOCH_BITS = 22 };
#define NODE_INO_MAX ((UINT64_C(1) << NODE_INO_BITS) - 1)
#define NODE_EPOCH_MAX ((UINT64_C(1) << NODE_EPOCH_BITS) - 1)

#define POINTS_NAME ".snapshots"
/* Of files, as on ext4; directories may hold any number of directories, as there. */
enum { LINK_MAX_COUNT = 65000 };
enum { REQUEST_MAX = 1 << 20 };

static inline uint64_t node_ino(uint64_t node)
{
	return node & NODE_INO_MAX;
}

static inline uint64_t node_epoch(uint64_t node)
{
	return node >> NODE_INO_BITS & NODE_EPOCH_MAX;
}

static inline bool node_is_view(uint64_t node)
{
	return node & NODE_VIEW;
}

struct nodes {
	pthread_mutex_t lock;
	struct u64map known;	/* lock: node -> look-ups that the kernel will forget */
	struct u64map gone;	/* lock: known node that a restore took away -> last attributes */
	struct u64map aliases;	/* head lock: ino -> epoch, where it is not 0 */
	struct u64map unlinked; /* head lock: ino -> enum unlinked_state, each with a reference */
	_Atomic size_t unlinked_count;
};

enum unlinked_state { UNLINKED_FRESH = 1, UNLINKED_RECORDED }; /* has an ORPHAN item */

/* An open file of the live tree; fi->fh points to it. */
struct handle {
	struct inode *inode; /* a reference */
	uint64_t node;	     /* as it was opened */
	bool writes;
	struct handle *next, *previous; /* head lock: mount->handles */
};

/* An open view of a point (points.lock: all but the tree, which is fixed). */
struct view {
	uint64_t point;
	struct tree *tree; /* owned */
	unsigned users;
	bool dropped; /* from the table: the last user frees it */
	struct view *next;
};

enum { POINT_VIEWS = 1024 };

struct points {
	pthread_mutex_t lock;
	struct view *views[POINT_VIEWS]; /* lock: by id of the point */
	struct timespec changed;	 /* lock */
	pthread_mutex_t changing;	 /* outside of lock, never taken by an operation */
	uint64_t journal; /* changing: the last entry whose names the kernel was told to forget */
};

struct deferred_sync;
struct deferred_write;
struct deferred_seek;
struct deferred_move;
struct parked_open;
struct held_question;

enum { DEFERRED_THREADS = 3 };

struct deferred {
	pthread_mutex_t lock;
	pthread_cond_t sync_wanted, write_wanted, seek_wanted;
	struct deferred_sync *syncs;
	struct deferred_seek *seeks;
	struct deferred_move *moves;
	uint64_t *stale; /* owned: nodes whose attributes the kernel should ask for again */
	size_t stale_count, stale_capacity;
	struct deferred_write *first_write, **last_write;
	_Atomic size_t writes; /* queued or being taken in */
	bool stopping;
	pthread_t threads[DEFERRED_THREADS];
};

/* The last ctime that the kernel sent for a file, in nanoseconds; remembered for a moment. */
struct sent_time {
	uint64_t ino;
	int64_t ctime;
};
enum { SENT_TIMES = 256 };

/* What waits while a restore is under way. */
enum hold {
	HOLD_NOTHING,
	HOLD_EVERYTHING, /* whatever would make a writer */
};

struct mount {
	/* Fixed after the start. */
	struct repo *repo;
	struct store *store;
	struct engine *engine;
	struct buffer_pool *buffers;
	struct head *head; /* owned reference */
	struct tree *tree; /* the head's */
	char *mountpoint;  /* absolute */
	char *workspace, *fuse_options;
	bool keeps_atime; /* neither read-only nor noatime */
	bool noxattr;	  /* extended attributes are neither shown nor changed */
	/*
	 * Seconds that the kernel may keep entries and attributes: FOREVER, or 0 with allow_root.
	 * The kernel knows no allow_root; libfuse refuses requests of others, and what the kernel
	 * answers by itself would be open to them.
	 */
	double remembered;
	struct fuse_session *session;
	dev_t device;
	_Atomic bool registered; /* umount(8) knows of it */
	_Atomic bool cut;	 /* dispatch_cut(): the dispatcher is to end */
	_Atomic bool served;	 /* it reads no more requests */

	struct inode_table inodes;
	struct nodes nodes;
	struct points points;
	struct deferred deferred;

	struct handle *handles;	    /* head lock */
	uint64_t open_files;	    /* head lock */
	uint64_t open_for_writing;  /* head lock */
	enum hold hold;		    /* head lock */
	struct parked_open *parked; /* head lock */
	struct change_list
		*changes;	  /* head lock: where switched() leaves what the kernel must hear */
	struct timespec switched; /* head lock: time of the last restore */
	struct sent_time sent[SENT_TIMES]; /* head lock: by number of the inode */
	uint32_t releases;	  /* head lock: since the last reap */
	size_t atimes_waiting;	  /* head lock: about as many inodes have `atime_waits` */
	_Atomic bool draining;	  /* after a restore, the kernel's own updates of times are stale */
	_Atomic size_t reads_out; /* with workers */

	pthread_mutex_t restore_lock;

	pthread_mutex_t still_lock;
	_Atomic bool still; /* writers hold still (coherence.c) */
	pthread_mutex_t questions_lock;
	struct held_question *questions; /* questions_lock */

	pthread_mutex_t state_lock;
	pthread_cond_t state_changed;
	bool ended;		       /* state_lock */
	void (*on_end)(void *context); /* state_lock */
	void *on_end_context;	       /* state_lock */
	pthread_t dispatcher;

	struct awake awake;
	struct ring *ring; /* fixed after the start; owned; NULL: all goes through /dev/fuse */

	/* The dispatcher's own. */
	uint64_t init_unique;
	uint32_t offered_flags, offered_flags2; /* by the kernel in INIT */
	bool extended_setxattr;			/* agreed on: SETXATTR carries flags */
};

/* ---- options (mount_options.c) ---- */

struct parsed_options {
	bool read_only, allow_other, allow_root, noatime, noxattr, sloppy;
	enum ring_choice ring;
	char *passed;	 /* owned: what goes to libfuse, each option with a leading comma */
	char *workspace; /* owned, may be NULL: as named by workspace= */
};
int mount_options_parse(const char *text, struct parsed_options *ret, struct errbuf *err);
void mount_options_release(struct parsed_options *options);

/* ---- the loop (dispatch.c) ---- */

int dispatch_attach(struct mount *mount); /* takes over the session's I/O */
void *dispatch_run(void *mount);	  /* the dispatcher thread */
/* Executes a request: for the loop, and for the ring's threads. */
struct request_frame;
void dispatch_process(struct mount *mount, const struct request_frame *frame);
void dispatch_cut(struct mount *mount);	  /* ends it though the kernel has not let go */
void mount_finish(struct mount *mount);	  /* its last act: everything is durable (mount.c) */
int mount_detach(struct mount *mount);	  /* takes it out of the name space (unmount.c) */
extern const struct fuse_lowlevel_ops mount_operations;

/* The request that this thread processes, as it came, or NULL (a request that was parked). */
struct request_frame {
	struct fuse_in_header *header; /* arguments behind it, in one piece */
	struct buffer *buffer;	       /* that it lies in; NULL: in an entry of the ring, */
	void *room;		       /* where the answer's contents may be put together */
	size_t room_size;
	uint32_t setxattr_flags;
	bool unnamed; /* O_TMPFILE, told to libfuse as CREATE */
	bool statx;   /* STATX, told to libfuse as GETATTR: reply_statx() */
};
extern _Thread_local struct request_frame request_frame;
const void *request_argument(void); /* behind the header */

/* Starts a thread with all signals blocked. */
int thread_start(pthread_t *ret, void *(*run)(void *), void *context);

/* ---- for umount(8) (mount_table.c) ---- */

/* Runs a program of $PATH, with its complaints thrown away: 0, -EIO where it failed, -errno. */
int program_run(char *const arguments[]);
/* Only for root, and best effort.  `source` as in the kernel's table. */
void mount_register(struct mount *mount, const char *source);
void mount_unregister(struct mount *mount);

/* ---- waiting (deferred.c) ---- */

int deferred_start(struct mount *mount);
void deferred_stop(struct mount *mount); /* answers what is queued, joins */
/* Takes over the request; `inode` (may be NULL) is referenced meanwhile. */
void defer_sync(struct mount *mount, fuse_req_t request, struct inode *inode);

/* The kernel is to ask for this node's attributes again, before the next FSYNC is answered (leaf
 * lock only; without memory it is not done). */
void defer_stale_attributes(struct mount *mount, uint64_t node);

/* A WRITE on its way into the data engine. */
struct write_request {
	fuse_req_t request;
	struct handle *handle;
	uint64_t node;
	uint64_t offset;
	const uint8_t *bytes; /* in the buffer, or where they stay until it is answered */
	size_t length;
	bool from_cache;      /* writeback: the kernel keeps the times */
	bool kill_privileges;
};
/* `buffer` may be NULL: the bytes are copied. */
void defer_write(struct mount *mount, const struct write_request *write, struct buffer *buffer);
/* 0, or the error for the reply; -EAGAIN: over the budget (ops_data.c) */
int write_take_in(struct mount *mount, const struct write_request *write, struct buffer *buffer);

/* LSEEK with SEEK_DATA or SEEK_HOLE. */
struct seek_request {
	fuse_req_t request;
	struct handle *handle; /* NULL in a point */
	uint64_t node, offset;
	int whence;
};
/* Answers it once the file's pages that are dirty in the kernel have arrived. */
void defer_seek(struct mount *mount, const struct seek_request *seek);
void seek_finish(struct mount *mount, const struct seek_request *seek); /* ops_seek.c */

/* A RENAME that is done, and the directories that it gave another parent. */
struct move_request {
	fuse_req_t request;
	uint64_t nodes[2];
	size_t count;
};
/* Answers it with success once the kernel has let go of what it read in them. */
void defer_move(struct mount *mount, const struct move_request *move);

/* ---- nodes (nodes.c) ---- */

void nodes_init(struct nodes *nodes);
void nodes_release(struct nodes *nodes);
uint64_t node_of(const struct mount *mount, uint64_t ino);	/* head lock */
bool node_is_current(const struct mount *mount, uint64_t node); /* head lock */
int node_new_epoch(struct mount *mount, uint64_t ino);		/* head lock, exclusive */
int node_count_lookup(struct mount *mount, uint64_t node);
bool node_forget(struct mount *mount, uint64_t node, uint64_t count); /* true: for good */
bool node_is_known(struct mount *mount, uint64_t node);
size_t nodes_known(struct mount *mount);
/* What is no longer in the tree but still held by processes can be looked at, as after unlink(2).
 * -ESTALE where nothing is known of it. */
void node_note_gone(struct mount *mount, uint64_t node, const struct inode_attr *attr);
int node_gone_attributes(struct mount *mount, uint64_t node, struct inode_attr *ret);

/* Unlinked inodes live until neither a handle, nor a worker, nor the kernel refers to them.
 * All under the exclusive head lock. */
int unlinked_reserve(struct mount *mount); /* the next unlinked_add() cannot fail */
void unlinked_add(struct mount *mount, struct inode *inode);
int unlinked_remove(struct mount *mount, struct reader *reader, struct inode *inode); /* linked */
void unlinked_try_delete(struct mount *mount, struct reader *reader, uint64_t ino);
int unlinked_record(struct mount *mount,
		    struct reader *reader); /* for a cut; deletes what it can */
void unlinked_after_switch(struct mount *mount, struct reader *reader);
void unlinked_delete_all(struct mount *mount); /* at the end */
int orphans_delete(struct mount *mount);       /* at the start */

/* ---- where a request reads, what it may change (scope.c) ---- */

struct scope {
	struct mount *mount;
	struct tree *tree;
	struct reader *reader;
	struct view *view; /* NULL: the live tree, under the shared head lock */
	uint64_t ino;
};
int scope_enter(struct mount *mount, uint64_t node, struct scope *ret);
void scope_leave(struct scope *scope);
int scope_attributes(struct scope *scope, uint64_t ino, struct inode_attr *ret);
uint64_t scope_node(const struct scope *scope, uint64_t ino);
void scope_stat(const struct scope *scope, uint64_t ino, const struct inode_attr *attr,
		struct stat *ret);

struct change {
	struct mount *mount;
	struct tree *tree;
	struct reader *reader;
	uint64_t ino;
	struct timespec now;
};
int change_begin(struct mount *mount, uint64_t node, struct change *ret);
void change_end(struct change *change);
int change_load(struct change *change, uint64_t ino, struct inode **ret);
/* mtime and ctime of a directory whose entries changed; `links` is added to nlink. */
void change_touch_directory(struct change *change, struct inode *directory, int links);

void attr_to_stat(uint64_t st_ino, const struct inode_attr *attr, struct stat *ret);
/* The same with what is in memory only. */
void inode_to_stat(struct inode *inode, struct stat *ret);
/* The kernel may go on believing old attributes of a dirty inode: those of a directory, or another
 * st_blocks; while the file is open for writing, by more than 3 %: each telling costs a log that
 * grows with fsync a question (head lock). */
bool inode_is_told_wrong(struct inode *inode);
struct timespec time_now(void);
int64_t time_nanoseconds(const struct timespec *time); /* clamped */
void time_hear(const struct timespec *time); /* a ctime that the kernel sent; any thread */

/* ---- replies (scope.c) ---- */

int fs_errno(int error); /* negative, below fs/ -> positive, for the kernel (I6) */
void reply_error(struct mount *mount, fuse_req_t request, uint64_t node, int error);
void reply_attr(fuse_req_t request, const struct stat *stat);
/* `born` may be NULL: nobody knows. */
void reply_statx(fuse_req_t request, const struct stat *stat, const struct timespec *born);
/* After node_count_lookup(), which is undone where the kernel did not take the reply. */
void reply_counted_entry(struct mount *mount, fuse_req_t request, uint64_t node,
			 const struct stat *stat);
void entry_fill(const struct mount *mount, uint64_t node, const struct stat *stat,
		struct fuse_entry_param *ret);
/* I6: names the file, and what chunk_read() found. */
void log_damage(struct mount *mount, uint64_t node, uint64_t offset, const struct errbuf *err);

#define FOREVER 1e9

/* ---- .snapshots (ops_points.c) ---- */

void points_init(struct points *points, struct repo *repo);
void points_release(struct points *points);
int view_open(struct mount *mount, uint64_t point, struct view **ret);
void view_close(struct mount *mount, struct view *view);
bool name_is_reserved(uint64_t directory, const char *name);
void points_lookup_root(struct mount *mount, fuse_req_t request); /* ".snapshots" itself */
void points_lookup(struct mount *mount, fuse_req_t request, const char *name);
void points_getattr(struct mount *mount, fuse_req_t request);
void points_stat(struct mount *mount, struct stat *ret);
void points_readdir(struct mount *mount, fuse_req_t request, size_t size, off_t offset, bool plus);

/* ---- operations ---- */

void op_lookup(fuse_req_t, fuse_ino_t, const char *);
void op_mknod(fuse_req_t, fuse_ino_t, const char *, mode_t, dev_t);
void op_mkdir(fuse_req_t, fuse_ino_t, const char *, mode_t);
void op_symlink(fuse_req_t, const char *, fuse_ino_t, const char *);
void op_create(fuse_req_t, fuse_ino_t, const char *, mode_t, struct fuse_file_info *);
void op_link(fuse_req_t, fuse_ino_t, fuse_ino_t, const char *);
void op_unlink(fuse_req_t, fuse_ino_t, const char *);
void op_rmdir(fuse_req_t, fuse_ino_t, const char *);
void op_rename(fuse_req_t, fuse_ino_t, const char *, fuse_ino_t, const char *, unsigned);
void op_forget(fuse_req_t, fuse_ino_t, uint64_t);
void op_forget_multi(fuse_req_t, size_t, struct fuse_forget_data *);
void op_getattr(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_setattr(fuse_req_t, fuse_ino_t, struct stat *, int, struct fuse_file_info *);
void op_readlink(fuse_req_t, fuse_ino_t);
void op_statfs(fuse_req_t, fuse_ino_t);
void op_open(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_read(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void op_write(fuse_req_t, fuse_ino_t, const char *, size_t, off_t, struct fuse_file_info *);
void op_release(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_fsync(fuse_req_t, fuse_ino_t, int, struct fuse_file_info *);
void op_fsyncdir(fuse_req_t, fuse_ino_t, int, struct fuse_file_info *);
void op_fallocate(fuse_req_t, fuse_ino_t, int, off_t, off_t, struct fuse_file_info *);
void op_lseek(fuse_req_t, fuse_ino_t, off_t, int, struct fuse_file_info *);
void op_copy_file_range(fuse_req_t, fuse_ino_t, off_t, struct fuse_file_info *, fuse_ino_t, off_t,
			struct fuse_file_info *, size_t, int);
void op_opendir(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void op_readdir(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void op_readdirplus(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void op_setxattr(fuse_req_t, fuse_ino_t, const char *, const char *, size_t, int);
void op_getxattr(fuse_req_t, fuse_ino_t, const char *, size_t);
void op_listxattr(fuse_req_t, fuse_ino_t, size_t);
void op_removexattr(fuse_req_t, fuse_ino_t, const char *);

/* ---- making files (ops_name.c, ops_open.c) ---- */

struct birth {
	uint64_t parent;
	const char *name; /* NULL: no name (O_TMPFILE) */
	uint32_t mode, umask, uid, gid, rdev;
	const char *target; /* of a symbolic link */
	bool hot;	    /* it will be open */
};
/* `ret_inode` is NULL where it is not hot. */
int node_make(struct change *change, const struct birth *birth, uint64_t *ret_ino,
	      struct inode_attr *ret_attr, struct inode **ret_inode);
int check_new_name(uint64_t directory, const char *name);

/* Opens that would make a writer wait while a restore is under way. */
struct open_request {
	fuse_req_t request;
	uint64_t node;	  /* of the file, or of the parent */
	const char *name; /* CREATE; NULL for OPEN and for a file without a name */
	bool creates;
	uint32_t mode;
	bool kill_privileges;
	struct fuse_file_info info;
};
void open_now(struct mount *mount, const struct open_request *open); /* may park it again */
enum parked { PARKED_STALE, PARKED_ALL };
void parked_release(struct mount *mount, enum parked which); /* executes those that wait */
void handle_close(struct mount *mount, struct handle *handle);	     /* exclusive head lock */
bool handle_is_current(const struct mount *mount, const struct handle *handle); /* head lock */

/* ---- attributes of contents (ops_attr.c) ---- */

/* Exclusive lock: the size is `size` from now on; counters follow, contents beyond it go. */
int inode_resize(struct change *change, struct inode *inode, uint64_t size);
/* The size grew by a write that is in the engine already. */
void inode_grow(struct mount *mount, struct inode *inode, uint64_t size);
/* A write, truncation or change of owner.  `by`: the request, where set-ids must go because it is
 * of somebody without CAP_FSETID or gives the file away; else NULL. */
void inode_kill_privileges(struct mount *mount, struct reader *reader, struct inode *inode,
			   fuse_req_t by);

/* ---- access times (atime.c) ---- */

bool atime_is_due(const struct mount *mount, const struct inode_attr *attr);
/* Somebody reads: true where that moved the access time.  Exclusive head lock. */
bool atime_touch(struct mount *mount, struct inode *inode);
void atime_note(struct mount *mount, uint64_t node); /* the same, no lock held */
void atimes_settle(struct mount *mount); /* what waits becomes dirty; exclusive head lock */

/* ---- xattrs and ACLs (ops_xattr.c) ---- */

/* What a new file inherits; sets `mode`. Blobs are malloc'ed, NULL where there is none. */
struct inherited_acl {
	uint8_t *access, *fallback; /* system.posix_acl_access, _default */
	size_t access_length, fallback_length;
};
int acl_inherit(struct change *change, struct inode *directory, uint32_t umask, uint32_t *mode,
		struct inherited_acl *ret);
void inherited_acl_release(struct inherited_acl *acl);
int inherited_acl_store(struct change *change, uint64_t ino, const struct inherited_acl *acl);
int acl_follow_mode(struct change *change, struct inode *inode); /* after chmod */

void getattr_reply(struct mount *mount, fuse_req_t request, uint64_t node);

/* ---- coherence (coherence.c, restore.c, switch.c) ---- */

/* mount_barrier() with the writers made to wait until mount_move_on(), which is due also after an
 * error.  still_lock held. */
int mount_still(struct mount *mount, struct errbuf *err);
void mount_move_on(struct mount *mount);
/* True: a GETATTR through a handle for writing that waits; it was taken over. */
bool still_holds_question(struct mount *mount, fuse_req_t request, uint64_t node);
void still_note_writer(struct mount *mount, uint64_t node); /* before it is told of its handle */

/* -ESTALE where a restore is under way and changed this name: the kernel must look again before
 * it renames or removes a directory by it.  Exclusive head lock. */
int restore_check_name(struct mount *mount, struct reader *reader, uint64_t directory,
		       const char *name);

extern const struct head_ops mount_head_ops;
void mount_switched(void *context, uint64_t old_root, uint64_t new_root);
/* For a message: "psql (pid 12, user bob) 'data/x', …"; malloc'ed, NULL where nobody is found. */
char *users_describe(const struct mount_user *users, size_t count);
/* Processes that use the mount; with `any` also those that only read or stay in it. */
int users_find(dev_t device, bool any, struct mount_user **ret, size_t *ret_count);

#endif
