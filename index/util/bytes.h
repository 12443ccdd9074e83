/*
 * Little- and big-endian access to byte arrays.
 *
 * On-disk structures are arrays of bytes, so that neither padding nor the host's
 * byte order can leak into the format.  All functions accept unaligned pointers.
 */
#ifndef CAIRN_INDEX_UTIL_BYTES_H
#define CAIRN_INDEX_UTIL_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define CAIRN_DEFINE_BYTES(bits)                                                                   \
	static inline uint##bits##_t get_le##bits(const uint8_t *bytes)                            \
	{                                                                                          \
		uint##bits##_t value;                                                              \
		memcpy(&value, bytes, sizeof(value));                                              \
		return le##bits##toh(value);                                                       \
	}                                                                                          \
	static inline void put_le##bits(uint8_t *bytes, uint##bits##_t number)                     \
	{                                                                                          \
		uint##bits##_t value = htole##bits(number);                                        \
		memcpy(bytes, &value, sizeof(value));                                              \
	}                                                                                          \
	static inline uint##bits##_t get_be##bits(const uint8_t *bytes)                            \
	{                                                                                          \
		uint##bits##_t value;                                                              \
		memcpy(&value, bytes, sizeof(value));                                              \
		return be##bits##toh(value);                                                       \
	}                                                                                          \
	static inline void put_be##bits(uint8_t *bytes, uint##bits##_t number)                     \
	{                                                                                          \
		uint##bits##_t value = htobe##bits(number);                                        \
		memcpy(bytes, &value, sizeof(value));                                              \
	}

CAIRN_DEFINE_BYTES(16)
CAIRN_DEFINE_BYTES(32)
CAIRN_DEFINE_BYTES(64)

#endif
