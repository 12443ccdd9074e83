#include "workload.h"

#include <pthread.h>
#include <stdatomic.h>

#include "../unit/repo_testing.h"
#include "index/relocate.h"
#include "index/store_internal.h"
#include "look.h"
#include "snapshot/carry.h"
#include "snapshot/order.h"
#include "tape.h"

enum { SPACES = 3, FILES = 9, DIRECTORIES = 3, POINTS_MAX = 6, LENGTH_MAX = 300000 };

struct work {
	struct random random;
	struct repo *repo;
	struct head *heads[SPACES]; /* NULL: there is no such workspace */
	struct workload result;
	_Atomic int now; /* the state that has been reached */
	int names_used;

	pthread_t helper;
	_Atomic bool stop;
	pthread_rwlock_t open; /* shared: the helper is at work */
	struct random helper_random;
};

static uint64_t below(struct work *work, uint64_t limit)
{
	return random_below(&work->random, limit);
}

static const char *space_name(int space)
{
	static const char *const names[SPACES] = {"main", "second", "third"};

	return names[space];
}

/* ---- marks and states ---- */

static void mark(const char *word, int number)
{
	char text[32];

	snprintf(text, sizeof(text), "%s %d", word, number);
	tape_mark(text);
}

static void begin(struct work *work)
{
	mark("begin", atomic_load(&work->now) + 1);
}

static void reached(struct work *work)
{
	char message[256], *state;
	int r = look_at_repo(work->repo, &state, message);

	if (r < 0)
		fail_msg("state %d: %s", work->result.count, message);
	work->result.states = reallocarray(work->result.states, (size_t)work->result.count + 1,
					   sizeof(*work->result.states));
	assert_non_null(work->result.states);
	work->result.states[work->result.count] = state;
	atomic_store(&work->now, work->result.count++);
}

static void reached_durably(struct work *work)
{
	reached(work);
	mark("confirmed", atomic_load(&work->now));
}

/* ---- the helper ---- */

static int relocate_some(struct repo *repo, struct head *head)
{
	struct order_result ordered = {0};
	struct relocation *relocation;
	uint64_t position = 0;
	int r = relocation_begin(repo_store(repo), &relocation);

	if (r < 0)
		return r;
	r = order_all(head, &position, relocation, NULL, NULL, &ordered);
	if (r == 0)
		r = relocation_flush(relocation);
	relocation_end(relocation, NULL);
	return r;
}

/* What changes nothing that can be seen.  True: everything up to the call is durable. */
static bool do_chore(struct work *work, uint64_t choice)
{
	struct relocation_result moved;
	struct sweep_result swept;
	int r;

	if (choice < 55) {
		must(repo_sync(work->repo));
	} else if (choice < 70) {
		must(repo_commit(work->repo));
	} else if (choice < 76) {
		must(store_presync(repo_store(work->repo)));
		return false;
	} else if (choice < 86) {
		r = repo_collect(work->repo, false, NULL, NULL, &swept);
		must(r == -EBUSY ? 0 : r);
		return false;
	} else if (choice < 93) {
		must(relocate_recompress(repo_store(work->repo), NULL, NULL, &moved));
		return false;
	} else {
		must(relocate_some(work->repo, work->heads[0]));
		return false;
	}
	return true;
}

static void chore(struct work *work, uint64_t choice)
{
	int before = atomic_load(&work->now);

	if (do_chore(work, choice))
		mark("confirmed", before);
}

static void *helper_main(void *context)
{
	struct work *work = context;

	while (!atomic_load(&work->stop)) {
		pthread_rwlock_rdlock(&work->open);
		chore(work, random_below(&work->helper_random, 100));
		pthread_rwlock_unlock(&work->open);
		usleep((useconds_t)random_below(&work->helper_random, 3000));
	}
	return NULL;
}

/* ---- files ---- */

static int random_space(struct work *work)
{
	int space = (int)below(work, SPACES);

	return work->heads[space] ? space : 0;
}

/* A directory: the root, or one that is made where it is not there. */
static uint64_t some_directory(struct work *work, struct small *small)
{
	char name[16];
	uint64_t ino;

	if (below(work, 2))
		return ROOT_INO;
	snprintf(name, sizeof(name), "d%d", (int)below(work, DIRECTORIES));
	ino = small_lookup(small, ROOT_INO, name);
	return ino ? ino : small_make(small, ROOT_INO, name, S_IFDIR | 0755);
}

