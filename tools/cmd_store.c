#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service.h"
#include "index/store.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"

/* ---- init ----------------------------------------------------------------------------- */

static int init_report(const struct invocation *invocation, const char *store,
		       const struct store_compression *compression)
{
	char notation[16];
	json_t *document;

	store_format_compression(compression, notation);
	if (!invocation->json) {
		if (!invocation->quiet)
			printf("made the store %s with workspace main (compression: %s)\n", store,
			       notation);
		return 0;
	}
	document = json_pack("{s:s, s:s, s:s}", "store", store, "workspace", "main", "compression",
			     notation);
	if (!document)
		return failure_memory(invocation);
	output_json(document);
	json_decref(document);
	return 0;
}

int cmd_init(struct invocation *invocation)
{
	const char *method = option_value(invocation, "compress");
	const char *rest = option_value(invocation, "compress-at-rest");
	struct store_compression compression = {.codec = CODEC_LZ4};
	struct errbuf err = {""};
	const struct place *place;
	int error;

	if (method && store_parse_compression(method, &compression, &err))
		return usage_error(invocation, "%s", err.text);
	if (rest && store_parse_rest_compression(rest, &compression, &err))
		return usage_error(invocation, "%s", err.text);
	if (invocation->argument_count > 0) {
		if (invocation->store)
			return usage_error(invocation,
					   "name the store by DIR or --store, not both");
		if (invocation->arguments[0][0] == '\0')
			return usage_error(invocation, "DIR is empty");
		invocation->store = invocation->arguments[0];
	}
	place = place_get(invocation);
	if (!place)
		return 1;
	error = service_init_store(place->store, &compression, &err);
	if (error)
		return failure_errno(invocation, error, err.text);
	return init_report(invocation, place->store, &compression);
}

/* ---- status --------------------------------------------------------------------------- */

static char *text_mounted(const json_t *row)
{
	const char *mounted = get_text(row, "mounted");

	return mounted[0] ? format_escape(mounted) : strdup("-");
}

static char *text_base(const json_t *row)
{
	const char *base = get_text(row, "base");

	return strdup(base[0] ? base : "-");
}

