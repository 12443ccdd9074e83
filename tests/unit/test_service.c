/* Every operation of the service, in this process, on a store that nobody has mounted. */
#include "service_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* A store with some files in `main`, and the service that has it open. */
struct world {
	struct fixture fixture;
	struct service *service;
};

static void world_open(struct world *world)
{
	struct errbuf err = {""};
	if (service_open(world->fixture.directory, false, &world->service, &err))
		fail_msg("service_open: %s", err.text);
}

static int setup(void **state)
{
	const struct store_compression compression = {.codec = CODEC_LZ4};
	struct world *world = calloc(1, sizeof(*world));
	struct errbuf err = {""};

	assert_non_null(world);
	strcpy(world->fixture.directory, "/tmp/cairn-test-XXXXXX");
	assert_non_null(mkdtemp(world->fixture.directory));
	if (service_init_store(world->fixture.directory, &compression, &err))
		fail_msg("service_init_store: %s", err.text);
	assert_int_equal(service_init_store(world->fixture.directory, &compression, &err), -EEXIST);
	world_open(world);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	service_close(world->service);
	nftw(world->fixture.directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(world);
	return 0;
}

/* Changes the head of `main` underneath; the service is closed meanwhile. */
static struct small change_begin(struct world *world)
{
	world->service = service_close(world->service);
	fixture_open(&world->fixture);
	return small_begin(world->fixture.head);
}

static void change_end(struct world *world, struct small *small)
{
	small_end(small);
	must(repo_commit(world->fixture.repo));
	fixture_close(&world->fixture);
	world_open(world);
}

static void write_text(struct small *small, uint64_t ino, const char *text)
{
	small_write(small, ino, 0, (const uint8_t *)text, strlen(text));
}

enum { BIG = 2500000 };

static void make_files(struct world *world)
{
	struct small small = change_begin(world);
	uint8_t *bytes = malloc(BIG);
	assert_non_null(bytes);
	fill_bytes(bytes, BIG, 7);
	write_text(&small, small_make(&small, ROOT_INO, "b.txt", S_IFREG | 0640), "hello\n");
	uint64_t directory = small_make(&small, ROOT_INO, "a", S_IFDIR | 0755);
	small_write(&small, small_make(&small, directory, "big", S_IFREG | 0644), 0, bytes, BIG);
	small_symlink(&small, directory, "link", "../b.txt");
	small_make(&small, ROOT_INO, "odd\xff\xc3\xa4", S_IFREG | 0600);
	change_end(world, &small);
	free(bytes);
}

static void change_files(struct world *world)
{
	struct small small = change_begin(world);
	uint64_t directory = small_lookup(&small, ROOT_INO, "a");
	write_text(&small, small_lookup(&small, ROOT_INO, "b.txt"), "HELLO, all\n");
	write_text(&small, small_make(&small, directory, "new", S_IFREG | 0644), "x");
	small_remove(&small, directory, "link", false);
	small_rename(&small, directory, "big", ROOT_INO, "bigger");
	change_end(world, &small);
}

/* ---- names ---- */

static void test_text(void **state)
{
	static const char *const same[] = {"", "plain", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
					   "\x01\x7f"};
	static const char *const odd[] = {"\xff",
					  "a\x80z",
					  "\xc0\xaf",
					  "\xed\xa0\x80",
					  "\xf4\x90\x80\x80",
					  "\xe2\x82",
					  "\xf4\x8f\xbe\x80",
					  "\xf4\x8f\xbf\xbf x"};
	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		char *text = service_encode_text(same[i], strlen(same[i]));
		assert_string_equal(text, same[i]);
		free(text);
	}
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		char *text = service_encode_text(odd[i], strlen(odd[i]));
		json_t *json = json_string(text);
		assert_non_null(json);
		char *back = service_decode_text(json_string_value(json));
		assert_string_equal(back, odd[i]);
		json_decref(json);
		free(text);
		free(back);
	}
}

