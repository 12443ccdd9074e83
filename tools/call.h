/*
 * A request to the service of a store: to its daemon where one runs, else carried out in this
 * process.  fs/PROTOCOL.md lists them.
 *
 *   struct call call;
 *   call_begin(&call, invocation, "rename", CALL_WORKSPACE);
 *   call_text(&call, "point", name);
 *   code = call_run(&call, &ok);
 *
 * What goes wrong in building (no memory, text that is not UTF-8) is told by call_run().
 */
#ifndef CAIRN_TOOLS_CALL_H
#define CAIRN_TOOLS_CALL_H

#include <jansson.h>
#include <stdbool.h>

struct invocation;

enum call_flags {
	CALL_WORKSPACE = 1 << 0,  /* send the workspace, where one is named */
	CALL_READ_ONLY = 1 << 1,  /* changes nothing: works beside another command */
	CALL_IN_PROCESS = 1 << 2, /* never over the socket */
	CALL_PRESENT = 1 << 3,	  /* means the present state: refused while a dead mount hides it */
};

struct call {
	struct invocation *invocation;
	unsigned flags;
	json_t *object;
	const char *invalid; /* a text that is not UTF-8 */
	bool failed;	     /* no memory, or no place (told already: place_failed) */
	bool place_failed;
};

void call_begin(struct call *call, struct invocation *invocation, const char *op, unsigned flags);
void call_text(struct call *call, const char *key, const char *value); /* NULL: left out */
void call_path(struct call *call, const char *key, const char *path);  /* any bytes */
void call_flag(struct call *call, const char *key, bool value);	       /* false: left out */
void call_set(struct call *call, const char *key, json_t *value);      /* steals; NULL: no memory */
/* The same for a command about one point: the workspace, and the first argument as "point". */
void call_begin_point(struct call *call, struct invocation *invocation, const char *op,
		      unsigned flags);
/* To lists of texts, and of paths. */
void call_append(struct call *call, const char *key, const char *value);
void call_append_path(struct call *call, const char *key, const char *path);

/* Sends it and consumes it. The result as the service gives it; NULL: no memory. */
json_t *call_result(struct call *call);
/* The same; tells errors. Returns the exit code, and what "ok" holds (owned) with 0. */
int call_run(struct call *call, json_t **ret_ok);
/* The same, and tells the result: as JSON, or by `report`, if the command may talk (-q) or only
 * tells what it would do (-n). */
int call_report(struct call *call,
		void (*report)(const struct invocation *invocation, const json_t *ok));
void call_drop(struct call *call);

/* Hands the request to the daemon if one runs: -ENOENT or -ECONNREFUSED otherwise. */
int call_daemon(struct invocation *invocation, const char *store, const json_t *object,
		json_t **ret_result);

#endif
