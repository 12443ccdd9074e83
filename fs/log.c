/*
 * Logging.  The settings are made once, before there are threads; a line is written with one
 * call, so that lines of several threads do not mix.
 */
#include "fs/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static struct {
	bool to_stderr;
	enum log_level most_verbose;
} settings = {true, LOG_LEVEL_WARNING};

void log_open(bool to_stderr, enum log_level most_verbose)
{
	settings.to_stderr = to_stderr;
	settings.most_verbose = most_verbose;
	if (!to_stderr)
		openlog("cairn", LOG_PID, LOG_DAEMON);
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

	if (level > settings.most_verbose)
		return;
	char text[1024];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (settings.to_stderr)
		fprintf(stderr, "cairn: %s: %s\n", names[level], text);
	else
		syslog(priorities[level], "%s", text);
}
