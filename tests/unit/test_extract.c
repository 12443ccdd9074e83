/* Extracting points into plain directories: snapshot/extract.h. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "carry_testing.h"
#include "snapshot/extract.h"

struct place {
	struct fixture fixture;
	char outer[256];   /* holds the two others; nothing else may appear in it */
	char inside[300];  /* the destination */
	char outside[300]; /* holds "victim" with the text "untouched" */
};

static void write_plain(const char *directory, const char *name, const char *text)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int setup(void **state)
{
	static struct place place;
	const char *temporary = getenv("TMPDIR");
	fixture_create(&place.fixture);
	snprintf(place.outer, sizeof(place.outer), "%s/cairn-extract-XXXXXX",
		 temporary ? temporary : "/tmp");
	assert_non_null(mkdtemp(place.outer));
	snprintf(place.inside, sizeof(place.inside), "%s/inside", place.outer);
	snprintf(place.outside, sizeof(place.outside), "%s/outside", place.outer);
	must(mkdir(place.inside, 0755));
	must(mkdir(place.outside, 0755));
	write_plain(place.outside, "victim", "untouched");
	*state = &place;
	return 0;
}

static void remove_all(const char *path)
{
	char command[400];
	snprintf(command, sizeof(command), "rm -rf '%s'", path);
	must(system(command));
}

static int teardown(void **state)
{
	struct place *place = *state;
	remove_all(place->outer);
	fixture_destroy(&place->fixture);
	return 0;
}

/* ---- shorthands ---- */

static char skipped[4096];

static void take_skipped(const char *path, const char *what, void *context)
{
	size_t used = strlen(skipped);
	(void)context;
	snprintf(skipped + used, sizeof(skipped) - used, "%s: %s\n", path, what);
}

static int extract_to(struct place *place, const char *directory, const struct point *point,
		      struct extract_options options, struct extract_result *ret,
		      struct errbuf *err)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	*skipped = '\0';
	options.skipped = take_skipped;
	int error = point_extract(place->fixture.repo, point, fd, &options, ret, err);
	close(fd);
	return error;
}

static struct extract_result extract(struct place *place, const struct point *point, bool overwrite)
{
	struct extract_result result = {0};
	struct errbuf err = {""};
	int error = extract_to(place, place->inside, point,
			       (struct extract_options){.overwrite = overwrite}, &result, &err);
	if (error)
		fail_msg("extract: %s (%s)", strerror(-error), err.text);
	return result;
}

static struct stat stat_of(struct place *place, const char *name)
{
	char path[600];
	struct stat found;
	snprintf(path, sizeof(path), "%s/%s", place->inside, name);
	if (lstat(path, &found))
		fail_msg("there is no %s", name);
	return found;
}

static bool exists(struct place *place, const char *name)
{
	char path[600];
	struct stat found;
	snprintf(path, sizeof(path), "%s/%s", place->inside, name);
	return lstat(path, &found) == 0;
}

static void assert_contents(const char *directory, const char *name, const char *wanted)
{
	char path[600], text[64] = "";
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	size_t length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	assert_int_equal(length, strlen(wanted));
	assert_string_equal(text, wanted);
}

static int count_names(const char *directory)
{
	DIR *stream = opendir(directory);
	int count = -2;
	assert_non_null(stream);
	while (readdir(stream))
		count++;
	closedir(stream);
	return count;
}

/* Nothing new outside, nothing changed there. */
static void assert_outside_untouched(struct place *place)
{
	assert_int_equal(count_names(place->outer), 2);
	assert_int_equal(count_names(place->outside), 1);
	assert_contents(place->outside, "victim", "untouched");
}

static void prepare(struct place *place, const char *name, const char *target)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/%s", place->inside, name);
	must(symlink(target, path));
}

/* ---- everything as it was ---- */

static void set_attr(struct place *place, const char *path, uint32_t mode, uint32_t uid,
		     int64_t seconds)
{
	struct small small = small_begin(place->fixture.head);
	uint64_t ino = *path ? ino_of(&small, path) : ROOT_INO;
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, ino, &attr));
	attr.mode = (attr.mode & S_IFMT) | mode;
	attr.uid = attr.gid = uid;
	attr.mtime = (struct timespec){seconds, 123456789};
	must(inode_put(small.tree, small.reader, ino, &attr));
	small_end(&small);
}

