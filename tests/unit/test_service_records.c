/* Requests about what people said of points, and about the journal, in this process. */
#include "service_testing.h"

struct world {
	char directory[64];
	struct service *service;
};

static int setup(void **state)
{
	const struct store_compression compression = {.codec = CODEC_LZ4};
	struct world *world = calloc(1, sizeof(*world));
	struct errbuf err = {""};

	assert_non_null(world);
	strcpy(world->directory, "/tmp/cairn-test-XXXXXX");
	assert_non_null(mkdtemp(world->directory));
	if (service_init_store(world->directory, &compression, &err) ||
	    service_open(world->directory, false, &world->service, &err))
		fail_msg("%s", err.text);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	service_close(world->service);
	nftw(world->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(world);
	return 0;
}

/* ---- usage ---- */

static void test_usage(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	const enum service_code usage = SERVICE_USAGE;

	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'p'}"));
	ask_error(usage, "'run' must be an object", service,
		  "{'op': 'freeze', 'name': 'q', 'run': 'x'}");
	ask_error(usage, "'run' must have", service,
		  "{'op': 'freeze', 'name': 'q', 'run': {'command': 'x'}}");
	ask_error(usage, "'run' must have", service,
		  "{'op': 'freeze', 'name': 'q', 'run': {'command': 'x', 'exit_status': 0,"
		  " 'elapsed_ns': -1}}");
	ask_error(usage, "'run' must have", service,
		  "{'op': 'freeze', 'name': 'q', 'run': {'command': 'x', 'exit_status': 0,"
		  " 'elapsed_ns': 1, 'colour': 'red'}}");
	ask_error(usage, "'steps' must be an array of objects", service,
		  "{'op': 'freeze', 'name': 'q', 'steps': {}}");
	ask_error(usage, "'steps' must be an array of objects", service,
		  "{'op': 'freeze', 'name': 'q', 'steps': ['x']}");
	ask_error(usage, "each of 'steps' must have", service,
		  "{'op': 'freeze', 'name': 'q', 'steps': [{'name': 'x'}]}");
	ask_error(usage, "'anchor_commands' names 'b'", service,
		  "{'op': 'freeze', 'name': 'q', 'anchors': {'a': '1'},"
		  " 'anchor_commands': {'b': 'x'}}");
	ask_error(usage, "'hold_until' is for 'holds'", service,
		  "{'op': 'freeze', 'name': 'q', 'hold_until': 'in 2 days'}");
	ask_error(usage, "not in the future", service,
		  "{'op': 'freeze', 'name': 'q', 'holds': ['x'], 'hold_until': '2 days ago'}");
	ask_error(usage, "'verdict' is missing", service, "{'op': 'verdict', 'point': 'p'}");
	ask_error(usage, "not 'grand'", service,
		  "{'op': 'verdict', 'point': 'p', 'verdict': 'grand'}");
	ask_error(usage, "not 'grand'", service, "{'op': 'log', 'verdict': 'grand'}");
	ask_error(usage, "no tag", service, "{'op': 'tag', 'point': 'p'}");
	ask_error(usage, "cannot be empty", service, "{'op': 'tag', 'point': 'p', 'add': ['']}");
	ask_error(usage, "no action is called 'dance'", service,
		  "{'op': 'journal', 'action': 'dance'}");
	ask_error(usage, "NUMBER:HASH", service, "{'op': 'journal_verify', 'expect': '7'}");
	ask_error(SERVICE_NOT_FOUND, "gone", service,
		  "{'op': 'verdict', 'point': 'gone', 'verdict': 'open'}");
	ask_error(SERVICE_NOT_FOUND, "gone", service,
		  "{'op': 'tag', 'point': 'gone', 'add': ['x']}");
	ask_error(SERVICE_NOT_FOUND, "gone", service, "{'op': 'journal', 'point': 'gone'}");
	ask_error(SERVICE_NOT_FOUND, "gone", service, "{'op': 'journal', 'workspace': 'gone'}");

	json_t *log = ask_ok(service, "{'op': 'log'}");
	assert_int_equal(json_array_size(log), 1);
	json_decref(log);
}

/* ---- a point ---- */

