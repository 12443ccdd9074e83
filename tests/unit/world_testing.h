/*
 * A model of a workspace, kept in step with a real tree by random edits: for comparing what is
 * computed from trees with what is computed naively from two states of the model.
 */
#ifndef CAIRN_TESTS_WORLD_TESTING_H
#define CAIRN_TESTS_WORLD_TESTING_H

#include <dirent.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "index/chunk.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/xattr.h"
#include "tree_testing.h"

enum { FILES = 4000, NAMES = 400, BLOCKS = 6, BLOCK = 4096 };

struct file { /* index in `files` is the inode number */
	bool exists, directory, inlined, split;
	uint32_t mode, uid, nlink;
	int64_t mtime, atime;
	uint32_t size;
	uint8_t seeds[BLOCKS]; /* of each block; 0: a hole */
	uint8_t xattr;	       /* 0: none */
};

struct name {
	uint64_t directory, ino;
	char text[8];
};

struct world {
	struct file files[FILES];
	struct name names[NAMES];
	int name_count;
	uint64_t next_ino;
};

static struct world now, before;
static struct tree *head;
static struct store *store;
static struct reader *reader;
static bool touched[FILES]; /* since `before` */

/* From the model to the tree. */

static void put_inode(uint64_t ino)
{
	const struct file *file = &now.files[ino];
	const struct inode_attr attr = {
		.mode = (file->directory ? S_IFDIR : S_IFREG) | file->mode,
		.nlink = file->nlink,
		.uid = file->uid,
		.flags = file->inlined ? INODE_INLINE : 0,
		.size = file->directory ? 0 : file->size,
		.mtime = {file->mtime, 0},
		.atime = {file->atime, 0},
	};

	must(inode_put(head, reader, ino, &attr));
	touched[ino] = true;
}

static void put_block(uint64_t ino, int block)
{
	const struct file *file = &now.files[ino];
	uint64_t offset = (uint64_t)block * BLOCK;
	uint32_t left = file->size - (uint32_t)offset;
	uint32_t length = left < BLOCK ? left : BLOCK;
	uint32_t cut = file->split && length > 1 ? length / 3 + 1 : length;
	struct extent pieces[2];
	uint8_t bytes[BLOCK];
	uint64_t chunk;
	int64_t delta;

	if (!file->seeds[block]) {
		must(extent_replace(head, reader, ino, offset, BLOCK, NULL, 0, &delta));
		return;
	}
	memset(bytes, file->seeds[block], length);
	must(chunk_store(store, bytes, length, &chunk, NULL));
	pieces[0] = (struct extent){offset, chunk, 0, cut};
	pieces[1] = (struct extent){offset + cut, chunk, cut, length - cut};
	must(extent_replace(head, reader, ino, offset, BLOCK, pieces, cut < length ? 2 : 1,
			    &delta));
}

static void put_contents(uint64_t ino)
{
	const struct file *file = &now.files[ino];
	uint8_t bytes[INLINE_MAX];
	int64_t delta;

	if (file->inlined) {
		memset(bytes, file->seeds[0], file->size);
		must(extent_replace(head, reader, ino, 0, UINT64_MAX, NULL, 0, &delta));
		must(inline_put(head, reader, ino, bytes, file->size));
	} else {
		must(inline_delete(head, reader, ino));
		must(extent_replace(head, reader, ino, file->size, UINT64_MAX - file->size, NULL, 0,
				    &delta));
		for (int block = 0; (uint32_t)block * BLOCK < file->size; block++)
			put_block(ino, block);
	}
	put_inode(ino);
}

static void put_xattr(uint64_t ino)
{
	uint8_t value = now.files[ino].xattr;

	must(xattr_set(head, reader, ino, "user.test", &value, 1, XATTR_SET_ANY));
	touched[ino] = true;
}

/* Random edits. */

static struct name *find_name(struct world *world, uint64_t directory, const char *text)
{
	for (int i = 0; i < world->name_count; i++)
		if (world->names[i].directory == directory &&
		    strcmp(world->names[i].text, text) == 0)
			return &world->names[i];
	return NULL;
}

static bool has_name(struct world *world, const struct name *name)
{
	const struct name *there = find_name(world, name->directory, name->text);

	return there && there->ino == name->ino;
}

static struct dirent_target target_of(uint64_t ino)
{
	return (struct dirent_target){ino, now.files[ino].directory ? DT_DIR : DT_REG};
}

static void change_directory(uint64_t ino)
{
	now.files[ino].mtime++;
	put_inode(ino);
}

