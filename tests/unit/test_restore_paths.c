/* Restore of some paths: scenes, and random trees compared name by name. */
#include "history_testing.h"
#include "snapshot/restore_paths.h"

static struct restore_paths_result restore(struct fixture *fixture, const struct point *target,
					   const char *path)
{
	const struct restore_paths_options options = {.paths = &path, .path_count = 1};
	struct restore_paths_result result;
	struct errbuf err = {""};
	int error = point_restore_paths(fixture->head, target, &options, &result, &err);
	if (error)
		fail_msg("restore of %s: %s (%s)", path, strerror(-error), err.text);
	return result;
}

/* ---- scenes ---- */

struct scene {
	const char *name, *then, *since, *path;
	const char *after; /* the head */
};

static const struct scene scenes[] = {
	{"a changed file", "w a 1;w b 1", "w a 2;w b 2", "a", "a=1 b=2"},
	{"a deleted file", "w a 1;w b 1", "d a;w b 2", "/a", "a=1 b=2"},
	{"a file that the point does not have", "w b 1", "w a 1", "a", "b=1"},
	{"mode and xattr", "w a 1;c a 600;x a v", "c a 640;x a w", "a", "a=1,600,x=v"},
	{"a directory with all below", "m d;w d/f 1;w d/g 1;w x 1", "w d/f 2;d d/g;w d/h 1;w x 2",
	 "d", "d/ d/f=1 d/g=1 x=2"},
	{"a deleted directory", "m d;m d/e;w d/e/f 1", "d d;w x 1", "d", "d/ d/e/ d/e/f=1 x=1"},
	{"one file of a deleted directory", "m d;c d 700;w d/f 1;w d/g 1", "d d", "d/f",
	 "d/,700 d/f=1"},
	{"a file became a directory", "w a 1", "d a;m a;w a/x 1", "a", "a=1"},
	{"a directory became a file", "m a;w a/x 1", "d a;w a 1", "./a/", "a/ a/x=1"},
	{"renamed within the directory", "m d;w d/a 1", "r d/a d/b;w d/b 2", "d", "d/ d/a=1"},
	{"moved out of it: both are there", "m d;m e;w d/a 1", "r d/a e/a;w e/a 2", "d",
	 "d/ d/a=1 e/ e/a=2"},
	{"a directory moved out of it", "m d;m d/s;w d/s/a 1", "r d/s s;w s/a 2", "d",
	 "d/ d/s/ d/s/a=1 s/ s/a=2"},
	{"two files swapped", "m d;w d/a 1;w d/b 2", "r d/a d/c;r d/b d/a;r d/c d/b", "d",
	 "d/ d/a=1 d/b=2"},
	{"directories put into one another", "m d;m d/a;m d/a/b;w d/a/b/f 1",
	 "r d/a/b d/b;r d/a d/b/a", "d", "d/ d/a/ d/a/b/ d/a/b/f=1"},
	{"a hard link inside", "m d;w d/a 1;l d/a d/b", "d d/b;w d/b 2", "d",
	 "d/ d/a=1,links=2 d/b=1,links=2"},
	{"a hard link to the outside comes back", "m d;w d/a 1;l d/a x", "d d/a", "d",
	 "d/ d/a=1,links=2 x=1,links=2"},
	{"a hard link to the outside that changed", "m d;w d/a 1;l d/a x", "w x 2", "d",
	 "d/ d/a=1 x=2"},
	{"a hard link made since", "m d;w d/a 1", "l d/a x", "d", "d/ d/a=1,links=2 x=1,links=2"},
	{"a symbolic link", "s a here", "d a;s a there", "a", "a->here"},
	{"everything", "w a 1;m d;w d/f 1", "w a 2;d d;w n 1", "", "a=1 d/ d/f=1"},
	{"nothing to do", "w a 1;w b 1", "w b 2", "a", "a=1 b=2"},
};

static void play(const struct scene *scene)
{
	struct fixture fixture;
	fixture_create(&fixture);
	run(fixture.head, scene->then);
	struct point point = keep_as(&fixture, "then");
	run(fixture.head, scene->since);
	char *before = list_head(&fixture);
	struct restore_paths_result result = restore(&fixture, &point, scene->path);
	char *after = list_head(&fixture);
	if (strcmp(after, scene->after) != 0)
		fail_msg("%s: the head is %s, not %s", scene->name, after, scene->after);
	assert_sound(fixture.repo, true);
	if (result.revised.changed) {
		assert_true(result.revised.safety_made);
		go_back(&fixture, &result.revised.safety);
		char *back = list_head(&fixture);
		assert_string_equal(back, before);
		free(back);
	}
	restore_paths_result_release(&result);
	point_release(&point);
	free(before);
	free(after);
	fixture_destroy(&fixture);
}