/* Owners that an ordinary user can give too, unless we are root. */
static struct point make_tree(struct place *place)
{
	uint32_t uid = geteuid() ? geteuid() : 1234;
	run(place->fixture.head, "m d;m d/e;w d/e/f hello;s link ../outside;l d/e/f hard;w empty ;"
				 "x d dir;x hard file;m closed;w closed/in text");
	struct small small = small_begin(place->fixture.head);
	make(&small, "fifo", S_IFIFO | 0640);
	make(&small, "socket", S_IFSOCK | 0600);
	uint64_t sparse = make(&small, "\377 \n", S_IFREG | 0644);
	uint8_t bytes[70000];
	fill_bytes(bytes, sizeof(bytes), 5);
	small_write(&small, sparse, 5000000, bytes, sizeof(bytes));
	small_write(&small, sparse, 100, bytes, 4000);
	small_truncate(&small, sparse, 8000000);
	small_end(&small);
	set_attr(place, "hard", 0751, uid, 1000);
	set_attr(place, "d/e", 01770, uid, 2000);
	set_attr(place, "closed", 0, uid, 3000);
	set_attr(place, "link", 0777, uid, 4000);
	set_attr(place, "fifo", 0640, uid, 5000);
	set_attr(place, "", 0750, uid, -1);
	head_mark_dirty(place->fixture.head);
	return keep_as(&place->fixture, "one");
}

