/* Requests about the journal: what it tells, and whether it holds together. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"
#include "index/util/idset.h"
#include "snapshot/journal.h"

/* ---- one entry ---- */

/* A detail may be there several times (tags): then its value is an array. */
static int add_detail(json_t *details, const struct point_pair *detail)
{
	json_t *value = json_text(detail->value), *before = json_object_get(details, detail->name);
	if (!before)
		return json_object_set_new(details, detail->name, value);
	if (json_is_array(before))
		return json_array_append_new(before, value);
	json_t *array = json_pack("[O, o]", before, value);
	return json_object_set_new(details, detail->name, array);
}

static json_t *details_json(const struct journal_entry *entry)
{
	json_t *details = json_object();
	for (size_t i = 0; details && i < entry->detail_count; i++) {
		if (add_detail(details, &entry->details[i])) {
			json_decref(details);
			return NULL;
		}
	}
	return details;
}

/* null where the entry is not about one */
static json_t *name_json(const char *name)
{
	return *name ? json_text(name) : json_null();
}

static json_t *id_json(uint64_t id)
{
	return id ? json_number(id) : json_null();
}

static json_t *entry_json(const struct journal_entry *entry)
{
	return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "number",
			 json_number(entry->number), "time", json_time(entry->time_ns), "action",
			 journal_action_text(entry->action), "workspace",
			 name_json(entry->workspace_name), "point", name_json(entry->point_name),
			 "by", json_text(entry->by), "host", json_text(entry->host), "reason",
			 json_text(entry->reason), "details", details_json(entry), "workspace_id",
			 id_json(entry->workspace), "point_id", id_json(entry->point), "hash",
			 json_hex(entry->hash, sizeof(entry->hash)));
}

/* ---- which entries ---- */

/*
 * What is asked for.  Points and workspaces are looked for by id, so that their story is told
 * through every renaming; those that are gone by the names that they had.
 */
struct selection {
	const char *action;	/* NULL: any */
	char *workspace_name;	/* owned; NULL: any */
	const char *point_name; /* without its workspace; NULL: any */
	struct idset workspaces, points;
	json_t *entries; /* owned */
};

static void selection_release(struct selection *selection)
{
	free(selection->workspace_name);
	idset_release(&selection->workspaces);
	idset_release(&selection->points);
	json_decref(selection->entries);
}

/* Entries whose point is one of the workspace: a clone or a restore may name one of another. */
static bool names_its_own(const struct journal_entry *entry)
{
	switch (entry->action) {
	case JOURNAL_FREEZE:
	case JOURNAL_RECEIVE:
	case JOURNAL_RENAME:
	case JOURNAL_DELETE:
	case JOURNAL_PRUNE:
		return true;
	default:
		return false;
	}
}

/* Ids of what is gone, by the names that it had. */
static int visit_names(const struct journal_entry *entry, void *context)
{
	struct selection *selection = context;
	int added = 0;
	if (strcmp(entry->workspace_name, selection->workspace_name) != 0)
		return 0;
	if (!selection->point_name)
		added = idset_add(&selection->workspaces, entry->workspace);
	else if (names_its_own(entry) && strcmp(entry->point_name, selection->point_name) == 0)
		added = idset_add(&selection->points, entry->point);
	return added < 0 ? added : 0;
}

static int visit_entry(const struct journal_entry *entry, void *context)
{
	struct selection *selection = context;
	if (selection->action && strcmp(selection->action, journal_action_text(entry->action)) != 0)
		return 0;
	if (selection->point_name ? !idset_has(&selection->points, entry->point)
				  : selection->workspace_name &&
					    !idset_has(&selection->workspaces, entry->workspace))
		return 0;
	return json_array_append_new(selection->entries, entry_json(entry)) ? -ENOMEM : 0;
}

static int check_action(struct request *request, const char *action)
{
#define ACTION_TEXT(name, number, text) text,
#define ACTION_LIST(name, number, text) " " text
	static const char *const texts[] = {JOURNAL_ACTIONS(ACTION_TEXT)};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(action, texts[i]) == 0)
			return 0;
	return err_set(&request->err, -EINVAL,
		       "no action is called '%s'; there are:" JOURNAL_ACTIONS(ACTION_LIST), action);
#undef ACTION_LIST
#undef ACTION_TEXT
}