static void test_scenes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		play(&scenes[i]);
}

static void test_refusals(void **state)
{
	(void)state;
	struct fixture fixture;
	fixture_create(&fixture);
	run(fixture.head, "m d;m d/e;w d/e/f 1;w g 1");
	struct point point = keep_as(&fixture, "then");
	run(fixture.head, "d d;w d 1;w g 2");
	static const struct {
		const char *paths[2];
		int error;
		const char *message;
	} refusals[] = {
		{{"g", "none"}, -ENOENT, "'none' is neither in the workspace nor in 'then'"},
		{{"g", "d/e/none"}, -ENOENT, "'d/e/none' is neither"},
		{{"g", "g/f"}, -ENOENT, "'g/f' is neither"},
		{{"g", "d/e/f"}, -ENOTDIR, "'d' is not a directory in the workspace"},
		{{"g", "d/../g"}, -EINVAL, "'d/../g': '..' is not accepted"},
	};
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct restore_paths_options options = {.paths = refusals[i].paths,
							      .path_count = 2};
		struct restore_paths_result result;
		struct errbuf err = {""};
		assert_int_equal(point_restore_paths(fixture.head, &point, &options, &result, &err),
				 refusals[i].error);
		if (!strstr(err.text, refusals[i].message))
			fail_msg("the message is: %s", err.text);
		char *after = list_head(&fixture);
		assert_string_equal(after, "d=1 g=2");
		free(after);
	}
	point_release(&point);
	fixture_destroy(&fixture);
}

static int refuse_all(uint64_t ino, void *context)
{
	(void)ino;
	++*(int *)context;
	return -EBUSY;
}

static void test_files_that_must_not_change(void **state)
{
	(void)state;
	struct fixture fixture;
	int asked = 0;
	fixture_create(&fixture);
	run(fixture.head, "w a 1;w b 1;w c 1");
	struct point point = keep_as(&fixture, "then");
	run(fixture.head, "w a 2;w b 2;w c 2");
	const char *paths[] = {"a", "b"};
	const struct restore_paths_options options = {
		.paths = paths, .path_count = 2, .may_change = refuse_all, .context = &asked};
	struct restore_paths_result result;
	assert_int_equal(point_restore_paths(fixture.head, &point, &options, &result, NULL),
			 -EBUSY);
	assert_int_equal(asked, 2); /* all of them, and no other */
	char *after = list_head(&fixture);
	assert_string_equal(after, "a=2 b=2 c=2");
	free(after);
	point_release(&point);
	fixture_destroy(&fixture);
}

/* ---- random trees ---- */

enum { STATE_MAX = 512 };

struct entry {
	char path[256], text[2048];
	uint64_t ino;
	struct timespec mtime;
};

struct picture {
	struct entry *entries; /* owned */
	size_t count;
};

/* Link counts reach across the borders of the paths. */
static void cut_links(char *text)
{
	char *links = strstr(text, ",links=");
	if (links) {
		char *rest = links + strcspn(links + 1, ",") + 1;
		memmove(links, rest, strlen(rest) + 1);
	}
}

static struct picture picture_of(struct repo *repo, struct tree *tree)
{
	static struct listing listing;
	struct picture picture = {calloc(STATE_MAX, sizeof(struct entry)), 0};
	struct inode_attr attr;
	must(reader_acquire(repo_store(repo), &listing.reader));
	listing.tree = tree;
	listing.count = 0;
	listing.prefix[0] = 0;
	must(dirent_iterate(tree, listing.reader, ROOT_INO, 0, list_entry, &listing));
	for (size_t i = 0; i < listing.count; i++) {
		struct entry *entry = &picture.entries[picture.count++];
		must(inode_get(tree, listing.reader, listing.inos[i], &attr));
		snprintf(listing.prefix, sizeof(listing.prefix), "%s", listing.paths[i]);
		if (S_ISDIR(attr.mode))
			must(dirent_iterate(tree, listing.reader, listing.inos[i], 0, list_entry,
					    &listing));
		snprintf(entry->path, sizeof(entry->path), "%.255s", listing.paths[i]);
		describe(&listing, i, entry->text);
		cut_links(entry->text);
		entry->ino = listing.inos[i];
		entry->mtime = attr.mtime;
	}
	reader_release(listing.reader);
	return picture;
}

