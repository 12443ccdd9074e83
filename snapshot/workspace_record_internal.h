/* The bytes of a workspace record; for its reader and writer, and their test. */
#ifndef CAIRN_SNAPSHOT_WORKSPACE_RECORD_INTERNAL_H
#define CAIRN_SNAPSHOT_WORKSPACE_RECORD_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "index/commit.h"
#include "snapshot/workspace.h"

struct workspace_fixed {
	uint8_t length[2]; /* of the fixed part */
	uint8_t reserved[6];
	uint8_t root[8];
	uint8_t generation[8];
	uint8_t base[8];
	uint8_t created[8];
	uint8_t files[8];
	uint8_t directories[8];
	uint8_t bytes[8];
	uint8_t changed_bytes[8];
};
_Static_assert(sizeof(struct workspace_fixed) == 72, "on disk");
_Static_assert(offsetof(struct workspace_fixed, created) == 32, "on disk");
_Static_assert(offsetof(struct workspace_fixed, changed_bytes) == 64, "on disk");

enum workspace_tag {
	WORKSPACE_NAME = 1,
	WORKSPACE_CARRIED = 2, /* repeated; id u64 */
	WORKSPACE_FIRST_UNKNOWN
};

/* Writes the record whole; keeps what an older record of that id has and we do not know. */
int workspace_write(struct commit *commit, const struct workspace *workspace);

#endif
