/*
 * Drawing a history: tools/graph_layout.h says where, this file what it looks like.
 *
 *	● after-load  2 hours ago, 3 files, 1.2 GiB  ✔ working  ◀ you are here
 *	│ ○ before-restore-before-load-…  (kept by restore)
 *	├─╯
 *	● before-load  3 hours ago, 2 files, 1.0 GiB  ⇉ workspace try-1
 *
 * The filled circles are points that somebody made, the others those that restore and carry kept.
 * A carry is no line (it may come from anywhere): it is told by the point that it came into.
 */
#include "tools/graph.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/failure.h"
#include "tools/format.h"
#include "tools/graph_layout.h"
#include "tools/output.h"

enum { NAME_MAX_COLUMNS = 255 };

/* A point of any workspace, in order of id. */
struct graph_point {
	json_int_t id;
	const json_t *json; /* borrowed */
	long shown;	    /* index among those that are drawn, or -1 */
	char *clones;	    /* owned: workspaces that began here, for people; NULL: none */
};

struct graph {
	struct graph_point *all; /* owned */
	size_t all_count;
	long *shown;   /* owned: indexes in `all`, oldest first */
	long *parents; /* owned: of those, as indexes among them */
	bool *cut;     /* owned: between it and its parent are points that are not drawn */
	size_t count;
	const char *workspace; /* whose names stand alone; NULL: there are several */
	bool utf8, colour;
};

static int compare_points(const void *a, const void *b)
{
	const struct graph_point *left = a, *right = b;

	return (left->id > right->id) - (left->id < right->id);
}

static struct graph_point *graph_find(const struct graph *graph, json_int_t id)
{
	struct graph_point key = {.id = id};

	return id ? bsearch(&key, graph->all, graph->all_count, sizeof(key), compare_points) : NULL;
}

static const struct graph_point *parent_of(const struct graph *graph,
					   const struct graph_point *point)
{
	const struct graph_point *parent = graph_find(graph, get_number(point->json, "parent_id"));

	return parent && parent->id < point->id ? parent : NULL;
}

static void graph_release(struct graph *graph)
{
	for (size_t i = 0; i < graph->all_count; i++)
		free(graph->all[i].clones);
	free(graph->all);
	free(graph->shown);
	free(graph->parents);
	free(graph->cut);
}

/* ---- reading ---- */

static bool load_points(struct graph *graph, const struct graph_input *input)
{
	const json_t *point;
	size_t i;

	graph->all = calloc(json_array_size(input->all) + 1, sizeof(*graph->all));
	graph->shown = calloc(json_array_size(input->points) + 1, sizeof(*graph->shown));
	graph->parents = calloc(json_array_size(input->points) + 1, sizeof(*graph->parents));
	graph->cut = calloc(json_array_size(input->points) + 1, sizeof(*graph->cut));
	if (!graph->all || !graph->shown || !graph->parents || !graph->cut)
		return false;
	json_array_foreach(input->all, i, point) graph->all[graph->all_count++] =
		(struct graph_point){get_number(point, "id"), point, -1, NULL};
	qsort(graph->all, graph->all_count, sizeof(*graph->all), compare_points);
	json_array_foreach(input->points, i, point)
	{
		struct graph_point *found = graph_find(graph, get_number(point, "id"));
		if (found) { /* else it came between the two questions */
			found->shown = 0;
			found->json = point;
		}
	}
	for (size_t k = 0; k < graph->all_count; k++) {
		if (graph->all[k].shown < 0)
			continue;
		graph->all[k].shown = (long)graph->count;
		graph->shown[graph->count++] = (long)k;
	}
	return true;
}

/* The nearest ancestor that is drawn. */
static void load_parents(struct graph *graph)
{
	for (size_t i = 0; i < graph->count; i++) {
		const struct graph_point *at = parent_of(graph, &graph->all[graph->shown[i]]);

		for (; at && at->shown < 0; at = parent_of(graph, at))
			graph->cut[i] = true;
		graph->parents[i] = at ? at->shown : GRAPH_NO_PARENT;
	}
}

