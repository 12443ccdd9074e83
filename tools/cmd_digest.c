/* The digest of a point: show --digest, check --digest. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

/* Only the digest, as a line of sha256sum would have it in front: to be compared, or put into the
 * minutes. */
int show_digest(struct invocation *invocation)
{
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, "digest", CALL_WORKSPACE);
	call_text(&call, "point", invocation->arguments[0]);
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else
		printf("%s\n", get_text(result, "digest"));
	json_decref(result);
	return 0;
}

int check_digest(struct invocation *invocation, const char *point)
{
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, "digest_check", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "point", point);
	call_text(&call, "expect", option_value(invocation, "expect"));
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else if (!invocation->quiet)
		printf("%s has the digest %s\n", point, get_text(result, "found"));
	json_decref(result);
	return 0;
}