static void write_some(struct work *work, struct small *small, uint64_t ino)
{
	static uint8_t bytes[LENGTH_MAX];
	static const uint64_t lengths[] = {100, 3000, 9000, 9000, 40000, 40000, LENGTH_MAX};
	uint64_t length = 1 + below(work, lengths[below(work, 7)]);
	uint64_t offset = below(work, 3) ? 0 : below(work, 50000);

	fill_bytes(bytes, length, below(work, 60)); /* some come again */
	small_write(small, ino, offset, bytes, length);
}

static void change_file(struct work *work, struct small *small)
{
	uint64_t directory = some_directory(work, small), other = some_directory(work, small);
	char name[16], new_name[16], value[2000];
	uint64_t ino, choice = below(work, 20);

	snprintf(name, sizeof(name), "f%d", (int)below(work, FILES));
	snprintf(new_name, sizeof(new_name), "f%d", (int)below(work, FILES));
	ino = small_lookup(small, directory, name);
	if (!ino) {
		if (choice == 0) {
			small_symlink(small, directory, name, "where it points");
			return;
		}
		ino = small_make(small, directory, name, S_IFREG | 0644);
		write_some(work, small, ino);
		return;
	}
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	if (choice < 9 && S_ISREG(attr.mode)) {
		write_some(work, small, ino);
	} else if (choice < 11 && S_ISREG(attr.mode)) {
		small_truncate(small, ino, below(work, 60000));
	} else if (choice < 14) {
		if (directory != other || strcmp(name, new_name) != 0)
			small_rename(small, directory, name, other, new_name);
	} else if (choice < 17) {
		small_remove(small, directory, name, false);
	} else if (choice < 18 && !small_lookup(small, other, new_name)) {
		small_link(small, ino, other, new_name);
	} else {
		memset(value, 'a' + (int)below(work, 26), sizeof(value));
		small_set_xattr(small, ino, "user.test", value, below(work, sizeof(value)));
	}
}

static void step_change(struct work *work)
{
	struct small small;

	begin(work);
	small = small_begin(work->heads[random_space(work)]);
	change_file(work, &small);
	small_end(&small);
	reached(work);
}

/* ---- points and workspaces ---- */

/* false: there is none. */
static bool some_point(struct work *work, struct point *ret)
{
	struct point *points;
	size_t count;
	bool found;

	must(point_list(work->repo, 0, &points, &count));
	found = count > 0;
	if (found)
		must(point_get(work->repo, points[below(work, count)].id, ret));
	points_free(points, count);
	return found;
}

static void step_freeze(struct work *work)
{
	char name[32];
	struct point point;

	snprintf(name, sizeof(name), "point-%d", work->names_used++);
	begin(work);
	point = freeze(work->heads[random_space(work)], name);
	point_release(&point);
	reached_durably(work);
}

static void step_restore(struct work *work)
{
	struct restore_result result;
	struct point point;

	if (!some_point(work, &point))
		return;
	begin(work);
	must(point_restore(work->heads[random_space(work)], &point, NULL, &result, NULL));
	restore_result_release(&result);
	point_release(&point);
	reached_durably(work);
}

static void step_carry(struct work *work)
{
	const struct carry_options options = {.policy = CARRY_TAKE};
	struct carry_result result;
	struct errbuf err = {""};
	struct point point;
	int r;

	if (!some_point(work, &point))
		return;
	begin(work);
	r = point_carry(work->heads[0], &point, &options, &result, &err);
	if (r < 0)
		fail_msg("carry: %s", err.text);
	carry_result_release(&result);
	point_release(&point);
	reached_durably(work);
}

static void step_delete(struct work *work)
{
	uint64_t ids[POINTS_MAX * 2];
	struct point *points;
	size_t count, doomed = 0;

	must(point_list(work->repo, 0, &points, &count));
	for (size_t i = 0; i < count && doomed < POINTS_MAX; i++)
		if (count > POINTS_MAX || below(work, 3) == 0)
			ids[doomed++] = points[i].id;
	points_free(points, count);
	if (!doomed)
		return;
	begin(work);
	must(point_delete(work->repo, ids, doomed, false, NULL, NULL));
	reached_durably(work);
}

static void step_clone(struct work *work)
{
	int space = 1 + (int)below(work, SPACES - 1);

	if (work->heads[space])
		return;
	begin(work);
	must(workspace_clone_head(work->heads[0], space_name(space), NULL, NULL));
	must(repo_head(work->repo, space_name(space), &work->heads[space], NULL));
	reached_durably(work);
}

