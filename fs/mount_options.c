/* The -o list: what is ours, what goes to libfuse and the kernel, what fstab may contain. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/mount_internal.h"

enum option_kind {
	OPTION_READ_ONLY,
	OPTION_READ_WRITE,
	OPTION_ALLOW_OTHER,
	OPTION_ALLOW_ROOT,
	OPTION_WORKSPACE,
	OPTION_SLOPPY, /* what is unknown is ignored */
	OPTION_NOATIME,
	OPTION_NOXATTR,
	OPTION_RING,
	OPTION_PASS,   /* to libfuse as it is */
	OPTION_IGNORE, /* for mount(8), or how it is anyway */
	OPTION_REFUSE, /* understood, and not to be had: `why` says what to do instead */
};

#define WHY_OWNER                                                                                  \
	"files keep the owner, group and mode that they were given: use chown and chmod inside"
#define WHY_CACHING                                                                                \
	"what the kernel caches is decided by cairn, which is the only writer: leave it away"
#define WHY_NAMES "commands find the store by the entry in the table of mounts: leave it away"
#define WHY_TIMES "access times are not written at each reading here: leave it away"

static const struct {
	const char *name; /* with '=' at the end: takes a value */
	enum option_kind kind;
	const char *why;
} known_options[] = {
	{"ro", OPTION_READ_ONLY, NULL},
	{"rw", OPTION_READ_WRITE, NULL},
	{"allow_other", OPTION_ALLOW_OTHER, NULL},
	{"allow_root", OPTION_ALLOW_ROOT, NULL},
	{"workspace=", OPTION_WORKSPACE, NULL},
	{"io_uring=", OPTION_RING, NULL},
	{"dev", OPTION_PASS, NULL},
	{"nodev", OPTION_PASS, NULL},
	{"suid", OPTION_PASS, NULL},
	{"nosuid", OPTION_PASS, NULL},
	{"exec", OPTION_PASS, NULL},
	{"noexec", OPTION_PASS, NULL},
	{"noatime", OPTION_NOATIME, NULL},
	{"noxattr", OPTION_NOXATTR, NULL},
	{"sync", OPTION_PASS, NULL},

	{"atime", OPTION_IGNORE, NULL},
	{"relatime", OPTION_IGNORE, NULL},
	{"nostrictatime", OPTION_IGNORE, NULL},
	{"diratime", OPTION_IGNORE, NULL},
	{"nodiratime", OPTION_IGNORE, NULL},
	{"nolazytime", OPTION_IGNORE, NULL},
	{"async", OPTION_IGNORE, NULL},
	{"noiversion", OPTION_IGNORE, NULL},
	{"nomand", OPTION_IGNORE, NULL},
	{"symfollow", OPTION_IGNORE, NULL},
	{"silent", OPTION_IGNORE, NULL},
	{"loud", OPTION_IGNORE, NULL},
	{"sloppy", OPTION_SLOPPY, NULL},
	{"default_permissions", OPTION_IGNORE, NULL},
	{"nonempty", OPTION_IGNORE, NULL},
	{"use_ino", OPTION_IGNORE, NULL},
	{"readdir_ino", OPTION_IGNORE, NULL},
	{"big_writes", OPTION_IGNORE, NULL},

	/* Words of fstab. */
	{"defaults", OPTION_IGNORE, NULL},
	{"auto", OPTION_IGNORE, NULL},
	{"noauto", OPTION_IGNORE, NULL},
	{"user", OPTION_IGNORE, NULL},
	{"user=", OPTION_IGNORE, NULL},
	{"nouser", OPTION_IGNORE, NULL},
	{"users", OPTION_IGNORE, NULL},
	{"nousers", OPTION_IGNORE, NULL},
	{"owner", OPTION_IGNORE, NULL},
	{"noowner", OPTION_IGNORE, NULL},
	{"group", OPTION_IGNORE, NULL},
	{"nogroup", OPTION_IGNORE, NULL},
	{"nofail", OPTION_IGNORE, NULL},
	{"_netdev", OPTION_IGNORE, NULL},
	{"comment=", OPTION_IGNORE, NULL},
	{"uhelper=", OPTION_IGNORE, NULL},
	{"helper=", OPTION_IGNORE, NULL},

	{"uid=", OPTION_REFUSE, WHY_OWNER},
	{"gid=", OPTION_REFUSE, WHY_OWNER},
	{"umask=", OPTION_REFUSE, WHY_OWNER},
	{"fmask=", OPTION_REFUSE, WHY_OWNER},
	{"dmask=", OPTION_REFUSE, WHY_OWNER},
	{"mode=", OPTION_REFUSE, WHY_OWNER},
	{"kernel_cache", OPTION_REFUSE, WHY_CACHING},
	{"auto_cache", OPTION_REFUSE, WHY_CACHING},
	{"direct_io", OPTION_REFUSE, WHY_CACHING},
	{"attr_timeout=", OPTION_REFUSE, WHY_CACHING},
	{"ac_attr_timeout=", OPTION_REFUSE, WHY_CACHING},
	{"entry_timeout=", OPTION_REFUSE, WHY_CACHING},
	{"negative_timeout=", OPTION_REFUSE, WHY_CACHING},
	{"max_read=", OPTION_REFUSE, WHY_CACHING},
	{"max_write=", OPTION_REFUSE, WHY_CACHING},
	{"fsname=", OPTION_REFUSE, WHY_NAMES},
	{"subtype=", OPTION_REFUSE, WHY_NAMES},
	{"strictatime", OPTION_REFUSE, WHY_TIMES},
	{"norelatime", OPTION_REFUSE, WHY_TIMES},
	{"lazytime", OPTION_REFUSE, WHY_TIMES},
	{"dirsync", OPTION_REFUSE,
	 "the kernel does not pass it on to FUSE: fsync of the directory makes names durable"},
	{"auto_unmount", OPTION_REFUSE,
	 "'cairn mount' takes the mount of a daemon that died away by itself: leave it away"},
	{"remount", OPTION_REFUSE,
	 "a new mount is made here: 'mount -o remount,...' changes one, or 'cairn umount' it "
	 "first"},
	{"bind", OPTION_REFUSE, "use 'mount --bind'"},
};

