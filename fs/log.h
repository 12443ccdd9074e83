/* The one place through which fs/ speaks: stderr of a foreground daemon, otherwise syslog(3). */
#ifndef CAIRN_FS_LOG_H
#define CAIRN_FS_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_open(bool to_stderr, enum log_level most_verbose);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
