/*
 * What the tests of carry share: histories as scripts, states as text.
 *
 * Histories are written as scripts, one step each separated by ';':
 *   w PATH TEXT   write (makes it)          o PATH TEXT   write anew and rename over it
 *   m PATH        make a directory          d PATH        delete, with all below
 *   r OLD NEW     rename                    l OLD NEW     hard link
 *   c PATH MODE   chmod                     x PATH TEXT   set user.x
 *   s PATH TEXT   symbolic link
 */
#ifndef CAIRN_TESTS_CARRY_TESTING_H
#define CAIRN_TESTS_CARRY_TESTING_H

#include "repo_testing.h"
#include "snapshot/carry.h"

/* ---- scripts ---- */

/* The directory of a path, and the name in it. */
static UNUSED uint64_t parent_of(struct small *small, const char *path, const char **ret_name)
{
	uint64_t directory = ROOT_INO;
	const char *slash;
	while ((slash = strchr(path, '/'))) {
		char name[256];
		snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
		directory = small_lookup(small, directory, name);
		if (!directory)
			fail_msg("no directory for %s", path);
		path = slash + 1;
	}
	*ret_name = path;
	return directory;
}

static UNUSED uint64_t ino_of(struct small *small, const char *path)
{
	const char *name;
	uint64_t directory = parent_of(small, path, &name);
	return small_lookup(small, directory, name);
}

static UNUSED uint64_t make(struct small *small, const char *path, uint32_t mode)
{
	const char *name;
	uint64_t directory = parent_of(small, path, &name);
	return small_make(small, directory, name, mode);
}

static UNUSED int first_name(const struct dirent_entry *entry, void *context)
{
	snprintf(context, 256, "%.*s", (int)entry->name.length, entry->name.text);
	return 1;
}

static UNUSED void delete_all(struct small *small, const char *path)
{
	const char *name;
	char child[256], below[1024];
	uint64_t directory = parent_of(small, path, &name),
		 ino = small_lookup(small, directory, name);
	struct inode_attr attr;
	assert_true(ino != 0);
	must(inode_get(small->tree, small->reader, ino, &attr));
	while (S_ISDIR(attr.mode) &&
	       dirent_iterate(small->tree, small->reader, ino, 0, first_name, child) == 1) {
		snprintf(below, sizeof(below), "%s/%s", path, child);
		delete_all(small, below);
	}
	small_remove(small, directory, name, false);
}

static UNUSED void write_text(struct small *small, const char *path, const char *text)
{
	uint64_t ino = ino_of(small, path);
	if (!ino)
		ino = make(small, path, S_IFREG | 0644);
	small_truncate(small, ino, 0);
	small_write(small, ino, 0, (const uint8_t *)text, strlen(text));
}

static UNUSED void step(struct small *small, char verb, const char *a, const char *b)
{
	const char *name, *new_name;
	uint64_t directory = parent_of(small, a, &name), ino = small_lookup(small, directory, name);
	struct inode_attr attr;
	switch (verb) {
	case 'w':
		write_text(small, a, b);
		break;
	case 'o':
		small_remove(small, directory, name, false);
		write_text(small, a, b);
		break;
	case 'm':
		make(small, a, S_IFDIR | 0755);
		break;
	case 'd':
		delete_all(small, a);
		break;
	case 'r': {
		uint64_t to = parent_of(small, b, &new_name);
		small_rename(small, directory, name, to, new_name);
		break;
	}
	case 'l': {
		uint64_t to = parent_of(small, b, &new_name);
		small_link(small, ino, to, new_name);
		break;
	}
	case 'c':
		must(inode_get(small->tree, small->reader, ino, &attr));
		attr.mode = (attr.mode & S_IFMT) | (uint32_t)strtoul(b, NULL, 8);
		must(inode_put(small->tree, small->reader, ino, &attr));
		break;
	case 'x':
		small_set_xattr(small, ino, "user.x", b, strlen(b));
		break;
	case 's':
		small_symlink(small, directory, name, b);
		break;
	default:
		fail_msg("what is '%c'?", verb);
	}
}

static UNUSED void run(struct head *head, const char *script)
{
	struct small small = small_begin(head);
	char copy[4096], *rest = copy, *line;
	snprintf(copy, sizeof(copy), "%s", script);
	while ((line = strsep(&rest, ";"))) {
		char verb = 0, a[512] = "", b[512] = "";
		if (sscanf(line, " %c %511s %511[^\n]", &verb, a, b) >= 2)
			step(&small, verb, a, b);
	}
	small_end(&small);
	head_mark_dirty(head);
}

/* ---- states as text ---- */

struct listing {
	struct tree *tree;
	struct reader *reader;
	char paths[512][512];
	uint64_t inos[512];
	size_t count;
	char prefix[512];
};

static UNUSED int list_entry(const struct dirent_entry *entry, void *context)
{
	struct listing *listing = context;
	assert_true(listing->count < 512);
	snprintf(listing->paths[listing->count], 512, "%.200s%s%.*s", listing->prefix,
		 *listing->prefix ? "/" : "", (int)entry->name.length, entry->name.text);
	listing->inos[listing->count++] = entry->target.ino;
	return 0;
}