static const struct column workspace_columns[] = {
	{"name", "WORKSPACE", COLUMN_TEXT, 0, NULL},
	{"base", "BASED ON", COLUMN_TEXT, COLUMN_SHRINKS, text_base},
	{"points", "POINTS", COLUMN_NUMBER, 0, NULL},
	{"files", "FILES", COLUMN_NUMBER, 0, NULL},
	{"bytes", "SIZE", COLUMN_SIZE, 0, NULL},
	{"changed_bytes", "CHANGED", COLUMN_SIZE, 0, NULL},
	{"mounted", "MOUNTED AT", COLUMN_TEXT, 0, text_mounted},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

static void print_size(const char *label, const json_t *status, const char *key, const char *note)
{
	char buffer[FORMAT_MAX];

	printf("%-13s%s%s%s\n", label, format_size((uint64_t)get_number(status, key), buffer),
	       note[0] ? "  " : "", note);
}

static void print_savings(const json_t *status)
{
	double dedup = get_real(status, "dedup_ratio");
	double compression = get_real(status, "compression_ratio");
	char note[FORMAT_MAX + 32];

	print_size("logical", status, "logical_bytes", "what all workspaces and points hold");
	snprintf(note, sizeof(note), "after deduplication (%.1fx)", dedup);
	print_size("unique", status, "unique_bytes", note);
	snprintf(note, sizeof(note), "after compression (%.1fx), %.1fx in all", compression,
		 dedup * compression);
	print_size("stored", status, "stored_bytes", note);
	if (!json_is_null(json_object_get(status, "exclusive_bytes"))) {
		print_size("exclusive", status, "exclusive_bytes", "of single points, each alone");
		print_size("shared", status, "shared_bytes", "between points and workspaces");
	}
	print_size("index", status, "index_bytes", "");
	print_size("reclaimable", status, "reclaimable_bytes",
		   get_number(status, "reclaimable_bytes") > 0 ? "'cairn gc' gives it back" : "");
	print_size("free", status, "free_bytes", "on the store's file system");
}

static void print_mounts(const json_t *status)
{
	const json_t *mounts = json_object_get(status, "mounts"), *mount;
	char buffer[FORMAT_MAX];
	size_t i;

	json_array_foreach(mounts, i, mount) printf(
		"mount        %s (%s): %lld open files, %lld for writing; %s not yet on disk%s\n",
		get_text(mount, "mountpoint"), get_text(mount, "workspace"),
		(long long)get_number(mount, "open_files"),
		(long long)get_number(mount, "open_for_writing"),
		format_size((uint64_t)get_number(mount, "dirty_bytes"), buffer),
		strcmp(get_text(mount, "transport"), "io_uring") == 0 ? "; io_uring" : "");
}

static int print_status(const struct invocation *invocation, const json_t *status)
{
	int64_t pid = get_number(status, "daemon_pid");

	printf("store        %s\n", get_text(status, "store"));
	printf("format       %lld, compression %s, at rest %s\n",
	       (long long)get_number(status, "format"), get_text(status, "compression"),
	       get_text(status, "compression_at_rest"));
	printf("health       %s\n", get_text(status, "health"));
	if (pid > 0)
		printf("daemon       pid %lld\n", (long long)pid);
	else
		printf("daemon       none (nothing is mounted)\n");
	print_mounts(status);
	print_savings(status);
	putchar('\n');
	return output_rows(invocation, workspace_columns, json_object_get(status, "workspaces"));
}

int cmd_status(struct invocation *invocation)
{
	struct call call;
	json_t *status;
	int code;

	call_begin(&call, invocation, "status", CALL_READ_ONLY);
	code = call_run(&call, &status);
	if (code)
		return code;
	if (invocation->json)
		output_json(status);
	else if (invocation->raw)
		code = output_properties(invocation, status);
	else
		code = print_status(invocation, status);
	json_decref(status);
	return code;
}

/* ---- gc, check, wait-durable ---------------------------------------------------------- */

static void print_compacted(const json_t *compacted)
{
	char chunks[FORMAT_MAX], before[FORMAT_MAX], after[FORMAT_MAX], ordered[FORMAT_MAX];
	int64_t damaged = get_number(compacted, "damaged_chunks");

	printf("recompressed %s from %s to %s; put %s in order\n",
	       format_count((uint64_t)get_number(compacted, "recompressed_chunks"), "chunk",
			    chunks),
	       format_size((uint64_t)get_number(compacted, "bytes_before"), before),
	       format_size((uint64_t)get_number(compacted, "bytes_after"), after),
	       format_count((uint64_t)get_number(compacted, "ordered_chunks"), "chunk", ordered));
	if (damaged > 0)
		printf("%lld damaged chunks were left where they are: run 'cairn check "
		       "--read-data'\n",
		       (long long)damaged);
}

int cmd_gc(struct invocation *invocation)
{
	char stored[FORMAT_MAX], chunks[FORMAT_MAX], nodes[FORMAT_MAX], time[FORMAT_MAX];
	struct call call;
	json_t *result;
	int code;

	if (invocation->dry_run && option_given(invocation, "compact"))
		return usage_error(invocation, "--compact has no dry run");
	call_begin(&call, invocation, "gc", 0);
	call_flag(&call, "dry_run", invocation->dry_run);
	call_flag(&call, "compact", option_given(invocation, "compact"));
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else if (!invocation->quiet)
		printf("%s %s: %s and %s that nothing refers to, in %s\n",
		       invocation->dry_run ? "would give back" : "gave back",
		       format_size((uint64_t)get_number(result, "stored_bytes"), stored),
		       format_count((uint64_t)get_number(result, "chunks"), "chunk", chunks),
		       format_count((uint64_t)get_number(result, "nodes"), "node", nodes),
		       format_duration(get_number(result, "elapsed_ns"), time));
	if (!invocation->json && !invocation->quiet && json_object_get(result, "compacted"))
		print_compacted(json_object_get(result, "compacted"));
	json_decref(result);
	return 0;
}

int cmd_check(struct invocation *invocation)
{
	bool read_data = option_given(invocation, "read-data");
	char nodes[FORMAT_MAX], inodes[FORMAT_MAX], chunks[FORMAT_MAX];
	struct call call;
	json_t *answer, *result;
	int code;

	if (option_given(invocation, "digest"))
		return check_digest(invocation, option_value(invocation, "digest"));
	if (option_given(invocation, "expect"))
		return usage_error(invocation, "--expect goes with --digest POINT");
	call_begin(&call, invocation, "check", CALL_READ_ONLY);
	call_flag(&call, "read_data", read_data);
	answer = call_result(&call);
	if (service_result_code(answer)) {
		code = failure_findings(invocation, answer);
		json_decref(answer);
		return code;
	}
	result = json_object_get(answer, "ok");
	if (invocation->json)
		output_json(result);
	else if (!invocation->quiet)
		printf("no damage: %s, %s and %s verified%s\n",
		       format_count((uint64_t)get_number(result, "nodes"), "node", nodes),
		       format_count((uint64_t)get_number(result, "inodes"), "inode", inodes),
		       format_count((uint64_t)get_number(result, "chunks"), "chunk", chunks),
		       read_data ? ", all data read" : " (--read-data also reads the data)");
	json_decref(answer);
	return 0;
}

int cmd_wait_durable(struct invocation *invocation)
{
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, "sync", 0);
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	json_decref(result);
	return 0;
}
