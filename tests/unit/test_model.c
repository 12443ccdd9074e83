/*
 * The whole room against a trivial model: random sequences of everything that can be done to
 * workspaces and points.  After each step every head and every point is compared with the copy of
 * the model that was kept when it was made.
 *
 * CAIRN_TEST_SEED chooses the sequence, CAIRN_TEST_ROUNDS makes it longer.
 */
#include "repo_testing.h"

static uint64_t seed;

/* ---- the model ---- */

struct blob {
	int references;
	size_t length;
	uint8_t bytes[];
};

static struct blob *blob_new(size_t length)
{
	struct blob *blob = calloc(1, sizeof(*blob) + length);
	assert_non_null(blob);
	blob->references = 1;
	blob->length = length;
	return blob;
}

static struct blob *blob_ref(struct blob *blob)
{
	if (blob)
		blob->references++;
	return blob;
}

static void blob_unref(struct blob *blob)
{
	if (blob && --blob->references == 0)
		free(blob);
}

enum { FILES = 64, NAMES = 12, XATTRS = 3 };

/* A name: slot of the directory, number of the name, slot of the target. */
struct entry {
	uint8_t directory, name, target;
};

struct file {
	uint64_t ino; /* 0: the slot is free */
	bool directory, symlink;
	struct blob *contents; /* NULL: empty */
	struct blob *xattrs[XATTRS];
};

/* Slot 0 is the root. */
struct model {
	struct file files[FILES];
	struct entry entries[FILES * 2];
	int entry_count;
};

static void model_copy(struct model *to, const struct model *from)
{
	*to = *from;
	for (int i = 0; i < FILES; i++) {
		blob_ref(to->files[i].contents);
		for (int x = 0; x < XATTRS; x++)
			blob_ref(to->files[i].xattrs[x]);
	}
}

static void file_clear(struct file *file)
{
	blob_unref(file->contents);
	for (int x = 0; x < XATTRS; x++)
		blob_unref(file->xattrs[x]);
	*file = (struct file){0};
}

static void model_clear(struct model *model)
{
	for (int i = 0; i < FILES; i++)
		file_clear(&model->files[i]);
	model->entry_count = 0;
}

static void model_init(struct model *model)
{
	*model = (struct model){0};
	model->files[0] = (struct file){.ino = ROOT_INO, .directory = true};
}

static int model_find(const struct model *model, int directory, int name)
{
	for (int i = 0; i < model->entry_count; i++)
		if (model->entries[i].directory == directory && model->entries[i].name == name)
			return i;
	return -1;
}

static int model_links(const struct model *model, int target)
{
	int links = 0;
	for (int i = 0; i < model->entry_count; i++)
		links += model->entries[i].target == target;
	return links;
}

static int model_children(const struct model *model, int directory, bool only_directories)
{
	int children = 0;
	for (int i = 0; i < model->entry_count; i++)
		if (model->entries[i].directory == directory)
			children += !only_directories ||
				    model->files[model->entries[i].target].directory;
	return children;
}

static int model_parent(const struct model *model, int target)
{
	for (int i = 0; i < model->entry_count; i++)
		if (model->entries[i].target == target)
			return model->entries[i].directory;
	return 0;
}

static bool model_is_below(const struct model *model, int slot, int above)
{
	for (; slot != above; slot = model_parent(model, slot))
		if (slot == 0)
			return false;
	return true;
}

static void model_remove_entry(struct model *model, int index)
{
	int target = model->entries[index].target;
	model->entries[index] = model->entries[--model->entry_count];
	if (model_links(model, target) == 0)
		file_clear(&model->files[target]);
}

static const char *name_text(int name)
{
	static const char *const names[NAMES] = {
		"a", "b", "c.txt",
		"d", "e", "a rather long name of a file, for nodes to fill up.csv",
		"ü", "g", "h.db",
		"i", "j", "k"};
	return names[name];
}

static const char *const xattr_names[XATTRS] = {"user.a", "user.comment",
						"system.posix_acl_access"};

/* ---- comparing ---- */