/* Random bytes come back as they were. */
static void test_text_random(void **state)
{
	struct random random = random_from(random_seed());
	(void)state;
	for (int round = 0; round < 20000; round++) {
		static const uint8_t lively[] = {0xf4, 0x8f, 0xbe, 0xbf, 0x80, 0xc3, 0xe2, 'a'};
		char bytes[12], *text, *back;
		size_t length = random_below(&random, sizeof(bytes));
		for (size_t i = 0; i < length; i++)
			bytes[i] = (char)lively[random_below(&random, sizeof(lively))];
		bytes[length] = '\0';
		text = service_encode_text(bytes, length);
		json_t *json = json_string(text);
		assert_non_null(json);
		back = service_decode_text(text);
		assert_string_equal(back, bytes);
		json_decref(json);
		free(text);
		free(back);
	}
}

/* ---- usage ---- */

static void test_usage(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	const enum service_code usage = SERVICE_USAGE;

	ask_error(usage, "object", service, "[]");
	ask_error(usage, "object", service, "null");
	ask_error(usage, "'op'", service, "{}");
	ask_error(usage, "'op'", service, "{'op': 7}");
	ask_error(usage, "'dance'", service, "{'op': 'dance'}");
	ask_error(usage, "'colour'", service, "{'op': 'ping', 'colour': 'red'}");
	ask_error(usage, "'name' is missing", service, "{'op': 'freeze'}");
	ask_error(usage, "'name' must be a string", service, "{'op': 'freeze', 'name': 1}");
	ask_error(usage, "'tags' must be an array", service,
		  "{'op': 'freeze', 'name': 'p', 'tags': 'x'}");
	ask_error(usage, "'tags' must be an array of strings", service,
		  "{'op': 'freeze', 'name': 'p', 'tags': ['x', 3]}");
	ask_error(usage, "'anchors' must be an object", service,
		  "{'op': 'freeze', 'name': 'p', 'anchors': ['x']}");
	ask_error(usage, "'anchors' must be an object of strings", service,
		  "{'op': 'freeze', 'name': 'p', 'anchors': {'x': null}}");
	ask_error(usage, "'if_changed' must be true or false", service,
		  "{'op': 'freeze', 'name': 'p', 'if_changed': 1}");
	ask_error(usage, "'hold' must be a whole number", service,
		  "{'op': 'release', 'point': 'p', 'hold': -1}");
	ask_error(usage, "'hold' must be", service, "{'op': 'release', 'point': 'p', 'hold': 0}");
	ask_error(usage, "'points' is empty", service, "{'op': 'delete', 'points': []}");
	ask_error(usage, "name", service, "{'op': 'freeze', 'name': 'a/b'}");
	ask_error(usage, "name", service, "{'op': 'workspace_create', 'name': 'a@b'}");
	ask_error(SERVICE_NOT_FOUND, "nothing is mounted", service,
		  "{'op': 'umount', 'mountpoint': '/nowhere'}");
	ask_error(SERVICE_NOT_FOUND, "nothing is mounted", service,
		  "{'op': 'mount', 'mountpoint': '/nowhere'}");
	json_decref(ask_ok(service, "{'op': 'ping'}"));
}

/* 0, or the number of the request that went wrong. */
static int read_only_child(const char *directory)
{
	static const struct {
		const char *request;
		enum service_code code;
	} cases[] = {
		{"{'op': 'freeze', 'name': 'two'}", SERVICE_FAILED},
		{"{'op': 'gc'}", SERVICE_FAILED},
		{"{'op': 'sync'}", SERVICE_FAILED},
		{"{'op': 'show', 'point': 'one'}", SERVICE_OK},
		{"{'op': 'log'}", SERVICE_OK},
		{"{'op': 'status'}", SERVICE_OK},
		{"{'op': 'diff', 'a': 'one'}", SERVICE_OK},
		{"{'op': 'ls', 'point': '@head', 'path': 'a'}", SERVICE_OK},
		{"{'op': 'workspace_list'}", SERVICE_OK},
		{"{'op': 'check', 'read_data': true}", SERVICE_OK},
	};
	struct service *reader;

	if (service_open(directory, true, &reader, NULL))
		return 100;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *result = ask(reader, "%s", cases[i].request);
		enum service_code code = service_result_code(result);
		json_decref(result);
		if (code != cases[i].code)
			return (int)i + 1;
	}
	service_close(reader);
	return 0;
}

