/* What may change of a point: its name, verdict, tags (hold.c: holds, digest.c: digest).  Each
 * change is one action with an entry in the journal. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/journal.h"
#include "snapshot/point_internal.h"

struct changing {
	uint64_t id;
	const struct point_change *change;
	struct errbuf *err;
};

static int changing_act(struct repo *repo, struct commit *commit, void *context)
{
	const struct changing *changing = context;
	const struct point_change *change = changing->change;
	struct journal_note note = {.action = change->action, .by = change->by};
	struct point point;
	int error = point_read_in_commit(commit, changing->id, &point);
	if (error)
		return error == -ENOENT ? err_set(changing->err, error, "the point is gone")
					: error;
	int changed = change->apply(commit, &point, &note, change->context, changing->err);
	if (changed == 1) {
		error = point_write(commit, &point);
		if (!error)
			error = point_journal(repo, commit, &point, &note);
		if (error == -E2BIG)
			err_set(changing->err, error,
				"point '%s' has no room for more: its holds, tags and texts are "
				"too long together",
				point.name);
	} else {
		error = changed < 0 ? changed : -ECANCELED;
	}
	point_release(&point);
	return error;
}

int point_change(struct repo *repo, uint64_t id, const struct point_change *change,
		 struct errbuf *err)
{
	struct changing changing = {id, change, err};
	const struct repo_action action = {changing_act, NULL, &changing};
	int error = repo_commit_action(repo, &action);
	return error == -ECANCELED ? 0 : error;
}

static int replace_text(char **text, const char *with)
{
	char *copy = strdup(with);
	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* ---- name ---- */

struct renaming {
	const char *name;
	char *old_name; /* owned; for the journal */
	struct point_pair detail;
};

static int apply_name(struct commit *commit, struct point *point, struct journal_note *note,
		      void *context, struct errbuf *err)
{
	struct renaming *renaming = context;
	uint64_t other;
	if (strcmp(point->name, renaming->name) == 0)
		return 0;
	int error = record_find_name_in_commit(commit, point->workspace, renaming->name, &other);
	if (error != -ENOENT)
		return error ? error : point_name_is_taken(renaming->name, err);
	error = record_delete_name(commit, point->workspace, point->name);
	if (!error)
		error = record_put_name(commit, point->workspace, renaming->name, point->id);
	if (!error)
		error = replace_text(&renaming->old_name, point->name);
	if (!error)
		error = replace_text(&point->name, renaming->name);
	renaming->detail = (struct point_pair){(char *)"old_name", renaming->old_name};
	note->details = &renaming->detail;
	note->detail_count = 1;
	return error ? error : 1;
}

int point_rename(struct repo *repo, uint64_t id, const char *name, const char *by,
		 struct errbuf *err)
{
	int error = point_check_name(name, err);
	if (error)
		return error;
	struct renaming renaming = {.name = name};
	const struct point_change change = {JOURNAL_RENAME, by, apply_name, &renaming};
	error = point_change(repo, id, &change, err);
	free(renaming.old_name);
	return error;
}

/* ---- verdict ---- */

static const char *const verdict_texts[] = {"open", "working", "broken", "superseded"};

const char *point_verdict_text(enum verdict verdict)
{
	return verdict_texts[verdict];
}

int point_parse_verdict(const char *text, enum verdict *ret)
{
	for (size_t i = 0; i < sizeof(verdict_texts) / sizeof(verdict_texts[0]); i++)
		if (strcmp(text, verdict_texts[i]) == 0) {
			*ret = (enum verdict)i;
			return 0;
		}
	return -EINVAL;
}

struct judging {
	enum verdict verdict;
	const char *reason, *giver, *by;
	struct point_pair details[3];
};

