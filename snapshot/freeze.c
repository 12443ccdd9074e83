/*
 * Freezing: making points.
 *
 * A freeze is one action (I4: a consistent cut):
 *
 *       head, generation g, based on B                 head, generation g', based on P
 *   ----------------------------------- freeze ------------------------------------->
 *                                       point P: root of the head, parent B
 *
 * The point's record and the head's new generation and base become durable together.  From then
 * on no node that the point reaches is changed in place, as all were born before g' (I1).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/util/shell.h"
#include "snapshot/journal.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

static int copy_tags(const struct freeze_options *options, struct point *point)
{
	if (options->tag_count == 0)
		return 0;
	point->tags = calloc(options->tag_count, sizeof(point->tags[0]));
	if (!point->tags)
		return -ENOMEM;
	for (size_t i = 0; i < options->tag_count; i++) {
		point->tags[i] = strdup(options->tags[i]);
		if (!point->tags[i])
			return -ENOMEM;
		point->tag_count++;
	}
	return 0;
}

static int copy_holds(struct store *store, const struct freeze_options *options,
		      struct point *point)
{
	if (options->hold_count == 0)
		return 0;
	point->holds = calloc(options->hold_count, sizeof(point->holds[0]));
	if (!point->holds)
		return -ENOMEM;
	for (size_t i = 0; i < options->hold_count; i++) {
		struct point_hold *hold = &point->holds[point->hold_count++];
		hold->id = store_next(store, COUNTER_HOLD);
		hold->since_ns = point->created_ns;
		hold->until_ns = options->hold_until_ns;
		hold->reason = strdup(options->holds[i]);
		hold->by = strdup(point->by);
		if (!hold->reason || !hold->by)
			return -ENOMEM;
	}
	return 0;
}

static int copy_anchors(const struct freeze_options *options, struct point *point)
{
	if (options->anchor_count == 0)
		return 0;
	point->anchors = calloc(options->anchor_count, sizeof(point->anchors[0]));
	if (!point->anchors)
		return -ENOMEM;
	for (size_t i = 0; i < options->anchor_count; i++) {
		const struct point_anchor *from = &options->anchors[i];
		struct point_anchor *anchor = &point->anchors[point->anchor_count++];
		anchor->name = strdup(from->name);
		anchor->value = strdup(from->value);
		anchor->command = from->command ? strdup(from->command) : NULL;
		if (!anchor->name || !anchor->value || (from->command && !anchor->command))
			return -ENOMEM;
	}
	return 0;
}

static int copy_run(const struct freeze_options *options, struct point *point)
{
	if (options->run) {
		point->run = *options->run;
		point->run.command = strdup(options->run->command);
		if (!point->run.command)
			return -ENOMEM;
	}
	if (options->step_count == 0)
		return 0;
	point->steps = calloc(options->step_count, sizeof(point->steps[0]));
	if (!point->steps)
		return -ENOMEM;
	for (size_t i = 0; i < options->step_count; i++) {
		struct point_step *step = &point->steps[point->step_count++];
		*step = options->steps[i];
		step->name = strdup(options->steps[i].name);
		if (!step->name)
			return -ENOMEM;
	}
	return 0;
}

static int copy_options(struct store *store, const struct freeze_options *options,
			struct point *point)
{
	int error = copy_tags(options, point);
	if (!error)
		error = copy_holds(store, options, point);
	if (!error)
		error = copy_anchors(options, point);
	return error ? error : copy_run(options, point);
}

/* A hold set at the same time has an entry of its own. */
static int journal_making(struct commit *commit, struct head *head, const struct point *point)
{
	struct journal_note note = {
		.action = JOURNAL_FREEZE,
		.by = point->by,
		.workspace_name = head->name,
		.reason = point->message,
	};
	int error = point_journal(head->repo, commit, point, &note);
	for (size_t i = 0; !error && i < point->hold_count; i++) {
		struct hold_details details;
		note.action = JOURNAL_HOLD;
		note.reason = point->holds[i].reason;
		hold_describe(point->holds[i].id, point->holds[i].until_ns, &details, &note);
		error = point_journal(head->repo, commit, point, &note);
	}
	return error;
}