/* What stands alone where all that is drawn is of one workspace. */
static void load_workspace(struct graph *graph)
{
	for (size_t i = 0; i < graph->count; i++) {
		const char *name = get_text(graph->all[graph->shown[i]].json, "workspace");
		if (graph->workspace && strcmp(graph->workspace, name) != 0) {
			graph->workspace = NULL;
			return;
		}
		graph->workspace = name;
	}
}

static bool add_clone(struct graph_point *point, const char *workspace)
{
	char *text;

	if (!point || strcmp(get_text(point->json, "workspace"), workspace) == 0)
		return true;
	if (asprintf(&text, "%s%s%s", point->clones ? point->clones : "", point->clones ? ", " : "",
		     workspace) < 0)
		return false;
	free(point->clones);
	point->clones = text;
	return true;
}

/* A workspace began at the point that its head, or its oldest points, stand on. */
static bool load_clones(struct graph *graph, const json_t *workspaces)
{
	const json_t *workspace;
	size_t i;

	json_array_foreach(workspaces, i, workspace)
	{
		const char *name = get_text(workspace, "name");
		const struct graph_point *at = graph_find(graph, get_number(workspace, "base_id"));

		while (at && strcmp(get_text(at->json, "workspace"), name) == 0)
			at = parent_of(graph, at);
		if (at && !add_clone(graph_find(graph, at->id), name))
			return false;
	}
	return true;
}

static long head_of(const struct graph *graph)
{
	for (size_t i = graph->count; i-- > 0;)
		if (json_is_true(json_object_get(graph->all[graph->shown[i]].json, "current")))
			return (long)i;
	return GRAPH_NO_PARENT;
}

/* ---- printing ---- */

static void print_coloured(const struct graph *graph, const char *colour, const char *text)
{
	if (graph->colour)
		printf("\033[%sm%s\033[m", colour, text);
	else
		fputs(text, stdout);
}

static void print_name(const struct graph *graph, const json_t *point, bool safety)
{
	const char *workspace = get_text(point, "workspace");
	char *name = format_escape(get_text(point, "name"));

	if (!graph->workspace)
		printf("%s@", workspace);
	print_coloured(graph, safety ? "2" : "1", name ? name : get_text(point, "name"));
	free(name);
}

static void print_figures(const json_t *point)
{
	char age[FORMAT_MAX] = "", files[FORMAT_MAX], size[FORMAT_MAX];
	int64_t seconds;

	if (format_parse_time(get_text(point, "created"), &seconds))
		format_age(seconds, (int64_t)time(NULL), age);
	printf("  %s, %s, %s", age,
	       format_count((uint64_t)get_number(point, "files"), "file", files),
	       format_size((uint64_t)get_number(point, "bytes"), size));
}

static void print_verdict(const struct graph *graph, const json_t *point)
{
	static const struct {
		const char *verdict, *mark, *colour;
	} marks[] = {{"working", "✔ ", "32"}, {"broken", "✘ ", "31"}, {"superseded", "⊘ ", "33"}};
	const char *verdict = get_text(point, "verdict");

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (strcmp(marks[i].verdict, verdict) != 0)
			continue;
		fputs("  ", stdout);
		print_coloured(graph, marks[i].colour, graph->utf8 ? marks[i].mark : "");
		print_coloured(graph, marks[i].colour, verdict);
	}
}

/* The points that were carried into this one, as far as they are still there. */
static void print_carried(const struct graph *graph, const json_t *point)
{
	const json_t *ids = json_object_get(point, "carried_ids"), *id;
	const char *separator = graph->utf8 ? "  ⇠ carried " : "  <~ carried ";
	size_t i;

	json_array_foreach(ids, i, id)
	{
		const struct graph_point *from = graph_find(graph, json_integer_value(id));
		fputs(separator, stdout);
		if (from && graph->workspace &&
		    strcmp(get_text(from->json, "workspace"), graph->workspace) == 0)
			fputs(get_text(from->json, "name"), stdout);
		else if (from)
			printf("%s@%s", get_text(from->json, "workspace"),
			       get_text(from->json, "name"));
		else
			fputs("a deleted point", stdout);
		separator = ", ";
	}
}

