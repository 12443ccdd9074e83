#include "tools/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

/* Fills in how long the last one took. */
static int end_step(json_t *steps, uint64_t begin, uint64_t end, int status)
{
	json_t *step = json_array_get(steps, json_array_size(steps) - 1);

	if (!step)
		return 0;
	return json_object_set_new(step, "elapsed_ns",
				   json_integer((json_int_t)(end > begin ? end - begin : 0))) ||
			       json_object_set_new(step, "exit_status", json_integer(status))
		       ? -ENOMEM
		       : 0;
}

static int read_lines(FILE *file, const struct child_result *run, json_t *steps)
{
	char *line = NULL, *name;
	size_t capacity = 0;
	uint64_t begin = 0;
	int error = 0;

	while (!error && getline(&line, &capacity, file) > 0) {
		uint64_t time = strtoull(line, &name, 10);
		json_t *step;

		if (*name != ' ' || time < run->started_ns)
			continue; /* not of ours */
		line[strcspn(line, "\n")] = '\0';
		error = end_step(steps, begin, time, 0);
		begin = time;
		step = json_pack("{s:s}", "name", name + 1);
		if (!error && step)
			error = json_array_append_new(steps, step) ? -ENOMEM : 0;
		else
			json_decref(step);
	}
	free(line);
	return error ? error : end_step(steps, begin, run->ended_ns, run->status);
}

json_t *steps_read(const char *path, const struct child_result *run)
{
	json_t *steps = json_array();
	FILE *file = steps ? fopen(path, "re") : NULL;

	if (file && read_lines(file, run, steps)) {
		json_decref(steps);
		steps = NULL;
	}
	if (file)
		fclose(file);
	return steps;
}

/* ---- cairn step ----------------------------------------------------------------------- */

static bool is_one_line(const char *name)
{
	for (; *name; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7F)
			return false;
	return true;
}

static int note_step(const char *file, const char *name)
{
	char *line;
	int fd, error = 0, length = asprintf(&line, "%" PRIu64 " %s\n", monotonic_ns(), name);

	if (length < 0)
		return -ENOMEM;
	fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line, (size_t)length) != length)
		error = errno ? -errno : -EIO;
	if (fd >= 0)
		close(fd);
	free(line);
	return error;
}

int cmd_step(struct invocation *invocation)
{
	const char *name = invocation->arguments[0], *file = getenv(STEPS_VARIABLE);
	json_t *text = json_string(name); /* NULL: not UTF-8 */
	bool good = text && name[0] && is_one_line(name);
	int error;

	json_decref(text);
	if (!good)
		return usage_error(invocation, "NAME must be a line of UTF-8 text, not empty");
	/* The same script runs in earnest, too. */
	if (!file || !file[0]) {
		if (invocation->verbose)
			talk(invocation, "no rehearsal runs: the step is not noted");
		return 0;
	}
	error = note_step(file, name);
	if (error)
		return failure(invocation, SERVICE_FAILED, "cannot note the step in %s: %s", file,
			       strerror(-error));
	return 0;
}
