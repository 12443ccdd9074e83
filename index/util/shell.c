#include "index/util/shell.h"

#include <string.h>

const char *shell_quote(const char *word, char *buffer, size_t size)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789_@%+=:,./-";
	char *out = buffer;

	if (word[0] && word[strspn(word, plain)] == '\0')
		return word;
	if (size < SHELL_QUOTED(strlen(word)))
		return word;
	*out++ = '\'';
	for (const char *from = word; *from; from++) {
		if (*from == '\'')
			out = stpcpy(out, "'\\''");
		else
			*out++ = *from;
	}
	*out++ = '\'';
	*out = '\0';
	return buffer;
}