struct comparing {
	const struct model *model;
	int directory, seen;
};

static int compare_entry(const struct dirent_entry *entry, void *context)
{
	struct comparing *comparing = context;
	const struct model *model = comparing->model;
	comparing->seen++;
	for (int i = 0; i < model->entry_count; i++) {
		const struct entry *known = &model->entries[i];
		const char *name = name_text(known->name);
		if (known->directory == comparing->directory &&
		    strlen(name) == entry->name.length &&
		    memcmp(name, entry->name.text, entry->name.length) == 0) {
			const struct file *file = &model->files[known->target];
			assert_int_equal(entry->target.ino, file->ino);
			assert_int_equal(entry->target.type, file->directory ? DT_DIR
							     : file->symlink ? DT_LNK
									     : DT_REG);
			return 0;
		}
	}
	fail_msg("an entry '%.*s' too much", (int)entry->name.length, entry->name.text);
	return -1;
}

static void compare_xattrs(const struct file *file, struct tree *tree, struct reader *reader)
{
	static uint8_t buffer[70000];
	for (int x = 0; x < XATTRS; x++) {
		ssize_t length =
			xattr_get(tree, reader, file->ino, xattr_names[x], buffer, sizeof(buffer));
		if (!file->xattrs[x]) {
			assert_int_equal(length, -ENODATA);
			continue;
		}
		assert_int_equal(length, file->xattrs[x]->length);
		assert_memory_equal(buffer, file->xattrs[x]->bytes, (size_t)length);
	}
}

static void compare_contents(const struct file *file, struct tree *tree, struct reader *reader)
{
	static uint8_t buffer[1 << 20];
	struct errbuf err = {""};
	size_t length = file->contents ? file->contents->length : 0;
	ssize_t got = file_read(tree, reader, file->ino, 0, buffer, sizeof(buffer), &err);
	if (got < 0)
		fail_msg("inode %" PRIu64 ": %s", file->ino, err.text);
	assert_int_equal(got, length);
	if (length)
		assert_memory_equal(buffer, file->contents->bytes, length);
}

/* Everything but contents; those of one file in `sparse` (1: of all), chosen by `random`. */
static void compare(const struct model *model, struct tree *tree, struct reader *reader,
		    struct random *random, int sparse)
{
	for (int i = 0; i < FILES; i++) {
		const struct file *file = &model->files[i];
		struct inode_attr attr;
		if (!file->ino)
			continue;
		must(inode_get(tree, reader, file->ino, &attr));
		if (file->directory) {
			struct comparing comparing = {model, i, 0};
			must(dirent_iterate(tree, reader, file->ino, 0, compare_entry, &comparing));
			assert_int_equal(comparing.seen, model_children(model, i, false));
			assert_int_equal(attr.nlink, 2 + model_children(model, i, true));
			continue;
		}
		assert_int_equal(attr.nlink, model_links(model, i));
		assert_int_equal(attr.size, file->contents ? file->contents->length : 0);
		if (sparse == 1 || random_below(random, (uint64_t)sparse) == 0) {
			compare_contents(file, tree, reader);
			compare_xattrs(file, tree, reader);
		}
	}
}

/* ---- the world: heads and points with their models ---- */

enum { SPACES = 3, POINTS = 24 };

struct space {
	char name[16];	   /* "": not there */
	struct head *head; /* open while it is there */
	struct model now, committed;
};

struct kept {
	struct point point; /* id 0: free */
	int space;
	struct model model;
};

struct world {
	struct fixture fixture;
	struct space spaces[SPACES];
	struct kept points[POINTS];
	struct random random;
	int names_used;
};

static uint64_t below(struct world *world, uint64_t limit)
{
	return random_below(&world->random, limit);
}

static void all_committed(struct world *world)
{
	for (int i = 0; i < SPACES; i++) {
		model_clear(&world->spaces[i].committed);
		model_copy(&world->spaces[i].committed, &world->spaces[i].now);
	}
}

