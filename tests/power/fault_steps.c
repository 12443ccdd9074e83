#include "fault_steps.h"

#include "../unit/repo_testing.h"
#include "index/relocate.h"
#include "index/store_internal.h"
#include "snapshot/carry.h"
#include "snapshot/journal.h"
#include "snapshot/order.h"

/* Counts as one call that may fail. */
#define armed(call)                                                                                \
	({                                                                                         \
		faults_arm();                                                                      \
		int armed_r = (int)(call);                                                         \
		faults_disarm();                                                                   \
		armed_r;                                                                           \
	})

static int first_error(int r, int next)
{
	return r < 0 ? r : next;
}

static int do_create(struct run *run)
{
	const struct store_compression compression = {.codec = CODEC_LZ4};
	struct errbuf err = {""};
	int r = armed(store_create(run->store, &compression, &err));

	if (r < 0 && run->faults->kind == FAULT_NAME) /* it could not be removed either */
		nftw(run->store, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	if (r < 0 && access(run->store, F_OK) == 0)
		fail_msg("a store that could not be made is left behind: %s", err.text);
	if (r < 0 && !err.text[0])
		fail_msg("no message");
	run->exists = r == 0;
	return r;
}

static int do_open(struct run *run)
{
	struct errbuf err = {""};
	int r = armed(repo_open(run->store, 0, NULL, &run->repo, &err));

	if (r < 0 && !err.text[0])
		fail_msg("no message");
	if (r == 0)
		repo_store(run->repo)->packs.max = 200000;
	return r;
}

static int do_workspace(struct run *run)
{
	return armed(workspace_create(run->repo, "main", 0, 0, NULL, NULL));
}

static int do_head(struct run *run)
{
	return armed(repo_head(run->repo, "main", &run->head, NULL));
}

/* Chunks that are stored with faults; what becomes of them in the tree, without. */
static int write_file(struct head *head, const char *name, int number)
{
	static uint8_t bytes[90000];
	struct extent pieces[3];
	struct inode_attr attr;
	int64_t change;
	int r = 0;

	fill_bytes(bytes, sizeof(bytes), (uint64_t)number);
	struct small small = small_begin(head);
	for (int i = 0; i < 3; i++) {
		pieces[i] = (struct extent){.offset = (uint64_t)i * 30000, .length = 30000};
		r = first_error(r, armed(chunk_store(tree_store(small.tree), bytes + i * 30000,
						     30000, &pieces[i].chunk, NULL)));
	}
	if (r == 0) {
		uint64_t ino = small_lookup(&small, ROOT_INO, name);

		if (!ino)
			ino = small_make(&small, ROOT_INO, name, S_IFREG | 0644);
		must(inode_get(small.tree, small.reader, ino, &attr));
		must(extent_replace(small.tree, small.reader, ino, 0, 90000, pieces, 3, &change));
		small_count(&small, 0, 0, 90000 - (int64_t)attr.size);
		attr.size = attr.allocated = 90000;
		must(inode_put(small.tree, small.reader, ino, &attr));
	}
	small_end(&small);
	return r;
}

static int do_write(struct run *run)
{
	return write_file(run->head, "a", 1);
}

static int do_write_more(struct run *run)
{
	return write_file(run->head, "b", 2);
}

static int do_write_again(struct run *run)
{
	return write_file(run->head, "a", 3);
}

static int do_sync(struct run *run)
{
	return armed(repo_sync(run->repo));
}

static int do_commit(struct run *run)
{
	return armed(repo_commit(run->repo));
}

static int do_presync(struct run *run)
{
	return armed(store_presync(repo_store(run->repo)));
}

/* Single calls on the tree: one that fails has changed nothing. */
static int do_small_file(struct run *run)
{
	struct small small = small_begin(run->head);
	uint64_t ino = small_lookup(&small, ROOT_INO, "small");
	int r;

	if (!ino)
		ino = small_make(&small, ROOT_INO, "small", S_IFREG | 0644);
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, ino, &attr));
	r = armed(inline_put(small.tree, small.reader, ino, "some text", 9));
	if (r == 0) {
		small_count(&small, 0, 0, 9 - (int64_t)attr.size);
		attr.size = attr.allocated = 9;
		attr.flags |= INODE_INLINE;
		must(inode_put(small.tree, small.reader, ino, &attr));
	} else {
		small_remove(&small, ROOT_INO, "small", false);
	}
	small_end(&small);
	return r;
}