static void test_read_only(void **state)
{
	struct world *world = *state;
	struct errbuf err = {""};
	struct service *second;

	make_files(world);
	json_decref(ask_ok(world->service, "{'op': 'freeze', 'name': 'one'}"));
	assert_int_equal(service_open(world->fixture.directory, false, &second, &err), -EBUSY);
	assert_true(err.text[0] != '\0');
	err.text[0] = '\0';
	assert_int_equal(service_open("/nowhere/at/all", true, &second, &err), -ENOENT);
	assert_true(err.text[0] != '\0');

	/* A reader beside the writer is another process. */
	int ends[2], status;
	char byte = 0;
	world->service = service_close(world->service);
	must(pipe(ends));
	fflush(NULL);
	pid_t child = fork();
	if (child == 0)
		_exit(read(ends[0], &byte, 1) == 1 ? read_only_child(world->fixture.directory)
						   : 101);
	world_open(world);
	assert_int_equal(write(ends[1], &byte, 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ends[0]);
	close(ends[1]);
}

/* ---- points ---- */

static void test_freeze(void **state)
{
	struct world *world = *state;
	make_files(world);
	json_t *point =
		ask_ok(world->service,
		       "{'op': 'freeze', 'name': 'one', 'message': 'm \u00e4', 'tags': ['t', 'u'],"
		       " 'holds': ['audit'], 'anchors': {'db': 'R1', 'code': 'v2'}, 'by': 'eve'}");
	assert_string_equal(text_of(point, "name"), "one");
	assert_string_equal(text_of(point, "workspace"), "main");
	assert_string_equal(text_of(point, "message"), "m \xc3\xa4");
	assert_string_equal(text_of(point, "by"), "eve");
	assert_string_equal(text_of(point, "origin"), "frozen");
	assert_string_equal(text_of(point, "verdict"), "open");
	assert_true(is_null(point, "parent") && is_null(point, "parent_id"));
	assert_true(is_true(point, "made") && is_true(point, "current"));
	assert_int_equal(number_of(point, "files"), 4);
	assert_int_equal(number_of(point, "directories"), 1);
	assert_int_equal(number_of(point, "bytes"), BIG + 6);
	assert_true(number_of(point, "elapsed_ns") > 0 && number_of(point, "id") > 0);
	assert_int_equal(json_array_size(json_object_get(point, "tags")), 2);
	assert_string_equal(text_of(json_object_get(point, "anchors"), "db"), "R1");
	json_t *hold = json_array_get(json_object_get(point, "holds"), 0);
	assert_string_equal(text_of(hold, "reason"), "audit");
	assert_true(is_null(hold, "until"));
	/* 2026-11-30T17:55:04.123456789+00:00 */
	const char *created = text_of(point, "created");
	assert_int_equal(strlen(created), 35);
	assert_true(created[10] == 'T' && created[19] == '.' && created[32] == ':');
	json_decref(point);

	ask_error(SERVICE_FAILED, "one", world->service, "{'op': 'freeze', 'name': 'one'}");
	point = ask_ok(world->service, "{'op': 'freeze', 'name': 'two', 'if_changed': true}");
	assert_false(is_true(point, "made"));
	assert_string_equal(text_of(point, "name"), "one");
	json_decref(point);
	point = ask_ok(world->service, "{'op': 'freeze', 'name': 'two'}");
	assert_string_equal(text_of(point, "parent"), "one");
	json_decref(point);
	ask_error(SERVICE_NOT_FOUND, "elsewhere", world->service,
		  "{'op': 'freeze', 'name': 'p', 'workspace': 'elsewhere'}");
}

static void test_log_and_show(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	json_t *log = ask_ok(service, "{'op': 'log'}");
	assert_int_equal(json_array_size(log), 0);
	json_decref(log);
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'one', 'tags': ['t']}"));
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'two'}"));
	log = ask_ok(service, "{'op': 'log'}");
	assert_int_equal(json_array_size(log), 2);
	assert_string_equal(text_of(json_array_get(log, 0), "name"), "one");
	assert_false(is_true(json_array_get(log, 0), "current"));
	assert_true(is_true(json_array_get(log, 1), "current"));
	json_decref(log);
	log = ask_ok(service, "{'op': 'log', 'tag': 't'}");
	assert_int_equal(json_array_size(log), 1);
	json_decref(log);
	ask_error(SERVICE_NOT_FOUND, "gone", service, "{'op': 'log', 'workspace': 'gone'}");

	json_t *point = ask_ok(service, "{'op': 'show', 'point': '@latest'}");
	assert_string_equal(text_of(point, "name"), "two");
	json_decref(point);
	point = ask_ok(service, "{'op': 'show', 'point': 'main@one'}");
	assert_string_equal(text_of(point, "name"), "one");
	json_decref(point);
	ask_error(SERVICE_NOT_FOUND, "thre", service, "{'op': 'show', 'point': 'thre'}");
}

