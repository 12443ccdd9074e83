/* What a restore leaves to be told to the kernel (internal to fs/coherence.c, fs/restore.c). */
#ifndef CAIRN_FS_RESTORE_INTERNAL_H
#define CAIRN_FS_RESTORE_INTERNAL_H

#include "fs/mount_internal.h"

struct changed_name {
	uint64_t directory;
	size_t text; /* in change_list.text */
	size_t length;
};

struct change_list {
	uint64_t *nodes; /* attributes and pages */
	size_t node_count, node_capacity;
	struct changed_name *names;
	size_t name_count, name_capacity;
	char *text;
	size_t text_length, text_capacity;
	int error; /* the list is not complete */
};

/* Makes the kernel send what is dirty: starts pages, waits for times. */
void kernel_sync(struct mount *mount);

#endif
