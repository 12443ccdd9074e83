#include "tools/command.h"

#include <string.h>

#include "tools/commands.h"

/* Help must fit 80 columns: the column of option texts starts at 26 (tools/help.c). */

const struct option_spec common_options[] = {
	{"store", 's', "DIR", "the store to work on"},
	{"workspace", 'w', "NAME", "the workspace in it"},
	{"json", 0, NULL, "print one JSON document"},
	{"quiet", 'q', NULL, "print results only, no talk"},
	{"verbose", 'v', NULL, "say more"},
	{"progress", 0, "WHEN", "auto, always, never or json (lines on stderr)"},
	{"dry-run", 'n', NULL, "only tell what would be done"},
	{"no-header", 'H', NULL, "no header, tabs, exact values (for scripts)"},
	{"help", 'h', NULL, "print this help"},
	{"version", 0, NULL, "print the version"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec init_options[] = {
	{"compress", 0, "METHOD", "none, lz4 (the default), zstd or zstd:LEVEL"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec mount_options[] = {
	{"options", 'o', "OPTS", "mount options, separated by commas"},
	{"foreground", 'f', NULL, "stay in the foreground and log to stderr"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec umount_options[] = {
	{"lazy", 0, NULL, "take it away now, finish when nobody uses it"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec freeze_options[] = {
	{"message", 'm', "TEXT", "what this point is"},
	{"tag", 't', "TAG", "a tag (may be given several times)"},
	{"hold", 0, "REASON", "protect it from delete from the start"},
	{"anchor", 0, "K=V", "where a neighbour stood (several times)"},
	{"if-changed", 0, NULL, "make no point where nothing changed"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec restore_options[] = {
	{"force", 0, NULL, "even while files are open for writing"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec log_options[] = {
	{"graph", 0, NULL, "draw the history as a tree"},
	{"tag", 't', "TAG", "only points with this tag"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec hold_options[] = {
	{"until", 0, "WHEN", "a date, or 'in 3 days'; else until released"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec diff_options[] = {
	{"stat", 0, NULL, "only count the changes"},
	{"exit-code", 0, NULL, "exit 1 where there are differences"},
	{"null", 'z', NULL, "end lines with NUL, do not quote paths"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec check_options[] = {
	{"read-data", 0, NULL, "also read and verify every chunk of data"},
	{NULL, 0, NULL, NULL},
};

#define POINT_NOTATION                                                                             \
	"A POINT is a NAME, @latest, @1 (one before the latest), @{2026-11-22 09:00},\n"           \
	"@{2 hours ago} or WORKSPACE@NAME."
#define POINT_NOTATION_HEAD POINT_NOTATION "  @head is the present state."

const struct command commands[] = {
	{"init", cmd_init, "Store", "make a store with an empty workspace, main",
	 "init [DIR] [--compress METHOD]",
	 "Without DIR the store is made where the other commands look for it:\n"
	 "--store, $CAIRN_STORE, else ~/.local/share/cairn.",
	 init_options, COMMAND_JSON, 0, 1},
	{"status", cmd_status, "Store", "the store, its mounts, savings and health", "status", NULL,
	 NULL, COMMAND_JSON | COMMAND_LISTS, 0, 0},
	{"gc", cmd_gc, "Store", "give back the space of what nothing refers to", "gc [-n]",
	 "Runs beside live writes.", NULL, COMMAND_JSON | COMMAND_DRY_RUN, 0, 0},
	{"check", cmd_check, "Store", "verify the store", "check [--read-data]",
	 "Exits with 5 where anything is damaged.", check_options, COMMAND_JSON, 0, 0},
	{"wait-durable", cmd_wait_durable, "Store", "return when everything written is on disk",
	 "wait-durable", NULL, NULL, COMMAND_JSON, 0, 0},

	{"mount", cmd_mount, "Workspace", "present the workspace as a directory",
	 "mount MOUNTPOINT [-o OPTS] [-f]",
	 "Returns once it is usable.  One daemon serves all mounts of a store; the\n"
	 "first mount starts it.  OPTS are those of mount(8): ro, noatime, noexec,\n"
	 "sync, dev, suid, allow_other, allow_root, workspace=NAME, and what fstab\n"
	 "may contain.  A mount whose daemon died is taken away first; a store that\n"
	 "is still in use is waited for, up to 30 seconds.  With -f, SIGTERM and\n"
	 "SIGINT unmount it.  mount(8) calls us as mount.cairn, umount(8) as\n"
	 "umount.fuse.cairn.",
	 mount_options, COMMAND_JSON, 1, 1},
	{"umount", cmd_umount, "Workspace", "unmount, when everything is on disk",
	 "umount MOUNTPOINT [--lazy]",
	 "Exits with 3 where a process is in the way, and names it.  With --lazy it\n"
	 "has two seconds to leave and is cut off.",
	 umount_options, COMMAND_JSON, 1, 1},
	{"clone", cmd_clone, "Workspace", "make a new workspace from a point, at once",
	 "clone POINT WORKSPACE", POINT_NOTATION, NULL, COMMAND_JSON, 2, 2},
	{"workspace list", cmd_workspace_list, "Workspace", "list the workspaces", "workspace list",
	 NULL, NULL, COMMAND_JSON | COMMAND_LISTS, 0, 0},
	{"workspace create", cmd_workspace_create, "Workspace", "make an empty workspace",
	 "workspace create NAME", NULL, NULL, COMMAND_JSON, 1, 1},
	{"workspace rename", cmd_workspace_rename, "Workspace", "rename a workspace",
	 "workspace rename NAME NEW", NULL, NULL, COMMAND_JSON, 2, 2},
	{"workspace delete", cmd_workspace_delete, "Workspace",
	 "delete a workspace with all its points", "workspace delete NAME [-n]",
	 "Refused while it is mounted or one of its points is held.", NULL,
	 COMMAND_JSON | COMMAND_DRY_RUN, 1, 1},

	{"freeze", cmd_freeze, "Points", "make a point: keep the present state under a name",
	 "freeze NAME [-m TEXT] [-t TAG]... [--hold REASON]\n"
	 "       [--anchor K=V]... [--if-changed]",
	 "A name is 1 to 255 bytes without '/' or control characters and does not\n"
	 "start with '@', '-' or '.'.",
	 freeze_options, COMMAND_JSON, 1, 1},
	{"restore", cmd_restore, "Points", "make the workspace equal to a point",
	 "restore POINT [--force] [-n]",
	 "The present state is kept as a point first, so nothing is ever lost.\n"
	 "Refused while files are open for writing, unless forced.\n\n" POINT_NOTATION,
	 restore_options, COMMAND_JSON | COMMAND_DRY_RUN, 1, 1},
	{"hold", cmd_hold, "Points", "protect a point from delete",
	 "hold POINT REASON [--until WHEN]", POINT_NOTATION, hold_options, COMMAND_JSON, 2, 2},
	{"release", cmd_release, "Points", "lift a hold, or all holds of a point",
	 "release POINT [HOLD]", "HOLD is the number that 'cairn show POINT' tells.", NULL,
	 COMMAND_JSON, 1, 2},
	{"rename", cmd_rename, "Points", "rename a point", "rename POINT NEW", POINT_NOTATION, NULL,
	 COMMAND_JSON, 2, 2},
	{"delete", cmd_delete, "Points", "delete points", "delete POINT... [-n]",
	 "All of them or none; refused where one is held.  'cairn gc' gives the\n"
	 "space back.\n\n" POINT_NOTATION,
	 NULL, COMMAND_JSON | COMMAND_DRY_RUN, 1, ANY_NUMBER},

	{"log", cmd_log, "Looking", "the points of the workspace, newest first",
	 "log [--graph] [-t TAG]", NULL, log_options, COMMAND_JSON | COMMAND_LISTS, 0, 0},
	{"show", cmd_show, "Looking", "one point in full", "show POINT", POINT_NOTATION, NULL,
	 COMMAND_JSON | COMMAND_LISTS, 1, 1},
	{"diff", cmd_diff, "Looking", "what changed from A to B (B: the present state)",
	 "diff A [B] [PATH...] [--stat] [--exit-code] [-z]",
	 "Lines: '+ path' added, '- path' removed, 'M path' modified, 'm path'\n"
	 "attributes only, 'R old -> new' renamed.  Put '--' before the first PATH\n"
	 "where it could be taken for a point.\n\n" POINT_NOTATION_HEAD,
	 diff_options, COMMAND_JSON | COMMAND_LISTS, 1, ANY_NUMBER},
	{"ls", cmd_ls, "Looking", "list a directory of a point", "ls POINT [PATH]",
	 POINT_NOTATION_HEAD, NULL, COMMAND_JSON | COMMAND_LISTS, 1, 2},
	{"cat", cmd_cat, "Looking", "print a file of a point", "cat POINT PATH",
	 POINT_NOTATION_HEAD, NULL, 0, 2, 2},

	{"help", cmd_help, "Help", "this overview, or all about one command", "help [COMMAND]",
	 NULL, NULL, 0, 0, 2},
	{"version", cmd_version, "Help", "print the version", "version", NULL, NULL, COMMAND_JSON,
	 0, 0},
	{NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0},
};

static size_t group_length(const char *name)
{
	const char *space = strchr(name, ' ');

	return space ? (size_t)(space - name) : 0;
}

const struct command *command_find(char *const *words, int *ret_used)
{
	for (const struct command *c = commands; words[0] && c->name; c++) {
		size_t group = group_length(c->name);

		if (group == 0 && strcmp(c->name, words[0]) == 0) {
			*ret_used = 1;
			return c;
		}
		if (group > 0 && words[1] && strlen(words[0]) == group &&
		    strncmp(c->name, words[0], group) == 0 &&
		    strcmp(c->name + group + 1, words[1]) == 0) {
			*ret_used = 2;
			return c;
		}
	}
	return NULL;
}

bool command_is_group(const char *name)
{
	for (const struct command *c = commands; c->name; c++) {
		size_t group = group_length(c->name);

		if (group > 0 && strlen(name) == group && strncmp(c->name, name, group) == 0)
			return true;
	}
	return false;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

enum { WORD_MAX = 31 }; /* longer words are no mistyped command */

/* Edits (insert, delete, replace, swap of neighbours) that lead from one word to another. */
static unsigned word_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned row[WORD_MAX + 1][WORD_MAX + 1];

	for (size_t i = 0; i <= a_length; i++) {
		for (size_t k = 0; k <= b_length; k++) {
			if (i == 0 || k == 0) {
				row[i][k] = (unsigned)(i + k);
				continue;
			}
			row[i][k] = min3(row[i - 1][k] + 1, row[i][k - 1] + 1,
					 row[i - 1][k - 1] + (a[i - 1] != b[k - 1]));
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
			    row[i - 2][k - 2] + 1 < row[i][k])
				row[i][k] = row[i - 2][k - 2] + 1;
		}
	}
	return row[a_length][b_length];
}

const char *command_suggest(const char *word)
{
	size_t length = strlen(word);
	unsigned best = length <= 3 ? 2 : 3; /* one less than this is close enough */
	const char *suggestion = NULL;

	if (length > WORD_MAX)
		return NULL;
	for (const struct command *c = commands; c->name; c++) {
		size_t group = group_length(c->name);
		size_t name_length = group > 0 ? group : strlen(c->name);
		unsigned distance = word_distance(word, length, c->name, name_length);

		if (distance < best && distance < length) {
			best = distance;
			suggestion = group > 0 ? "workspace" : c->name;
		}
	}
	return suggestion;
}
