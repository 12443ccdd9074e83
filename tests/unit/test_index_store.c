/* Making and opening stores: what is refused, how, and that nothing changes then. */
#include "index_testing.h"

#include <signal.h>
#include <sys/resource.h>

#include "index/format_file_internal.h"

static void write_text(const char *path, const char *text, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, length), length);
	close(fd);
}

static size_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	assert_true(fd >= 0);
	length = read(fd, text, size - 1);
	assert_true(length >= 0);
	text[length] = '\0';
	close(fd);
	return (size_t)length;
}

static const char *inside(struct place *place, const char *name)
{
	static char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", place->path, name);
	return path;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void refuse_open(struct place *place, unsigned flags, int error, const char *words)
{
	struct errbuf err = {""};
	struct store *store = NULL;

	assert_error(store_open(place->path, flags, NULL, &store, &err), error);
	assert_null(store);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void a_new_store_is_empty_and_private(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "zstd:7");
	struct store_compression compression;
	struct store_statistics statistics;
	char notation[16];
	struct stat st;

	assert_int_equal(store_format_version(store), 1);
	assert_int_equal(strlen(store_uuid(store)), 36);
	assert_false(store_is_read_only(store));
	assert_int_equal(store_failed(store), 0);
	assert_int_equal(store_directory(store)[0], '/');
	store_get_compression(store, &compression);
	store_format_compression(&compression, notation);
	assert_string_equal(notation, "zstd:7");
	assert_ok(store_statistics(store, &statistics));
	assert_int_equal(statistics.nodes, 0);
	assert_int_equal(statistics.chunks, 0);
	assert_int_equal(statistics.stored_bytes, 0);
	assert_true(statistics.index_bytes > 0);
	assert_true(statistics.total_bytes >= statistics.free_bytes);
	for (int i = 0; i < STORE_COUNTERS; i++)
		assert_int_equal(store_peek(store, i), i == COUNTER_INODE ? 16 : 1);
	store_close(store);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(inside(place, "index/data.mdb"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_false(exists(inside(place, "format.new")));
}

static void counters_and_settings_survive_with_a_commit(void **state)
{
	struct place *place = *state;
	struct store_compression compression = {.codec = CODEC_ZSTD, .level = 20};
	struct store *store = new_store(place, "lz4");

	assert_error(store_set_compression(store, &compression), EINVAL);
	compression.level = 19;
	assert_ok(store_set_compression(store, &compression));
	assert_int_equal(store_next(store, COUNTER_INODE), 16);
	assert_int_equal(store_next(store, COUNTER_NODE), 1);
	assert_int_equal(store_next(store, COUNTER_NODE), 2);
	commit_all(store);
	assert_int_equal(store_next(store, COUNTER_NODE), 3); /* in no commit */
	store_close(store);

	store = open_store(place);
	assert_int_equal(store_peek(store, COUNTER_NODE), 3);
	assert_int_equal(store_peek(store, COUNTER_INODE), 17);
	store_get_compression(store, &compression);
	assert_int_equal(compression.codec, CODEC_ZSTD);
	assert_int_equal(compression.level, 19);
	store_close(store);
}

static void notations_of_compression(void **state)
{
	static const struct {
		const char *text;
		enum codec codec;
		int level;
	} good[] = {
		{"none", CODEC_NONE, 0},   {"lz4", CODEC_LZ4, 0},	{"zstd", CODEC_ZSTD, 3},
		{"zstd:1", CODEC_ZSTD, 1}, {"zstd:19", CODEC_ZSTD, 19},
	};
	static const char *const bad[] = {"",
					  "gzip",
					  "LZ4",
					  "lz4:1",
					  "zstd:",
					  "zstd:0",
					  "zstd:20",
					  "zstd:-1",
					  "zstd:3x",
					  "zstd: 3",
					  "zstd:+3",
					  "none ",
					  "zstd:99999999999999999999"};
	struct store_compression compression;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_ok(store_parse_compression(good[i].text, &compression, NULL));
		assert_int_equal(compression.codec, good[i].codec);
		assert_int_equal(compression.level, good[i].level);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct errbuf err = {""};

		compression.level = 42;
		assert_error(store_parse_compression(bad[i], &compression, &err), EINVAL);
		assert_int_equal(compression.level, 42);
		assert_non_null(strstr(err.text, "zstd:LEVEL"));
	}
}

static void making_refuses_what_is_there(void **state)
{
	struct place *place = *state;
	struct store_compression compression = {.codec = CODEC_LZ4};
	struct errbuf err = {""};
	char text[64];

	make_store(place, "lz4");
	assert_error(store_create(place->path, &compression, &err), EEXIST);
	assert_non_null(strstr(err.text, "already is a cairn store"));
	store_close(open_store(place));

	snprintf(place->path, sizeof(place->path), "%s/full", place->directory);
	assert_int_equal(mkdir(place->path, 0755), 0);
	write_text(inside(place, "letter"), "mine", 4);
	assert_error(store_create(place->path, &compression, &err), ENOTEMPTY);
	assert_int_equal(read_text(inside(place, "letter"), text, sizeof(text)), 4);
	assert_false(exists(inside(place, "packs")));

	snprintf(place->path, sizeof(place->path), "%s/full/letter", place->directory);
	assert_error(store_create(place->path, &compression, &err), ENOTDIR);
	snprintf(place->path, sizeof(place->path), "%s/full/letter/below", place->directory);
	assert_error(store_create(place->path, &compression, &err), ENOTDIR);
	assert_error(store_create("", &compression, &err), ENOENT);
	compression.level = 3;
	snprintf(place->path, sizeof(place->path), "%s/new", place->directory);
	assert_error(store_create(place->path, &compression, &err), EINVAL);
	assert_false(exists(place->path));
}

static void making_uses_what_may_be_used(void **state)
{
	struct place *place = *state;
	char path[PATH_MAX + 64];

	/* An empty directory, and a new file system. */
	assert_int_equal(mkdir(place->path, 0755), 0);
	assert_int_equal(mkdir(inside(place, "lost+found"), 0700), 0);
	make_store(place, "none");
	store_close(open_store(place));

	/* Parents that are missing. */
	snprintf(place->path, sizeof(place->path), "%s/a//b/c/", place->directory);
	make_store(place, "none");
	store_close(open_store(place));

	/* A relative path; the store knows the absolute one. */
	snprintf(path, sizeof(path), "%s/a", place->directory);
	assert_int_equal(chdir(path), 0);
	strcpy(place->path, "deep/store");
	make_store(place, "none");
	{
		struct store *store = open_store(place);

		assert_int_equal(store_directory(store)[0], '/');
		store_close(store);
	}
	assert_int_equal(chdir("/"), 0);
}

static void a_failed_making_leaves_nothing(void **state)
{
	struct place *place = *state;
	struct store_compression compression = {.codec = CODEC_LZ4};
	struct errbuf err = {""};
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		/* Files of at most 1 MiB: the ballast cannot be made. */
		struct rlimit limit = {1 << 20, 1 << 20};

		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		snprintf(place->path, sizeof(place->path), "%s/x/y/z", place->directory);
		_exit(store_create(place->path, &compression, &err) == -EFBIG ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	snprintf(place->path, sizeof(place->path), "%s/x", place->directory);
	assert_false(exists(place->path));
}

static void opening_where_there_is_no_store(void **state)
{
	struct place *place = *state;

	refuse_open(place, 0, ENOENT, "cairn init");
	assert_int_equal(mkdir(place->path, 0700), 0);
	refuse_open(place, 0, ENOENT, "is not a cairn store");
	refuse_open(place, STORE_READ_ONLY, ENOENT, "is not a cairn store");
	assert_false(exists(inside(place, "lock")));
	assert_int_equal(rmdir(place->path), 0);
	write_text(place->path, "x", 1);
	refuse_open(place, 0, ENOENT, place->path);
	refuse_open(place, 1u << 7, EINVAL, "flags");
}

static void format_files_that_are_refused(void **state)
{
#define UUID "uuid 01234567-89ab-4cde-8fff-0123456789ab\n"
#define REST "ignorable:\nreadonly:\nrefuse:\n"
	static const struct {
		const char *text;
		int error;
		const char *words;
	} cases[] = {
		{"", EUCLEAN, "damaged"},
		{"cairn store", EUCLEAN, "damaged"},
		{"cairn store\n", EUCLEAN, "no version"},
		{"cairn storeX\nversion 1\n" UUID REST, EUCLEAN, "damaged"},
		{"Cairn store\nversion 1\n" UUID REST, EUCLEAN, "damaged"},
		{"SQLite format 3", EUCLEAN, "damaged"},
		{"cairn store\nversion \n" UUID REST, EUCLEAN, "no version"},
		{"cairn store\nversion x\n" UUID REST, EUCLEAN, "no version"},
		{"cairn store\nversion 1x\n" UUID REST, EUCLEAN, "no version"},
		{"cairn store\nversion -1\n" UUID REST, EUCLEAN, "no version"},
		{"cairn store\nversion 0\n" UUID REST, EOPNOTSUPP, "version 0"},
		{"cairn store\nversion 2\n" UUID REST, EOPNOTSUPP, "version 2"},
		{"cairn store\nversion 2\nand anything\n", EOPNOTSUPP, "version 2"},
		{"cairn store\nversion 1\n", EUCLEAN, "no uuid"},
		{"cairn store\nversion 1\nuuid 0123\n" REST, EUCLEAN, "no uuid"},
		{"cairn store\nversion 1\nuuid 01234567-89AB-4cde-8fff-0123456789ab\n" REST,
		 EUCLEAN, "no uuid"},
		{"cairn store\nversion 1\n" UUID, EUCLEAN, "ignorable"},
		{"cairn store\nversion 1\n" UUID "ignorable:\nreadonly:\n", EUCLEAN, "refused"},
		{"cairn store\nversion 1\n" UUID "ignorable:\nreadonly:\nrefuse:", EUCLEAN,
		 "refused"},
		{"cairn store\nversion 1\n" UUID "ignorable:\nreadonly:\nrefuse:x\n", EUCLEAN,
		 "refused"},
		{"cairn store\nversion 1\n" UUID "ignorable:\nreadonly:\nrefuse: x \n", EUCLEAN,
		 "refused"},
		{"cairn store\nversion 1\n" UUID REST "more\n", EUCLEAN, "last line"},
		{"cairn store\nversion 1\n" UUID "ignorable:\nreadonly:\nrefuse: big-nodes\n",
		 EOPNOTSUPP, "big-nodes"},
		{"cairn store\nversion 1\n" UUID "ignorable: a\nreadonly: b c\nrefuse: d e\n",
		 EOPNOTSUPP, "d e; install a newer cairn"},
		{"cairn store\nversion 1\n" UUID "ignorable:\nreadonly: encrypted\nrefuse:\n",
		 EOPNOTSUPP, "encrypted; install a newer cairn, or open it read-only"},
	};
	struct place *place = *state;
	char before[FORMAT_FILE_MAX], after[FORMAT_FILE_MAX];
	size_t length;

	make_store(place, "lz4");
	length = read_text(inside(place, "format"), before, sizeof(before));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_text(inside(place, "format"), cases[i].text, strlen(cases[i].text));
		refuse_open(place, 0, cases[i].error, cases[i].words);
		read_text(inside(place, "format"), after, sizeof(after));
		assert_string_equal(after, cases[i].text);
	}

	/* Cut anywhere, or longer than it may be. */
	for (size_t i = 0; i < length; i++) {
		write_text(inside(place, "format"), before, i);
		refuse_open(place, 0, EUCLEAN, "damaged");
	}
	memset(after, '\n', sizeof(after));
	memcpy(after, before, length);
	write_text(inside(place, "format"), after, sizeof(after));
	refuse_open(place, 0, EUCLEAN, "damaged");
	write_text(inside(place, "format"), "cairn store\nversion 1\0\n", 23);
	refuse_open(place, 0, EUCLEAN, "damaged");

	write_text(inside(place, "format"), before, length);
	store_close(open_store(place));
}

static void features_that_are_accepted(void **state)
{
	struct place *place = *state;
	char text[FORMAT_FILE_MAX], changed[2 * FORMAT_FILE_MAX];
	char *line;

	make_store(place, "lz4");
	read_text(inside(place, "format"), text, sizeof(text));
	line = strstr(text, "ignorable:");
	assert_non_null(line);
	*line = '\0';

	snprintf(changed, sizeof(changed), "%signorable: colour taste\nreadonly:\nrefuse:\n", text);
	write_text(inside(place, "format"), changed, strlen(changed));
	store_close(open_store(place));

	snprintf(changed, sizeof(changed), "%signorable:\nreadonly: encrypted\nrefuse:\n", text);
	write_text(inside(place, "format"), changed, strlen(changed));
	refuse_open(place, 0, EOPNOTSUPP, "encrypted");
	store_close(open_store_with(place, STORE_READ_ONLY, NULL));
}

static void an_index_that_is_not_ours(void **state)
{
	struct place *place = *state;
	char other[PATH_MAX + 64], path[2 * PATH_MAX];
	struct stat st;

	make_store(place, "lz4");
	snprintf(path, sizeof(path), "%s", inside(place, "index/data.mdb"));
	snprintf(other, sizeof(other), "%s/other", place->directory);

	/* Missing, empty, short, garbage: LMDB would make a new one of the first two. */
	assert_int_equal(rename(path, other), 0);
	refuse_open(place, 0, EUCLEAN, "is missing");
	refuse_open(place, STORE_READ_ONLY, EUCLEAN, "is missing");
	assert_false(exists(path));
	write_text(path, "", 0);
	refuse_open(place, 0, EUCLEAN, "is missing or empty");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 0);
	{
		char garbage[8192];

		memset(garbage, 'g', sizeof(garbage));
		write_text(path, garbage, sizeof(garbage));
		refuse_open(place, 0, EUCLEAN, "damaged");
		refuse_open(place, STORE_READ_ONLY, EUCLEAN, "damaged");
	}
	assert_int_equal(rename(other, path), 0);
	store_close(open_store(place));

	/* Cut off in the middle. */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, 8192), 0);
	refuse_open(place, STORE_READ_ONLY, EUCLEAN, "cut off");
	refuse_open(place, 0, EUCLEAN, "index");

	/* Of another store. */
	remove_tree(place->path);
	make_store(place, "lz4");
	assert_int_equal(rename(path, other), 0);
	remove_tree(place->path);
	make_store(place, "lz4");
	assert_int_equal(rename(other, path), 0);
	refuse_open(place, 0, EUCLEAN, "belongs to another store");
}