static void assert_attr(struct place *place, const char *name, uint32_t mode, int64_t seconds)
{
	struct stat found = stat_of(place, name);
	uint32_t uid = geteuid() ? geteuid() : 1234;
	if (found.st_mode != mode || found.st_uid != uid || found.st_mtim.tv_sec != seconds ||
	    found.st_mtim.tv_nsec != 123456789)
		fail_msg("%s: mode %o, owner %u, time %lld.%09ld", name, found.st_mode,
			 found.st_uid, (long long)found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
}

static void assert_tree(struct place *place)
{
	char path[600], text[64] = "";
	assert_contents(place->inside, "d/e/f", "hello");
	assert_int_equal(stat_of(place, "hard").st_ino, stat_of(place, "d/e/f").st_ino);
	assert_int_equal(stat_of(place, "hard").st_nlink, 2);
	assert_attr(place, "hard", S_IFREG | 0751, 1000);
	assert_attr(place, "d/e", S_IFDIR | 01770, 2000);
	assert_attr(place, "closed", S_IFDIR, 3000);
	assert_attr(place, "link", S_IFLNK | 0777, 4000);
	assert_attr(place, "fifo", S_IFIFO | 0640, 5000);
	assert_attr(place, ".", S_IFDIR | 0750, -1);
	assert_int_equal(stat_of(place, "socket").st_mode, S_IFSOCK | 0600);
	assert_int_equal(stat_of(place, "empty").st_size, 0);
	assert_int_equal(stat_of(place, "\377 \n").st_size, 8000000);
	assert_true(stat_of(place, "\377 \n").st_blocks * 512 < 200000);
	snprintf(path, sizeof(path), "%s/link", place->inside);
	assert_int_equal(readlink(path, text, sizeof(text)), 10);
	assert_string_equal(text, "../outside");
	snprintf(path, sizeof(path), "%s/hard", place->inside);
	memset(text, 0, sizeof(text));
	assert_int_equal(getxattr(path, "user.x", text, sizeof(text)), 4);
	assert_string_equal(text, "file");
	snprintf(path, sizeof(path), "%s/d", place->inside);
	assert_int_equal(getxattr(path, "user.x", text, sizeof(text)), 3);
}

static void test_everything(void **state)
{
	struct place *place = *state;
	struct point point = make_tree(place);
	struct extract_result result = extract(place, &point, false);
	assert_tree(place);
	assert_string_equal(skipped, "");
	assert_int_equal(result.skipped, 0);
	assert_int_equal(result.files, 8);
	assert_int_equal(result.directories, 3);
	assert_int_equal(result.bytes, 8000000 + 5 + 4);
	assert_outside_untouched(place);
	/* Once more: every file is there already, and nothing is touched. */
	struct errbuf err = {""};
	assert_int_equal(extract_to(place, place->inside, &point, (struct extract_options){0},
				    &result, &err),
			 -EEXIST);
	assert_non_null(strstr(err.text, "exists already"));
	ino_t before = stat_of(place, "empty").st_ino;
	result = extract(place, &point, true);
	assert_int_equal(result.files, 8);
	assert_int_equal(result.directories, 0);
	assert_true(stat_of(place, "empty").st_ino != before);
	assert_tree(place);
	assert_int_equal(count_names(place->inside), 8);
	assert_outside_untouched(place);
	point_release(&point);
}

static void test_devices(void **state)
{
	struct place *place = *state;
	struct inode_attr attr;
	if (geteuid())
		skip();
	struct small small = small_begin(place->fixture.head);
	uint64_t device = make(&small, "device", S_IFBLK | 0600);
	must(inode_get(small.tree, small.reader, device, &attr));
	attr.rdev = 5 << 8 | (300 & 0xff) | (300 & ~0xff) << 12;
	must(inode_put(small.tree, small.reader, device, &attr));
	small_end(&small);
	run(place->fixture.head, "w set x");
	set_attr(place, "set", 06755, 1234, 1);
	head_mark_dirty(place->fixture.head);
	struct point point = keep_as(&place->fixture, "one");
	extract(place, &point, false);
	if (!*skipped) { /* in a container, devices may be refused even to root */
		assert_int_equal(major(stat_of(place, "device").st_rdev), 5);
		assert_int_equal(minor(stat_of(place, "device").st_rdev), 300);
	}
	assert_int_equal(stat_of(place, "set").st_mode, S_IFREG | 06755);
	point_release(&point);
}

/* Of a destination with a default access control list nothing is inherited. */
static void test_default_list(void **state)
{
	struct place *place = *state;
	/* Version 2; user::rwx, user:5:r, group::r, mask::r, other::none (linux/posix_acl_xattr.h)
	 */
	static const uint8_t list[] = {
		2, 0, 0,   0,	1,   0,	  7,  0, 255, 255, 255, 255, 2,	  0,   4,
		0, 5, 0,   0,	0,   4,	  0,  4, 0,   255, 255, 255, 255, 16,  0,
		4, 0, 255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255,
	};
	run(place->fixture.head, "m d;m d/e;w d/e/f text;w g text");
	head_mark_dirty(place->fixture.head);
	struct point point = keep_as(&place->fixture, "one");
	if (setxattr(place->inside, "system.posix_acl_default", list, sizeof(list), 0)) {
		assert_int_equal(errno, ENOTSUP);
		skip();
	}
	extract(place, &point, false);
	static const char *const names[] = {".", "d", "d/e", "d/e/f", "g"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[600];
		snprintf(path, sizeof(path), "%s/%s", place->inside, names[i]);
		if (getxattr(path, "system.posix_acl_access", NULL, 0) >= 0 ||
		    getxattr(path, "system.posix_acl_default", NULL, 0) >= 0)
			fail_msg("%s has a list", names[i]);
	}
	assert_int_equal(stat_of(place, "g").st_mode, S_IFREG | 0644);
	assert_string_equal(skipped, "");
	point_release(&point);
}

/* ---- some paths ---- */

static void test_paths(void **state)
{
	struct place *place = *state;
	struct point point = make_tree(place);
	const char *const some[] = {"/d/e/./f", "d/e", "closed//in", "hard"};
	const char *const missing[] = {"d/e", "nothing"};
	const char *const dots[] = {"d/../../outside"};
	struct extract_result result;
	struct errbuf err = {""};
	assert_int_equal(extract_to(place, place->inside, &point,
				    (struct extract_options){.paths = missing, .path_count = 2},
				    &result, &err),
			 -ENOENT);
	assert_non_null(strstr(err.text, "nothing"));
	assert_int_equal(extract_to(place, place->inside, &point,
				    (struct extract_options){.paths = dots, .path_count = 1},
				    &result, &err),
			 -EINVAL);
	assert_int_equal(count_names(place->inside), 0);
	must(extract_to(place, place->inside, &point,
			(struct extract_options){.paths = some, .path_count = 4}, &result, &err));
	assert_int_equal(result.files, 3);
	assert_int_equal(result.directories, 3);
	assert_int_equal(count_names(place->inside), 3);
	assert_attr(place, "d/e", S_IFDIR | 01770, 2000);
	assert_attr(place, "closed", S_IFDIR, 3000);
	assert_int_equal(stat_of(place, "hard").st_ino, stat_of(place, "d/e/f").st_ino);
	/* The destination was not asked for. */
	assert_int_equal(stat_of(place, ".").st_mode, S_IFDIR | 0755);
	point_release(&point);
}

/* ---- what is there already ---- */

static void test_taken_names(void **state)
{
	struct place *place = *state;
	struct extract_result result;
	struct errbuf err = {""};
	char path[600];
	run(place->fixture.head, "w a new;m d;w d/in new;w z new");
	struct point point = keep_as(&place->fixture, "one");
	snprintf(path, sizeof(path), "%s/d", place->inside);
	must(mkdir(path, 0711));
	write_plain(place->inside, "mine", "old");
	write_plain(place->inside, "d/mine", "old");
	/* Only new names. */
	result = extract(place, &point, false);
	assert_int_equal(result.files, 3);
	assert_int_equal(result.directories, 0);
	assert_contents(place->inside, "d/mine", "old");
	assert_contents(place->inside, "d/in", "new");
	assert_int_equal(stat_of(place, "d").st_mode, S_IFDIR | 0711);
	/* One name is taken: nothing is written. */
	snprintf(path, sizeof(path), "%s/a", place->inside);
	must(unlink(path));
	snprintf(path, sizeof(path), "%s/z", place->inside);
	must(unlink(path));
	write_plain(place->inside, "d/in", "old");
	assert_int_equal(extract_to(place, place->inside, &point, (struct extract_options){0},
				    &result, &err),
			 -EEXIST);
	assert_non_null(strstr(err.text, "d/in"));
	assert_false(exists(place, "a"));
	/* Overwriting replaces files, and keeps what the point has not. */
	result = extract(place, &point, true);
	assert_contents(place->inside, "d/in", "new");
	assert_contents(place->inside, "d/mine", "old");
	assert_int_equal(stat_of(place, "d").st_mode, S_IFDIR | 0755);
	/* … but never a directory. */
	must(unlink(path));
	must(mkdir(path, 0755));
	assert_int_equal(extract_to(place, place->inside, &point,
				    (struct extract_options){.overwrite = true}, &result, &err),
			 -EISDIR);
	assert_true(S_ISDIR(stat_of(place, "z").st_mode));
	point_release(&point);
}

/* ---- attacks ---- */

static void test_prepared_links(void **state)
{
	struct place *place = *state;
	struct extract_result result;
	struct errbuf err = {""};
	char path[600], victim[600];
	const char *const below[] = {"d/victim"};
	run(place->fixture.head, "m d;w d/victim attack;w file attack;w hard attack;m dangling");
	struct point point = keep_as(&place->fixture, "one");
	prepare(place, "d", "../outside");
	prepare(place, "file", "../outside/victim");
	prepare(place, "dangling", "../outside/made");
	snprintf(victim, sizeof(victim), "%s/victim", place->outside);
	snprintf(path, sizeof(path), "%s/hard", place->inside);
	must(link(victim, path));
	assert_int_equal(extract_to(place, place->inside, &point, (struct extract_options){0},
				    &result, &err),
			 -EEXIST);
	assert_outside_untouched(place);
	int error = extract_to(place, place->inside, &point,
			       (struct extract_options){.paths = below, .path_count = 1}, &result,
			       &err);
	assert_true(error == -ELOOP || error == -ENOTDIR);
	assert_outside_untouched(place);
	/* Overwriting takes the links away, not what they lead to. */
	extract(place, &point, true);
	assert_outside_untouched(place);
	assert_true(S_ISDIR(stat_of(place, "d").st_mode));
	assert_contents(place->inside, "d/victim", "attack");
	assert_contents(place->inside, "file", "attack");
	assert_contents(place->inside, "hard", "attack");
	assert_true(S_ISDIR(stat_of(place, "dangling").st_mode));
	point_release(&point);
}

/* No program makes such names; a forged store may have them. */
static void test_forged_names(void **state)
{
	struct place *place = *state;
	static const char *const names[] = {"..", ".", "../escaped", "a/b", "/tmp/escaped"};
	run(place->fixture.head, "m d;w file attack;m d/d");
	head_mark_dirty(place->fixture.head);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		for (int directory = 0; directory < 2; directory++) {
			char point_name[32];
			struct extract_result result;
			struct errbuf err = {""};
			struct small small = small_begin(place->fixture.head);
			uint64_t ino = ino_of(&small, directory ? "d/d" : "file");
			size_t length = strlen(names[i]);
			const struct tree_key key = {ino_of(&small, "d"), ITEM_DIRENT, 4711};
			uint8_t value[300];
			/* index/FORMAT.md, "DIRENT". */
			for (int byte = 0; byte < 8; byte++)
				value[byte] = (uint8_t)(ino >> (8 * byte));
			value[8] = directory ? DT_DIR : DT_REG;
			value[9] = (uint8_t)length;
			memcpy(value + 10, names[i], length);
			must(tree_put(small.tree, small.reader, &key, value, 10 + length));
			small_end(&small);
			head_mark_dirty(place->fixture.head);
			snprintf(point_name, sizeof(point_name), "forged-%zu-%d", i, directory);
			struct point point = keep_as(&place->fixture, point_name);
			assert_int_equal(extract_to(place, place->inside, &point,
						    (struct extract_options){.overwrite = true},
						    &result, &err),
					 -EUCLEAN);
			assert_outside_untouched(place);
			assert_false(access("/tmp/escaped", F_OK) == 0);
			point_release(&point);
		}
	}
}