static void test_rename_and_delete(void **state)
{
	struct service *service = ((struct world *)*state)->service;
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'one'}"));
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'two'}"));
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'three'}"));
	json_t *json = ask_ok(service, "{'op': 'rename', 'point': 'one', 'new_name': 'uno'}");
	assert_string_equal(text_of(json, "name"), "uno");
	json_decref(json);
	ask_error(SERVICE_FAILED, "two", service,
		  "{'op': 'rename', 'point': 'uno', 'new_name': 'two'}");
	ask_error(SERVICE_USAGE, "name", service,
		  "{'op': 'rename', 'point': 'uno', 'new_name': '-x'}");

	json = ask_ok(service, "{'op': 'hold', 'point': 'two', 'reason': 'audit', 'by': 'eve',"
			       " 'until': 'in 3 days'}");
	int64_t hold = number_of(json, "hold");
	json_t *held = json_array_get(json_object_get(json, "holds"), 0);
	assert_int_equal(number_of(held, "id"), hold);
	assert_string_equal(text_of(held, "by"), "eve");
	assert_false(is_null(held, "until"));
	json_decref(json);
	ask_error(SERVICE_USAGE, "future", service,
		  "{'op': 'hold', 'point': 'two', 'reason': 'r', 'until': '2 hours ago'}");
	ask_error(SERVICE_USAGE, "", service,
		  "{'op': 'hold', 'point': 'two', 'reason': 'r', 'until': 'soon'}");
	ask_error(SERVICE_BUSY, "audit", service, "{'op': 'delete', 'points': ['uno', 'two']}");
	ask_error(SERVICE_NOT_FOUND, "999999", service,
		  "{'op': 'release', 'point': 'two', 'hold': 999999}");
	json = ask_ok(service, "{'op': 'release', 'point': 'two', 'hold': %lld}", (long long)hold);
	assert_int_equal(json_array_size(json_object_get(json, "holds")), 0);
	json_decref(json);

	json = ask_ok(service, "{'op': 'delete', 'points': ['uno', 'main@two', 'uno'],"
			       " 'dry_run': true}");
	assert_int_equal(json_array_size(json), 2);
	json_decref(json);
	json = ask_ok(service, "{'op': 'delete', 'points': ['uno', 'main@two', 'uno']}");
	assert_int_equal(json_array_size(json), 2);
	assert_string_equal(text_of(json_array_get(json, 1), "name"), "two");
	json_decref(json);
	json = ask_ok(service, "{'op': 'log'}");
	assert_int_equal(json_array_size(json), 1);
	assert_true(is_null(json_array_get(json, 0), "parent"));
	json_decref(json);
}

static void need_changed(const json_t *result, int added, int removed, int modified)
{
	const json_t *changed = json_object_get(result, "changed");
	assert_int_equal(number_of(changed, "added"), added);
	assert_int_equal(number_of(changed, "removed"), removed);
	assert_int_equal(number_of(changed, "modified"), modified);
}