static void packs_must_be_there(void **state)
{
	struct place *place = *state;

	make_store(place, "lz4");
	assert_int_equal(rmdir(inside(place, "packs")), 0);
	refuse_open(place, 0, EUCLEAN, "packs");
}

/* Runs `child` in a process that has the store open. */
static void beside_a_writer(struct place *place, void (*check)(struct place *, pid_t))
{
	int ready[2], done[2];
	char byte = 0;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(done), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct store *store = NULL;
		struct errbuf err;

		close(done[1]);
		if (store_open(place->path, 0, NULL, &store, &err) == 0 &&
		    write(ready[1], &byte, 1) == 1 && read(done[0], &byte, 1) == 0)
			store_close(store);
		_exit(0);
	}
	close(ready[1]);
	close(done[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	check(place, child);
	close(done[1]);
	close(ready[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void check_busy(struct place *place, pid_t writer)
{
	char words[64];

	snprintf(words, sizeof(words), "in use by process %d", (int)writer);
	refuse_open(place, 0, EBUSY, words);
	store_close(open_store_with(place, STORE_READ_ONLY, NULL));
}

static void one_writer_at_a_time(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");

	refuse_open(place, 0, EBUSY, "already open in this process");
	refuse_open(place, STORE_READ_ONLY, EBUSY, "already open in this process");
	store_close(store);
	beside_a_writer(place, check_busy);
	store_close(open_store(place));
}

static void a_read_only_store_changes_nothing(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	uint64_t id = store_bytes(store, "kept", 4, false);
	struct commit *commit;
	struct sweep *sweep;

	commit_all(store);
	store_bytes(store, "not committed", 13, false);
	store_close(store);
	store = open_store_with(place, STORE_READ_ONLY, NULL);
	assert_true(store_is_read_only(store));
	check_chunk(store, id, "kept", 4);
	assert_error(commit_begin(store, &commit), EROFS);
	assert_error(sweep_begin(store, &sweep), EROFS);
	assert_error(chunk_store(store, "x", 1, &id, NULL), EROFS);
	store_close(store);
	assert_null(store_close(NULL));
}

static void space_is_reserved_and_given_back(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct store_statistics statistics;
	uint64_t reserved = 0;

	assert_ok(store_statistics(store, &statistics));
	assert_error(store_reserve(store, statistics.free_bytes), ENOSPC);
	assert_error(store_reserve(store, UINT64_MAX), ENOSPC);
	/* Half of what is free twice cannot be had, whatever others do meanwhile. */
	assert_ok(store_reserve(store, statistics.free_bytes / 2));
	assert_error(store_reserve(store, statistics.free_bytes / 2), ENOSPC);
	store_unreserve(store, statistics.free_bytes / 2);
	assert_ok(store_reserve(store, statistics.free_bytes / 2));
	assert_false(store_space_low(store));
	store_unreserve(store, UINT64_MAX); /* cannot fall below nothing */
	for (int i = 0; i < 1000; i++) {
		assert_ok(store_reserve(store, 4096));
		reserved += 4096;
	}
	store_unreserve(store, reserved);
	store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(a_new_store_is_empty_and_private),
		index_test(counters_and_settings_survive_with_a_commit),
		index_test(notations_of_compression),
		index_test(making_refuses_what_is_there),
		index_test(making_uses_what_may_be_used),
		index_test(a_failed_making_leaves_nothing),
		index_test(opening_where_there_is_no_store),
		index_test(format_files_that_are_refused),
		index_test(features_that_are_accepted),
		index_test(an_index_that_is_not_ours),
		index_test(packs_must_be_there),
		index_test(one_writer_at_a_time),
		index_test(a_read_only_store_changes_nothing),
		index_test(space_is_reserved_and_given_back),
	};

	return cmocka_run_group_tests_name("index: store", tests, NULL, NULL);
}
