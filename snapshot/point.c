/*
 * Points: making and finding them.
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
#include "snapshot/point.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

int64_t point_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

char *point_user(const char *by)
{
	if (by && *by)
		return strdup(by);
	char buffer[2048];
	struct passwd entry, *found = NULL;
	if (getpwuid_r(getuid(), &entry, buffer, sizeof(buffer), &found) == 0 && found)
		return strdup(found->pw_name);
	char number[16];
	snprintf(number, sizeof(number), "%u", (unsigned)getuid());
	return strdup(number);
}

/* ---- making one ---- */

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
		struct point_pair *anchor = &point->anchors[point->anchor_count++];
		anchor->name = strdup(options->anchors[i].name);
		anchor->value = strdup(options->anchors[i].value);
		if (!anchor->name || !anchor->value)
			return -ENOMEM;
	}
	return 0;
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
	};
	if (!ret->name || !ret->message || !ret->by)
		return -ENOMEM;
	point_from_head(head, ret);
	int error = copy_tags(options, ret);
	if (!error)
		error = copy_holds(store, options, ret);
	if (!error)
		error = copy_anchors(options, ret);
	if (!error)
		error = point_write(commit, ret);
	if (!error)
		error = record_put_name(commit, head->workspace, ret->name, ret->id);
	return error;
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

struct freeze {
	struct head *head;
	const struct freeze_options *options;
	struct errbuf *err;
	struct point point; /* owned */
	bool unchanged;	    /* `point` is the base; the action ended with -ECANCELED */
	uint64_t generation;
};

static int name_is_taken(const char *name, struct errbuf *err)
{
	return err_set(err, -EEXIST,
		       "point '%s' exists already; choose another name or delete it: "
		       "cairn delete %s",
		       name, name);
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
		return error ? error : name_is_taken(freeze->options->name, freeze->err);
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
	return name_is_taken(name, err);
}

static int check_anchors(const struct freeze_options *options, struct errbuf *err)
{
	for (size_t i = 0; i < options->anchor_count; i++)
		if (!*options->anchors[i].name)
			return err_set(err, -EINVAL, "an anchor needs a name: NAME=VALUE");
	return 0;
}

int point_freeze(struct head *head, const struct freeze_options *options, struct point *ret,
		 bool *ret_made, struct errbuf *err)
{
	int error = point_check_name(options->name, err);
	if (!error)
		error = check_anchors(options, err);
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

/* ---- finding them ---- */

int point_get(struct repo *repo, uint64_t id, struct point *ret)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = point_read(reader, id, ret);
	reader_release(reader);
	return error;
}

int point_exists(struct reader *reader, uint64_t id)
{
	struct record_key key;
	struct bytes value;
	return reader_record(reader, TABLE_POINTS, record_id_key(&key, id), &value);
}

int point_by_name(struct repo *repo, uint64_t workspace, const char *name, size_t length,
		  struct point *ret)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	uint64_t id;
	error = length ? record_find_name(reader, workspace, name, length, &id) : -ENOENT;
	if (!error) {
		error = point_read(reader, id, ret);
		if (error == -ENOENT)
			error = -EUCLEAN;
	}
	reader_release(reader);
	return error;
}

int point_list(struct repo *repo, uint64_t workspace, struct point **ret, size_t *ret_count)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = points_read(reader, workspace, ret, ret_count);
	reader_release(reader);
	return error;
}

int point_view(struct repo *repo, const struct point *point, struct tree **ret)
{
	return tree_open(repo->store, point->root, 0, ret);
}

/* ---- renaming ---- */

struct renaming {
	uint64_t id;
	const char *name;
	struct errbuf *err;
};

static int rename_in_commit(struct commit *commit, struct point *point, const char *name,
			    struct errbuf *err)
{
	if (strcmp(point->name, name) == 0)
		return 0;
	uint64_t other;
	int error = record_find_name_in_commit(commit, point->workspace, name, &other);
	if (error != -ENOENT)
		return error ? error : name_is_taken(name, err);
	error = record_delete_name(commit, point->workspace, point->name);
	if (!error)
		error = record_put_name(commit, point->workspace, name, point->id);
	if (error)
		return error;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	free(point->name);
	point->name = copy;
	return point_write(commit, point);
}

static int rename_act(struct repo *repo, struct commit *commit, void *context)
{
	(void)repo;
	struct renaming *renaming = context;
	struct point point;
	int error = point_read_in_commit(commit, renaming->id, &point);
	if (error)
		return error == -ENOENT ? err_set(renaming->err, error, "the point is gone")
					: error;
	error = rename_in_commit(commit, &point, renaming->name, renaming->err);
	point_release(&point);
	return error;
}

int point_rename(struct repo *repo, uint64_t id, const char *name, struct errbuf *err)
{
	int error = point_check_name(name, err);
	if (error)
		return error;
	struct renaming renaming = {id, name, err};
	const struct repo_action action = {rename_act, NULL, &renaming};
	return repo_commit_action(repo, &action);
}