static void add_name(uint64_t directory, const char *text, uint64_t ino)
{
	const struct dirent_target target = target_of(ino);
	struct name *name = &now.names[now.name_count++];

	assert_true(now.name_count <= NAMES);
	must(dirent_insert(head, reader, directory, text, strlen(text), &target));
	name->directory = directory;
	name->ino = ino;
	snprintf(name->text, sizeof(name->text), "%s", text);
	now.files[ino].nlink++;
	put_inode(ino);
	change_directory(directory);
}

static void drop_link(uint64_t ino)
{
	struct file *file = &now.files[ino];

	if (--file->nlink > 0) {
		put_inode(ino);
	} else if (!file->directory && random_below(8) == 0) { /* still open */
		put_inode(ino);
		must(orphan_add(head, reader, ino));
	} else {
		must(inode_delete(head, reader, ino));
		file->exists = false;
		touched[ino] = true;
	}
}

static void remove_name(struct name *name)
{
	const struct name gone = *name;

	must(dirent_remove(head, reader, gone.directory, gone.text, strlen(gone.text)));
	*name = now.names[--now.name_count];
	drop_link(gone.ino);
	change_directory(gone.directory);
}

static void retarget_name(struct name *name, uint64_t ino)
{
	const struct dirent_target target = target_of(ino);

	must(dirent_replace(head, reader, name->directory, name->text, strlen(name->text),
			    &target));
	name->ino = ino;
	change_directory(name->directory);
}

static uint64_t random_directory(void)
{
	for (int tries = 0; tries < 20 && now.name_count > 0; tries++) {
		uint64_t ino = now.names[random_below((uint64_t)now.name_count)].ino;

		if (now.files[ino].directory)
			return ino;
	}
	return ROOT_INO;
}

static struct name *random_name(bool directory)
{
	for (int tries = 0; tries < 50 && now.name_count > 0; tries++) {
		struct name *name = &now.names[random_below((uint64_t)now.name_count)];

		if (now.files[name->ino].directory == directory)
			return name;
	}
	return NULL;
}

static void random_text(char text[8])
{
	snprintf(text, 8, "%c%c", (char)('a' + random_below(12)), (char)('a' + random_below(2)));
}

static void random_contents(struct file *file)
{
	file->inlined = random_below(2);
	file->size = (uint32_t)(file->inlined ? random_below(INLINE_MAX + 1)
					      : random_below(BLOCKS * BLOCK + 1));
	for (int i = 0; i < BLOCKS; i++)
		file->seeds[i] = (uint8_t)random_below(20);
	if (file->inlined && !file->seeds[0])
		file->seeds[0] = 1;
}

static uint64_t create(bool directory)
{
	uint64_t ino = now.next_ino++;
	struct file *file = &now.files[ino];

	assert_true(ino < FILES);
	*file = (struct file){.exists = true, .directory = directory};
	file->mode = directory ? 0755 : 0644;
	if (directory) {
		put_inode(ino);
	} else {
		random_contents(file);
		put_contents(ino);
	}
	return ino;
}

static void edit_create(void)
{
	uint64_t directory = random_directory();
	char text[8];

	random_text(text);
	if (now.name_count < NAMES - 10 && !find_name(&now, directory, text))
		add_name(directory, text, create(random_below(4) == 0));
}

static void remove_recursively(struct name *name)
{
	struct name target = *name;

	for (bool found = true; found && now.files[target.ino].directory;) {
		found = false;
		for (int i = 0; i < now.name_count && !found; i++) {
			if (now.names[i].directory == target.ino) {
				remove_recursively(&now.names[i]);
				found = true;
			}
		}
	}
	remove_name(find_name(&now, target.directory, target.text));
}

static void edit_remove(void)
{
	struct name *name = random_name(random_below(8) == 0);

	if (name)
		remove_recursively(name);
}

static bool is_below(uint64_t directory, uint64_t above)
{
	while (directory != above && directory != ROOT_INO)
		for (int i = 0; i < now.name_count; i++)
			if (now.names[i].ino == directory) {
				directory = now.names[i].directory;
				break;
			}
	return directory == above;
}

static void edit_rename(void)
{
	struct name *name = random_name(random_below(3) == 0);
	uint64_t directory = random_directory();
	struct name *there;
	struct name old;
	char text[8];

	random_text(text);
	if (!name || (now.files[name->ino].directory && is_below(directory, name->ino)))
		return;
	old = *name;
	there = find_name(&now, directory, text);
	if (there && (there->ino == old.ino || now.files[there->ino].directory ||
		      now.files[old.ino].directory))
		return;
	if (there) { /* rename over */
		uint64_t replaced = there->ino;

		retarget_name(there, old.ino);
		drop_link(replaced);
	} else {
		add_name(directory, text, old.ino);
		now.files[old.ino].nlink--;
	}
	name = find_name(&now, old.directory, old.text);
	must(dirent_remove(head, reader, old.directory, old.text, strlen(old.text)));
	*name = now.names[--now.name_count];
	put_inode(old.ino);
	change_directory(old.directory);
}