#undef WHY_OWNER
#undef WHY_CACHING
#undef WHY_NAMES
#undef WHY_TIMES

/* The rest of `option` behind the name, or NULL where this is another option. */
static const char *match(const char *name, const char *option)
{
	size_t length = strlen(name);

	if (strncmp(name, option, length) != 0)
		return NULL;
	return name[length - 1] == '=' || !option[length] ? option + length : NULL;
}

static int set_text(char **text, const char *value)
{
	free(*text);
	*text = strdup(value);
	return *text ? 0 : -ENOMEM;
}

static int pass_on(struct parsed_options *options, const char *option)
{
	char *longer;

	if (asprintf(&longer, "%s,%s", options->passed, option) < 0)
		return -ENOMEM;
	free(options->passed);
	options->passed = longer;
	return 0;
}

static int choose_ring(struct parsed_options *options, const char *value)
{
	static const char *const words[] = {
		[RING_AUTO] = "auto", [RING_ON] = "on", [RING_OFF] = "off"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcmp(value, words[i]) == 0) {
			options->ring = (enum ring_choice)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int apply(struct parsed_options *options, enum option_kind kind, const char *option,
		 const char *value)
{
	switch (kind) {
	case OPTION_READ_ONLY:
		options->read_only = true;
		return 0;
	case OPTION_READ_WRITE:
		options->read_only = false;
		return 0;
	case OPTION_ALLOW_OTHER:
		options->allow_other = true;
		return 0;
	case OPTION_ALLOW_ROOT:
		options->allow_root = true;
		return 0;
	case OPTION_WORKSPACE:
		return set_text(&options->workspace, value);
	case OPTION_NOATIME:
		options->noatime = true;
		return pass_on(options, option);
	case OPTION_NOXATTR:
		options->noxattr = true;
		return 0;
	case OPTION_RING:
		return choose_ring(options, value);
	case OPTION_PASS:
		return pass_on(options, option);
	case OPTION_SLOPPY: /* found beforehand */
	case OPTION_IGNORE:
		return 0;
	case OPTION_REFUSE:
		break;
	}
	return -EINVAL;
}

static int parse_one(struct parsed_options *options, const char *option, struct errbuf *err)
{
	/* x-systemd.automount and the like; X-mount.mkdir is mount(8)'s own. */
	if (!option[0] || strncasecmp(option, "x-", 2) == 0)
		return 0;
	for (size_t i = 0; i < sizeof(known_options) / sizeof(*known_options); i++) {
		const char *value = match(known_options[i].name, option);
		if (value && known_options[i].kind == OPTION_REFUSE)
			return err_set(err, -EINVAL, "mount option '%s': %s", option,
				       known_options[i].why);
		int error = value ? apply(options, known_options[i].kind, option, value) : 0;
		if (error == -EINVAL)
			return err_set(err, error,
				       "mount option '%s': it is io_uring=auto, on or off", option);
		if (value)
			return error;
	}
	if (options->sloppy)
		return 0;
	return err_set(err, -EINVAL,
		       "unknown mount option '%s'; known are ro, allow_other, allow_root, "
		       "workspace=NAME, noatime, noxattr, sync, io_uring=WHEN, dev, nodev, suid, "
		       "nosuid, exec, noexec, and what fstab may contain (noauto, nofail, user, "
		       "users, x-...)",
		       option);
}

static bool has_word(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (; text; text = strchr(text, ',')) {
		text += *text == ',';
		if (strncmp(text, word, length) == 0 && (!text[length] || text[length] == ','))
			return true;
	}
	return false;
}

int mount_options_parse(const char *text, struct parsed_options *ret, struct errbuf *err)
{
	struct parsed_options options = {
		.passed = strdup(""),
		.sloppy = has_word(text, "sloppy"),
	};
	char *copy = strdup(text ? text : "");
	char *rest = copy, *option;
	int error = options.passed && copy ? 0 : -ENOMEM;

	while (!error && (option = strsep(&rest, ",")))
		error = parse_one(&options, option, err);
	if (!error && options.allow_other && options.allow_root)
		error = err_set(err, -EINVAL,
				"allow_other and allow_root exclude each other: choose one");
	free(copy);
	if (error) {
		mount_options_release(&options);
		return error;
	}
	*ret = options;
	return 0;
}

int mount_options_check(const char *fuse_options, struct errbuf *err)
{
	struct parsed_options parsed;

	int error = mount_options_parse(fuse_options, &parsed, err);
	if (!error)
		mount_options_release(&parsed);
	return error;
}

void mount_options_release(struct parsed_options *options)
{
	free(options->passed);
	free(options->workspace);
	*options = (struct parsed_options){0};
}
