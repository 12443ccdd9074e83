/*
 * A message for the person behind the command.
 *
 * Functions below tools/ return negative errno.  Where a person needs more than the
 * code says, they also fill a `struct errbuf`: what is wrong, and what to do about it.
 * It is untouched on success.  Every function that takes one accepts NULL.
 */
#ifndef CAIRN_INDEX_UTIL_ERRBUF_H
#define CAIRN_INDEX_UTIL_ERRBUF_H

struct errbuf {
	char text[512]; /* always terminated; starts empty (initialise with {""}) */
};

/* Sets the message (cut to fit) and returns `error` unchanged, so that a caller can
 * write `return err_set(err, -ENOENT, "no such point: %s", name);`. */
int err_set(struct errbuf *err, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