static int select_workspace(struct request *request, struct selection *selection)
{
	struct repo *repo = request->service->repo;
	struct workspace workspace = {0};
	int error = request_workspace(request, NULL, &selection->workspace_name);
	if (!error)
		error = workspace_get(repo, selection->workspace_name, &workspace);
	if (!error && idset_add(&selection->workspaces, workspace.id) < 0)
		error = -ENOMEM;
	workspace_release(&workspace);
	if (error != -ENOENT)
		return error;
	error = journal_read(repo, 0, visit_names, selection);
	if (!error && !selection->workspaces.count)
		error = err_set(&request->err, -ENOENT, "no workspace '%s' was ever in %s",
				selection->workspace_name, store_directory(repo_store(repo)));
	return error;
}

static int select_point(struct request *request, struct selection *selection)
{
	const char *spec = request_text(request, "point"), *at = strchr(spec, '@');
	struct point point = {0};
	int error = request_point(request, "point", &point);
	selection->point_name = spec;
	if (!error && idset_add(&selection->points, point.id) < 0)
		error = -ENOMEM;
	point_release(&point);
	if (error != -ENOENT || at == spec)
		return error;
	/* It may be gone, and that is what the journal is asked about. */
	if (at && !request_text(request, "workspace"))
		selection->point_name = at + 1;
	int found = request_workspace(request, spec, &selection->workspace_name);
	if (!found)
		found = journal_read(request->service->repo, 0, visit_names, selection);
	if (found || !selection->points.count)
		return found ? found : error;
	request->err.text[0] = '\0';
	return 0;
}

int service_journal(struct request *request, json_t **ret)
{
	struct selection selection = {
		.action = request_text(request, "action"),
		.workspaces = IDSET_INIT,
		.points = IDSET_INIT,
		.entries = json_array(),
	};
	uint64_t after = (uint64_t)json_integer_value(request_value(request, "after"));
	int error = selection.entries ? 0 : -ENOMEM;
	if (!error && selection.action)
		error = check_action(request, selection.action);
	if (!error && request_text(request, "point"))
		error = select_point(request, &selection);
	else if (!error && request_text(request, "workspace"))
		error = select_workspace(request, &selection);
	if (!error)
		error = journal_read(request->service->repo, after, visit_entry, &selection);
	if (!error)
		*ret = json_incref(selection.entries);
	selection_release(&selection);
	return error;
}

/* ---- verifying ---- */

static bool parse_hex(const char *text, uint8_t *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	if (strlen(text) != 2 * count || text[strspn(text, "0123456789abcdef")] != '\0')
		return false;
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)((strchr(digits, text[2 * i]) - digits) << 4 |
				     (strchr(digits, text[2 * i + 1]) - digits));
	return true;
}

/* "NUMBER:HEX", as journal_verify tells it. */
static int parse_expected(struct request *request, uint64_t *ret_number,
			  uint8_t ret_hash[JOURNAL_HASH_BYTES])
{
	const char *text = request_text(request, "expect");
	char *end;
	*ret_number = 0;
	if (!text)
		return 0;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (errno || text[0] < '1' || text[0] > '9' || *end != ':' ||
	    !parse_hex(end + 1, ret_hash, JOURNAL_HASH_BYTES))
		return err_set(&request->err, -EINVAL,
			       "what is expected is NUMBER:HASH as an earlier verification told "
			       "it, not '%s'",
			       text);
	*ret_number = number;
	return 0;
}

static int verified(struct request *request, const struct journal_state *state, json_t *findings,
		    json_t **ret)
{
	json_t *hash = state->entries ? json_hex(state->last, sizeof(state->last)) : json_null();
	json_t *json =
		json_pack("{s:o, s:o, s:o, s:o}", "entries", json_number(state->entries), "hash",
			  hash, "errors", json_number(state->errors), "findings", findings);
	if (!json)
		return -ENOMEM;
	if (!state->errors) {
		*ret = json;
		return 0;
	}
	request->detail = json;
	return err_set(
		&request->err, -EUCLEAN,
		"the journal and the points do not agree with what was written: %llu error%s",
		(unsigned long long)state->errors, state->errors == 1 ? "" : "s");
}

int service_journal_verify(struct request *request, json_t **ret)
{
	struct findings findings = {.array = json_array()};
	struct journal_state state = {0};
	uint8_t hash[JOURNAL_HASH_BYTES];
	uint64_t number;
	int error = findings.array ? parse_expected(request, &number, hash) : -ENOMEM;
	if (!error)
		error = journal_verify(request->service->repo, number, hash, findings_add,
				       &findings, &state);
	if (!error && findings.lost)
		error = -ENOMEM;
	if (error) {
		json_decref(findings.array);
		return error;
	}
	return verified(request, &state, findings.array, ret);
}
