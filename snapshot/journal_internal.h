/* Bytes of the journal, for its writer, its reader and its verification. */
#ifndef CAIRN_SNAPSHOT_JOURNAL_INTERNAL_H
#define CAIRN_SNAPSHOT_JOURNAL_INTERNAL_H

#include <stddef.h>

#include "snapshot/journal.h"
#include "snapshot/record_internal.h"

struct journal_fixed {
	uint8_t length[2]; /* of the fixed part */
	uint8_t action[2]; /* enum journal_action */
	uint8_t reserved[4];
	uint8_t time[8];
	uint8_t workspace[8];
	uint8_t point[8];
	uint8_t previous[JOURNAL_HASH_BYTES];
};
_Static_assert(sizeof(struct journal_fixed) == 64, "on disk");
_Static_assert(offsetof(struct journal_fixed, previous) == 32, "on disk");

enum journal_field {
	JOURNAL_FIELD_BY = 1,
	JOURNAL_FIELD_HOST = 2,
	JOURNAL_FIELD_WORKSPACE = 3, /* names as they were then */
	JOURNAL_FIELD_POINT = 4,
	JOURNAL_FIELD_REASON = 5,
	JOURNAL_FIELD_DETAIL = 6, /* repeated; length of the name u32, name, value */
};

struct journal_tail {
	uint8_t number[8]; /* of the last entry */
	uint8_t hash[JOURNAL_HASH_BYTES];
};
_Static_assert(sizeof(struct journal_tail) == 40, "on disk");

int journal_hash(uint64_t number, struct bytes record, uint8_t ret[JOURNAL_HASH_BYTES]);
int journal_tail_decode(struct bytes value, struct journal_tail *ret); /* -EUCLEAN */
int journal_decode(uint64_t number, struct bytes value, struct journal_entry *ret);
void journal_entry_release(struct journal_entry *entry);

#endif
