/*
 * A rehearsal: a throw-away clone of a state, mounted at a private place.
 *
 *   rehearsal_begin()      clone, mount
 *   …run something there…
 *   rehearsal_drop()       unmount, delete; or rehearsal_keep(): only unmount
 *
 * What a rehearsal makes goes whatever happens.  Before anything is made, a record of it is put
 * into STORE/rehearsals, locked (flock(2)) for as long as this process lives.  A record that
 * nobody has locked is of a process that was killed: the next rehearsal takes away what it names.
 *
 *   no record --> record, locked --> directory, clone, mount --> none of these --> no record
 *
 * A private view is the same without a clone: a workspace that is not mounted, mounted read-only.
 */
#ifndef CAIRN_TOOLS_REHEARSE_H
#define CAIRN_TOOLS_REHEARSE_H

#include <stdbool.h>

struct invocation;

struct rehearsal {
	struct invocation *invocation; /* borrowed */
	char *workspace;	       /* the clone, or what is viewed */
	char *directory;	       /* of mode 0700, under $XDG_RUNTIME_DIR, $TMPDIR or /tmp */
	char *mountpoint;	       /* in it */
	char *steps;		       /* a file in it: what `cairn step` notes */
	char *record;
	int lock;   /* the record, open; -1: none */
	bool owned; /* the workspace is a clone of ours */
};

/* Takes away what rehearsals have left whose process is gone.  Tells what it does. */
void rehearsals_clean(struct invocation *invocation);

/* "@head" or "WORKSPACE@head": no point, but the present state. */
bool source_is_head(const char *source);

/*
 * `source` is a point in `workspace` (NULL: as the place has it), or a head.  Where `start` is not
 * NULL, a point of that name is made in the clone first.  Returns 0, or an exit code after it has
 * told what went wrong; then nothing is left.  To be called after signals_catch(): a signal
 * ends it with exit code 128 + signal.
 */
int rehearsal_begin(struct invocation *invocation, const char *workspace, const char *source,
		    const char *start, struct rehearsal *ret);
int rehearsal_view(struct invocation *invocation, const char *workspace, struct rehearsal *ret);

/* Both tell what fails and go on; a zeroed rehearsal is fine.  Whoever still uses the mount is cut
 * off. */
void rehearsal_drop(struct rehearsal *rehearsal);
void rehearsal_keep(struct rehearsal *rehearsal, char **ret_workspace);

#endif
