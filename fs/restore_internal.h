/* What a restore leaves to be told to the kernel (internal to fs/: coherence.c, restore.c,
 * switch.c, tell_kernel.c). */
#ifndef CAIRN_FS_RESTORE_INTERNAL_H
#define CAIRN_FS_RESTORE_INTERNAL_H

#include "fs/mount_internal.h"

struct changed_name {
	uint64_t directory; /* node numbers */
	uint64_t removed;   /* the directory that had this name and is no more, 0: none */
	size_t text;	    /* in change_list.text */
	size_t length;
};

/*
 * Filled by mount_switched() under the head lock, and fixed from then on.  From the moment of the
 * switch until the kernel has heard of all names, mount->changes points to it.
 */
struct change_list {
	uint64_t *nodes; /* attributes and pages */
	size_t node_count, node_capacity;
	size_t unknown_count; /* the first ones: the kernel knew nothing of them (tell_nodes()) */
	struct changed_name *names;
	size_t name_count, name_capacity;
	char *text;
	size_t text_length, text_capacity;
	uint64_t *moved; /* directories that the kernel knows and that have another name now */
	size_t moved_count, moved_capacity;
	struct tree *old_tree, *new_tree; /* owned, immutable; NULL before the switch */
	int error;			  /* the list is not complete */
	bool partial; /* set before: not a restore of everything; writers of other files go on */
};
void change_list_release(struct change_list *list);

/* Runs `work` in a child that shares memory but no descriptors, and waits for it: for whatever calls
 * into our own mount (outside.c says why).  Only system calls, no locks, no allocation in it. */
int outside_run(void (*work)(void *context), void *context);

/* Makes the kernel send what is dirty: starts pages, waits for times. */
void kernel_sync(struct mount *mount);

/* Steps of a restore (restore.c) that a revision takes too (revise.c). */
void settle_kernel(struct mount *mount, struct change_list *list);
void forget_changes(struct mount *mount);
int give_up_mount(struct mount *mount, int error, struct errbuf *err);

/* Attributes and pages: step 6 of a restore.  No lock held. */
void tell_nodes(struct mount *mount, struct change_list *list);
/* Names, and directories that are gone or have moved: step 8.  Nothing may be held. */
void tell_names(struct mount *mount, const struct change_list *list);

#endif
