/*
 * As in git's graph, a lane is a column that waits for a point: the parent of what was drawn last
 *in it.  A point has one parent, so lanes only begin (at a point that nothing waits for) and join
 * (at a point that several wait for):
 *
 *	* after-load                   ● after-load
 *	| * before-restore-...         │ ○ before-restore-...
 *	|/                             ├─╯
 *	* before-load                  ● before-load
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
#include "tools/output.h"

struct position {
	json_int_t id;
	size_t row;
};

struct graph {
	struct position *positions; /* of every point, in order of id; owned */
	size_t count;
	json_int_t *lanes; /* the id that each waits for, 0: free; owned, room for `count` */
	size_t lane_count;
	bool utf8, colour;
};

static int compare_positions(const void *a, const void *b)
{
	const struct position *left = a, *right = b;

	return (left->id > right->id) - (left->id < right->id);
}

static bool graph_init(struct graph *graph, const json_t *points)
{
	const json_t *point;
	size_t i;

	graph->count = json_array_size(points);
	graph->positions = calloc(graph->count + 1, sizeof(*graph->positions));
	graph->lanes = calloc(graph->count + 1, sizeof(*graph->lanes));
	if (!graph->positions || !graph->lanes)
		return false;
	json_array_foreach(points, i, point) graph->positions[i] =
		(struct position){get_number(point, "id"), i};
	qsort(graph->positions, graph->count, sizeof(*graph->positions), compare_positions);
	graph->utf8 = format_is_utf8();
	graph->colour = format_has_colour(STDOUT_FILENO);
	return true;
}

/* The parent, if it is drawn further below; 0 otherwise (none, filtered out, of another workspace).
 */
static json_int_t parent_below(const struct graph *graph, const json_t *point, size_t row)
{
	struct position key = {get_number(point, "parent_id"), 0}, *found;

	found = bsearch(&key, graph->positions, graph->count, sizeof(key), compare_positions);
	return found && found->row > row ? key.id : 0;
}

static size_t lane_find(const struct graph *graph, json_int_t id, size_t from)
{
	while (from < graph->lane_count && graph->lanes[from] != id)
		from++;
	return from;
}

static void lanes_trim(struct graph *graph)
{
	while (graph->lane_count > 0 && graph->lanes[graph->lane_count - 1] == 0)
		graph->lane_count--;
}

/* The line that leads lanes `first` < x into `first`: every lane that waits for the same id. */
static void print_join(const struct graph *graph, size_t first, size_t last)
{
	json_int_t id = graph->lanes[first];

	for (size_t i = 0; i < graph->lane_count; i++) {
		bool joins = graph->lanes[i] == id, across = i >= first && i < last;
		const char *here = graph->lanes[i] ? "│" : " ", *gap = " ";

		if (graph->utf8) {
			if (joins)
				here = i == first ? "├" : i == last ? "╯" : "┴";
			else if (across)
				here = graph->lanes[i] ? "┼" : "─";
			gap = across ? "─" : " ";
		} else {
			/* The stroke of a joining lane stands left of its column. */
			bool next = i + 1 < graph->lane_count && graph->lanes[i + 1] == id;

			here = joins && i != first ? (i == last ? " " : "_")
			       : graph->lanes[i]   ? "|"
			       : across		   ? "_"
						   : " ";
			gap = across ? (next ? "/" : "_") : " ";
		}
		printf("%s%s", here, i + 1 < graph->lane_count ? gap : "");
	}
	putchar('\n');
}

/* Which lane the point goes to; joins the others that wait for it. */
static size_t take_lane(struct graph *graph, json_int_t id)
{
	size_t lane = lane_find(graph, id, 0), last = lane;

	if (lane == graph->lane_count) {
		lane = lane_find(graph, 0, 0);
		if (lane == graph->lane_count)
			graph->lane_count++;
		return lane;
	}
	for (size_t i = lane_find(graph, id, lane + 1); i < graph->lane_count;
	     i = lane_find(graph, id, i + 1))
		last = i;
	if (last == lane)
		return lane;
	print_join(graph, lane, last);
	for (size_t i = lane + 1; i < graph->lane_count; i++)
		if (graph->lanes[i] == id)
			graph->lanes[i] = 0;
	lanes_trim(graph);
	return lane;
}

static void print_lanes(const struct graph *graph, size_t own, bool safety)
{
	const char *line = graph->utf8 ? "│" : "|";
	const char *mark = graph->utf8 ? (safety ? "○" : "●") : (safety ? "o" : "*");

	for (size_t i = 0; i < graph->lane_count; i++)
		printf("%s ", i == own ? mark : graph->lanes[i] ? line : " ");
}

static void print_coloured(const struct graph *graph, const char *colour, const char *text)
{
	if (graph->colour)
		printf("\033[%sm%s\033[m", colour, text);
	else
		fputs(text, stdout);
}

static void print_text(const struct graph *graph, const json_t *point, bool safety)
{
	char age[FORMAT_MAX] = "", files[FORMAT_MAX], size[FORMAT_MAX];
	const char *verdict = get_text(point, "verdict"), *message = get_text(point, "message");
	char *tags = join_texts(json_object_get(point, "tags"), ", ");
	char *line = strndup(message, strcspn(message, "\n"));
	char *escaped = line ? format_escape(line) : NULL;
	int64_t seconds;

	if (format_parse_time(get_text(point, "created"), &seconds))
		format_age(seconds, (int64_t)time(NULL), age);
	print_coloured(graph, safety ? "2" : "1", get_text(point, "name"));
	printf("  %s, %s, %s", age,
	       format_count((uint64_t)get_number(point, "files"), "file", files),
	       format_size((uint64_t)get_number(point, "bytes"), size));
	if (tags && tags[0])
		printf("  [%s]", tags);
	if (verdict[0] && strcmp(verdict, "open") != 0)
		printf("  %s", verdict);
	if (escaped && escaped[0])
		printf("  %s", escaped);
	else if (safety)
		fputs("  (kept by restore)", stdout);
	if (json_is_true(json_object_get(point, "current")))
		print_coloured(graph, "32", graph->utf8 ? "  ◀ you are here" : "  <- HEAD");
	putchar('\n');
	free(escaped);
	free(line);
	free(tags);
}

static void print_point(struct graph *graph, const json_t *point, size_t row)
{
	bool safety = strcmp(get_text(point, "origin"), "safety") == 0;
	size_t lane = take_lane(graph, get_number(point, "id"));

	print_lanes(graph, lane, safety);
	putchar(' ');
	print_text(graph, point, safety);
	graph->lanes[lane] = parent_below(graph, point, row);
	lanes_trim(graph);
}

int graph_print(const struct invocation *invocation, const json_t *points)
{
	struct graph graph = {0};
	const json_t *point;
	size_t i;
	int code = 0;

	if (graph_init(&graph, points)) {
		json_array_foreach(points, i, point) print_point(&graph, point, i);
	} else {
		code = failure_memory(invocation);
	}
	free(graph.positions);
	free(graph.lanes);
	return code;
}
