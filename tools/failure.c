#include "tools/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/command.h"
#include "tools/output.h"

static const char *code_name(enum service_code code)
{
	switch (code) {
#define ROW(name, text, exit_code)                                                                 \
	case SERVICE_##name:                                                                       \
		return text;
		SERVICE_CODES(ROW)
#undef ROW
	case SERVICE_OK:
		break;
	}
	return "failed";
}

/* The message names the first processes of a long list itself. */
static bool names_process(const char *message, const json_t *process)
{
	char text[32];

	snprintf(text, sizeof(text), "pid %lld,", (long long)get_number(process, "pid"));
	return strstr(message, text);
}

/* Detail for people is text or a list of texts or of processes. */
static void print_detail(const char *message, const json_t *detail)
{
	const json_t *item;
	size_t i;

	if (json_is_string(detail)) {
		fprintf(stderr, "%s\n", json_string_value(detail));
	} else if (json_is_array(detail)) {
		json_array_foreach(detail, i, item)
		{
			if (json_object_get(item, "pid") && !names_process(message, item))
				print_process(stderr, item);
			else if (json_is_string(item))
				fprintf(stderr, "  %s\n", json_string_value(item));
		}
	}
}

int failure_result(const struct invocation *invocation, const json_t *result)
{
	const json_t *error = json_object_get(result, "error");

	if (!json_is_object(error))
		return failure_memory(invocation);
	if (invocation->json) {
		output_json(result);
	} else {
		fprintf(stderr, "cairn: %s\n", get_text(error, "message"));
		print_detail(get_text(error, "message"), json_object_get(error, "detail"));
	}
	return service_result_code(result);
}

int failure_findings(const struct invocation *invocation, const json_t *result)
{
	const json_t *error = json_object_get(result, "error");
	const json_t *findings = json_object_get(json_object_get(error, "detail"), "findings");
	const json_t *finding;
	size_t i;

	if (!invocation->json) {
		json_array_foreach(findings, i, finding)
		{
			char *text = format_escape(json_string_value(finding));

			printf("%s\n", text ? text : "");
			free(text);
		}
	}
	return failure_result(invocation, result);
}

int failure_errno(const struct invocation *invocation, int error, const char *message)
{
	json_t *result = service_error(error, message);
	int code = failure_result(invocation, result);

	json_decref(result);
	return code;
}

/* Messages may name paths, which need not be UTF-8. */
static json_t *text_new(const char *text)
{
	char *encoded = service_encode_text(text, strlen(text));
	json_t *string = encoded ? json_string(encoded) : NULL;

	free(encoded);
	return string;
}

static int tell(const struct invocation *invocation, enum service_code code, char *text)
{
	char *newline = strchr(text, '\n');
	json_t *result;
	int exit_code;

	if (newline)
		*newline++ = '\0';
	result = json_pack("{s:{s:s, s:o, s:o}}", "error", "code", code_name(code), "message",
			   text_new(text), "detail", newline ? text_new(newline) : json_null());
	exit_code = failure_result(invocation, result);
	json_decref(result);
	return exit_code;
}

int failure(const struct invocation *invocation, enum service_code code, const char *format, ...)
{
	char *text = NULL;
	va_list list;
	int length, exit_code;

	va_start(list, format);
	length = vasprintf(&text, format, list);
	va_end(list);
	if (length < 0)
		return failure_memory(invocation);
	exit_code = tell(invocation, code, text);
	free(text);
	return exit_code;
}

int failure_memory(const struct invocation *invocation)
{
	if (invocation->json)
		puts("{\"error\": {\"code\": \"failed\", \"message\": \"out of memory\", "
		     "\"detail\": null}}");
	else
		fputs("cairn: out of memory\n", stderr);
	return 1;
}

int usage_error(const struct invocation *invocation, const char *format, ...)
{
	const char *name = invocation->command ? invocation->command->name : NULL;
	char *text = NULL;
	va_list list;
	int length;

	va_start(list, format);
	length = vasprintf(&text, format, list);
	va_end(list);
	if (length < 0)
		return failure_memory(invocation);
	if (name)
		failure(invocation, SERVICE_USAGE, "%s: %s\nTry 'cairn help %s'.", name, text,
			name);
	else
		failure(invocation, SERVICE_USAGE, "%s\nTry 'cairn help'.", text);
	free(text);
	return SERVICE_USAGE;
}

void talk(const struct invocation *invocation, const char *format, ...)
{
	va_list list;

	if (invocation->quiet)
		return;
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
}

void warning(const char *format, ...)
{
	va_list list;

	fputs("cairn: ", stderr);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
}
