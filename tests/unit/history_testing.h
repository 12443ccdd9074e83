/* Random work on a head: what the tests of carry and of restore of paths start from. */
#ifndef CAIRN_TESTS_HISTORY_TESTING_H
#define CAIRN_TESTS_HISTORY_TESTING_H

#include "carry_testing.h"

/* 0 also where a directory on the way is missing. */
static UNUSED uint64_t find(struct small *small, const char *path)
{
	uint64_t ino = ROOT_INO;
	char copy[512], *rest = copy, *name;
	snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&rest, "/")) && ino)
		ino = small_lookup(small, ino, name);
	return ino;
}

static UNUSED bool is_directory(struct small *small, uint64_t ino)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	return S_ISDIR(attr.mode);
}

/* A path below `top`, up to three deep, of few names, so that histories meet. */
static UNUSED void random_path(struct random *random, const char *top, char ret[64])
{
	int depth = 1 + (int)random_below(random, 3);
	int used = snprintf(ret, 64, "%s", top);
	for (int i = 0; i < depth; i++)
		used += snprintf(ret + used, 64 - (size_t)used, "%s%c", used ? "/" : "",
				 (char)('a' + random_below(random, 4)));
}

static UNUSED bool parent_is_directory(struct small *small, const char *path)
{
	char parent[64];
	const char *slash = strrchr(path, '/');
	if (!slash)
		return true;
	snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
	uint64_t ino = find(small, parent);
	return ino && is_directory(small, ino);
}

static UNUSED bool lies_in(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	return strncmp(path, directory, length) == 0 && (!path[length] || path[length] == '/');
}

static UNUSED void random_step(struct small *small, struct random *random, const char *top,
			       const char *verbs)
{
	char a[64], b[64], text[32];
	char verb = verbs[random_below(random, strlen(verbs))];
	random_path(random, top, a);
	random_path(random, top, b);
	snprintf(text, sizeof(text), "%u", (unsigned)random_below(random, 5));
	if (!parent_is_directory(small, a) || !parent_is_directory(small, b))
		return;
	uint64_t ino = find(small, a), other = find(small, b);
	bool directory = ino && is_directory(small, ino);
	switch (verb) {
	case 'w':
		if (!directory)
			step(small, 'w', a, text);
		break;
	case 'm':
		if (!ino)
			step(small, 'm', a, "");
		break;
	case 'd':
		if (ino)
			step(small, 'd', a, "");
		break;
	case 'o':
		if (ino && !directory)
			step(small, 'o', a, text);
		break;
	case 'r':
		if (ino && !other && !lies_in(b, a))
			step(small, 'r', a, b);
		break;
	case 'l':
		if (ino && !other && !directory)
			step(small, 'l', a, b);
		break;
	case 'c':
		if (ino)
			step(small, 'c', a, random_below(random, 2) ? "700" : "750");
		break;
	case 'x':
		if (ino)
			step(small, 'x', a, text);
		break;
	default:
		fail();
	}
}

static UNUSED void random_work(struct fixture *fixture, struct random *random, const char *top,
			       const char *verbs, uint64_t steps)
{
	struct small small = small_begin(fixture->head);
	for (uint64_t i = 0; i < steps; i++)
		random_step(&small, random, top, verbs);
	small_end(&small);
	head_mark_dirty(fixture->head);
}

#define EVERYTHING "wwwwmmddorrlcx"

#endif