static void step_delete_space(struct work *work)
{
	int space = 1 + (int)below(work, SPACES - 1);

	if (!work->heads[space])
		return;
	must(repo_commit(work->repo));
	mark("confirmed", atomic_load(&work->now));
	begin(work);
	work->heads[space] = head_put(work->heads[space]);
	must(workspace_delete(work->repo, space_name(space), false, NULL, NULL));
	reached_durably(work);
}

static void step_compression(struct work *work)
{
	static const char *const settings[] = {"none", "lz4", "zstd:1", "zstd:5"};
	const struct repo_action nothing = {NULL, NULL, NULL};
	struct store_compression compression = {0};

	must(store_parse_compression(settings[below(work, 4)], &compression, NULL));
	compression.rest_level = below(work, 2) ? 3 : REST_OFF;
	must(store_set_compression(repo_store(work->repo), &compression));
	must(repo_commit_action(work->repo, &nothing));
}

static void open_repo(struct work *work, const char *store)
{
	struct errbuf err = {""};

	if (repo_open(store, 0, NULL, &work->repo, &err) < 0)
		fail_msg("open: %s", err.text);
	repo_store(work->repo)->packs.max = 400000; /* several, and some that go */
}

/* With or without a commit before: in the latter case some earlier state comes back. */
static void step_reopen(struct work *work)
{
	char store[256];

	pthread_rwlock_wrlock(&work->open);
	snprintf(store, sizeof(store), "%s", store_directory(repo_store(work->repo)));
	begin(work);
	if (below(work, 2))
		must(repo_commit(work->repo));
	for (int i = 0; i < SPACES; i++)
		work->heads[i] = head_put(work->heads[i]);
	work->repo = repo_close(work->repo);
	open_repo(work, store);
	for (int i = 0; i < SPACES; i++) {
		int r = repo_head(work->repo, space_name(i), &work->heads[i], NULL);

		if (r == -ENOENT)
			work->heads[i] = NULL;
		else
			must(r);
	}
	reached_durably(work);
	pthread_rwlock_unlock(&work->open);
}

static void step(struct work *work)
{
	uint64_t choice = below(work, 100);

	if (choice < 52)
		step_change(work);
	else if (choice < 72)
		chore(work, below(work, 100));
	else if (choice < 79)
		step_freeze(work);
	else if (choice < 83)
		step_restore(work);
	else if (choice < 87)
		step_carry(work);
	else if (choice < 91)
		step_delete(work);
	else if (choice < 93)
		step_clone(work);
	else if (choice < 94)
		step_delete_space(work);
	else if (choice < 97)
		step_compression(work);
	else
		step_reopen(work);
}

/* ---- from the first to the last ---- */

static void make_store(struct work *work, const char *store)
{
	static const struct store_compression compressions[] = {
		{.codec = CODEC_NONE}, {.codec = CODEC_LZ4}, {.codec = CODEC_ZSTD, .level = 1}};
	struct errbuf err = {""};

	begin(work);
	if (store_create(store, &compressions[below(work, 3)], &err) < 0)
		fail_msg("create: %s", err.text);
	open_repo(work, store);
	reached_durably(work); /* state 0: no workspace */
	begin(work);
	must(workspace_create(work->repo, "main", 0, 0, NULL, NULL));
	must(repo_head(work->repo, "main", &work->heads[0], NULL));
	reached_durably(work);
}

void workload_run(const char *store, const struct workload_options *options, struct workload *ret)
{
	struct work work = {.random = random_from(options->seed), .now = -1};

	work.helper_random = random_from(options->seed + 1000);
	must(pthread_rwlock_init(&work.open, NULL));
	make_store(&work, store);
	if (options->helper)
		must(pthread_create(&work.helper, NULL, helper_main, &work));
	for (int i = 0; i < options->steps; i++)
		step(&work);
	atomic_store(&work.stop, true);
	if (options->helper)
		must(pthread_join(work.helper, NULL));
	must(repo_commit(work.repo));
	mark("confirmed", atomic_load(&work.now));
	for (int i = 0; i < SPACES; i++)
		work.heads[i] = head_put(work.heads[i]);
	repo_close(work.repo);
	pthread_rwlock_destroy(&work.open);
	*ret = work.result;
}

void workload_release(struct workload *workload)
{
	for (int i = 0; i < workload->count; i++)
		free(workload->states[i]);
	free(workload->states);
	*workload = (struct workload){0};
}