struct racer {
	struct place *place;
	atomic_bool stop;
	int swaps;
};

/* A name becomes a link to the outside for a moment; what was there is put back. */
static void swap(struct racer *racer, const char *name, const char *target)
{
	const char *inside = racer->place->inside;
	char victim[600], link[600], away[600];
	snprintf(victim, sizeof(victim), "%s/%s", inside, name);
	snprintf(link, sizeof(link), "%s/link", inside);
	if (symlink(target, link)) {
		/* The extraction has replaced our link by a directory, and we have that now. */
		snprintf(away, sizeof(away), "%s/away-%d", inside, racer->swaps);
		(void)rename(link, away);
		return;
	}
	if (renameat2(AT_FDCWD, victim, AT_FDCWD, link, RENAME_EXCHANGE) == 0) {
		racer->swaps++;
		usleep(20);
		(void)renameat2(AT_FDCWD, victim, AT_FDCWD, link, RENAME_EXCHANGE);
	}
	(void)unlink(link);
}

static void *race(void *context)
{
	struct racer *racer = context;
	while (!atomic_load(&racer->stop)) {
		swap(racer, "d", "../outside");
		swap(racer, "d/e", "../../outside");
		swap(racer, "d/victim", "../../outside/victim");
	}
	return NULL;
}