static void test_freeze(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	json_decref(ask_ok(
		service, "{'op': 'freeze', 'name': 'p', 'anchors': {'db': 'R1', 'code': 'v2'},"
			 " 'anchor_commands': {'db': 'psql'}, 'holds': ['a', 'b'],"
			 " 'hold_until': 'in 2 days',"
			 " 'run': {'command': 'make', 'exit_status': 3, 'elapsed_ns': 5000000000},"
			 " 'steps': [{'name': 's1', 'elapsed_ns': 7, 'exit_status': 0},"
			 "           {'name': 's2', 'elapsed_ns': 8, 'exit_status': 1}]}"));
	json_t *point = ask_ok(service, "{'op': 'show', 'point': 'p'}");
	const json_t *commands = json_object_get(point, "anchor_commands");
	assert_int_equal(json_object_size(json_object_get(point, "anchors")), 2);
	assert_int_equal(json_object_size(commands), 1);
	assert_string_equal(text_of(commands, "db"), "psql");
	const json_t *holds = json_object_get(point, "holds");
	assert_int_equal(json_array_size(holds), 2);
	assert_string_equal(text_of(json_array_get(holds, 0), "until"),
			    text_of(json_array_get(holds, 1), "until"));
	const json_t *run = json_object_get(point, "run");
	assert_string_equal(text_of(run, "command"), "make");
	assert_int_equal(number_of(run, "exit_status"), 3);
	assert_int_equal(number_of(run, "elapsed_ns"), 5000000000);
	const json_t *steps = json_object_get(point, "steps");
	assert_int_equal(json_array_size(steps), 2);
	assert_string_equal(text_of(json_array_get(steps, 1), "name"), "s2");
	assert_int_equal(number_of(json_array_get(steps, 1), "elapsed_ns"), 8);
	assert_int_equal(number_of(json_array_get(steps, 1), "exit_status"), 1);
	assert_true(is_null(point, "digest"));
	assert_int_equal(json_array_size(json_object_get(point, "carried")), 0);
	json_decref(point);

	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'q'}"));
	point = ask_ok(service, "{'op': 'show', 'point': 'q'}");
	assert_true(is_null(point, "run"));
	assert_int_equal(json_array_size(json_object_get(point, "steps")), 0);
	assert_int_equal(json_object_size(json_object_get(point, "anchor_commands")), 0);
	json_decref(point);
}

static void test_verdict_and_tags(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	json_t *json = ask_ok(service, "{'op': 'freeze', 'name': 'p'}");
	assert_true(is_null(json, "verdict_by") && is_null(json, "verdict_time") &&
		    is_null(json, "verdict_reason"));
	json_decref(json);
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'q'}"));
	json = ask_ok(service, "{'op': 'verdict', 'point': 'p', 'verdict': 'working',"
			       " 'reason': 'all green', 'by': 'eve'}");
	assert_string_equal(text_of(json, "verdict"), "working");
	assert_string_equal(text_of(json, "verdict_by"), "eve");
	assert_string_equal(text_of(json, "verdict_reason"), "all green");
	assert_int_equal(strlen(text_of(json, "verdict_time")), 35);
	json_decref(json);
	json = ask_ok(service, "{'op': 'log', 'verdict': 'working'}");
	assert_int_equal(json_array_size(json), 1);
	json_decref(json);

	json = ask_ok(service, "{'op': 'tag', 'point': 'p', 'add': ['x', 'y']}");
	assert_int_equal(json_array_size(json_object_get(json, "tags")), 2);
	json_decref(json);
	json = ask_ok(service, "{'op': 'tag', 'point': 'p', 'add': ['z'], 'remove': ['x', 'y']}");
	assert_int_equal(json_array_size(json_object_get(json, "tags")), 1);
	json_decref(json);
	ask_error(SERVICE_NOT_FOUND, "'x'", service,
		  "{'op': 'tag', 'point': 'p', 'remove': ['x']}");
	json = ask_ok(service, "{'op': 'log', 'verdict': 'working', 'tag': 'x'}");
	assert_int_equal(json_array_size(json), 0);
	json_decref(json);
}

static void test_default_workspace(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	json_decref(ask_ok(service, "{'op': 'workspace_create', 'name': 'a'}"));
	json_t *list = ask_ok(service, "{'op': 'workspace_list'}"), *workspace;
	size_t i;
	json_array_foreach(list, i, workspace) assert_int_equal(
		is_true(workspace, "default"), strcmp(text_of(workspace, "name"), "main") == 0);
	json_decref(list);
	json_decref(ask_ok(service, "{'op': 'workspace_rename', 'name': 'main', 'new_name': 'b'}"));
	list = ask_ok(service, "{'op': 'workspace_list'}");
	json_array_foreach(list, i, workspace) assert_false(is_true(workspace, "default"));
	json_decref(list);
}

/* ---- the journal ---- */

/* "action point; " of each entry */
static char *actions_of(json_t *entries)
{
	static char text[1024];
	const json_t *entry;
	size_t i, used = 0;
	text[0] = '\0';
	json_array_foreach(entries, i, entry)
	{
		const char *point = json_string_value(json_object_get(entry, "point"));
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %s; ",
					 text_of(entry, "action"), point ? point : "-");
	}
	json_decref(entries);
	return text;
}

