/*
 * mount.cairn and umount.fuse.cairn.
 *
 * mount(8) and umount(8) look for helpers by the type of the file system: that of a line of fstab
 * is cairn or fuse.cairn, that of a mount is always fuse.cairn.  umount(8) by itself would return
 * when the kernel has let go, which is before the daemon has written what is left; through the
 * helper it returns when everything is durable and the store is free.
 */
#include "tools/mount_helper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/place.h"

struct helper {
	const char *words[2]; /* SOURCE and MOUNTPOINT, or MOUNTPOINT alone */
	int word_count;
	const char *options;
	bool fake, lazy, sloppy;
};

/* Returns 0 or 2. */
static int parse(int argc, char **argv, const char *letters, struct helper *helper,
		 struct invocation *invocation)
{
	int letter;

	while ((letter = getopt(argc, argv, letters)) != -1) {
		switch (letter) {
		case 'f': /* of umount(8) it means another thing, and is not looked at */
			helper->fake = true;
			break;
		case 'l':
			helper->lazy = true;
			break;
		case 'o':
			helper->options = optarg;
			break;
		case 's':
			helper->sloppy = true;
			break;
		case 'v':
			invocation->verbose++;
			break;
		case '?':
			return 2;
		}
	}
	for (; optind < argc && helper->word_count < 2; optind++)
		helper->words[helper->word_count++] = argv[optind];
	return optind < argc ? 2 : 0;
}

/* ---- mount ---------------------------------------------------------------------------- */

/* STORE or STORE#WORKSPACE; a directory whose name has a '#' is a store. */
static void split_source(char *source, struct invocation *invocation)
{
	char *mark = strrchr(source, '#');
	struct stat status;

	invocation->store = source;
	if (!mark || stat(source, &status) == 0)
		return;
	*mark = '\0';
	if (mark[1])
		invocation->workspace = mark + 1;
}

/* What 'mount -a' finds mounted it leaves alone, but it compares sources, and that of the mount
 * has the workspace behind it where that in fstab may have none. */
static bool is_mounted(const struct invocation *invocation, const char *path)
{
	char *real = path_real(path), *wanted = path_real(invocation->store);
	char *store, *workspace, *mountpoint;
	struct statvfs status;
	bool same = false;

	if (real && wanted && statvfs(real, &status) == 0 &&
	    !service_find_mount(real, &store, &workspace, &mountpoint)) {
		same = strcmp(mountpoint, real) == 0 && strcmp(store, wanted) == 0 &&
		       (!invocation->workspace || strcmp(workspace, invocation->workspace) == 0);
		free(store);
		free(workspace);
		free(mountpoint);
	}
	free(wanted);
	free(real);
	return same;
}

static bool has_word(const char *options, const char *word)
{
	size_t length = strlen(word);

	for (; options; options = strchr(options, ',')) {
		options += *options == ',';
		if (strncmp(options, word, length) == 0 &&
		    (!options[length] || options[length] == ','))
			return true;
	}
	return false;
}

/* The kernel changes what it checks by itself (ro, rw, nosuid and the like), mount(8) knows how;
 * the rest was decided when the daemon mounted, and stays. */
static int remount(const struct invocation *invocation, const char *path, const char *options)
{
	execlp("mount", "mount", "-i", "-o", options, "--", path, (char *)NULL);
	return failure(invocation, SERVICE_FAILED, "cannot run mount(8): %s", strerror(errno));
}

static int mount_source(struct helper *helper, struct invocation *invocation)
{
	const char *given = helper->options ? helper->options : "";
	char *source = strdup(helper->words[0]), *options = NULL;
	int code;

	if (!source || asprintf(&options, "%s%s", given, helper->sloppy ? ",sloppy" : "") < 0) {
		free(source);
		return failure_memory(invocation);
	}
	split_source(source, invocation);
	if (has_word(options, "remount")) {
		code = remount(invocation, helper->words[1], options);
	} else if (is_mounted(invocation, helper->words[1])) {
		talk(invocation, "%s is mounted already", helper->words[1]);
		code = 0;
	} else {
		code = mount_path(invocation, helper->words[1], options, false);
	}
	free(options);
	free(source);
	return code;
}

static int mount_main(int argc, char **argv)
{
	struct helper helper = {0};
	struct invocation invocation = {0};
	int code = parse(argc, argv, "sfnvo:t:N:", &helper, &invocation);

	if (code || helper.word_count < 2) {
		fputs("usage: mount.cairn STORE[#WORKSPACE] MOUNTPOINT [-sfnv] [-o OPTS]\n",
		      stderr);
		code = 2;
	} else if (!helper.fake) {
		code = mount_source(&helper, &invocation);
	}
	invocation_release(&invocation);
	return code;
}

/* ---- umount --------------------------------------------------------------------------- */

static int umount_main(int argc, char **argv)
{
	struct helper helper = {0};
	struct invocation invocation = {0};
	int code = parse(argc, argv, "flnrvt:N:", &helper, &invocation);

	if (code || helper.word_count != 1) {
		fputs("usage: umount.fuse.cairn MOUNTPOINT [-flnrv]\n", stderr);
		code = 2;
	} else {
		code = umount_path(&invocation, helper.words[0], helper.lazy);
	}
	invocation_release(&invocation);
	return code;
}

bool mount_helper(const char *name, int argc, char **argv, int *ret_code)
{
	if (strcmp(name, "mount.cairn") == 0 || strcmp(name, "mount.fuse.cairn") == 0)
		*ret_code = mount_main(argc, argv);
	else if (strcmp(name, "umount.cairn") == 0 || strcmp(name, "umount.fuse.cairn") == 0)
		*ret_code = umount_main(argc, argv);
	else
		return false;
	return true;
}
