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
	OPTION_FSNAME,
	OPTION_SUBTYPE,
	OPTION_PASS,   /* to libfuse as it is */
	OPTION_IGNORE, /* for mount(8), or how it is anyway */
};

static const struct {
	const char *name; /* with '=' at the end: takes a value */
	enum option_kind kind;
} known_options[] = {
	{"ro", OPTION_READ_ONLY},
	{"rw", OPTION_READ_WRITE},
	{"allow_other", OPTION_ALLOW_OTHER},
	{"allow_root", OPTION_ALLOW_ROOT},
	{"fsname=", OPTION_FSNAME},
	{"subtype=", OPTION_SUBTYPE},
	{"dev", OPTION_PASS},
	{"nodev", OPTION_PASS},
	{"suid", OPTION_PASS},
	{"nosuid", OPTION_PASS},
	{"exec", OPTION_PASS},
	{"noexec", OPTION_PASS},
	{"noatime", OPTION_PASS},
	{"sync", OPTION_PASS},
	{"dirsync", OPTION_PASS},
	{"atime", OPTION_IGNORE},
	{"relatime", OPTION_IGNORE},
	{"async", OPTION_IGNORE},
	{"default_permissions", OPTION_IGNORE},
	{"defaults", OPTION_IGNORE},
	{"auto", OPTION_IGNORE},
	{"noauto", OPTION_IGNORE},
	{"user", OPTION_IGNORE},
	{"nouser", OPTION_IGNORE},
	{"users", OPTION_IGNORE},
	{"nofail", OPTION_IGNORE},
	{"_netdev", OPTION_IGNORE},
};

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
	case OPTION_FSNAME:
		return set_text(&options->fsname, value);
	case OPTION_SUBTYPE:
		return set_text(&options->subtype, value);
	case OPTION_PASS:
		return pass_on(options, option);
	case OPTION_IGNORE:
		return 0;
	}
	return -EINVAL;
}

static int parse_one(struct parsed_options *options, const char *option, struct errbuf *err)
{
	if (!option[0] || strncmp(option, "x-", 2) == 0) /* x-systemd.automount and the like */
		return 0;
	for (size_t i = 0; i < sizeof(known_options) / sizeof(*known_options); i++) {
		const char *value = match(known_options[i].name, option);
		if (value)
			return apply(options, known_options[i].kind, option, value);
	}
	return err_set(err, -EINVAL,
		       "unknown mount option '%s'; known are ro, allow_other, allow_root, noatime, "
		       "dev, nodev, suid, nosuid, noexec, fsname=, subtype=",
		       option);
}

int mount_options_parse(const char *text, struct parsed_options *ret, struct errbuf *err)
{
	struct parsed_options options = {.passed = strdup("")};
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

void mount_options_release(struct parsed_options *options)
{
	free(options->passed);
	free(options->fsname);
	free(options->subtype);
	*options = (struct parsed_options){0};
}