static void compare_world(struct world *world, int sparse)
{
	for (int i = 0; i < SPACES; i++) {
		struct space *space = &world->spaces[i];
		if (!space->name[0])
			continue;
		struct reader *reader;
		head_lock_shared(space->head);
		must(reader_acquire(repo_store(world->fixture.repo), &reader));
		compare(&space->now, head_tree(space->head), reader, &world->random, sparse);
		reader_release(reader);
		head_unlock(space->head);
	}
	for (int i = 0; i < POINTS; i++) {
		struct kept *kept = &world->points[i];
		if (!kept->point.id)
			continue;
		struct reader *reader;
		struct tree *view;
		must(point_view(world->fixture.repo, &kept->point, &view));
		must(reader_acquire(repo_store(world->fixture.repo), &reader));
		compare(&kept->model, view, reader, &world->random, sparse);
		reader_release(reader);
		tree_close(view);
	}
}

/* ---- steps on a head ---- */

static int random_file(struct world *world, const struct model *model, bool directory)
{
	int choices[FILES], count = 0;
	for (int i = 0; i < FILES; i++)
		if (model->files[i].ino && model->files[i].directory == directory)
			choices[count++] = i;
	return count ? choices[below(world, (uint64_t)count)] : -1;
}

static int free_slot(const struct model *model)
{
	for (int i = 1; i < FILES; i++)
		if (!model->files[i].ino)
			return i;
	return -1;
}

static void add_entry(struct model *model, int directory, int name, int target)
{
	assert_true(model->entry_count < FILES * 2);
	model->entries[model->entry_count++] =
		(struct entry){(uint8_t)directory, (uint8_t)name, (uint8_t)target};
}

static void step_make(struct world *world, struct model *model, struct small *small)
{
	int directory = random_file(world, model, true), name = (int)below(world, NAMES);
	int slot = free_slot(model), kind = (int)below(world, 8);
	if (slot < 0 || model_find(model, directory, name) >= 0)
		return;
	struct file *file = &model->files[slot];
	uint64_t parent = model->files[directory].ino;
	if (kind < 2) {
		file->ino = small_make(small, parent, name_text(name), S_IFDIR | 0755);
		file->directory = true;
	} else if (kind == 2) {
		char target[4096];
		size_t length = 1 + below(world, 200);
		if (below(world, 10) == 0)
			length = 4095;
		memset(target, 'l', length);
		target[length] = 0;
		file->ino = small_symlink(small, parent, name_text(name), target);
		file->symlink = true;
		file->contents = blob_new(length);
		memset(file->contents->bytes, 'l', length);
	} else {
		file->ino = small_make(small, parent, name_text(name), S_IFREG | 0644);
	}
	add_entry(model, directory, name, slot);
}

static size_t random_length(struct world *world)
{
	switch (below(world, 8)) {
	case 0:
	case 1:
	case 2:
		return 1 + below(world, 700);
	case 3:
	case 4:
	case 5:
		return 1 + below(world, 20000);
	case 6:
		return 4096 * (1 + below(world, 8));
	default:
		return 1 + below(world, 400000);
	}
}

static void step_write(struct world *world, struct model *model, struct small *small)
{
	int slot = random_file(world, model, false);
	if (slot < 0 || model->files[slot].symlink)
		return;
	struct file *file = &model->files[slot];
	size_t old = file->contents ? file->contents->length : 0, length = random_length(world);
	size_t offset = below(world, 3) == 0 ? 0 : below(world, old + 5000);
	if (offset + length > 1000000)
		return;
	struct blob *blob = blob_new(offset + length > old ? offset + length : old);
	if (old)
		memcpy(blob->bytes, file->contents->bytes, old);
	/* Few seeds, so that chunks repeat. */
	fill_bytes(blob->bytes + offset, length, below(world, 40));
	small_write(small, file->ino, offset, blob->bytes + offset, length);
	blob_unref(file->contents);
	file->contents = blob;
}