static uint64_t not_negative(int64_t number)
{
	return number < 0 ? 0 : (uint64_t)number;
}

static void point_from_head(struct head *head, struct point *point)
{
	struct head_state state;
	head_get_state(head, &state);
	point->workspace = head->workspace;
	point->parent = state.base;
	point->root = state.root;
	point->generation = state.generation;
	point->files = not_negative(state.counters.files);
	point->directories = not_negative(state.counters.directories);
	point->bytes = not_negative(state.counters.bytes);
	point->changed_bytes = not_negative(state.counters.changed_bytes);
}

int point_make(struct commit *commit, struct head *head, const struct freeze_options *options,
	       enum point_origin origin, struct point *ret)
{
	struct store *store = head->repo->store;
	head_assert_locked(head);
	*ret = (struct point){
		.id = store_next(store, COUNTER_POINT),
		.created_ns = point_now(),
		.origin = origin,
		.name = strdup(options->name),
		.message = strdup(options->message ? options->message : ""),
		.by = point_user(options->by),
		.verdict_by = strdup(""),
		.verdict_reason = strdup(""),
	};
	if (!ret->name || !ret->message || !ret->by || !ret->verdict_by || !ret->verdict_reason)
		return -ENOMEM;
	point_from_head(head, ret);
	int error = copy_options(store, options, ret);
	if (!error)
		error = workspace_take_carried(commit, ret->workspace, &ret->carried,
					       &ret->carried_count);
	if (!error)
		error = point_write(commit, ret);
	if (!error)
		error = record_put_name(commit, head->workspace, ret->name, ret->id);
	return error ? error : journal_making(commit, head, ret);
}

/*
 * The root of a head has another id as soon as anything has changed since its base was made:
 * freeze and restore give a new generation, so that the first change makes a copy (I1).
 */
int head_equals_base(struct head *head, struct commit *commit, struct point *ret_base)
{
	uint64_t base = head->base;
	if (!base)
		return 0;
	struct point point;
	int error = point_read_in_commit(commit, base, &point);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	if (point.root != tree_root(head->tree)) {
		point_release(&point);
		return 0;
	}
	*ret_base = point;
	return 1;
}

/* Cuts a name to `length` bytes at most, not inside a character. */
static int cut_length(const char *name, size_t length)
{
	size_t cut = strlen(name);
	if (cut > length) {
		cut = length;
		while (cut > 0 && ((unsigned char)name[cut] & 0xC0) == 0x80)
			cut--;
	}
	return (int)cut;
}

/* "before-WHAT-TARGET-YYYYMMDD-HHMMSS", with "-2", "-3" … where there is one already. */
static int safety_name(struct commit *commit, uint64_t workspace,
		       const struct point_keeping *keeping, char ret[256])
{
	time_t now = time(NULL);
	struct tm local;
	char when[32];
	if (!localtime_r(&now, &local) || !strftime(when, sizeof(when), "%Y%m%d-%H%M%S", &local))
		return -EOVERFLOW;
	size_t rest = strlen(keeping->what) + sizeof("before---20261122-090000-4294967295");
	int room = cut_length(keeping->target, 255 - rest);
	for (unsigned attempt = 1; attempt; attempt++) {
		char suffix[16] = "";
		if (attempt > 1)
			snprintf(suffix, sizeof(suffix), "-%u", attempt);
		snprintf(ret, 256, "before-%s-%.*s-%s%s", keeping->what, room, keeping->target,
			 when, suffix);
		uint64_t id;
		int error = record_find_name_in_commit(commit, workspace, ret, &id);
		if (error)
			return error == -ENOENT ? 0 : error;
	}
	return -EEXIST;
}

