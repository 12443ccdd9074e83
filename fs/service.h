/*
 * A service executes requests on one store: in the daemon that has it mounted, or in the command's
 * own process where nobody has.  The same handlers either way.
 *
 * A request is a JSON object {"op": "freeze", …arguments}.  Its result is either
 * {"ok": …} (what `--json` prints) or {"error": {"code", "message", "detail"}} with one of the
 * codes below; fs/PROTOCOL.md lists the operations.  Handlers with much to do call `progress`.
 *
 * Over the wire (STORE/control.sock, mode 0600 in a directory of mode 0700; SO_PEERCRED must be
 * the daemon's user or root): one JSON line per message. The client sends the request; the
 * daemon sends any number of {"progress": {"phase", "done", "total"}} and one result, then closes.
 */
#ifndef CAIRN_FS_SERVICE_H
#define CAIRN_FS_SERVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/store.h"
#include "index/util/errbuf.h"

struct service;

/* error.code and the exit code that tools/ makes of it */
#define SERVICE_CODES(X)                                                                           \
	X(FAILED, "failed", 1)                                                                     \
	X(USAGE, "usage", 2)                                                                       \
	X(BUSY, "busy", 3)                                                                         \
	X(CONFLICT, "conflict", 4)                                                                 \
	X(DAMAGED, "damaged", 5)                                                                   \
	X(NOT_FOUND, "not_found", 6)                                                               \
	X(NO_SPACE, "no_space", 7)

enum service_code {
	SERVICE_OK = 0,
#define SERVICE_CODE_NUMBER(name, text, number) SERVICE_##name = number,
	SERVICE_CODES(SERVICE_CODE_NUMBER)
#undef SERVICE_CODE_NUMBER
};

/* The exit code for a result: SERVICE_OK for {"ok": …}, else that of its error.code. */
enum service_code service_result_code(const json_t *result);
/* {"error": …} for an errno and a message, with the same mapping as the handlers' (so that a
 * command can report its own failures alike). NULL or "" as message: the errno's text. */
json_t *service_error(int error, const char *message);
/* A daemon answered that takes no more requests and will soon be gone: ask again then. */
bool service_result_is_ending(const json_t *result);

/*
 * JSON strings are UTF-8; file names are any bytes.  Where a name is not UTF-8, each byte B of it
 * that is not part of a valid sequence is written as the character U+10FF00 + B (U+10FF80 to
 * U+10FFFF; bytes of these characters themselves are written the same way).  The translation is
 * exact in both directions; names that are UTF-8 stay as they are.  It applies to paths, names
 * and link targets in results and to paths in requests.  malloc'ed; NULL where memory is out.
 */
char *service_encode_text(const char *bytes, size_t length);
char *service_decode_text(const char *text);

/* Makes a store in `directory` with an empty workspace `main` that belongs to the caller's uid
 * and gid.  Errors as store_create(). */
int service_init_store(const char *directory, const struct store_compression *compression,
		       struct errbuf *err);

typedef void service_progress(const char *phase, uint64_t done, uint64_t total, void *context);

/* Opens the store in this process. `read_only` where the request changes nothing (works beside a
 * writer).  -EBUSY etc. as store_open(). */
int service_open(const char *store, bool read_only, struct service **ret, struct errbuf *err);
struct service *service_close(struct service *service); /* commits first; NULL is fine */

/* Whether some process (`ret_pid`, 0: not known) has the store open for writing now. */
bool service_store_is_locked(const char *store, int *ret_pid);

/* Executes one request.  Never NULL: failures are results too (where memory is out even for that:
 * a JSON null, which service_result_code() takes as failed).  The caller owns it. */
json_t *service_request(struct service *service, const json_t *request, service_progress *progress,
			void *context);

/* Connects to the daemon of a store. -ENOENT / -ECONNREFUSED: none is running.  What is left of one
 * that was killed is cleared away first (fs/bury.h); -EBUSY where that cannot be done from here. */
int service_connect(const char *store, int *ret_fd);
/*
 * Sends the request, hands progress on, returns the result (a "failed" error if the line broke; if
 * it was to mount, one that service_result_is_ending(): the daemon is dead, and so is the mount).
 * One call a connection; the caller closes it (to close it earlier cancels gc and check).
 * After an `umount` the call returns only when the daemon has closed its end, which it does, if
 * that was the last mount, when it has let go of the store: the lock is free then.
 */
json_t *service_call(int fd, const json_t *request, service_progress *progress, void *context);

/*
 * The daemon: opens the store, listens on control.sock, carries out `first` (a mount request),
 * calls `ready` (once, whatever happens) with its result, and serves until the last mount has
 * ended or SIGTERM/SIGINT (which unmounts, lazily where a mount is in use; SIGHUP is ignored).
 * Returns an exit code (enum service_code).  Runs in the calling process, which must have no other
 * threads: it raises its limits, moves it to "/" and sets its umask and signals.  Putting it into
 * the background is the caller's, and so is making `mountpoint` in `first` absolute.
 */
int service_run_daemon(const char *store, const json_t *first,
		       void (*ready)(const json_t *result, void *context), void *context,
		       bool log_to_stderr);

/*
 * Where a path lies: the store and workspace of the cairn mount that contains `path`
 * (/proc/self/mountinfo: type fuse.cairn; the source of the mount is STORE#WORKSPACE).
 * -ENOENT where it lies in none.  Strings are malloc'ed.
 */
int service_find_mount(const char *path, char **ret_store, char **ret_workspace,
		       char **ret_mountpoint);

/* Before the kernel is asked about a path, which may lie in the mount of a daemon that was killed and
 * hangs (fs/bury.h): clears that away, so that asking does not hang, too. */
void service_clear_remains(const char *path);

/*
 * A mount of this store (and workspace, unless NULL) that the kernel still has; -ENOENT where there
 * is none.  Where no daemon answers, such a mount is dead: its daemon has crashed.
 */
int service_find_mount_of(const char *store, const char *workspace, char **ret_mountpoint);

#endif