static void test_race(void **state)
{
	struct place *place = *state;
	struct racer racer = {.place = place};
	pthread_t thread;
	run(place->fixture.head, "m d;m d/e;w d/victim attack;w d/e/victim attack;w d/new attack;"
				 "l d/victim d/e/second;s d/e/link attack;w d/e/new attack");
	struct point point = keep_as(&place->fixture, "one");
	must(pthread_create(&thread, NULL, race, &racer));
	double end = now_ms() + 1500;
	int worked = 0, rounds = 0;
	while (now_ms() < end) {
		struct extract_result result;
		worked +=
			extract_to(place, place->inside, &point,
				   (struct extract_options){.overwrite = true}, &result, NULL) == 0;
		rounds++;
		assert_outside_untouched(place);
	}
	atomic_store(&racer.stop, true);
	pthread_join(thread, NULL);
	assert_outside_untouched(place);
	print_message("%d of %d extractions worked beside %d swaps\n", worked, rounds, racer.swaps);
	assert_true(racer.swaps > 0);
	point_release(&point);
}

/* ---- limits ---- */

/* Far beyond PATH_MAX, and more directories than descriptors. */
static void test_deep(void **state)
{
	struct place *place = *state;
	struct small small = small_begin(place->fixture.head);
	char name[201];
	uint64_t ino = ROOT_INO;
	enum { DEPTH = 1100 };
	memset(name, 'n', 200);
	name[200] = '\0';
	for (int i = 0; i < DEPTH; i++)
		ino = small_make(&small, ino, i % 20 ? "n" : name, S_IFDIR | 0700);
	uint64_t file = small_make(&small, ino, "file", S_IFREG | 0600);
	small_write(&small, file, 0, (const uint8_t *)"deep", 4);
	small_link(&small, file, ROOT_INO, "top");
	small_end(&small);
	head_mark_dirty(place->fixture.head);
	struct point point = keep_as(&place->fixture, "one");
	struct extract_result result = extract(place, &point, false);
	assert_int_equal(result.directories, DEPTH);
	assert_int_equal(result.files, 2);
	assert_contents(place->inside, "top", "deep");
	assert_int_equal(stat_of(place, "top").st_nlink, 2);
	extract(place, &point, true);
	point_release(&point);
}