static void step_truncate(struct world *world, struct model *model, struct small *small)
{
	int slot = random_file(world, model, false);
	if (slot < 0 || model->files[slot].symlink)
		return;
	struct file *file = &model->files[slot];
	size_t old = file->contents ? file->contents->length : 0;
	size_t size = below(world, 4) == 0 ? 0 : below(world, old + 3000);
	struct blob *blob = blob_new(size);
	if (old)
		memcpy(blob->bytes, file->contents->bytes, old < size ? old : size);
	small_truncate(small, file->ino, size);
	blob_unref(file->contents);
	file->contents = blob;
}

static void step_remove(struct world *world, struct model *model, struct small *small)
{
	if (model->entry_count == 0)
		return;
	int index = (int)below(world, (uint64_t)model->entry_count);
	struct entry entry = model->entries[index];
	if (model_children(model, entry.target, false))
		return;
	small_remove(small, model->files[entry.directory].ino, name_text(entry.name), false);
	model_remove_entry(model, index);
}

static void step_link(struct world *world, struct model *model, struct small *small)
{
	int slot = random_file(world, model, false), name = (int)below(world, NAMES);
	int directory = random_file(world, model, true);
	if (slot < 0 || model->entry_count == FILES * 2 || model_find(model, directory, name) >= 0)
		return;
	small_link(small, model->files[slot].ino, model->files[directory].ino, name_text(name));
	add_entry(model, directory, name, slot);
}

static void step_rename(struct world *world, struct model *model, struct small *small)
{
	if (model->entry_count == 0)
		return;
	int index = (int)below(world, (uint64_t)model->entry_count);
	struct entry entry = model->entries[index];
	int directory = random_file(world, model, true), name = (int)below(world, NAMES);
	int over = model_find(model, directory, name);
	if (model->files[entry.target].directory && model_is_below(model, directory, entry.target))
		return;
	if (over >= 0) {
		int victim = model->entries[over].target;
		if (victim == entry.target || model_children(model, victim, false) ||
		    model->files[victim].directory != model->files[entry.target].directory)
			return;
	}
	small_rename(small, model->files[entry.directory].ino, name_text(entry.name),
		     model->files[directory].ino, name_text(name));
	model->entries[index].directory = (uint8_t)directory;
	model->entries[index].name = (uint8_t)name;
	if (over >= 0)
		model_remove_entry(model, over);
}

static void step_xattr(struct world *world, struct model *model, struct small *small)
{
	int slot = random_file(world, model, false), x = (int)below(world, XATTRS);
	if (slot < 0)
		return;
	struct file *file = &model->files[slot];
	if (file->xattrs[x] && below(world, 3) == 0) {
		must(xattr_remove(small->tree, small->reader, file->ino, xattr_names[x]));
		blob_unref(file->xattrs[x]);
		file->xattrs[x] = NULL;
		return;
	}
	size_t length = below(world, 5) == 0 ? below(world, 65537) : below(world, 100);
	struct blob *blob = blob_new(length);
	fill_bytes(blob->bytes, length, below(world, 1000));
	small_set_xattr(small, file->ino, xattr_names[x], blob->bytes, length);
	blob_unref(file->xattrs[x]);
	file->xattrs[x] = blob;
}