static int do_names(struct run *run)
{
	struct small small = small_begin(run->head);
	uint64_t ino = small_lookup(&small, ROOT_INO, "a");
	const struct dirent_target target = {ino, DT_REG};
	int r = 0;

	for (int i = 0; i < 40 && r == 0; i++) {
		char name[200];

		snprintf(name, sizeof(name), "%0150d", i);
		r = armed(dirent_insert(small.tree, small.reader, ROOT_INO, name, 150, &target));
	}
	for (int i = 0; i < 40; i++) {
		char name[200];

		snprintf(name, sizeof(name), "%0150d", i);
		if (r < 0 || i > 2) {
			int gone =
				r < 0 ? dirent_remove(small.tree, small.reader, ROOT_INO, name, 150)
				      : armed(dirent_remove(small.tree, small.reader, ROOT_INO,
							    name, 150));
			if (gone == -ENOENT)
				break;
			if (gone < 0)
				must(dirent_remove(small.tree, small.reader, ROOT_INO, name, 150));
		} else {
			small_link_count(&small, ino, 1);
		}
	}
	small_end(&small);
	return r;
}

static int do_xattr(struct run *run)
{
	static char value[3000] = "value";
	struct small small = small_begin(run->head);
	uint64_t ino = small_lookup(&small, ROOT_INO, "a");
	struct inode_attr attr;
	int r = armed(xattr_set(small.tree, small.reader, ino, "user.test", value, sizeof(value),
				XATTR_SET_ANY));

	must(inode_get(small.tree, small.reader, ino, &attr));
	attr.flags |= INODE_HAS_XATTRS;
	must(inode_put(small.tree, small.reader, ino, &attr));
	small_end(&small);
	return r;
}

static int freeze_as(struct run *run, const char *name)
{
	static const char *const tags[] = {"nightly", "kept"};
	static const char *const holds[] = {"a reason"};
	const struct freeze_options options = {.name = name,
					       .message = "why",
					       .tags = tags,
					       .tag_count = 2,
					       .holds = holds,
					       .hold_count = strcmp(name, "one") == 0};
	struct point point;
	bool made;
	int r = armed(point_freeze(run->head, &options, &point, &made, NULL));

	if (r == 0)
		point_release(&point);
	return r;
}

static int do_freeze(struct run *run)
{
	return freeze_as(run, "one");
}

static int do_freeze_more(struct run *run)
{
	return freeze_as(run, "two");
}

/* With the point, which must be found, given to `act` armed. */
static int with_point(struct run *run, const char *name,
		      int (*act)(struct run *run, const struct point *point))
{
	struct point point;
	int r = armed(point_resolve(run->repo, "main", name, &point, NULL));

	if (r < 0)
		return r;
	r = act(run, &point);
	point_release(&point);
	return r;
}

static int restore_to(struct run *run, const struct point *point)
{
	struct restore_result result;
	int r = armed(point_restore(run->head, point, NULL, &result, NULL));

	if (r == 0)
		restore_result_release(&result);
	return r;
}

static int do_restore(struct run *run)
{
	return with_point(run, "one", restore_to);
}

static int carry_from(struct run *run, const struct point *point)
{
	const struct carry_options options = {.policy = CARRY_BOTH};
	struct carry_result result;
	int r = armed(point_carry(run->head, point, &options, &result, NULL));

	if (r == 0)
		carry_result_release(&result);
	return r;
}

static int do_carry(struct run *run)
{
	return with_point(run, "two", carry_from);
}

static int clone_of(struct run *run, const struct point *point)
{
	return armed(workspace_clone(run->repo, point, "second", NULL, NULL));
}

static int do_clone(struct run *run)
{
	return with_point(run, "two", clone_of);
}

static int do_second_head(struct run *run)
{
	return armed(repo_head(run->repo, "second", &run->second, NULL));
}

static int do_write_second(struct run *run)
{
	return write_file(run->second, "c", 4);
}

static int delete_it(struct run *run, const struct point *point)
{
	return armed(point_delete(run->repo, &point->id, 1, false, NULL, NULL));
}

static int do_delete(struct run *run)
{
	return with_point(run, "two", delete_it);
}

static int unhold_it(struct run *run, const struct point *point)
{
	return armed(point_unhold(run->repo, point->id, 0, NULL, NULL));
}

static int do_unhold(struct run *run)
{
	return with_point(run, "one", unhold_it);
}

static int judge_it(struct run *run, const struct point *point)
{
	return armed(point_set_verdict(run->repo, point->id, VERDICT_WORKING, "it works",
				       "somebody", NULL, NULL));
}

static int do_verdict(struct run *run)
{
	return with_point(run, "one", judge_it);
}

static int do_collect(struct run *run)
{
	struct sweep_result swept;

	return armed(repo_collect(run->repo, false, NULL, NULL, &swept));
}

static int do_recompress(struct run *run)
{
	struct relocation_result moved;

	return armed(relocate_recompress(repo_store(run->repo), NULL, NULL, &moved));
}

static int do_order(struct run *run)
{
	struct order_result ordered = {0};
	struct relocation *relocation;
	uint64_t position = 0;
	int r = armed(relocation_begin(repo_store(run->repo), &relocation));

	if (r < 0)
		return r;
	r = armed(order_all(run->head, &position, relocation, NULL, NULL, &ordered));
	if (r == 0)
		r = armed(relocation_flush(relocation));
	relocation_end(relocation, NULL);
	return r;
}