static void test_restore(void **state)
{
	struct world *world = *state;
	make_files(world);
	json_decref(ask_ok(world->service, "{'op': 'freeze', 'name': 'one'}"));
	change_files(world);

	/* back: a/link comes, a/new goes, b.txt and the renamed file change */
	json_t *json = ask_ok(world->service, "{'op': 'restore', 'point': 'one', 'dry_run': true}");
	need_changed(json, 1, 1, 2);
	assert_int_equal(json_array_size(json_object_get(json, "would_block")), 0);
	assert_true(strncmp(json_string_value(
				    json_object_get(json_object_get(json, "safety_point"), "name")),
			    "before-restore-", strlen("before-restore-")) == 0);
	json_decref(json);
	json = ask_ok(world->service, "{'op': 'log'}");
	assert_int_equal(json_array_size(json), 1);
	json_decref(json);

	json = ask_ok(world->service, "{'op': 'restore', 'point': 'one', 'by': 'eve'}");
	need_changed(json, 1, 1, 2);
	assert_true(is_true(json, "safety_made"));
	const json_t *safety = json_object_get(json, "safety_point");
	assert_string_equal(text_of(safety, "origin"), "safety");
	assert_string_equal(text_of(safety, "by"), "eve");
	assert_true(is_true(json_object_get(json, "point"), "current"));
	char name[256];
	snprintf(name, sizeof(name), "%s", text_of(safety, "name"));
	json_decref(json);
	json = ask_ok(world->service, "{'op': 'diff', 'a': 'one'}");
	assert_int_equal(json_array_size(json), 0);
	json_decref(json);

	json = ask_ok(world->service, "{'op': 'restore', 'point': '%s', 'force': true}", name);
	need_changed(json, 1, 1, 2);
	assert_false(is_true(json, "safety_made"));
	assert_string_equal(text_of(json_object_get(json, "safety_point"), "name"), "one");
	json_decref(json);
	ask_error(SERVICE_NOT_FOUND, "nix", world->service, "{'op': 'restore', 'point': 'nix'}");
	ask_error(SERVICE_USAGE, "@head", world->service, "{'op': 'restore', 'point': '@head'}");
}

/* ---- looking into states ---- */

static void need_entry(const json_t *list, size_t i, const char *op, const char *path,
		       const char *type)
{
	const json_t *entry = json_array_get(list, i);
	assert_string_equal(text_of(entry, "op"), op);
	assert_string_equal(text_of(entry, "path"), path);
	assert_string_equal(text_of(entry, "type"), type);
}

static void test_diff(void **state)
{
	struct world *world = *state;
	make_files(world);
	json_decref(ask_ok(world->service, "{'op': 'freeze', 'name': 'one'}"));
	change_files(world);

	json_t *list = ask_ok(world->service, "{'op': 'diff', 'a': 'one'}");
	assert_int_equal(json_array_size(list), 4);
	need_entry(list, 0, "-", "a/link", "link");
	need_entry(list, 1, "+", "a/new", "file");
	need_entry(list, 2, "M", "b.txt", "file");
	need_entry(list, 3, "R", "bigger", "file");
	assert_string_equal(text_of(json_array_get(list, 3), "old_path"), "a/big");
	assert_int_equal(number_of(json_array_get(list, 2), "old_size"), 6);
	assert_int_equal(number_of(json_array_get(list, 2), "new_size"), 11);
	json_decref(list);

	list = ask_ok(world->service, "{'op': 'diff', 'a': '@head', 'b': 'main@one'}");
	assert_int_equal(json_array_size(list), 4);
	need_entry(list, 0, "R", "a/big", "file");
	json_decref(list);
	list = ask_ok(world->service, "{'op': 'diff', 'a': 'main@head', 'b': '@head'}");
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	list = ask_ok(world->service, "{'op': 'diff', 'a': 'one', 'paths': ['./a//', '/none']}");
	assert_int_equal(json_array_size(list), 3); /* what left the directory counts */
	json_decref(list);
	list = ask_ok(world->service, "{'op': 'diff', 'a': 'one', 'paths': ['b.tx']}");
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	list = ask_ok(world->service, "{'op': 'diff', 'a': 'one', 'paths': ['/']}");
	assert_int_equal(json_array_size(list), 4);
	json_decref(list);
	ask_error(SERVICE_NOT_FOUND, "nix", world->service,
		  "{'op': 'diff', 'a': 'one', 'b': 'nix'}");
	ask_error(SERVICE_NOT_FOUND, "nix", world->service, "{'op': 'diff', 'a': 'nix@head'}");
}

