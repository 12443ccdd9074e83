/*
 * An exerciser of file contents: random operations on a few files, each of them also carried out
 * on an image in memory, with which whatever is read must agree.
 *
 *   bytes.c       the command line, the table of operations, the steps
 *   model.c       images, random choices, the trace, telling of a failure
 *   files.c       files: handles, mappings, verification
 *   data_ops.c    operations on contents          name_ops.c    on names, handles and attributes
 *   point_ops.c   freeze, restore, delete, gc, remount, kill    command.c    running `cairn`
 *   committer.c   a thread that makes everything durable again and again, so that what is written
 *                 meets contents that are just being stored
 *
 * Each step draws from a random generator of its own, made of seed and step number.  So a run can
 * leave steps out (`--only`) and the others still do much the same: that is how the driver shortens
 * a sequence that fails.
 *
 * Nothing returns an error: what does not agree ends the program with fail().
 */
#ifndef CAIRN_TESTS_EXERCISE_BYTES_H
#define CAIRN_TESTS_EXERCISE_BYTES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	SLOTS = 8,    /* files with names, f0 to f7 */
	GHOSTS = 3,   /* files without: unlinked, still open */
	POINTS = 7,   /* known points of time */
	TRACE = 4096, /* steps remembered */
	PAGE = 4096,
	NAME_LENGTH = 200,
};

struct rng {
	uint64_t state;
};

/* What a file must contain. */
struct image {
	uint8_t *bytes; /* owned */
	size_t size, capacity;
};

struct mapping {
	uint8_t *at; /* NULL: none */
	size_t from, length;
};

struct file {
	int slot;	/* of the name; -1: a ghost */
	bool linked;	/* the name is there */
	bool allocated; /* blocks behind the end may count */
	size_t limit;	/* largest size */
	struct image image;
	int fd; /* O_RDWR, or -1 */
	struct mapping mapping;
	/* What a crash may take back: contents from here to there, and the name. */
	size_t changed_from, changed_to;
	bool name_changed;
};

struct point {
	char name[NAME_LENGTH]; /* "": free */
	bool linked[SLOTS];
	struct image images[SLOTS];
};

struct trace_entry {
	uint64_t number;
	const struct file *file;
	size_t from, to;
	char text[160];
};

struct world {
	const char *directory;
	const char *cairn, *store; /* NULL: a plain directory, no points */
	char prefix[64];	   /* of the names of points */
	uint64_t seed, number;
	int file_count;
	size_t scale;	/* of the larger files */
	struct rng rng; /* of this step */
	struct file files[SLOTS];
	struct file ghosts[GHOSTS]; /* free where fd is -1 */
	struct point points[POINTS];
	pid_t background;		/* a collection under way, or 0 */
	pthread_mutex_t committer_lock; /* held while the directory is open there */
	_Atomic bool commits;		/* the committer works */
	uint8_t *buffer;		/* of BUFFER_SIZE, page aligned */
	struct trace_entry trace[TRACE];
	uint64_t trace_count;
};
enum { BUFFER_SIZE = 96 << 20 };

/* ---- model.c ---- */

uint64_t rng_next(struct rng *rng);
size_t rng_below(struct rng *rng, size_t bound);
bool rng_chance(struct rng *rng, unsigned percent);
void rng_seed(struct rng *rng, uint64_t seed, uint64_t number);

void image_resize(struct image *image, size_t size); /* new bytes are zero */
void image_copy(struct image *target, const struct image *source);
void image_write(struct image *image, size_t offset, const void *bytes, size_t length);
void image_zero(struct image *image, size_t offset, size_t length); /* inside its size */
bool is_zero(const uint8_t *bytes, size_t length);

size_t choose_length(struct world *world, size_t limit); /* 1 to limit */
size_t choose_offset(struct world *world, const struct file *file, size_t limit);
/* Where to write: inside the file's limit. */
void choose_range(struct world *world, const struct file *file, size_t *ret_from,
		  size_t *ret_length);
/* What is there: false where the file is empty. */
bool choose_present(struct world *world, const struct file *file, size_t *ret_from,
		    size_t *ret_length);
void choose_contents(struct world *world, uint8_t *bytes, size_t length);

__attribute__((format(printf, 5, 6))) void trace(struct world *world, const struct file *file,
						 size_t from, size_t to, const char *format, ...);
_Noreturn __attribute__((format(printf, 2, 3))) void fail(struct world *world, const char *format,
							  ...);
/* `bytes` were read from `offset` on: they must be what the image says. */
void compare(struct world *world, const struct file *file, const struct image *image,
	     const char *what, size_t offset, const uint8_t *bytes, size_t length);

/* ---- files.c ---- */

void file_path(struct world *world, int slot, char ret[4096]);
void point_path(struct world *world, const struct point *point, int slot, char ret[4096]);
int file_fd(struct world *world, struct file *file); /* opens or creates it */
/* Another descriptor of the file, to be closed. */
int file_open(struct world *world, struct file *file, int flags);
void file_unmap(struct world *world, struct file *file);
void file_close(struct world *world, struct file *file);
void file_changed(struct file *file, size_t from, size_t to);
void file_synced(struct file *file);
void file_verify(struct world *world, struct file *file);
void verify_all(struct world *world);
/* The contents behind `fd`, all of them, must be the image. */
void verify_fd(struct world *world, const struct file *file, const struct image *image, int fd,
	       const char *what);
/* The file becomes a ghost where there is room and luck; its descriptor is closed otherwise. */
void file_drop(struct world *world, struct file *file);
void ghosts_close(struct world *world);

/* ---- command.c ---- */

enum { COMMAND_WORDS = 16, OUTPUT_SIZE = 64 << 10 };
/* Runs `cairn --json -s STORE words…` (words end with NULL); returns its exit code, and what it
 * printed. */
int command(struct world *world, char ret_output[OUTPUT_SIZE], const char *const *words);
void command_must(struct world *world, char ret_output[OUTPUT_SIZE], const char *const *words);
void command_start(struct world *world, const char *const *words); /* in the background */
void command_wait(struct world *world);				   /* for that one */
/* Waits for one that its daemon cannot answer any more, whatever it says. */
void command_abandon(struct world *world, pid_t pid);
/* The text of `"key": "…"` behind `"after"` ("": anywhere); false where it is not there. */
bool output_text(const char *output, const char *after, const char *key, char *ret, size_t size);
long output_number(const char *output, const char *key);

/* ---- committer.c ---- */

void committer_start(struct world *world);
/* Without a committer: the mount can go.  Ends with committer_resume(). */
void committer_pause(struct world *world);
void committer_resume(struct world *world);

/* ---- operations ---- */

typedef void operation(struct world *world, struct file *file);

operation op_read, op_write, op_writev, op_append, op_truncate, op_map_read, op_map_write,
	op_mapping, op_punch, op_zero, op_allocate, op_copy, op_copy_from_point, op_seek,
	op_direct_read, op_direct_write, op_stream;
operation op_sync, op_reopen, op_recreate, op_rename, op_replace, op_stat, op_advise, op_verify,
	op_ghost, op_committer;
operation op_freeze, op_restore, op_restore_forced, op_delete_point, op_collect, op_remount,
	op_kill_synced, op_kill, op_read_point, op_verify_point;

#endif