static int stop(const char *phase, uint64_t done, uint64_t total, void *context)
{
	(void)context;
	assert_string_equal(phase, "extract");
	assert_true(done <= total);
	return done > 1000000;
}

static void test_stopped(void **state)
{
	struct place *place = *state;
	struct extract_result result;
	for (int i = 0; i < 4; i++) {
		char name[8] = {'f', (char)('0' + i), 0};
		put_file(place->fixture.head, name, 2500000, (uint64_t)i);
	}
	head_mark_dirty(place->fixture.head);
	struct point point = keep_as(&place->fixture, "one");
	assert_int_equal(extract_to(place, place->inside, &point,
				    (struct extract_options){.progress = stop}, &result, NULL),
			 -EINTR);
	assert_true(count_names(place->inside) < 4);
	extract(place, &point, true);
	assert_int_equal(count_names(place->inside), 4);
	point_release(&point);
}

/* What an ordinary user gets, in a process of his own: assertions are for its parent. */
static const char *as_nobody(struct place *place, const struct point *point)
{
	struct extract_result result;
	if (setgid(65534) || setuid(65534))
		return "cannot become nobody";
	if (extract_to(place, place->inside, point, (struct extract_options){0}, &result, NULL))
		return "the extraction fails";
	if (!strstr(skipped, "owned: owner 1234:1234\n") || !strstr(skipped, "set: set-id bit\n") ||
	    !strstr(skipped, "device: device\n") || result.skipped != 3)
		return skipped;
	return NULL;
}

static void test_ordinary_user(void **state)
{
	struct place *place = *state;
	struct inode_attr attr;
	int status;
	if (geteuid())
		skip();
	run(place->fixture.head,
	    "w owned text;w set text;m closed;w closed/in text;l closed/in zz");
	struct small small = small_begin(place->fixture.head);
	uint64_t device = make(&small, "device", S_IFCHR | 0600);
	must(inode_get(small.tree, small.reader, device, &attr));
	attr.rdev = 1 << 8 | 3; /* 0:0 is for everyone */
	must(inode_put(small.tree, small.reader, device, &attr));
	small_end(&small);
	set_attr(place, "", 0755, 65534, 1);
	set_attr(place, "owned", 0640, 1234, 1);
	set_attr(place, "set", 06755, 65534, 1);
	set_attr(place, "closed", 0, 65534, 1);
	set_attr(place, "closed/in", 0400, 65534, 1);
	set_attr(place, "device", 0600, 65534, 1);
	head_mark_dirty(place->fixture.head);
	struct point point = keep_as(&place->fixture, "one");
	must(chown(place->inside, 65534, 65534));
	must(chmod(place->outer, 0755));
	fflush(stdout);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const char *wrong = as_nobody(place, &point);
		if (wrong)
			fprintf(stderr, "as nobody: %s\n", wrong);
		_exit(wrong != NULL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_false(exists(place, "device"));
	assert_int_equal(stat_of(place, "set").st_mode, S_IFREG | 0755);
	assert_int_equal(stat_of(place, "owned").st_uid, 65534);
	assert_contents(place->inside, "owned", "text");
	assert_int_equal(stat_of(place, "closed").st_mode, S_IFDIR);
	point_release(&point);
}

#define extract_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		extract_test(test_everything),	  extract_test(test_devices),
		extract_test(test_default_list),  extract_test(test_paths),
		extract_test(test_taken_names),	  extract_test(test_prepared_links),
		extract_test(test_forged_names),  extract_test(test_race),
		extract_test(test_deep),	  extract_test(test_stopped),
		extract_test(test_ordinary_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