static const struct entry *entry_at(const struct picture *picture, const char *path)
{
	for (size_t i = 0; i < picture->count; i++)
		if (strcmp(picture->entries[i].path, path) == 0)
			return &picture->entries[i];
	return NULL;
}

static bool is_inside(const char *const *paths, size_t count, const char *path)
{
	for (size_t i = 0; i < count; i++)
		if (!*paths[i] || lies_in(path, paths[i]))
			return true;
	return false;
}

/* Is `path` above one of them? */
static bool is_above(const char *const *paths, size_t count, const char *path)
{
	for (size_t i = 0; i < count; i++)
		if (lies_in(paths[i], path) && strcmp(paths[i], path) != 0)
			return true;
	return false;
}

struct trial {
	struct picture point, before, after;
	const char *paths[3];
	size_t count;
};

/* What of `expected` is (or is not) inside must be in `after`, alike. */
static void compare_side(const struct trial *trial, bool inside)
{
	const struct picture *expected = inside ? &trial->point : &trial->before;
	for (size_t i = 0; i < expected->count; i++) {
		const struct entry *entry = &expected->entries[i];
		if (is_inside(trial->paths, trial->count, entry->path) != inside)
			continue;
		const struct entry *got = entry_at(&trial->after, entry->path);
		if (!got || strcmp(got->text, entry->text) != 0)
			fail_msg("%s should be as before: %s", entry->text,
				 got ? got->text : "it is gone");
		if (inside && (got->mtime.tv_sec != entry->mtime.tv_sec ||
			       got->mtime.tv_nsec != entry->mtime.tv_nsec))
			fail_msg("%s has another mtime", entry->path);
		if (!inside && got->ino != entry->ino)
			fail_msg("%s is outside, and another inode", entry->path);
	}
}

/* Nothing else is there, but for directories on the way that were missing. */
static void compare_rest(const struct trial *trial)
{
	for (size_t i = 0; i < trial->after.count; i++) {
		const char *path = trial->after.entries[i].path;
		bool inside = is_inside(trial->paths, trial->count, path);
		if (entry_at(inside ? &trial->point : &trial->before, path))
			continue;
		if (inside || !is_above(trial->paths, trial->count, path) ||
		    !entry_at(&trial->point, path))
			fail_msg("%s should not be there", path);
	}
}

/* Names inside are one file where they were in the point. */
static void compare_links(const struct trial *trial)
{
	for (size_t i = 0; i < trial->point.count; i++) {
		const struct entry *a = &trial->point.entries[i];
		if (!is_inside(trial->paths, trial->count, a->path))
			continue;
		for (size_t j = 0; j < i; j++) {
			const struct entry *b = &trial->point.entries[j];
			if (!is_inside(trial->paths, trial->count, b->path))
				continue;
			bool one = entry_at(&trial->after, a->path)->ino ==
				   entry_at(&trial->after, b->path)->ino;
			if (one != (a->ino == b->ino))
				fail_msg("%s and %s are %s file", a->path, b->path,
					 one ? "one" : "not one");
		}
	}
}

/* What has only names inside, or none, is the same inode again. */
static void compare_identity(const struct trial *trial)
{
	for (size_t i = 0; i < trial->point.count; i++) {
		const struct entry *entry = &trial->point.entries[i];
		bool outside = false;
		if (!is_inside(trial->paths, trial->count, entry->path))
			continue;
		for (size_t j = 0; j < trial->before.count; j++)
			outside |= trial->before.entries[j].ino == entry->ino &&
				   !is_inside(trial->paths, trial->count,
					      trial->before.entries[j].path);
		if (!outside && entry_at(&trial->after, entry->path)->ino != entry->ino)
			fail_msg("%s is another inode", entry->path);
	}
}

static struct picture picture_of_head(struct fixture *fixture)
{
	head_lock_shared(fixture->head);
	struct picture picture = picture_of(fixture->repo, head_tree(fixture->head));
	head_unlock(fixture->head);
	return picture;
}

