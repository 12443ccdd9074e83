/*
 * What <linux/fuse.h> of Debian 12 does not say yet: FUSE over io_uring (Linux 6.14, protocol 7.42;
 * facts from the kernel's Documentation/filesystems/fuse/fuse-io-uring.rst and its headers).
 */
#ifndef CAIRN_FS_FUSE_URING_ABI_H
#define CAIRN_FS_FUSE_URING_ABI_H

#include <linux/fuse.h>
#include <stdint.h>

#ifndef FUSE_URING_IN_OUT_HEADER_SZ

#define FUSE_URING_IN_OUT_HEADER_SZ 128
#define FUSE_URING_OP_IN_OUT_SZ 128

struct fuse_uring_ent_in_out {
	uint64_t flags;
	uint64_t commit_id; /* names the request when it is answered */
	uint32_t payload_sz;
	uint32_t padding;
	uint64_t reserved;
};

/* In front of a request, and of its answer. */
struct fuse_uring_req_header {
	char in_out[FUSE_URING_IN_OUT_HEADER_SZ]; /* fuse_in_header, or fuse_out_header */
	char op_in[FUSE_URING_OP_IN_OUT_SZ];	  /* the first argument */
	struct fuse_uring_ent_in_out ring_ent_in_out;
};

enum {
	FUSE_IO_URING_CMD_REGISTER = 1,
	FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2,
};

/* The command data of a submission. */
struct fuse_uring_cmd_req {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid;
	uint8_t padding[6];
};

#endif

/* Bit 41 of the flags of INIT. */
enum { INIT_OVER_IO_URING = 1 << (41 - 32) };

_Static_assert(sizeof(struct fuse_uring_req_header) == 288, "as the kernel has it");
_Static_assert(sizeof(struct fuse_uring_cmd_req) == 24, "as the kernel has it");

#endif