static void make_story(struct service *service)
{
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'p', 'message': 'why'}"));
	json_decref(ask_ok(service, "{'op': 'rename', 'point': 'p', 'new_name': 'q'}"));
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'p', 'by': 'eve'}"));
	json_decref(ask_ok(service, "{'op': 'delete', 'points': ['q']}"));
	json_decref(ask_ok(service, "{'op': 'clone', 'point': 'p', 'name': 'side'}"));
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'p', 'workspace': 'side'}"));
}

static void test_journal(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	make_story(service);
	json_t *all = ask_ok(service, "{'op': 'journal'}");
	const json_t *entry = json_array_get(all, 2);
	assert_int_equal(number_of(entry, "number"), 3);
	assert_string_equal(text_of(entry, "action"), "freeze");
	assert_string_equal(text_of(entry, "workspace"), "main");
	assert_string_equal(text_of(entry, "point"), "p");
	assert_string_equal(text_of(entry, "reason"), "why");
	assert_true(text_of(entry, "by")[0] && text_of(entry, "host")[0]);
	assert_int_equal(strlen(text_of(entry, "hash")), 64);
	assert_true(number_of(entry, "point_id") > 0 && number_of(entry, "workspace_id") > 0);
	assert_true(is_null(json_array_get(all, 0), "point"));
	entry = json_array_get(all, 3);
	assert_string_equal(text_of(json_object_get(entry, "details"), "old_name"), "p");
	size_t count = json_array_size(all);
	json_decref(all);

	assert_string_equal(actions_of(ask_ok(service, "{'op': 'journal', 'point': 'p'}")),
			    "freeze p; clone p; ");
	assert_string_equal(actions_of(ask_ok(service, "{'op': 'journal', 'point': 'q'}")),
			    "freeze p; rename q; delete q; ");
	assert_string_equal(actions_of(ask_ok(service, "{'op': 'journal', 'point': 'main@q'}")),
			    "freeze p; rename q; delete q; ");
	assert_string_equal(actions_of(ask_ok(service, "{'op': 'journal', 'point': 'side@p'}")),
			    "freeze p; ");
	assert_string_equal(
		actions_of(ask_ok(service, "{'op': 'journal', 'action': 'freeze', 'after': 3}")),
		"freeze p; freeze p; ");
	json_t *none = ask_ok(service, "{'op': 'journal', 'after': %zu}", count);
	assert_int_equal(json_array_size(none), 0);
	json_decref(none);

	json_decref(ask_ok(service, "{'op': 'workspace_delete', 'name': 'side'}"));
	ask_error(SERVICE_NOT_FOUND, "side", service,
		  "{'op': 'journal', 'point': 'q', 'workspace': 'side'}");
	assert_string_equal(
		actions_of(ask_ok(service, "{'op': 'journal', 'point': 'p', 'workspace': 'side'}")),
		"freeze p; delete p; ");
	all = ask_ok(service, "{'op': 'journal', 'workspace': 'side'}");
	assert_true(json_array_size(all) >= 3);
	json_decref(all);
}

static void test_verify(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	make_story(service);
	json_t *json = ask_ok(service, "{'op': 'journal_verify'}");
	json_t *all = ask_ok(service, "{'op': 'journal'}");
	size_t count = json_array_size(all);
	char hash[65];
	assert_int_equal(number_of(json, "entries"), count);
	assert_int_equal(number_of(json, "errors"), 0);
	assert_int_equal(json_array_size(json_object_get(json, "findings")), 0);
	snprintf(hash, sizeof(hash), "%s", text_of(json, "hash"));
	assert_string_equal(text_of(json_array_get(all, count - 1), "hash"), hash);
	json_decref(json);
	json_decref(all);

	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'later'}"));
	json_decref(ask_ok(service, "{'op': 'journal_verify', 'expect': '%zu:%s'}", count, hash));
	json = ask(service, "{'op': 'journal_verify', 'expect': '%zu:%s'}", count - 1, hash);
	const json_t *detail = json_object_get(json_object_get(json, "error"), "detail");
	assert_int_equal(number_of(detail, "errors"), 1);
	assert_int_equal(json_array_size(json_object_get(detail, "findings")), 1);
	need_error(json, SERVICE_DAMAGED, "1 error");
	ask_error(SERVICE_DAMAGED, "1 error", service,
		  "{'op': 'journal_verify', 'expect': '999:%s'}", hash);
	hash[0] = 'g';
	ask_error(SERVICE_USAGE, "NUMBER:HASH", service,
		  "{'op': 'journal_verify', 'expect': '1:%s'}", hash);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD(test_usage),
		WORLD(test_freeze),
		WORLD(test_verdict_and_tags),
		WORLD(test_default_workspace),
		WORLD(test_journal),
		WORLD(test_verify),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