int point_keep(struct commit *commit, struct head *head, const struct point_keeping *keeping,
	       struct point *ret, bool *ret_made)
{
	char name[256], message[320];
	*ret_made = false;
	int equal = head_equals_base(head, commit, ret);
	if (equal != 0)
		return equal < 0 ? equal : 0;
	int error = safety_name(commit, head->workspace, keeping, name);
	if (error)
		return error;
	snprintf(message, sizeof(message), "state before the %s of '%s'", keeping->what,
		 keeping->target);
	const struct freeze_options options = {.name = name, .message = message, .by = keeping->by};
	error = point_make(commit, head, &options, POINT_SAFETY, ret);
	*ret_made = !error;
	return error;
}

struct freeze {
	struct head *head;
	const struct freeze_options *options;
	struct errbuf *err;
	struct point point; /* owned */
	bool unchanged;	    /* `point` is the base; the action ended with -ECANCELED */
	uint64_t generation;
};

int point_name_is_taken(const char *name, struct errbuf *err)
{
	char quoted[sizeof(err->text)];
	return err_set(err, -EEXIST,
		       "point '%s' exists already; choose another name or delete it: "
		       "cairn delete %s",
		       name, shell_quote(name, quoted, sizeof(quoted)));
}

static int freeze_act(struct repo *repo, struct commit *commit, void *context)
{
	struct freeze *freeze = context;
	struct head *head = freeze->head;
	point_release(&freeze->point); /* of a first try on a full disk */
	if (freeze->options->if_changed) {
		int equal = head_equals_base(head, commit, &freeze->point);
		if (equal < 0)
			return equal;
		freeze->unchanged = equal == 1;
		if (freeze->unchanged)
			return -ECANCELED;
	}
	uint64_t id;
	int error = record_find_name_in_commit(commit, head->workspace, freeze->options->name, &id);
	if (error != -ENOENT)
		return error ? error : point_name_is_taken(freeze->options->name, freeze->err);
	error = point_make(commit, head, freeze->options, POINT_FROZEN, &freeze->point);
	if (error)
		return error;
	freeze->generation = store_next(repo->store, COUNTER_GENERATION);
	struct head_state state;
	head_get_state(head, &state);
	state.generation = freeze->generation;
	state.base = freeze->point.id;
	state.counters.changed_bytes = 0;
	return workspace_put_state(commit, head->workspace, &state);
}

static void freeze_done(struct repo *repo, void *context)
{
	(void)repo;
	struct freeze *freeze = context;
	tree_set_generation(freeze->head->tree, freeze->generation);
	freeze->head->base = freeze->point.id;
	freeze->head->counters.changed_bytes = 0;
}

/* Refuses a taken name before anything is pushed out for it. */
static int freeze_check_free(struct head *head, const char *name, struct errbuf *err)
{
	struct point other;
	int error = point_by_name(head->repo, head->workspace, name, strlen(name), &other);
	if (error == -ENOENT)
		return 0;
	if (error)
		return error;
	point_release(&other);
	return point_name_is_taken(name, err);
}

static int check_options(const struct freeze_options *options, struct errbuf *err)
{
	for (size_t i = 0; i < options->anchor_count; i++)
		if (!*options->anchors[i].name)
			return err_set(err, -EINVAL, "an anchor needs a name: NAME=VALUE");
	if (options->hold_until_ns && options->hold_until_ns <= point_now())
		return err_set(err, -EINVAL, "the hold would end in the past");
	return 0;
}

int point_freeze(struct head *head, const struct freeze_options *options, struct point *ret,
		 bool *ret_made, struct errbuf *err)
{
	int error = point_check_name(options->name, err);
	if (!error)
		error = check_options(options, err);
	if (!error && !options->if_changed)
		error = freeze_check_free(head, options->name, err);
	if (error)
		return error;
	struct freeze freeze = {.head = head, .options = options, .err = err};
	const struct repo_action action = {freeze_act, freeze_done, &freeze};
	error = repo_commit_action(head->repo, &action);
	if (error == -ECANCELED && freeze.unchanged)
		error = 0;
	if (error) {
		point_release(&freeze.point);
		if (error == -E2BIG)
			err_set(err, error, "message, tags and anchors are too long together");
		return error;
	}
	*ret = freeze.point;
	*ret_made = !freeze.unchanged;
	return 0;
}
