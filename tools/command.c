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

static const struct option_spec gc_options[] = {
	{"compact", 0, NULL, "also recompress, and put scattered files in order"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec init_options[] = {
	{"compress", 0, "METHOD", "none, lz4 (the default), zstd or zstd:LEVEL"},
	{"compress-at-rest", 0, "METHOD", "later: zstd[:LEVEL] (default after lz4), none"},
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
	{"hold-until", 0, "WHEN", "when these holds end; else not by themselves"},
	{"anchor", 0, "K=V", "where a neighbour stood (several times)"},
	{"anchor-cmd", 0, "K=CMD", "CMD tells where it stands (several times)"},
	{"pre", 0, "CMD", "run CMD first; no point where it fails"},
	{"post", 0, "CMD", "run CMD after all, whatever happened before"},
	{"time-limit", 0, "SECONDS", "for each CMD; else 30 for an anchor's"},
	{"if-changed", 0, NULL, "make no point where nothing changed"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec restore_options[] = {
	{"force", 0, NULL, "even while files are open for writing"},
	{"to", 0, "DIR", "write the files into a plain directory instead"},
	{"no-anchors", 0, NULL, "do not ask where the neighbours stand now"},
	{"time-limit", 0, "SECONDS", "for the command of an anchor; else 30"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec carry_options[] = {
	{"on-conflict", 0, "WHAT", "stop (the default), keep, take or both"},
	{"force", 0, NULL, "even while what changes is open for writing"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec show_options[] = {
	{"digest", 0, NULL, "only its SHA-256, computed where it has none yet"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec log_options[] = {
	{"graph", 0, NULL, "draw the history as a tree"},
	{"tag", 't', "TAG", "only points with this tag"},
	{"verdict", 0, "VERDICT", "only points with this verdict"},
	{"since", 0, "WHEN", "only points made then or later"},
	{"until", 0, "WHEN", "only points made then or earlier"},
	{"last", 0, "N", "only the newest N of them"},
	{"all-workspaces", 'a', NULL, "the points of all workspaces"},
	{"sizes", 0, NULL, "also what each point alone takes up"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec find_options[] = {
	{"all-workspaces", 'a', NULL, "look at the points of all workspaces"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec prune_options[] = {
	{"keep-last", 0, "N", "keep the N newest points"},
	{"keep-hourly", 0, "N", "the newest of each of the last N hours"},
	{"keep-daily", 0, "N", "the newest of each of the last N days"},
	{"keep-weekly", 0, "N", "the newest of each of the last N weeks"},
	{"keep-monthly", 0, "N", "the newest of each of the last N months"},
	{"keep-yearly", 0, "N", "the newest of each of the last N years"},
	{"keep-within", 0, "D", "all within 1y6m14d12h before the newest"},
	{"keep-tag", 0, "TAG", "all with this tag (A,B: both; several times)"},
	{"tag", 't', "TAG", "look only at points with this tag"},
	{"all-workspaces", 0, NULL, "each workspace of the store by itself"},
	{"no-gc", 0, NULL, "do not give the space back now"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec hold_options[] = {
	{"until", 0, "WHEN", "a date, or 'in 3 days'; else until released"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec verdict_options[] = {
	{"message", 'm', "TEXT", "why"},
	{"by", 0, "NAME", "who says so; else the user"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec tag_options[] = {
	{"remove", 0, "TAG", "take a tag away (several times)"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec journal_options[] = {
	{"action", 0, "ACTION", "only entries of this kind, such as freeze"},
	{"after", 0, "NUMBER", "only entries after this one"},
	{"verify", 0, NULL, "prove that no entry was changed or removed"},
	{"expect", 0, "NUMBER:HASH", "and that this entry, noted before, is there"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec diff_options[] = {
	{"stat", 0, NULL, "only count the changes"},
	{"exit-code", 0, NULL, "exit 1 where there are differences"},
	{"null", 'z', NULL, "end lines with NUL, do not quote paths"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec try_options[] = {
	{"keep", 'k', "[=NAME]", "keep the clone as a workspace"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec bisect_options[] = {
	{"good", 0, "POINT", "one at which CMD succeeds"},
	{"bad", 0, "POINT", "a later one at which it fails"},
	{"writable", 0, NULL, "run CMD in a throw-away clone of each point"},
	{"check-ends", 0, NULL, "first run CMD at both, to see that it is so"},
	{NULL, 0, NULL, NULL},
};

static const struct option_spec check_options[] = {
	{"read-data", 0, NULL, "also read and verify every chunk of data"},
	{"digest", 0, "POINT", "compute this point's digest from its data, compare"},
	{"expect", 0, "HEX", "with this digest instead of the recorded one"},
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
	{"gc", cmd_gc, "Store", "give back the space of what nothing refers to",
	 "gc [-n | --compact]",
	 "Runs beside live writes. When nobody writes the daemon compacts by itself:\nwhat came in "
	 "with lz4 is compressed once more, with zstd, and files written here\nand there are put "
	 "in order, so that reading them in sequence is fast again.",
	 gc_options, COMMAND_JSON | COMMAND_DRY_RUN, 0, 0},
	{"check", cmd_check, "Store", "verify the store",
	 "check [--read-data]\n"
	 "check --digest POINT [--expect HEX]",
	 "Exits with 5 where anything is damaged, or the digest is another.", check_options,
	 COMMAND_JSON, 0, 0},
	{"wait-durable", cmd_wait_durable, "Store", "return when everything written is on disk",
	 "wait-durable", NULL, NULL, COMMAND_JSON, 0, 0},

	{"mount", cmd_mount, "Workspace", "present the workspace as a directory",
	 "mount MOUNTPOINT [-o OPTS] [-f]",
	 "Returns once it is usable.  One daemon serves all mounts of a store; the\n"
	 "first mount starts it.  OPTS are those of mount(8): ro, noatime, noexec,\n"
	 "sync, dev, suid, allow_other, allow_root, workspace=NAME, noxattr (without\n"
	 "extended attributes and ACLs: fewer questions by the kernel), and what fstab\n"
	 "may contain.  io_uring=auto, on or off: whether requests come through\n"
	 "io_uring; where the kernel does not offer it, auto does without, and with\n"
	 "on the mount fails.  A mount whose daemon died is taken away first; a store\n"
	 "that is still in use is waited for, up to 30 seconds.  With -f, SIGTERM and\n"
	 "SIGINT unmount it.  mount(8) calls us as mount.cairn, umount(8) as\n"
	 "umount.fuse.cairn.",
	 mount_options, COMMAND_JSON, 1, 1},
	{"umount", cmd_umount, "Workspace", "unmount, when everything is on disk",
	 "umount MOUNTPOINT [--lazy]",
	 "Exits with 3 where a process is in the way, and names it.  With --lazy it\n"
	 "has two seconds to leave and is cut off.",
	 umount_options, COMMAND_JSON, 1, 1},
	{"clone", cmd_clone, "Workspace", "make a new workspace from a point, at once",
	 "clone POINT WORKSPACE", POINT_NOTATION_HEAD, NULL, COMMAND_JSON, 2, 2},
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
	 "freeze NAME [-m TEXT] [-t TAG]... [--if-changed]\n"
	 "       [--hold REASON]... [--hold-until WHEN]\n"
	 "       [--anchor K=V]... [--anchor-cmd K=CMD]...\n"
	 "       [--pre CMD] [--post CMD] [--time-limit SECONDS]",
	 "A name is 1 to 255 bytes without '/' or control characters and does not\n"
	 "start with '@', '-' or '.'.\n\n"
	 "Each CMD is run by sh, as you, with CAIRN_POINT, CAIRN_WORKSPACE, CAIRN_STORE\n"
	 "and, where it is mounted, CAIRN_MOUNTPOINT set.  First --pre, then the\n"
	 "anchors, then the freeze; where one fails there is no point.  --post has\n"
	 "CAIRN_STATUS: 0 where the point was made, else 1.  What CMD prints is the\n"
	 "anchor's value; 'cairn restore' runs it again and tells what has moved on.",
	 freeze_options, COMMAND_JSON, 1, 1},
	{"restore", cmd_restore, "Points", "make the workspace equal to a point",
	 "restore POINT [PATH...] [--force] [-n] [--no-anchors]\n"
	 "        [--time-limit SECONDS]\n"
	 "restore POINT [PATH...] --to DIR [--force]",
	 "The present state is kept as a point first, so nothing is ever lost.\n"
	 "Refused while files are open for writing, unless forced.  With PATHs only\n"
	 "these are made as in the point (deleted, where it does not have them), and\n"
	 "only files that change can be in the way.\n\n"
	 "The commands of the point's anchors are run again (if the store is yours),\n"
	 "to tell which neighbours have moved on since.  With --to the workspace is\n"
	 "left alone and DIR gets the files, in its existing directories only under\n"
	 "new names; with --force others are replaced.\n\n" POINT_NOTATION,
	 restore_options, COMMAND_JSON | COMMAND_DRY_RUN, 1, ANY_NUMBER},
	{"carry", cmd_carry, "Points", "bring work of another point over into the workspace",
	 "carry FROM [PATH...] [-n] [--force]\n"
	 "      [--on-conflict stop|keep|take|both]",
	 "What was done in FROM since it and the workspace went apart: after a\n"
	 "restore, FROM is the point that it kept.  What only FROM changed comes over,\n"
	 "what only the workspace changed stays.  Lines as those of diff; 'C path' is\n"
	 "a conflict.  Without --on-conflict any conflict stops it, with exit code 4,\n"
	 "and nothing is changed.  keep: the workspace's side stays; take: FROM's side\n"
	 "replaces it; both: FROM's comes beside it, as NAME.from-POINT.  The state\n"
	 "until now is kept as a point.\n\n" POINT_NOTATION,
	 carry_options, COMMAND_JSON | COMMAND_DRY_RUN, 1, ANY_NUMBER},
	{"hold", cmd_hold, "Points", "protect a point from delete",
	 "hold POINT REASON [--until WHEN]", POINT_NOTATION, hold_options, COMMAND_JSON, 2, 2},
	{"release", cmd_release, "Points", "lift a hold, or all holds of a point",
	 "release POINT [HOLD]", "HOLD is the number that 'cairn show POINT' tells.", NULL,
	 COMMAND_JSON, 1, 2},
	{"verdict", cmd_verdict, "Points", "say what a point is good for",
	 "verdict POINT open|working|broken|superseded [-m TEXT] [--by NAME]", POINT_NOTATION,
	 verdict_options, COMMAND_JSON, 2, 2},
	{"tag", cmd_tag, "Points", "add tags to a point, or take them away",
	 "tag POINT [TAG]... [--remove TAG]...", POINT_NOTATION, tag_options, COMMAND_JSON, 1,
	 ANY_NUMBER},
	{"rename", cmd_rename, "Points", "rename a point", "rename POINT NEW", POINT_NOTATION, NULL,
	 COMMAND_JSON, 2, 2},
	{"delete", cmd_delete, "Points", "delete points", "delete POINT... [-n]",
	 "All of them or none; refused where one is held.  'cairn gc' gives the\n"
	 "space back.\n\n" POINT_NOTATION,
	 NULL, COMMAND_JSON | COMMAND_DRY_RUN, 1, ANY_NUMBER},
	{"prune", cmd_prune, "Points", "delete the points that no rule keeps",
	 "prune --keep-last N | --keep-daily N ... [-t TAG] [-n]",
	 "The rules are those of restic's forget: a point stays where any of them\n"
	 "wants it.  Hours, days, ISO weeks, months and years are local time and\n"
	 "count only where they have a point; a rule that is not used up also keeps\n"
	 "the oldest point.  N may be 'unlimited'.\n\n"
	 "Points that are held, have the verdict working, are the first of their\n"
	 "workspace or what one is based on stay in any case; delete takes them by\n"
	 "name.  The space is given back at once, beside live writes.  With -n, what\n"
	 "would go and the exact bytes that would come free.",
	 prune_options, COMMAND_JSON | COMMAND_LISTS | COMMAND_DRY_RUN, 0, 0},

	{"log", cmd_log, "Looking", "the points of the workspace, newest first",
	 "log [--graph] [-t TAG] [--verdict VERDICT] [--since WHEN]\n"
	 "    [--until WHEN] [--last N] [-a] [--sizes]",
	 "WHEN is a date, or '2 hours ago'.  In the graph a filled circle is a point\n"
	 "that somebody made, an empty one was kept by restore or carry.",
	 log_options, COMMAND_JSON | COMMAND_LISTS, 0, 0},
	{"show", cmd_show, "Looking", "one point in full", "show POINT [--digest]", POINT_NOTATION,
	 show_options, COMMAND_JSON | COMMAND_LISTS, 1, 1},
	{"journal", cmd_journal, "Looking", "who did what to points and workspaces, and why",
	 "journal [POINT] [--action ACTION] [--after NUMBER]\n"
	 "journal --verify [--expect NUMBER:HASH]",
	 "Every entry holds the hash of the one before it.  --verify exits with 5\n"
	 "where an entry was changed, removed or put in, or does not fit the points.\n"
	 "A journal that was written anew as a whole, or cut off at its end, shows\n"
	 "only by --expect: note what --verify prints where nobody can change it.\n"
	 "With -q it prints just that.\n\n"
	 "With -w only the entries of a workspace; POINT may be one that is "
	 "gone.\n\n" POINT_NOTATION,
	 journal_options, COMMAND_JSON | COMMAND_LISTS, 0, 1},
	{"diff", cmd_diff, "Looking", "what changed from A to B (B: the present state)",
	 "diff A [B] [PATH...] [--stat] [--exit-code] [-z]",
	 "Lines: '+ path' added, '- path' removed, 'M path' modified, 'm path'\n"
	 "attributes only, 'R old -> new' renamed.  Put '--' before the first PATH\n"
	 "where it could be taken for a point.\n\n" POINT_NOTATION_HEAD,
	 diff_options, COMMAND_JSON | COMMAND_LISTS, 1, ANY_NUMBER},
	{"ls", cmd_ls, "Looking", "list a directory of a point", "ls POINT [PATH]",
	 POINT_NOTATION_HEAD, NULL, COMMAND_JSON | COMMAND_LISTS, 1, 2},
	{"find", cmd_find, "Looking", "which points hold a path, and its versions",
	 "find PATH [-a]",
	 "A version is what has the same contents and attributes, whatever became of\n"
	 "the file in between; of a directory, its own names and attributes.  The\n"
	 "path is followed as it is given, not the file.  'cairn restore POINT PATH'\n"
	 "brings one back.",
	 find_options, COMMAND_JSON | COMMAND_LISTS, 1, 1},
	{"cat", cmd_cat, "Looking", "print a file of a point", "cat POINT PATH",
	 POINT_NOTATION_HEAD, NULL, 0, 2, 2},

	{"try", cmd_try, "Rehearsing", "run a command in a throw-away clone of a point",
	 "try [POINT] [--keep[=NAME]] -- CMD...",
	 "The clone (of the present state, without POINT) is mounted at a private\n"
	 "directory, and CMD runs in it: relative paths are those of the clone.  It is\n"
	 "told in CAIRN_WORKSPACE and CAIRN_MOUNTPOINT, the store in CAIRN_STORE, and\n"
	 "in CAIRN_POINT a point that is the clone at the beginning: what CMD has\n"
	 "changed so far, 'cairn diff $CAIRN_POINT' tells.  The workspace itself is\n"
	 "never touched.\n\n"
	 "Afterwards exit status, time, steps ('cairn help step') and changes are told\n"
	 "on stderr, and the clone is dropped, also after a signal; what a try leaves\n"
	 "that is killed (-9), the next one takes away.  With --keep the clone stays,\n"
	 "as the workspace NAME (else try-DATE-TIME-...), with a point after-try:\n"
	 "'cairn show' of that tells command, times and steps.\n\n"
	 "Exits as CMD does: with its exit status, 128 + N where signal N ended it, 127\n"
	 "where there is no such command, 126 where it cannot be run.  With --json the\n"
	 "result is the only thing on stdout: what CMD prints goes to "
	 "stderr.\n\n" POINT_NOTATION_HEAD,
	 try_options, COMMAND_JSON, 0, ANY_NUMBER},
	{"step", cmd_step, "Rehearsing", "in a try: the next step begins here", "step NAME",
	 "For scripts that 'cairn try' runs: it then tells how long each step took,\n"
	 "from its 'cairn step' to the next or to the end.  Elsewhere it does nothing,\n"
	 "so the same script runs in earnest.",
	 NULL, 0, 1, 1},
	{"bisect", cmd_bisect, "Rehearsing", "find the first point at which a command fails",
	 "bisect --good POINT --bad POINT [--writable] [--check-ends]\n"
	 "       -- CMD...",
	 "Runs CMD at points between the two, along the parents of the bad one,\n"
	 "halving what is left each time: 10 runs for 1,000 points.  CMD's directory\n"
	 "is the candidate, read-only unless --writable; CAIRN_POINT and\n"
	 "CAIRN_WORKSPACE name it, CAIRN_STORE is the store.  Its exit status says:\n\n"
	 "  0                     good\n"
	 "  1 to 124, 126, 127    bad\n"
	 "  125                   cannot be told: skip this point\n"
	 "  128 and more          stop\n\n"
	 "Ends with the first bad point and what changed from the one before it, or\n"
	 "with exit code 1 where skipped points leave several.  What CMD prints goes\n"
	 "to stderr.  Stopped by Ctrl-C, it says how to go on.  A workspace that is not\n"
	 "mounted is meanwhile, read-only, at a private directory.\n\n" POINT_NOTATION,
	 bisect_options, COMMAND_JSON, 0, ANY_NUMBER},

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