static void ignore_finding(const char *finding, void *context)
{
	(void)finding;
	(void)context;
}

/* Checking: nothing is damaged, whatever memory says. */
static int do_check(struct run *run)
{
	struct check_result result = {0};
	struct journal_state journal = {0};
	int r = armed(repo_check(run->repo, true, ignore_finding, NULL, NULL, &result));

	if (r == 0)
		r = armed(journal_verify(run->repo, 0, NULL, ignore_finding, NULL, &journal));
	if (r == 0 && run->faults->kind == FAULT_MEMORY && (result.errors || journal.errors))
		fail_msg("a lack of memory is taken for damage");
	return r;
}

static int do_read(struct run *run)
{
	static uint8_t bytes[90001], expected[90000];
	struct small small = small_begin(run->head);
	uint64_t ino = small_lookup(&small, ROOT_INO, "a");
	struct errbuf err = {""};
	int r = armed(file_read(small.tree, small.reader, ino, 0, bytes, sizeof(bytes), &err));

	fill_bytes(expected, sizeof(expected), 1);
	if (r >= 0 && (r != sizeof(expected) || memcmp(bytes, expected, sizeof(expected)) != 0))
		fail_msg("wrong bytes were read");
	small_end(&small);
	return r < 0 ? r : 0;
}

static int do_list(struct run *run)
{
	struct workspace *workspaces;
	struct point *points;
	size_t count;
	int r = armed(point_list(run->repo, 0, &points, &count));

	if (r < 0)
		return r;
	points_free(points, count);
	r = armed(workspace_list(run->repo, &workspaces, &count));
	if (r == 0)
		workspaces_free(workspaces, count);
	return r;
}

static int do_delete_second(struct run *run)
{
	if (run->second)
		must(repo_commit(run->repo));
	run->second = head_put(run->second);
	return armed(workspace_delete(run->repo, "second", false, NULL, NULL));
}

bool fault_is_plain(const struct faults *faults, int r)
{
	if (faults->kind == FAULT_MEMORY)
		return r == -ENOMEM || r == -ENOSPC || r == -EAGAIN || r == -EIO;
	return r == -faults->error || r == -EIO || r == -ENOMEM || r == -ENOSPC ||
	       (faults->error == FAULT_SHORT && r == -EUCLEAN);
}

/* As after a crash: what waits in the redo log is taken over, with faults. */
static int do_crash(struct run *run)
{
	char copy[200], command[600];
	int r;

	snprintf(copy, sizeof(copy), "%s/copy", run->base);
	snprintf(command, sizeof(command), "cp -a --sparse=always '%s' '%s'", run->store, copy);
	assert_int_equal(system(command), 0);
	run->head = head_put(run->head);
	run->repo = repo_close(run->repo);
	nftw(run->store, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(rename(copy, run->store), 0);
	r = do_open(run);
	if (r < 0) {
		if (!fault_is_plain(run->faults, r))
			fail_msg("opening after a crash: %d", r);
		faults_set(&(struct faults){.kind = run->faults->kind});
		must(do_open(run));
	}
	must(repo_head(run->repo, "main", &run->head, NULL));
	return 0;
}

const struct fault_step fault_steps[] = {
	{"create", do_create, true, false},
	{"open", do_open, true, true},
	{"workspace", do_workspace, true, false},
	{"head", do_head, false, true},
	{"write", do_write, false, false},
	{"first sync", do_sync, true, true},
	{"small file", do_small_file, false, false},
	{"names", do_names, false, false},
	{"xattr", do_xattr, false, false},
	{"sync", do_sync, true, true},
	{"read", do_read, false, true},
	{"freeze", do_freeze, true, false},
	{"write more", do_write_more, false, false},
	{"presync", do_presync, false, true},
	{"sync more", do_sync, true, true},
	{"write again", do_write_again, false, false},
	{"freeze more", do_freeze_more, true, false},
	{"restore", do_restore, true, false},
	{"carry", do_carry, true, false},
	{"clone", do_clone, true, false},
	{"second head", do_second_head, false, true},
	{"write second", do_write_second, false, false},
	{"commit", do_commit, true, true},
	{"list", do_list, false, true},
	{"unhold", do_unhold, true, true},
	{"verdict", do_verdict, true, true},
	{"delete", do_delete, true, false},
	{"delete second", do_delete_second, true, false},
	{"collect", do_collect, false, true},
	{"recompress", do_recompress, false, true},
	{"order", do_order, false, true},
	{"check", do_check, false, true},
	{"restore again", do_restore, true, false},
	{"read again", do_read, false, true},
	{"write for a crash", do_write_more, false, false},
	{"sync for a crash", do_sync, true, true},
	{"crash", do_crash, true, true},
};
const int fault_step_count = sizeof(fault_steps) / sizeof(fault_steps[0]);