static void edit_link(void)
{
	struct name *name = random_name(false);
	uint64_t directory = random_directory();
	char text[8];

	random_text(text);
	if (name && now.name_count < NAMES - 10 && !find_name(&now, directory, text))
		add_name(directory, text, name->ino);
}

static void edit_swap(void)
{
	struct name *a = random_name(false);
	struct name *b = random_name(false);
	uint64_t ino;

	if (!a || !b || a->ino == b->ino)
		return;
	ino = a->ino;
	retarget_name(a, b->ino);
	retarget_name(b, ino);
}

/* Written anew and renamed over, as editors do; sometimes exactly as it was. */
static void edit_replace(void)
{
	struct name *name = random_name(false);
	uint64_t old, ino;

	if (!name)
		return;
	old = name->ino;
	ino = create(false);
	if (random_below(2)) {
		now.files[ino] = now.files[old];
		now.files[ino].nlink = 0;
		now.files[ino].mtime += random_below(2);
		now.files[ino].split = random_below(2);
		put_contents(ino);
		if (now.files[ino].xattr)
			put_xattr(ino);
	}
	now.files[ino].nlink = 1;
	put_inode(ino);
	retarget_name(name, ino);
	drop_link(old);
}

static void edit_contents(void)
{
	struct name *name = random_name(false);
	struct file *file;
	int block;

	if (!name)
		return;
	file = &now.files[name->ino];
	block = (int)random_below(BLOCKS);
	if (random_below(2) || file->inlined)
		random_contents(file);
	else if ((uint32_t)block * BLOCK < file->size)
		file->seeds[block] = (uint8_t)random_below(20);
	put_contents(name->ino);
}

/* The same bytes, laid out in another way. */
static void edit_layout(void)
{
	struct name *name = random_name(false);
	struct file *file;

	if (!name)
		return;
	file = &now.files[name->ino];
	file->split = !file->split;
	if (file->size <= INLINE_MAX && file->seeds[0])
		file->inlined = !file->inlined;
	put_contents(name->ino);
}

static void edit_attributes(void)
{
	struct name *name = random_name(random_below(3) == 0);
	uint64_t ino = name && random_below(20) ? name->ino : ROOT_INO;
	struct file *file = &now.files[ino];

	switch (random_below(5)) {
	case 0:
		file->mode ^= 0111;
		break;
	case 1:
		file->uid = (uint32_t)random_below(3);
		break;
	case 2:
		file->mtime++;
		break;
	case 3:
		file->atime++; /* nobody sees this */
		break;
	default:
		file->xattr = file->xattr ? (uint8_t)random_below(3) : 1;
		(void)xattr_remove(head, reader, ino, "user.test");
		if (file->xattr)
			put_xattr(ino);
	}
	put_inode(ino);
}

static void random_edit(void)
{
	static void (*const edits[])(void) = {
		edit_create, edit_create,  edit_create,	  edit_remove, edit_rename,	edit_rename,
		edit_link,   edit_replace, edit_contents, edit_layout, edit_attributes, edit_swap,
	};

	edits[random_below(sizeof(edits) / sizeof(edits[0]))]();
}

static void begin(unsigned hash_bits)
{
	dirent_test_limit_hash(hash_bits);
	store = test_store_make();
	must(tree_open(store, 0, store_next(store, COUNTER_GENERATION), &head));
	memset(&now, 0, sizeof(now));
	now.next_ino = 16;
	now.files[ROOT_INO] = (struct file){.exists = true, .directory = true, .mode = 0755};
	now.files[ROOT_INO].nlink = 1;
	reader = test_reader(store);
	put_inode(ROOT_INO);
}

static void end(void)
{
	reader_release(reader);
	tree_close(head);
	test_store_remove(store);
	dirent_test_limit_hash(63);
}

static struct tree *freeze(void)
{
	struct tree *point;

	reader_release(reader);
	test_commit(store, head);
	must(tree_open(store, tree_root(head), 0, &point));
	tree_set_generation(head, store_next(store, COUNTER_GENERATION));
	reader = test_reader(store);
	before = now;
	memset(touched, 0, sizeof(touched));
	return point;
}

#endif