static void print_message(const json_t *point, bool safety)
{
	const char *message = get_text(point, "message");
	char *line = strndup(message, strcspn(message, "\n"));
	char *escaped = line ? format_escape(line) : NULL;

	if (safety)
		fputs("  (kept)", stdout);
	else if (escaped && escaped[0])
		printf("  %s", escaped);
	free(escaped);
	free(line);
}

static void print_clones(const struct graph *graph, const struct graph_point *point)
{
	if (point->clones)
		printf("  %s %s", graph->utf8 ? "⇉ workspace" : "=> workspace", point->clones);
}

/* Where a tree begins in the middle: the parent is of another workspace, or not drawn. */
static void print_origin(const struct graph *graph, const struct graph_point *point, size_t index)
{
	const struct graph_point *parent = parent_of(graph, point);

	if (graph->parents[index] != GRAPH_NO_PARENT) {
		if (graph->cut[index])
			fputs(graph->utf8 ? "  ⋮" : "  (...)", stdout);
		return;
	}
	if (!parent)
		return;
	printf("  %s ", graph->utf8 ? "↳ from" : "from");
	if (!graph->workspace || strcmp(get_text(parent->json, "workspace"), graph->workspace) != 0)
		printf("%s@", get_text(parent->json, "workspace"));
	fputs(get_text(parent->json, "name"), stdout);
}

static void print_head(const struct graph *graph, const json_t *point)
{
	char text[64 + NAME_MAX_COLUMNS];

	if (!json_is_true(json_object_get(point, "current")))
		return;
	if (graph->workspace)
		snprintf(text, sizeof(text), "%s", graph->utf8 ? "  ◀ you are here" : "  <- HEAD");
	else
		snprintf(text, sizeof(text), "  %s %s", graph->utf8 ? "◀ head of" : "<- HEAD of",
			 get_text(point, "workspace"));
	print_coloured(graph, "32", text);
}

static void print_point(const struct graph *graph, const struct graph_row *row)
{
	const struct graph_point *point = &graph->all[graph->shown[row->point]];
	bool safety = strcmp(get_text(point->json, "origin"), "safety") == 0;
	char *tags = join_texts(json_object_get(point->json, "tags"), ", ");

	for (unsigned i = 0; i < row->column; i++)
		fputs(graph->utf8 ? "│ " : "| ", stdout);
	printf("%s ", graph->utf8 ? (safety ? "○" : "●") : (safety ? "o" : "*"));
	print_name(graph, point->json, safety);
	print_figures(point->json);
	if (tags && tags[0])
		printf("  [%s]", tags);
	print_verdict(graph, point->json);
	if (json_array_size(json_object_get(point->json, "holds")))
		fputs("  held", stdout);
	print_message(point->json, safety);
	print_carried(graph, point->json);
	print_clones(graph, point);
	print_origin(graph, point, (size_t)row->point);
	print_head(graph, point->json);
	putchar('\n');
	free(tags);
}

static void print_join(const struct graph *graph, unsigned column)
{
	for (unsigned i = 0; i < column; i++)
		fputs(graph->utf8 ? "│ " : "| ", stdout);
	puts(graph->utf8 ? "├─╯" : "|/");
}

static void print_rows(const struct graph *graph, const struct graph_layout *layout)
{
	const struct graph_row *rows;
	size_t count = graph_layout_rows(layout, &rows);

	for (size_t i = 0; i < count; i++) {
		if (rows[i].first && i > 0)
			putchar('\n');
		if (rows[i].point == GRAPH_NO_PARENT)
			print_join(graph, rows[i].column);
		else
			print_point(graph, &rows[i]);
	}
}

int graph_print(const struct invocation *invocation, const struct graph_input *input)
{
	struct graph graph = {.utf8 = format_is_utf8(), .colour = format_has_colour(STDOUT_FILENO)};
	struct graph_layout *layout = NULL;

	if (load_points(&graph, input) && load_clones(&graph, input->workspaces)) {
		load_parents(&graph);
		load_workspace(&graph);
		layout = graph_layout_new(graph.parents, graph.count, head_of(&graph));
	}
	if (layout)
		print_rows(&graph, layout);
	graph_release(&graph);
	graph_layout_free(layout);
	return layout ? 0 : failure_memory(invocation);
}