static void test_ls(void **state)
{
	struct world *world = *state;
	make_files(world);
	json_decref(ask_ok(world->service, "{'op': 'freeze', 'name': 'one'}"));

	json_t *list = ask_ok(world->service, "{'op': 'ls', 'point': 'one'}");
	assert_int_equal(json_array_size(list), 3);
	const json_t *entry = json_array_get(list, 0);
	assert_string_equal(text_of(entry, "name"), "a");
	assert_string_equal(text_of(entry, "type"), "directory");
	entry = json_array_get(list, 1);
	assert_string_equal(text_of(entry, "name"), "b.txt");
	assert_string_equal(text_of(entry, "mode"), "0640");
	assert_int_equal(number_of(entry, "size"), 6);
	assert_int_equal(number_of(entry, "nlink"), 1);
	entry = json_array_get(list, 2);
	char *odd = service_decode_text(text_of(entry, "name"));
	assert_string_equal(odd, "odd\xff\xc3\xa4");
	free(odd);
	/* The name as told finds the file again. */
	json_t *same = ask_ok(world->service, "{'op': 'ls', 'point': '@head', 'path': '%s'}",
			      text_of(entry, "name"));
	assert_true(json_equal(json_array_get(same, 0), entry));
	json_decref(same);
	json_decref(list);

	list = ask_ok(world->service, "{'op': 'ls', 'point': '@head', 'path': '/a/'}");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_of(json_array_get(list, 1), "target"), "../b.txt");
	json_decref(list);
	list = ask_ok(world->service, "{'op': 'ls', 'point': 'one', 'path': 'a/big'}");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(text_of(json_array_get(list, 0), "name"), "big");
	json_decref(list);
	ask_error(SERVICE_NOT_FOUND, "a/nix", world->service,
		  "{'op': 'ls', 'point': 'one', 'path': 'a/nix'}");
	ask_error(SERVICE_NOT_FOUND, "b.txt/x", world->service,
		  "{'op': 'ls', 'point': 'one', 'path': 'b.txt/x'}");
	ask_error(SERVICE_USAGE, "..", world->service,
		  "{'op': 'ls', 'point': 'one', 'path': 'a/../b.txt'}");
}

static void test_cat(void **state)
{
	struct world *world = *state;
	FILE *file = tmpfile();
	uint8_t *wanted = malloc(BIG), *got = malloc(BIG);
	int ends[2];

	assert_true(file && wanted && got);
	make_files(world);
	json_decref(ask_ok(world->service, "{'op': 'freeze', 'name': 'one'}"));
	fill_bytes(wanted, BIG, 7);
	static const char *const specs[] = {"one", "@head"};
	for (int i = 0; i < 2; i++) {
		rewind(file);
		json_t *json = ask_ok(world->service,
				      "{'op': 'cat', 'point': '%s', 'path': 'a/big', 'fd': %d}",
				      specs[i], fileno(file));
		assert_int_equal(number_of(json, "bytes"), BIG);
		json_decref(json);
		assert_int_equal(pread(fileno(file), got, BIG, 0), BIG);
		assert_memory_equal(got, wanted, BIG);
	}
	fclose(file);
	free(wanted);
	free(got);

	must(pipe(ends));
	json_decref(ask_ok(world->service,
			   "{'op': 'cat', 'point': 'one', 'path': '/b.txt', 'fd': %d}", ends[1]));
	char text[16] = "";
	assert_int_equal(read(ends[0], text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN);
	ask_error(SERVICE_FAILED, "pipe", world->service,
		  "{'op': 'cat', 'point': 'one', 'path': 'a/big', 'fd': %d}", ends[1]);
	ask_error(SERVICE_FAILED, "directory", world->service,
		  "{'op': 'cat', 'point': 'one', 'path': 'a', 'fd': %d}", ends[1]);
	ask_error(SERVICE_NOT_FOUND, "nix", world->service,
		  "{'op': 'cat', 'point': 'one', 'path': 'nix', 'fd': %d}", ends[1]);
	close(ends[1]);
}

/* ---- workspaces and the store ---- */

static void test_workspaces(void **state)
{
	struct world *world = *state;
	struct service *service;
	make_files(world);
	service = world->service;
	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'one'}"));
	json_t *json = ask_ok(service, "{'op': 'clone', 'point': 'one', 'name': 'copy'}");
	assert_string_equal(text_of(json, "name"), "copy");
	assert_int_equal(number_of(json, "files"), 4);
	json_decref(json);
	ask_error(SERVICE_FAILED, "copy", service,
		  "{'op': 'clone', 'point': 'one', 'name': 'copy'}");
	json = ask_ok(service, "{'op': 'workspace_create', 'name': 'empty'}");
	assert_int_equal(number_of(json, "files"), 0);
	assert_true(is_null(json, "base"));
	json_decref(json);
	json = ask_ok(service, "{'op': 'workspace_list'}");
	assert_int_equal(json_array_size(json), 3);
	json_decref(json);

	json_decref(ask_ok(service, "{'op': 'freeze', 'name': 'c1', 'workspace': 'copy'}"));
	json = ask_ok(service, "{'op': 'show', 'point': 'copy@c1'}");
	assert_string_equal(text_of(json, "workspace"), "copy");
	json_decref(json);
	json = ask_ok(service, "{'op': 'diff', 'a': 'main@one', 'b': 'copy@head'}");
	assert_int_equal(json_array_size(json), 0);
	json_decref(json);
	json = ask_ok(service, "{'op': 'workspace_rename', 'name': 'main', 'new_name': 'old'}");
	assert_string_equal(text_of(json, "name"), "old");
	json_decref(json);
	ask_error(SERVICE_USAGE, "3 workspaces", service, "{'op': 'log'}");
	json_decref(ask_ok(service, "{'op': 'show', 'point': 'copy@c1'}"));

	json = ask_ok(service, "{'op': 'workspace_delete', 'name': 'copy', 'dry_run': true}");
	assert_string_equal(json_string_value(json_array_get(json_object_get(json, "points"), 0)),
			    "c1");
	json_decref(json);
	json_decref(ask_ok(service, "{'op': 'workspace_delete', 'name': 'copy'}"));
	json_decref(ask_ok(service, "{'op': 'workspace_delete', 'name': 'empty'}"));
	ask_error(SERVICE_NOT_FOUND, "copy", service, "{'op': 'workspace_delete', 'name': 'copy'}");
	json = ask_ok(service, "{'op': 'log'}"); /* the only one, whatever its name is */
	assert_int_equal(json_array_size(json), 1);
	json_decref(json);
}

