#include "tools/format.h"

#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "index/util/shell.h"

const char *format_size(uint64_t bytes, char buffer[FORMAT_MAX])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;

	/* 1023.95 would be shown as 1024.0. */
	while (value >= (unit ? 1023.95 : 1023.5) && unit + 1 < sizeof(units) / sizeof(*units)) {
		value /= 1024;
		unit++;
	}
	snprintf(buffer, FORMAT_MAX, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return buffer;
}

const char *format_duration(int64_t ns, char buffer[FORMAT_MAX])
{
	double ms = (double)ns / 1e6;

	if (ms < 9.95)
		snprintf(buffer, FORMAT_MAX, "%.1f ms", ms);
	else if (ms < 999.5)
		snprintf(buffer, FORMAT_MAX, "%.0f ms", ms);
	else if (ms < 59950)
		snprintf(buffer, FORMAT_MAX, "%.1f s", ms / 1e3);
	else
		snprintf(buffer, FORMAT_MAX, "%lld min %lld s", (long long)(ns / 60000000000),
			 (long long)(ns / 1000000000 % 60));
	return buffer;
}

static const char *ago(int64_t count, const char *unit, char buffer[FORMAT_MAX])
{
	snprintf(buffer, FORMAT_MAX, "%lld %s%s ago", (long long)count, unit,
		 count == 1 ? "" : "s");
	return buffer;
}

static const char *local_time(int64_t seconds, const char *pattern, char buffer[FORMAT_MAX])
{
	time_t time = (time_t)seconds;
	struct tm parts;

	if (!localtime_r(&time, &parts) || !strftime(buffer, FORMAT_MAX, pattern, &parts))
		snprintf(buffer, FORMAT_MAX, "@%lld", (long long)seconds);
	return buffer;
}

const char *format_time(int64_t seconds, char buffer[FORMAT_MAX])
{
	return local_time(seconds, "%Y-%m-%d %H:%M:%S %z", buffer);
}

const char *format_age(int64_t then, int64_t now, char buffer[FORMAT_MAX])
{
	int64_t age = now - then;

	if (age < 0 || age >= 2 * 86400)
		return local_time(then, "%Y-%m-%d %H:%M", buffer);
	if (age < 5) {
		snprintf(buffer, FORMAT_MAX, "just now");
		return buffer;
	}
	if (age < 120)
		return ago(age, "second", buffer);
	if (age < 2 * 3600)
		return ago(age / 60, "minute", buffer);
	return ago(age / 3600, "hour", buffer);
}

const char *format_count(uint64_t count, const char *noun, char buffer[FORMAT_MAX])
{
	snprintf(buffer, FORMAT_MAX, "%llu %s%s", (unsigned long long)count, noun,
		 count == 1 ? "" : "s");
	return buffer;
}

bool format_parse_time(const char *text, int64_t *ret_seconds)
{
	struct tm parts = {0};
	int zone_hours = 0, zone_minutes = 0, length = 0;
	int64_t zone = 0;

	if (!text ||
	    sscanf(text, "%d-%d-%d%*1[Tt ]%d:%d:%d%n", &parts.tm_year, &parts.tm_mon,
		   &parts.tm_mday, &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &length) != 6)
		return false;
	text += length;
	if (*text == '.')
		text += 1 + strspn(text + 1, "0123456789");
	if (*text == '+' || *text == '-') {
		if (sscanf(text + 1, "%2d:%2d", &zone_hours, &zone_minutes) != 2)
			return false;
		zone = zone_hours * 3600 + zone_minutes * 60;
		if (*text == '-')
			zone = -zone;
	} else if (*text != 'Z' && *text != 'z') {
		return false;
	}
	parts.tm_year -= 1900;
	parts.tm_mon -= 1;
	*ret_seconds = (int64_t)timegm(&parts) - zone;
	return true;
}

/* The length of the UTF-8 character at `text`; 0 where it is none (or a control character). */
static size_t utf8_length(const unsigned char *text)
{
	size_t length = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	uint32_t value;

	if (length == 1)
		return text[0] >= 0x20 && text[0] != 0x7f;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	value = text[0] & (0xffu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (text[i] & 0x3f);
	}
	/* Overlong forms, surrogates, too large, and C1 control characters. */
	if ((length == 3 && value < 0x800) || (length == 4 && value < 0x10000) ||
	    (value >= 0xd800 && value < 0xe000) || value > 0x10ffff || value < 0xa0)
		return 0;
	return length;
}

static char *escape_byte(char *out, unsigned char byte)
{
	static const char letters[] = "abtnvfr"; /* of 7 to 13 */

	*out++ = '\\';
	if (byte == '"' || byte == '\\') {
		*out++ = (char)byte;
	} else if (byte >= 7 && byte <= 13) {
		*out++ = letters[byte - 7];
	} else {
		*out++ = (char)('0' + (byte >> 6));
		*out++ = (char)('0' + ((byte >> 3) & 7));
		*out++ = (char)('0' + (byte & 7));
	}
	return out;
}

static char *escape(const char *text, bool quote)
{
	const unsigned char *in = (const unsigned char *)text;
	char *result = malloc(4 * strlen(text) + 3), *out = result;
	bool changed = false;

	if (!result)
		return NULL;
	if (quote)
		*out++ = '"';
	while (*in) {
		size_t length = utf8_length(in);

		if (length == 0 || *in == '\\' || (quote && *in == '"')) {
			out = escape_byte(out, *in++);
			changed = true;
			continue;
		}
		memcpy(out, in, length);
		out += length;
		in += length;
	}
	if (quote && changed)
		*out++ = '"';
	*out = '\0';
	if (quote && !changed)
		memmove(result, result + 1, strlen(result));
	return result;
}

char *format_path(const char *path)
{
	return escape(path, true);
}

char *format_escape(const char *text)
{
	return escape(text, false);
}

char *format_shell(const char *word)
{
	size_t size = SHELL_QUOTED(strlen(word));
	char *buffer = malloc(size);
	const char *quoted;

	if (!buffer)
		return NULL;
	quoted = shell_quote(word, buffer, size);
	if (quoted != buffer)
		memcpy(buffer, quoted, strlen(quoted) + 1);
	return buffer;
}

/* Puts a word behind what is there; frees that where memory is out. */
static char *append_word(char *line, const char *word)
{
	char *quoted = format_shell(word), *longer;

	if (!line || !quoted || asprintf(&longer, "%s%s%s", line, line[0] ? " " : "", quoted) < 0)
		longer = NULL;
	free(line);
	free(quoted);
	return longer;
}

static char *append_words(char *line, const char *const *words)
{
	for (; *words; words++)
		line = append_word(line, *words);
	return line;
}

char *format_command(const char *const *words)
{
	return append_words(strdup(""), words);
}

char *format_cairn(const char *store, const char *workspace, const char *const *words)
{
	char *line = strdup("cairn");

	if (store)
		line = append_word(append_word(line, "-s"), store);
	if (workspace)
		line = append_word(append_word(line, "-w"), workspace);
	return append_words(line, words);
}

bool format_is_utf8(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

bool format_has_colour(int descriptor)
{
	const char *off = getenv("NO_COLOR"), *terminal = getenv("TERM");

	return isatty(descriptor) && !(off && off[0]) && terminal && strcmp(terminal, "dumb") != 0;
}
