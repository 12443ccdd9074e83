/* Which points hold a path, and in which version: snapshot/version.h. */
#include "carry_testing.h"
#include "snapshot/version.h"

static int setup(void **state)
{
	static struct fixture fixture;
	fixture_create(&fixture);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	fixture_destroy(*state);
	return 0;
}

static void keep(struct fixture *fixture, const char *name)
{
	struct point point = freeze(fixture->head, name);
	point_release(&point);
}

static int write_holder(const struct version_holder *holder, void *context)
{
	char *text = context;
	size_t used = strlen(text);
	snprintf(text + used, 4096 - used, "%.*s=%u ", (int)holder->name_length, holder->name,
		 holder->version);
	return 0;
}

static void assert_versions(struct fixture *fixture, const char *path, const char *expected)
{
	char text[4096] = "";
	must(version_list(fixture->repo, head_workspace(fixture->head), path, write_holder, text));
	if (strcmp(text, expected) != 0)
		fail_msg("%s: %s, not %s", path, text, expected);
}

/* The same mtime for all, so that only what else differs can tell. */
static void set_time(struct fixture *fixture, const char *path, int64_t seconds)
{
	struct small small = small_begin(fixture->head);
	struct inode_attr attr;
	uint64_t ino = ino_of(&small, path);
	must(inode_get(small.tree, small.reader, ino, &attr));
	attr.mtime = (struct timespec){seconds, 0};
	must(inode_put(small.tree, small.reader, ino, &attr));
	small_end(&small);
	head_mark_dirty(fixture->head);
}

static void step_and_freeze(struct fixture *fixture, const char *script, const char *timed,
			    const char *name)
{
	run(fixture->head, script);
	if (timed)
		set_time(fixture, timed, 1000);
	keep(fixture, name);
}

static void test_contents(void **state)
{
	struct fixture *fixture = *state;
	step_and_freeze(fixture, "m d;w x other", NULL, "a");
	step_and_freeze(fixture, "w d/f one", "d/f", "b");
	step_and_freeze(fixture, "w x more", NULL, "c");   /* something else */
	step_and_freeze(fixture, "w d/f two", "d/f", "d"); /* same size, same time */
	step_and_freeze(fixture, "o d/f one", "d/f", "e"); /* another inode, the first contents */
	step_and_freeze(fixture, "c d/f 600", "d/f", "f");
	step_and_freeze(fixture, "x d/f value", "d/f", "g");
	step_and_freeze(fixture, "l d/f d/link", NULL, "h"); /* another name: the same file */
	step_and_freeze(fixture, "d d/f", NULL, "i");
	step_and_freeze(fixture, "r d/link d/f", NULL, "j"); /* the path counts, not the inode */
	assert_versions(fixture, "d/f", "b=1 c=1 d=2 e=1 f=3 g=4 h=4 j=4 ");
	assert_versions(fixture, "/d//./f/", "b=1 c=1 d=2 e=1 f=3 g=4 h=4 j=4 ");
	assert_versions(fixture, "d/f/below", "");
	assert_versions(fixture, "nothing", "");
	assert_versions(fixture, "d/link", "h=1 i=1 ");
	char text[4096] = "";
	assert_int_equal(version_list(fixture->repo, 0, "../x", write_holder, text), -EINVAL);
}

static void test_directories(void **state)
{
	struct fixture *fixture = *state;
	step_and_freeze(fixture, "m d;w d/a 1", "d", "a");
	step_and_freeze(fixture, "w d/a 2", "d", "b"); /* what a file in it holds does not matter */
	step_and_freeze(fixture, "w d/b 1", "d", "c");
	step_and_freeze(fixture, "d d/b;w d/c 1", "d", "d");   /* as many names */
	step_and_freeze(fixture, "d d;m d;w d/a 3", "d", "e"); /* made anew, as at first */
	step_and_freeze(fixture, "d d;w d file", "d", "f");    /* a file there */
	step_and_freeze(fixture, "d d;m d;m d/a", "d", "g");   /* the name is of another type */
	assert_versions(fixture, "d", "a=1 b=1 c=2 d=3 e=1 f=4 g=5 ");
}

static void test_links_and_workspaces(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	char text[4096] = "";
	step_and_freeze(fixture, "s l abc", "l", "a");
	step_and_freeze(fixture, "d l;s l abd", "l", "b");
	assert_versions(fixture, "l", "a=1 b=2 ");
	must(workspace_create(fixture->repo, "other", 0, 0, NULL, &err));
	struct head *head;
	must(repo_head(fixture->repo, "other", &head, &err));
	struct fixture other = {.repo = fixture->repo, .head = head};
	step_and_freeze(&other, "s l abc", "l", "c");
	assert_versions(fixture, "l", "a=1 b=2 ");
	must(version_list(fixture->repo, 0, "l", write_holder, text));
	assert_string_equal(text, "a=1 b=2 c=1 ");
	head_put(head);
}

struct totals_text {
	char text[256];
};

static int write_name(uint64_t id, const char *name, size_t length, void *context)
{
	struct totals_text *names = context;
	size_t used = strlen(names->text);
	(void)id;
	snprintf(names->text + used, sizeof(names->text) - used, "%.*s ", (int)length, name);
	return 0;
}

/* point_names(), point_totals(): what listings and status are made of. */
static void test_names_and_totals(void **state)
{
	struct fixture *fixture = *state;
	struct totals_text names = {""};
	struct point_totals *totals;
	struct point second;
	size_t count;
	uint64_t workspace = head_workspace(fixture->head);
	must(point_totals(fixture->repo, &totals, &count));
	assert_int_equal(count, 0);
	free(totals);
	step_and_freeze(fixture, "w x 12345", NULL, "a");
	step_and_freeze(fixture, "w y 123", NULL, "b");
	keep(fixture, "c");
	must(point_by_name(fixture->repo, workspace, "b", 1, &second));
	must(point_names(fixture->repo, workspace, 0, write_name, &names));
	assert_string_equal(names.text, "a b c ");
	names.text[0] = 0;
	must(point_names(fixture->repo, workspace, second.id, write_name, &names));
	assert_string_equal(names.text, "b c ");
	names.text[0] = 0;
	must(point_names(fixture->repo, workspace + 1000, 0, write_name, &names));
	assert_string_equal(names.text, "");
	must(point_totals(fixture->repo, &totals, &count));
	assert_int_equal(count, 1);
	assert_int_equal(totals[0].workspace, workspace);
	assert_int_equal(totals[0].points, 3);
	assert_int_equal(totals[0].bytes, 5 + 8 + 8);
	free(totals);
	point_release(&second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_contents, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_and_workspaces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_and_totals, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