static void count_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	assert_true(phase[0] && done <= total);
	++*(int *)context;
}

static void test_store(void **state)
{
	struct world *world = *state;
	make_files(world);
	json_decref(ask_ok(world->service, "{'op': 'freeze', 'name': 'one'}"));
	change_files(world);

	json_t *json = ask_ok(world->service, "{'op': 'status'}");
	assert_string_equal(text_of(json, "store"), world->fixture.directory);
	assert_string_equal(text_of(json, "compression"), "lz4");
	assert_string_equal(text_of(json, "health"), "ok");
	assert_int_equal(number_of(json, "format"), 1);
	assert_int_equal(strlen(text_of(json, "uuid")), 36);
	assert_true(is_null(json, "daemon_pid"));
	assert_int_equal(json_array_size(json_object_get(json, "mounts")), 0);
	const json_t *workspace = json_array_get(json_object_get(json, "workspaces"), 0);
	assert_int_equal(number_of(workspace, "points"), 1);
	assert_string_equal(text_of(workspace, "base"), "one");
	assert_true(is_null(workspace, "mounted"));
	assert_int_equal(number_of(json, "logical_bytes"), 2 * BIG + 6 + 12);
	assert_int_equal(number_of(json, "unique_bytes"), BIG);
	assert_true(number_of(json, "stored_bytes") > 0 && number_of(json, "index_bytes") > 0);
	assert_true(number_of(json, "pack_bytes") > 0 && number_of(json, "free_bytes") > 0);
	assert_true(json_real_value(json_object_get(json, "dedup_ratio")) > 1.99);
	assert_true(json_real_value(json_object_get(json, "compression_ratio")) > 1.0);
	assert_int_equal(number_of(json, "reclaimable_bytes"), 0);
	json_decref(json);

	/* The big file is in the point and in the head: rename it away from both. */
	struct small small = change_begin(world);
	small_remove(&small, ROOT_INO, "bigger", false);
	change_end(world, &small);
	json_decref(ask_ok(world->service, "{'op': 'delete', 'points': ['one']}"));
	json = ask_ok(world->service, "{'op': 'status'}");
	assert_true(number_of(json, "reclaimable_bytes") > BIG / 4);
	json_decref(json);
	json = ask_ok(world->service, "{'op': 'gc', 'dry_run': true}");
	assert_int_equal(number_of(json, "raw_bytes"), BIG);
	json_decref(json);
	json_t *request = json_pack("{s:s}", "op", "gc");
	int calls = 0;
	json = need_ok(service_request(world->service, request, count_progress, &calls));
	json_decref(request);
	assert_int_equal(number_of(json, "raw_bytes"), BIG);
	assert_true(number_of(json, "chunks") > 0 && calls > 0);
	json_decref(json);
	json = ask_ok(world->service, "{'op': 'status'}");
	assert_int_equal(number_of(json, "unique_bytes"), 0);
	assert_int_equal(number_of(json, "reclaimable_bytes"), 0);
	json_decref(json);
	json = ask_ok(world->service, "{'op': 'sync'}");
	assert_true(number_of(json, "commit") > 0);
	json_decref(json);
}