static int apply_verdict(struct commit *commit, struct point *point, struct journal_note *note,
			 void *context, struct errbuf *err)
{
	struct judging *judging = context;
	(void)commit;
	(void)err;
	judging->details[0] =
		(struct point_pair){(char *)"verdict", (char *)verdict_texts[judging->verdict]};
	judging->details[1] =
		(struct point_pair){(char *)"old_verdict", (char *)verdict_texts[point->verdict]};
	note->reason = judging->reason;
	note->details = judging->details;
	char *giver = point_user(judging->giver);
	if (!giver)
		return -ENOMEM;
	free(point->verdict_by);
	point->verdict_by = giver;
	judging->details[2] = (struct point_pair){(char *)"given_by", (char *)judging->giver};
	/* The journal says itself who asked. */
	bool same = !judging->giver || (judging->by && strcmp(judging->giver, judging->by) == 0);
	note->detail_count = same ? 2 : 3;
	point->verdict = judging->verdict;
	point->verdict_ns = point_now();
	int error = replace_text(&point->verdict_reason, judging->reason);
	return error ? error : 1;
}

int point_set_verdict(struct repo *repo, uint64_t id, enum verdict verdict, const char *reason,
		      const char *giver, const char *by, struct errbuf *err)
{
	struct judging judging = {
		.verdict = verdict, .reason = reason, .giver = giver ? giver : by, .by = by};
	const struct point_change change = {JOURNAL_VERDICT, by, apply_verdict, &judging};
	return point_change(repo, id, &change, err);
}

/* ---- tags ---- */

struct tagging {
	const char *const *add, *const *remove;
	size_t add_count, remove_count;
	struct point_pair *details; /* owned */
};

static bool has_tag(const struct point *point, const char *tag, size_t *ret)
{
	for (size_t i = 0; i < point->tag_count; i++)
		if (strcmp(point->tags[i], tag) == 0) {
			*ret = i;
			return true;
		}
	return false;
}

static int add_tags(struct point *point, struct tagging *tagging, size_t *count)
{
	size_t at;
	char **tags = reallocarray(point->tags, point->tag_count + tagging->add_count + 1,
				   sizeof(tags[0]));
	if (!tags)
		return -ENOMEM;
	point->tags = tags;
	for (size_t i = 0; i < tagging->add_count; i++) {
		if (has_tag(point, tagging->add[i], &at))
			continue;
		char *copy = strdup(tagging->add[i]);
		if (!copy)
			return -ENOMEM;
		tags[point->tag_count++] = copy;
		tagging->details[(*count)++] =
			(struct point_pair){(char *)"added", (char *)tagging->add[i]};
	}
	return 0;
}

static int remove_tags(struct point *point, struct tagging *tagging, size_t *count,
		       struct errbuf *err)
{
	size_t at;
	for (size_t i = 0; i < tagging->remove_count; i++) {
		const char *tag = tagging->remove[i];
		if (!has_tag(point, tag, &at))
			return err_set(err, -ENOENT, "point '%s' has no tag '%s'", point->name,
				       tag);
		free(point->tags[at]);
		point->tag_count--;
		memmove(&point->tags[at], &point->tags[at + 1],
			(point->tag_count - at) * sizeof(point->tags[0]));
		tagging->details[(*count)++] = (struct point_pair){(char *)"removed", (char *)tag};
	}
	return 0;
}

static int apply_tags(struct commit *commit, struct point *point, struct journal_note *note,
		      void *context, struct errbuf *err)
{
	struct tagging *tagging = context;
	size_t count = 0;
	(void)commit;
	int error = remove_tags(point, tagging, &count, err);
	if (!error)
		error = add_tags(point, tagging, &count);
	note->details = tagging->details;
	note->detail_count = count;
	return error ? error : count > 0;
}

int point_set_tags(struct repo *repo, uint64_t id, const char *const *add, size_t add_count,
		   const char *const *remove, size_t remove_count, const char *by,
		   struct errbuf *err)
{
	for (size_t i = 0; i < add_count; i++)
		if (!*add[i])
			return err_set(err, -EINVAL, "a tag cannot be empty");
	struct tagging tagging = {
		.add = add, .add_count = add_count, .remove = remove, .remove_count = remove_count};
	tagging.details = calloc(add_count + remove_count + 1, sizeof(tagging.details[0]));
	if (!tagging.details)
		return -ENOMEM;
	const struct point_change change = {JOURNAL_TAG, by, apply_tags, &tagging};
	int error = point_change(repo, id, &change, err);
	free(tagging.details);
	return error;
}
