/* How sizes, times and paths look to people. */
#ifndef CAIRN_TOOLS_FORMAT_H
#define CAIRN_TOOLS_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

enum { FORMAT_MAX = 64 }; /* buffers of this size fit what the functions below write */

/* "0 B", "1023 B", "1.5 KiB", "12.0 GiB" */
const char *format_size(uint64_t bytes, char buffer[FORMAT_MAX]);
/* "0.4 ms", "12 ms", "1.2 s", "3 min 4 s" */
const char *format_duration(int64_t ns, char buffer[FORMAT_MAX]);
/* "just now", "5 minutes ago", "3 hours ago"; from two days on the local date and time */
const char *format_age(int64_t then, int64_t now, char buffer[FORMAT_MAX]);
/* "2026-11-22 09:00:03 +0100", local zone; Unix time in seconds */
const char *format_time(int64_t seconds, char buffer[FORMAT_MAX]);
/* "1 file", "2 files" (adds an "s") */
const char *format_count(uint64_t count, const char *noun, char buffer[FORMAT_MAX]);

/* RFC 3339 to Unix time in seconds. */
bool format_parse_time(const char *text, int64_t *ret_seconds);

/*
 * A path in one line, as git shows it: unchanged where it holds nothing special, else in double
 * quotes with C escapes ('"', '\\', control characters, bytes that are not UTF-8).  malloc'ed;
 * NULL without memory.
 */
char *format_path(const char *path);
/* The same escapes without the quotes ('"' stays). */
char *format_escape(const char *text);

/* A word as a shell takes it: in single quotes where it needs them.  malloc'ed. */
char *format_shell(const char *word);
/* Several, NULL-terminated, with spaces between them. */
char *format_command(const char *const *words);
/* "cairn -s STORE -w WORKSPACE WORDS"; store and workspace may be NULL. */
char *format_cairn(const char *store, const char *workspace, const char *const *words);

/* Does the terminal (or who reads the output) expect UTF-8? */
bool format_is_utf8(void);
/* Colours on `descriptor`? Only on a terminal, and not with NO_COLOR or a dumb one. */
bool format_has_colour(int descriptor);

#endif