static void damage_pack(const struct world *world)
{
	char path[512];
	uint8_t byte;
	snprintf(path, sizeof(path), "%s/packs", world->fixture.directory);
	DIR *directory = opendir(path);
	struct dirent *entry;
	assert_non_null(directory);
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		int fd = openat(dirfd(directory), entry->d_name, O_RDWR);
		assert_true(fd >= 0);
		assert_int_equal(pread(fd, &byte, 1, 5000), 1);
		byte ^= 0x40;
		assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
		close(fd);
	}
	closedir(directory);
}

static void test_check(void **state)
{
	struct world *world = *state;
	make_files(world);
	json_t *json = ask_ok(world->service, "{'op': 'check', 'read_data': true}");
	assert_int_equal(number_of(json, "errors"), 0);
	assert_true(number_of(json, "nodes") > 0 && number_of(json, "chunks") > 0);
	assert_int_equal(number_of(json, "inodes"), 6);
	assert_int_equal(json_array_size(json_object_get(json, "findings")), 0);
	json_decref(json);

	damage_pack(world);
	json = ask(world->service, "{'op': 'check', 'read_data': true}");
	const json_t *detail = json_object_get(json_object_get(json, "error"), "detail");
	assert_true(number_of(detail, "errors") > 0);
	assert_true(json_array_size(json_object_get(detail, "findings")) > 0);
	need_error(json, SERVICE_DAMAGED, "damage");
	int null = open("/dev/null", O_WRONLY);
	ask_error(SERVICE_DAMAGED, "", world->service,
		  "{'op': 'cat', 'point': '@head', 'path': 'a/big', 'fd': %d}", null);
	close(null);
}

static void test_codes(void **state)
{
	static const struct {
		int error;
		enum service_code code;
	} cases[] = {
		{-EBUSY, SERVICE_BUSY},	     {-ENOENT, SERVICE_NOT_FOUND},
		{-ESRCH, SERVICE_NOT_FOUND}, {-ENOSPC, SERVICE_NO_SPACE},
		{-EBADMSG, SERVICE_DAMAGED}, {-EUCLEAN, SERVICE_DAMAGED},
		{-EINVAL, SERVICE_USAGE},    {-EIO, SERVICE_FAILED},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *json = service_error(cases[i].error, NULL);
		assert_int_equal(service_result_code(json), cases[i].code);
		need_error(json, cases[i].code, "");
	}
	json_t *null = json_null();
	assert_int_equal(service_result_code(null), SERVICE_FAILED);
}

static void test_find_mount(void **state)
{
	char *store, *workspace, *mountpoint;
	(void)state;
	assert_int_equal(service_find_mount("/", &store, &workspace, &mountpoint), -ENOENT);
	assert_int_equal(service_find_mount("/proc/self", &store, &workspace, &mountpoint),
			 -ENOENT);
	assert_int_equal(service_find_mount("/nowhere/x", &store, &workspace, &mountpoint),
			 -ENOENT);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_random),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_find_mount),
		WORLD(test_usage),
		WORLD(test_read_only),
		WORLD(test_freeze),
		WORLD(test_log_and_show),
		WORLD(test_rename_and_delete),
		WORLD(test_restore),
		WORLD(test_diff),
		WORLD(test_ls),
		WORLD(test_cat),
		WORLD(test_workspaces),
		WORLD(test_store),
		WORLD(test_check),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