static bool is_file(const struct entry *entry)
{
	return entry && entry->text[strlen(entry->path)] != '/';
}

/* The refusal is right: each path is on neither side, or a file is in the way. */
static void check_refusal(const struct trial *trial, int error)
{
	bool right = false;
	for (size_t i = 0; i < trial->count; i++) {
		const char *path = trial->paths[i];
		if (error == -ENOENT)
			right |= *path && !entry_at(&trial->point, path) &&
				 !entry_at(&trial->before, path);
		for (size_t j = 0; error == -ENOTDIR && j < trial->before.count; j++)
			right |= is_above(&path, 1, trial->before.entries[j].path) &&
				 is_file(&trial->before.entries[j]);
	}
	if (!right)
		fail_msg("refused: %s", strerror(-error));
}

static void drop_picture(struct picture *picture)
{
	free(picture->entries);
}

/* 1: it was done, 0: refused. */
static int try_it(struct fixture *fixture, const struct point *point, struct trial *trial)
{
	struct restore_paths_options options = {
		.paths = trial->paths, .path_count = trial->count, .dry_run = true};
	struct restore_paths_result dry, result, twice;
	int error = point_restore_paths(fixture->head, point, &options, &dry, NULL);
	options.dry_run = false;
	if (error) {
		check_refusal(trial, error);
		assert_int_equal(point_restore_paths(fixture->head, point, &options, &result, NULL),
				 error);
		return 0;
	}
	struct picture same = picture_of_head(fixture);
	assert_int_equal(same.count, trial->before.count);
	drop_picture(&same);
	must(point_restore_paths(fixture->head, point, &options, &result, NULL));
	assert_memory_equal(&dry.changed, &result.changed, sizeof(dry.changed));
	assert_int_equal(dry.revised.changed, result.revised.changed);
	assert_int_equal(dry.revised.safety_made, result.revised.safety_made);
	error = point_restore_paths(fixture->head, point, &options, &twice, NULL);
	if (!error) { /* a path that was deleted is on neither side now */
		assert_false(twice.revised.changed);
		restore_paths_result_release(&twice);
	}
	restore_paths_result_release(&dry);
	restore_paths_result_release(&result);
	return 1;
}

static void random_paths(struct random *random, struct trial *trial, char paths[3][64])
{
	trial->count = 1 + random_below(random, 3);
	for (size_t i = 0; i < trial->count; i++) {
		const struct picture *picture =
			random_below(random, 2) ? &trial->point : &trial->before;
		random_path(random, "", paths[i]);
		if (picture->count && random_below(random, 10))
			snprintf(paths[i], 64, "%.63s",
				 picture->entries[random_below(random, picture->count)].path);
		if (random_below(random, 20) == 0)
			paths[i][0] = 0;
		trial->paths[i] = paths[i];
	}
}

static void test_random_trees(void **state)
{
	(void)state;
	uint64_t seed = random_seed();
	int done = 0, rounds = test_rounds(400);
	for (int round = 0; round < rounds; round++) {
		struct random random = random_from(seed + (uint64_t)round);
		struct fixture fixture;
		struct trial trial = {0};
		struct tree *view;
		char paths[3][64];
		fixture_create(&fixture);
		random_work(&fixture, &random, "", EVERYTHING, 60);
		struct point point = keep_as(&fixture, "then");
		random_work(&fixture, &random, "", EVERYTHING, 5 + random_below(&random, 60));
		must(point_view(fixture.repo, &point, &view));
		trial.point = picture_of(fixture.repo, view);
		tree_close(view);
		trial.before = picture_of_head(&fixture);
		random_paths(&random, &trial, paths);
		int result = try_it(&fixture, &point, &trial);
		trial.after = picture_of_head(&fixture);
		if (result) {
			compare_side(&trial, true);
			compare_side(&trial, false);
			compare_rest(&trial);
			compare_links(&trial);
			compare_identity(&trial);
		}
		done += result;
		must(repo_commit(fixture.repo));
		assert_sound(fixture.repo, false);
		drop_picture(&trial.point);
		drop_picture(&trial.before);
		drop_picture(&trial.after);
		point_release(&point);
		fixture_destroy(&fixture);
	}
	assert_true(done > rounds / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenes),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_files_that_must_not_change),
		cmocka_unit_test(test_random_trees),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