static UNUSED int compare_lines(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "path=text" of files, "path/" of directories, "path->target"; then mode and xattr where they are
 * not as usual; sorted, separated by blanks. */
static UNUSED void describe(struct listing *listing, size_t at, char ret[2048])
{
	struct inode_attr attr;
	char text[1024] = "", value[64] = "";
	must(inode_get(listing->tree, listing->reader, listing->inos[at], &attr));
	if (!S_ISDIR(attr.mode)) {
		ssize_t got = file_read(listing->tree, listing->reader, listing->inos[at], 0, text,
					sizeof(text) - 1, NULL);
		size_t length = 0;
		if (S_ISLNK(attr.mode))
			must(inline_get(listing->tree, listing->reader, listing->inos[at], text,
					sizeof(text) - 1, &length));
		else
			assert_true(got >= 0);
	}
	int used = snprintf(ret, 2048, "%s%s%s", listing->paths[at],
			    S_ISDIR(attr.mode)	 ? "/"
			    : S_ISLNK(attr.mode) ? "->"
						 : "=",
			    text);
	uint32_t usual = S_ISDIR(attr.mode) ? 0755 : S_ISLNK(attr.mode) ? 0777 : 0644;
	if ((attr.mode & 07777) != usual)
		used += snprintf(ret + used, 2048 - (size_t)used, ",%o", attr.mode & 07777);
	if (attr.nlink > 1 && !S_ISDIR(attr.mode))
		used += snprintf(ret + used, 2048 - (size_t)used, ",links=%u", attr.nlink);
	if (xattr_get(listing->tree, listing->reader, listing->inos[at], "user.x", value,
		      sizeof(value) - 1) > 0)
		snprintf(ret + used, 2048 - (size_t)used, ",x=%s", value);
}

static UNUSED char *list_tree(struct repo *repo, struct tree *tree)
{
	static struct listing listing;
	struct reader *reader;
	char *lines[512], *all = calloc(1, 1 << 16);
	must(reader_acquire(repo_store(repo), &reader));
	listing = (struct listing){.tree = tree, .reader = reader};
	must(dirent_iterate(tree, reader, ROOT_INO, 0, list_entry, &listing));
	for (size_t i = 0; i < listing.count; i++) {
		struct inode_attr attr;
		must(inode_get(tree, reader, listing.inos[i], &attr));
		snprintf(listing.prefix, sizeof(listing.prefix), "%s", listing.paths[i]);
		if (S_ISDIR(attr.mode))
			must(dirent_iterate(tree, reader, listing.inos[i], 0, list_entry,
					    &listing));
	}
	for (size_t i = 0; i < listing.count; i++) {
		lines[i] = malloc(2048);
		describe(&listing, i, lines[i]);
	}
	qsort(lines, listing.count, sizeof(lines[0]), compare_lines);
	for (size_t i = 0; i < listing.count; i++) {
		strcat(strcat(all, i ? " " : ""), lines[i]);
		free(lines[i]);
	}
	reader_release(reader);
	return all;
}

static UNUSED char *list_head(struct fixture *fixture)
{
	head_lock_shared(fixture->head);
	char *text = list_tree(fixture->repo, head_tree(fixture->head));
	head_unlock(fixture->head);
	return text;
}

static UNUSED char *list_point(struct fixture *fixture, const struct point *point)
{
	struct tree *view;
	must(point_view(fixture->repo, point, &view));
	char *text = list_tree(fixture->repo, view);
	tree_close(view);
	return text;
}

/* ---- carrying ---- */

static UNUSED struct point keep_as(struct fixture *fixture, const char *name)
{
	const struct freeze_options options = {.name = name};
	struct point point;
	bool made;
	must(point_freeze(fixture->head, &options, &point, &made, NULL));
	return point;
}

static UNUSED void go_back(struct fixture *fixture, const struct point *point)
{
	struct restore_result result;
	must(point_restore(fixture->head, point, NULL, &result, NULL));
	restore_result_release(&result);
}

struct told {
	char changes[8192], conflicts[8192];
};

static UNUSED int tell(const struct carry_entry *entry, void *context)
{
	static const char *const kinds[] = {"",
#define CONFLICT_TEXT(name, text, sentence) text,
					    CARRY_CONFLICTS(CONFLICT_TEXT)
#undef CONFLICT_TEXT
	};
	struct told *told = context;
	char *list = entry->conflict ? told->conflicts : told->changes;
	size_t used = strlen(list);
	char what[32];
	snprintf(what, sizeof(what), "%c", entry->op);
	snprintf(list + used, sizeof(told->changes) - used, "%s%s %s%s%s", used ? "; " : "",
		 entry->conflict ? kinds[entry->conflict] : what,
		 entry->old_path ? entry->old_path : "", entry->old_path ? " -> " : "",
		 entry->path);
	return 0;
}

static UNUSED void start_again(void *context)
{
	*(struct told *)context = (struct told){"", ""};
}

static UNUSED struct carry_result carry(struct fixture *fixture, const struct point *from,
					enum carry_policy policy, struct told *told)
{
	const struct carry_options options = {
		.policy = policy, .entry = tell, .restart = start_again, .context = told};
	struct carry_result result;
	struct errbuf err = {""};
	int error = point_carry(fixture->head, from, &options, &result, &err);
	if (error)
		fail_msg("carry: %s (%s)", strerror(-error), err.text);
	return result;
}

static UNUSED void sort_words(const char *text, char ret[2048])
{
	char copy[2048], *rest = copy, *word, *words[64];
	size_t count = 0;
	snprintf(copy, sizeof(copy), "%s", text);
	while ((word = strsep(&rest, " ")))
		words[count++] = word;
	qsort(words, count, sizeof(words[0]), compare_lines);
	*ret = 0;
	for (size_t i = 0; i < count; i++)
		strcat(strcat(ret, i ? " " : ""), words[i]);
}

#endif
