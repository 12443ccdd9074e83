/*
 * Content-defined chunking: FastCDC with normalised chunking.
 *
 * W. Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data
 * Deduplication" (USENIX ATC 2016): gear hash, two masks around the normal size, cut-point
 * skipping below the minimum.  The hash starts afresh at each chunk, so that a cut depends on the
 * bytes since the previous cut alone.
 */
#ifndef CAIRN_FS_CHUNKER_H
#define CAIRN_FS_CHUNKER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { CHUNKER_MIN = 16 * 1024, CHUNKER_AVERAGE = 64 * 1024, CHUNKER_MAX = 256 * 1024 };

/*
 * Length of the first chunk of `length` contiguous bytes: a cut point, or `length` where none was
 * found within them (then, below CHUNKER_MAX, more bytes could still move it).
 */
size_t chunker_cut(const uint8_t *bytes, size_t length);

/* The same over scattered bytes. */
size_t chunker_cut_vector(const struct iovec *vector, int count);

#endif
