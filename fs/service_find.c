/* Which points hold a path, and in which version. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"
#include "snapshot/version.h"

struct finding {
	const struct names *names;
	json_t *array; /* owned by the caller */
};

static int add_holder(const struct version_holder *holder, void *context)
{
	const struct finding *finding = context;
	const struct inode_attr *attr = holder->attr;
	char mode[16];

	snprintf(mode, sizeof(mode), "%04o", attr->mode & 07777);
	json_t *json = json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o}", "point",
		json_text_of(holder->name, holder->name_length), "id", json_number(holder->point),
		"workspace", json_text(names_of_workspace(finding->names, holder->workspace)),
		"created", json_time(holder->created_ns), "version", json_number(holder->version),
		"type", json_file_type(attr->mode), "mode", mode, "size", json_number(attr->size),
		"mtime", json_timespec(&attr->mtime), "ino", json_number(holder->ino));
	return json_array_append_new(finding->array, json) ? -ENOMEM : 0;
}

/* The id of the workspace that is asked about; 0: all. */
static int find_workspace(struct request *request, uint64_t *ret_id, char **ret_name)
{
	struct repo *repo = request->service->repo;
	struct workspace workspace = {0};
	char *name;

	if (request_flag(request, "all_workspaces")) {
		*ret_id = 0;
		*ret_name = NULL;
		return 0;
	}
	int error = request_workspace(request, NULL, &name);
	if (error)
		return error;
	error = workspace_get(repo, name, &workspace);
	if (error) {
		if (error == -ENOENT)
			err_set(&request->err, error, "no workspace '%s' in %s", name,
				store_directory(repo_store(repo)));
		free(name);
		return error;
	}
	*ret_id = workspace.id;
	*ret_name = name;
	workspace_release(&workspace);
	return 0;
}

static int refuse_empty(struct request *request, const char *workspace, const char *path)
{
	const char *shown = *path ? path : "/";

	if (!workspace)
		return err_set(&request->err, -ENOENT, "no point of any workspace holds '%s'",
			       shown);
	return err_set(&request->err, -ENOENT, "no point of workspace '%s' holds '%s'", workspace,
		       shown);
}

int service_find(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct names names = {0};
	char *path = NULL, *workspace = NULL;
	uint64_t id = 0;
	struct finding finding = {.names = &names, .array = json_array()};

	int error = finding.array ? request_path(request, "path", &path) : -ENOMEM;
	if (!error)
		error = find_workspace(request, &id, &workspace);
	if (!error)
		error = names_load(repo, &names);
	if (!error)
		error = version_list(repo, id, path, add_holder, &finding);
	if (error == -EINVAL)
		err_set(&request->err, error, "'%s': '..' is not accepted in a path", path);
	if (!error && json_array_size(finding.array) == 0)
		error = refuse_empty(request, workspace, path);
	names_release(&names);
	free(workspace);
	free(path);
	if (error)
		json_decref(finding.array);
	else
		*ret = finding.array;
	return error;
}
