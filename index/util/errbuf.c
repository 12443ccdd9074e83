#include "index/util/errbuf.h"

#include <stdarg.h>
#include <stdio.h>

int err_set(struct errbuf *err, int error, const char *format, ...)
{
	if (err) {
		va_list arguments;

		va_start(arguments, format);
		vsnprintf(err->text, sizeof(err->text), format, arguments);
		va_end(arguments);
	}
	return error;
}