static void step_head(struct world *world, struct space *space)
{
	struct small small = small_begin(space->head);
	struct model *model = &space->now;
	switch (below(world, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		step_make(world, model, &small);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		step_write(world, model, &small);
		break;
	case 8:
		step_truncate(world, model, &small);
		break;
	case 9:
	case 10:
		step_remove(world, model, &small);
		break;
	case 11:
		step_link(world, model, &small);
		break;
	case 12:
	case 13:
		step_rename(world, model, &small);
		break;
	default:
		step_xattr(world, model, &small);
	}
	small_end(&small);
}

/* ---- steps on points and workspaces ---- */

static struct kept *free_point(struct world *world)
{
	for (int i = 0; i < POINTS; i++)
		if (!world->points[i].point.id)
			return &world->points[i];
	return NULL;
}

static struct kept *random_point(struct world *world)
{
	struct kept *choices[POINTS];
	int count = 0;
	for (int i = 0; i < POINTS; i++)
		if (world->points[i].point.id)
			choices[count++] = &world->points[i];
	return count ? choices[below(world, (uint64_t)count)] : NULL;
}

static struct space *random_space(struct world *world)
{
	struct space *space;
	do
		space = &world->spaces[below(world, SPACES)];
	while (!space->name[0]);
	return space;
}

static void keep_point(struct world *world, struct kept *kept, struct point *point,
		       struct space *space, const struct model *model)
{
	kept->point = *point;
	*point = (struct point){0};
	kept->space = (int)(space - world->spaces);
	model_copy(&kept->model, model);
}

static void forget_point(struct kept *kept)
{
	point_release(&kept->point);
	model_clear(&kept->model);
}

static void step_freeze(struct world *world)
{
	struct space *space = random_space(world);
	struct kept *kept = free_point(world);
	char name[32];
	if (!kept)
		return;
	snprintf(name, sizeof(name), "point %d", world->names_used++);
	struct point point = freeze(space->head, name);
	assert_int_equal(point.workspace, head_workspace(space->head));
	keep_point(world, kept, &point, space, &space->now);
	all_committed(world);
}

static struct kept *find_kept(struct world *world, uint64_t id)
{
	for (int i = 0; i < POINTS; i++)
		if (world->points[i].point.id == id)
			return &world->points[i];
	return NULL;
}

static void step_restore(struct world *world)
{
	struct space *space = random_space(world);
	struct kept *target = random_point(world), *spare = free_point(world);
	struct restore_result result;
	struct errbuf err = {""};
	if (!target || !spare)
		return;
	must(point_restore(space->head, &target->point, "somebody", &result, &err));
	if (result.safety_made) {
		keep_point(world, spare, &result.safety, space, &space->now);
	} else {
		/* The base has the present state: compare_world() has seen both to be equal. */
		assert_non_null(find_kept(world, result.safety.id));
		assert_int_equal(result.old_root, result.safety.root);
	}
	model_clear(&space->now);
	model_copy(&space->now, &target->model);
	restore_result_release(&result);
	all_committed(world);
}

static void step_delete(struct world *world)
{
	struct errbuf err = {""};
	uint64_t ids[POINTS];
	struct kept *doomed[POINTS];
	size_t count = 0, wanted = 1 + below(world, 4);
	for (size_t i = 0; i < wanted; i++) {
		struct kept *kept = random_point(world);
		if (!kept)
			return;
		bool twice = false;
		for (size_t j = 0; j < count; j++)
			twice = twice || doomed[j] == kept;
		if (twice)
			continue;
		doomed[count] = kept;
		ids[count++] = kept->point.id;
	}
	must(point_delete(world->fixture.repo, ids, count, false, NULL, &err));
	for (size_t i = 0; i < count; i++)
		forget_point(doomed[i]);
	all_committed(world);
}

static void step_clone(struct world *world)
{
	struct errbuf err = {""};
	struct kept *kept = random_point(world);
	struct space *source =
		below(world, 2) ? random_space(world) : NULL; /* a head, or a point */
	for (int i = 0; i < SPACES && (kept || source); i++) {
		struct space *space = &world->spaces[i];
		if (space->name[0])
			continue;
		snprintf(space->name, sizeof(space->name), "space %d",
			 world->names_used++ % 100000);
		if (source)
			must(workspace_clone_head(source->head, space->name, NULL, &err));
		else
			must(workspace_clone(world->fixture.repo, &kept->point, space->name, NULL,
					     &err));
		must(repo_head(world->fixture.repo, space->name, &space->head, &err));
		model_copy(&space->now, source ? &source->now : &kept->model);
		all_committed(world);
		return;
	}
}

static void step_delete_space(struct world *world)
{
	struct errbuf err = {""};
	int index = 1 + (int)below(world, SPACES - 1);
	struct space *space = &world->spaces[index];
	if (!space->name[0])
		return;
	must(repo_commit(world->fixture.repo));
	all_committed(world);
	space->head = head_put(space->head);
	must(workspace_delete(world->fixture.repo, space->name, false, NULL, &err));
	for (int i = 0; i < POINTS; i++)
		if (world->points[i].point.id && world->points[i].space == index)
			forget_point(&world->points[i]);
	model_clear(&space->now);
	model_clear(&space->committed);
	space->name[0] = 0;
}

static void step_collect(struct world *world)
{
	struct sweep_result result;
	must(repo_collect(world->fixture.repo, below(world, 4) == 0, NULL, NULL, &result));
	all_committed(world);
}

/*
 * Closing without a commit: what was confirmed last comes back.  After a crash, too; where the
 * redo log is in use, closing a head commits.
 */
static void step_reopen(struct world *world)
{
	struct errbuf err = {""};
	char crashed[300];
	bool crash = below(world, 3) != 0;
	snprintf(crashed, sizeof(crashed), "%s-crashed", world->fixture.directory);
	if (crash)
		fixture_copy_store(&world->fixture, crashed);
	else if (redo_is_used(repo_store(world->fixture.repo)))
		all_committed(world);
	world->fixture.head = NULL;
	for (int i = 0; i < SPACES; i++)
		world->spaces[i].head = head_put(world->spaces[i].head);
	world->fixture.repo = repo_close(world->fixture.repo);
	if (crash)
		fixture_replace_store(&world->fixture, crashed);
	must(repo_open(world->fixture.directory, 0, NULL, &world->fixture.repo, &err));
	for (int i = 0; i < SPACES; i++) {
		struct space *space = &world->spaces[i];
		if (!space->name[0])
			continue;
		must(repo_head(world->fixture.repo, space->name, &space->head, &err));
		model_clear(&space->now);
		model_copy(&space->now, &space->committed);
	}
}

static void step(struct world *world)
{
	uint64_t choice = below(world, 100);
	if (choice < 68) {
		struct space *space = random_space(world);
		for (uint64_t i = 0; i < 1 + choice % 6; i++)
			step_head(world, space);
	} else if (choice < 77) {
		must(below(world, 4) ? repo_sync(world->fixture.repo)
				     : repo_commit(world->fixture.repo));
		all_committed(world);
	} else if (choice < 82) {
		step_freeze(world);
	} else if (choice < 86) {
		step_restore(world);
	} else if (choice < 91) {
		step_delete(world);
	} else if (choice < 93) {
		step_clone(world);
	} else if (choice < 94) {
		step_delete_space(world);
	} else if (choice < 97) {
		step_collect(world);
	} else {
		step_reopen(world);
	}
}

static void world_create(struct world *world, uint64_t number)
{
	*world = (struct world){.random = random_from(number)};
	fixture_create(&world->fixture);
	struct space *main_space = &world->spaces[0];
	strcpy(main_space->name, "main");
	main_space->head = world->fixture.head;
	model_init(&main_space->now);
	model_init(&main_space->committed);
}

static void world_destroy(struct world *world)
{
	for (int i = 0; i < SPACES; i++) {
		world->spaces[i].head = head_put(world->spaces[i].head);
		model_clear(&world->spaces[i].now);
		model_clear(&world->spaces[i].committed);
	}
	for (int i = 0; i < POINTS; i++)
		forget_point(&world->points[i]);
	world->fixture.head = NULL;
	fixture_destroy(&world->fixture);
}

static void test_model(void **state)
{
	(void)state;
	static struct world world;
	for (int round = 0; round < test_rounds(6); round++) {
		/* Names that share hashes in every other round. */
		dirent_test_limit_hash(round % 2 ? 3 : 63);
		world_create(&world, seed + (uint64_t)round);
		for (int i = 0; i < 200; i++) {
			step(&world);
			compare_world(&world, 40);
		}
		step_reopen(&world);
		compare_world(&world, 1);
		assert_sound(world.fixture.repo, true);
		step_collect(&world);
		assert_sound(world.fixture.repo, true);
		compare_world(&world, 1);
		world_destroy(&world);
	}
	dirent_test_limit_hash(63);
}

int main(void)
{
	seed = random_seed();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
	};
	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
