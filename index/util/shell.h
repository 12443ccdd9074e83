/* Words in messages that suggest a command: what is copied into a shell must mean what it says. */
#ifndef CAIRN_INDEX_UTIL_SHELL_H
#define CAIRN_INDEX_UTIL_SHELL_H

#include <stddef.h>

/* Room for any word of `length` bytes. */
#define SHELL_QUOTED(length) (4 * (length) + 3)

/*
 * `word` as a shell takes it: as it is where it holds nothing special, else in single quotes.
 * Returns `word` itself or `buffer`.  Where the buffer is too small `word` is returned as it is:
 * for messages (struct errbuf), which are cut before that matters.
 */
const char *shell_quote(const char *word, char *buffer, size_t size);

#endif
