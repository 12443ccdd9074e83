/* What the tests of the service share: requests written as JSON, and what is expected of results.
 */
#ifndef CAIRN_TESTS_SERVICE_TESTING_H
#define CAIRN_TESTS_SERVICE_TESTING_H

#include "repo_testing.h"

#include <jansson.h>

#include "fs/service.h"

/* Parses `format` after printing into it; ' stands for ". */
static UNUSED __attribute__((format(printf, 1, 0))) json_t *parse_request(const char *format,
									  va_list arguments)
{
	char *text;
	json_error_t error;
	assert_true(vasprintf(&text, format, arguments) >= 0);
	for (char *at = text; *at; at++)
		if (*at == '\'')
			*at = '"';
	json_t *request = json_loads(text, JSON_DECODE_ANY, &error);
	if (!request)
		fail_msg("%s: %s", error.text, text);
	free(text);
	return request;
}

/* The whole result. */
static UNUSED __attribute__((format(printf, 2, 3))) json_t *ask(struct service *service,
								const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	json_t *request = parse_request(format, arguments);
	va_end(arguments);
	json_t *result = service_request(service, request, NULL, NULL);
	json_decref(request);
	assert_non_null(result);
	return result;
}

/* Takes the result, gives what is under "ok". */
static UNUSED json_t *need_ok(json_t *result)
{
	json_t *ok = json_object_get(result, "ok");
	if (!ok) {
		char *text = json_dumps(result, JSON_ENCODE_ANY);
		fail_msg("not ok: %s", text);
	}
	assert_int_equal(service_result_code(result), SERVICE_OK);
	json_incref(ok);
	json_decref(result);
	return ok;
}

#define ask_ok(...) need_ok(ask(__VA_ARGS__))

/* Takes the result: it must be an error of this code, with a message that contains `part`. */
static UNUSED void need_error(json_t *result, enum service_code code, const char *part)
{
	json_t *error = json_object_get(result, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	char *text = json_dumps(result, JSON_ENCODE_ANY);
	if (service_result_code(result) != code || !message || !message[0] ||
	    !strstr(message, part))
		fail_msg("expected code %d, '%s': %s", code, part, text);
	assert_non_null(json_object_get(error, "detail"));
	free(text);
	json_decref(result);
}

#define ask_error(code, part, ...) need_error(ask(__VA_ARGS__), code, part)

static UNUSED const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	if (!text)
		fail_msg("no string '%s'", key);
	return text;
}

static UNUSED int64_t number_of(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_integer(value))
		fail_msg("no number '%s'", key);
	return json_integer_value(value);
}

static UNUSED bool is_true(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_boolean(value))
		fail_msg("no boolean '%s'", key);
	return json_is_true(value);
}

static UNUSED bool is_null(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!value)
		fail_msg("no '%s'", key);
	return json_is_null(value);
}

#endif
