/*
 * The life of a mount.
 *
 *   mount_start()          the kernel lets go              mount_free()
 *  ---------------> serving ------------------> ended ------------------> (nothing)
 *                           (umount(8), mount_stop(), abort)
 *
 * mount_finish() is the dispatcher's last act: it closes what processes left open, deletes what was
 * unlinked, commits, and detaches from the head.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/mount_internal.h"
#include "fs/service.h"
#include "index/util/shell.h"

/* ---- checks that turn a failure into advice ---- */

static bool other_may_be_allowed(void)
{
	char line[256];
	bool allowed = geteuid() == 0;

	FILE *stream = allowed ? NULL : fopen("/etc/fuse.conf", "re");
	while (stream && !allowed && fgets(line, sizeof(line), stream)) {
		char word[64] = "";
		allowed = sscanf(line, " %63s", word) == 1 && strcmp(word, "user_allow_other") == 0;
	}
	if (stream)
		fclose(stream);
	return allowed;
}

static int check_point(const char *path, struct errbuf *err)
{
	char quoted[sizeof(err->text)];
	struct stat stat_buffer;
	struct statvfs status;

	/* The kernel may know the attributes of a dead mount; statfs always asks. */
	if (statvfs(path, &status) && (errno == ENOTCONN || errno == ECONNABORTED))
		return err_set(err, -ENOTCONN,
			       "a file system that has died is mounted at %s; remove it first: "
			       "cairn umount %s",
			       path, shell_quote(path, quoted, sizeof(quoted)));
	if (stat(path, &stat_buffer))
		return err_set(err, -errno, "mount point %s: %s", path, strerror(errno));
	if (!S_ISDIR(stat_buffer.st_mode))
		return err_set(err, -ENOTDIR, "mount point %s is not a directory", path);
	if (geteuid() != 0 && access(path, W_OK))
		return err_set(err, -EACCES,
			       "mount point %s: you must be able to write to a directory that you "
			       "mount on",
			       path);
	return 0;
}

static int check_fuse(const struct parsed_options *options, struct errbuf *err)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno,
			       "/dev/fuse: %s; load the kernel module ('modprobe fuse'), or give "
			       "the container this device",
			       strerror(errno));
	close(fd);
	if ((options->allow_other || options->allow_root) && !other_may_be_allowed())
		return err_set(err, -EPERM,
			       "%s is not allowed to ordinary users on this machine: root has to "
			       "add the line 'user_allow_other' to /etc/fuse.conf",
			       options->allow_other ? "allow_other" : "allow_root");
	if (geteuid() != 0 && access("/usr/bin/fusermount3", X_OK) &&
	    access("/bin/fusermount3", X_OK))
		return err_set(err, -ENOENT, "fusermount3 is missing: install fuse3");
	return 0;
}

static bool is_mounted_here(const char *path)
{
	char *store, *workspace, *mountpoint;

	if (service_find_mount(path, &store, &workspace, &mountpoint))
		return false;
	bool here = strcmp(mountpoint, path) == 0;
	free(store);
	free(workspace);
	free(mountpoint);
	return here;
}

/* `path` is `directory`, or lies in it; both are resolved. */
static bool lies_in(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return strcmp(directory, "/") == 0 ||
	       (strncmp(path, directory, length) == 0 && (!path[length] || path[length] == '/'));
}

/* A mount must neither stand in the store's own files nor hide them. */
static int check_place(const struct mount *mount, struct errbuf *err)
{
	const char *store = store_directory(mount->store);

	if (lies_in(mount->mountpoint, store))
		return err_set(err, -EINVAL,
			       "the mount point %s lies inside the store %s: choose one outside",
			       mount->mountpoint, store);
	if (lies_in(store, mount->mountpoint))
		return err_set(err, -EINVAL,
			       "the store %s lies below the mount point %s, which would hide it: "
			       "choose another mount point",
			       store, mount->mountpoint);
	if (is_mounted_here(mount->mountpoint))
		return err_set(err, -EBUSY, "a cairn workspace is mounted at %s already",
			       mount->mountpoint);
	return 0;
}

/* ---- the session ---- */

/* What libfuse says while it mounts goes into the caller's message. */
static _Thread_local struct errbuf *session_messages;

static void take_message(enum fuse_log_level level, const char *format, va_list arguments)
{
	char text[400];

	vsnprintf(text, sizeof(text), format, arguments);
	text[strcspn(text, "\n")] = 0;
	if (session_messages)
		err_set(session_messages, 0, "%s", text);
	else if (level <= FUSE_LOG_ERR)
		log_line(LOG_LEVEL_ERROR, "%s", text);
}

/* Commas and backslashes separate options: escaped. */
static char *escape(const char *text)
{
	char *escaped = malloc(2 * strlen(text) + 1), *at = escaped;

	if (!escaped)
		return NULL;
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			*at++ = '\\';
		*at++ = *text;
	}
	*at = 0;
	return escaped;
}

static char *mount_source(const struct mount *mount)
{
	char *source;

	if (asprintf(&source, "%s#%s", store_directory(mount->store), mount->workspace) < 0)
		return NULL;
	return source;
}

static char *option_list(const struct mount *mount, const struct parsed_options *options)
{
	char *source = mount_source(mount), *escaped = NULL, *list = NULL;

	if (source)
		escaped = escape(source);
	if (escaped &&
	    asprintf(&list, "default_permissions,fsname=%s,subtype=cairn%s%s%s%s", escaped,
		     options->read_only ? ",ro" : "", options->allow_other ? ",allow_other" : "",
		     options->allow_root ? ",allow_root" : "", options->passed) < 0)
		list = NULL;
	free(escaped);
	free(source);
	return list;
}

/* -EOPNOTSUPP where it is asked for and not to be had. */
static int ring_prepare(struct mount *mount, enum ring_choice choice, struct errbuf *err)
{
	struct errbuf why = {""};

	if (choice == RING_OFF)
		return 0;
	int error = ring_is_offered(&why);
	if (error && choice == RING_AUTO)
		return 0;
	if (!error)
		error = ring_new(mount, &mount->ring, &why);
	if (!error || choice == RING_AUTO) {
		if (error)
			log_line(LOG_LEVEL_INFO, "%s: %s", mount->mountpoint, why.text);
		return 0;
	}
	return err_set(err, error, "mount option 'io_uring=on': %s", why.text);
}

/* Before the mount is presented to anybody; until then the kernel keeps requests back. */
static int ring_check(struct mount *mount, enum ring_choice choice, struct errbuf *err)
{
	int error = mount->ring ? ring_wait_registered(mount->ring) : 0;

	if (!error)
		return 0;
	if (choice == RING_ON)
		return err_set(err, error, "mount option 'io_uring=on': the kernel refuses: %s",
			       strerror(-error));
	log_line(LOG_LEVEL_WARNING, "%s: no io_uring, the kernel refuses: %s", mount->mountpoint,
		 strerror(-error));
	return 0;
}

static int session_open(struct mount *mount, const struct parsed_options *options,
			struct errbuf *err)
{
	struct errbuf said = {""};
	char *list = option_list(mount, options);
	char *arguments[] = {(char *)"cairn", (char *)"-o", list, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
	int error = list ? 0 : -ENOMEM;

	fuse_set_log_func(take_message);
	session_messages = &said;
	if (!error) {
		mount->session =
			fuse_session_new(&args, &mount_operations, sizeof(mount_operations), mount);
		if (!mount->session)
			error = -EINVAL;
	}
	if (!error && fuse_session_mount(mount->session, mount->mountpoint)) {
		error = errno == EBUSY || errno == EPERM || errno == EACCES ? -errno : -EIO;
	} else if (!error) {
		error = dispatch_attach(mount);
		if (error)
			fuse_session_unmount(mount->session);
	}
	session_messages = NULL;
	fuse_opt_free_args(&args);
	free(list);
	if (error)
		return err_set(err, error, "cannot mount on %s: %s", mount->mountpoint,
			       said.text[0] ? said.text : strerror(-error));
	return 0;
}

/* The kernel reads ahead no further than this; only root may change it. */
static void raise_read_ahead(const struct mount *mount)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(mount->device),
		 minor(mount->device));
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t written = write(fd, "4096\n", 5);
	(void)written; /* without it reading is slower, no more */
	close(fd);
}

/* The first request answered from outside: from here on the mount is usable. */
static int session_greet(struct mount *mount, struct errbuf *err)
{
	struct stat stat_buffer;

	if (stat(mount->mountpoint, &stat_buffer))
		return err_set(err, -errno, "%s does not answer: %s", mount->mountpoint,
			       strerror(errno));
	mount->device = stat_buffer.st_dev;
	raise_read_ahead(mount);
	char *source = mount_source(mount);
	if (source)
		mount_register(mount, source);
	free(source);
	return 0;
}

/* ---- start ---- */

static void mount_release(struct mount *mount)
{
	if (mount->session) {
		/* The kernel has let go: this only frees what fuse_session_mount() kept. */
		fuse_session_unmount(mount->session);
		fuse_session_destroy(mount->session);
	}
	if (mount->ring) {
		ring_stop(mount->ring);
		ring_free(mount->ring);
	}
	if (mount->head) {
		inode_table_release(&mount->inodes);
		head_put(mount->head);
	}
	points_release(&mount->points);
	nodes_release(&mount->nodes);
	pthread_mutex_destroy(&mount->restore_lock);
	pthread_mutex_destroy(&mount->still_lock);
	pthread_mutex_destroy(&mount->questions_lock);
	pthread_mutex_destroy(&mount->state_lock);
	pthread_cond_destroy(&mount->state_changed);
	free(mount->mountpoint);
	free(mount->workspace);
	free(mount->fuse_options);
	free(mount);
}

static struct mount *mount_new(struct repo *repo, struct engine *engine,
			       const struct mount_options *options)
{
	struct mount *mount = calloc(1, sizeof(*mount));

	if (!mount)
		return NULL;
	pthread_mutex_init(&mount->restore_lock, NULL);
	pthread_mutex_init(&mount->still_lock, NULL);
	pthread_mutex_init(&mount->questions_lock, NULL);
	pthread_mutex_init(&mount->state_lock, NULL);
	pthread_cond_init(&mount->state_changed, NULL);
	nodes_init(&mount->nodes);
	points_init(&mount->points, repo);
	mount->repo = repo;
	mount->store = repo_store(repo);
	mount->engine = engine;
	mount->buffers = engine_buffers(engine);
	mount->workspace = strdup(options->workspace);
	mount->fuse_options = strdup(options->fuse_options ? options->fuse_options : "");
	if (!mount->workspace || !mount->fuse_options) {
		mount_release(mount);
		return NULL;
	}
	return mount;
}

static int open_head(struct mount *mount, struct errbuf *err)
{
	int error = repo_head(mount->repo, mount->workspace, &mount->head, err);
	if (error)
		return error;
	mount->tree = head_tree(mount->head);
	inode_table_init(&mount->inodes, mount->head);
	error = head_attach(mount->head, &mount_head_ops, mount);
	if (error)
		return err_set(err, error, "workspace '%s' is mounted already", mount->workspace);
	error = orphans_delete(mount);
	if (error) {
		head_detach(mount->head);
		return err_set(err, error, "workspace '%s': deleting what was left open: %s",
			       mount->workspace, strerror(fs_errno(error)));
	}
	return 0;
}

static int start_threads(struct mount *mount, struct errbuf *err)
{
	int error = deferred_start(mount);
	if (!error) {
		awake_start(&mount->awake, mount->ring);
		error = thread_start(&mount->dispatcher, dispatch_run, mount);
		if (error) {
			awake_stop(&mount->awake);
			deferred_stop(mount);
		}
	}
	if (error) {
		fuse_session_unmount(mount->session);
		return err_set(err, error, "cannot start a thread: %s", strerror(-error));
	}
	return 0;
}

static int serve(struct mount *mount, const struct parsed_options *options, struct errbuf *err)
{
	int error = open_head(mount, err);
	if (error)
		return error;
	error = ring_prepare(mount, options->ring, err);
	if (!error)
		error = session_open(mount, options, err);
	if (!error)
		error = start_threads(mount, err);
	if (error) {
		head_detach(mount->head);
		return error;
	}
	error = session_greet(mount, err);
	if (!error)
		error = ring_check(mount, options->ring, err);
	if (error) {
		mount_detach(mount);
		mount_wait_end(mount);
		pthread_join(mount->dispatcher, NULL);
	}
	return error;
}

static int start(struct mount *mount, const struct mount_options *options,
		 const struct parsed_options *parsed, struct errbuf *err)
{
	int error = check_point(options->mountpoint, err);
	if (!error)
		error = check_fuse(parsed, err);
	if (error)
		return error;
	mount->keeps_atime = !parsed->read_only && !parsed->noatime;
	mount->noxattr = parsed->noxattr;
	mount->remembered = parsed->allow_root ? 0 : FOREVER;
	mount->mountpoint = realpath(options->mountpoint, NULL);
	if (!mount->mountpoint)
		return err_set(err, -errno, "mount point %s: %s", options->mountpoint,
			       strerror(errno));
	error = check_place(mount, err);
	return error ? error : serve(mount, parsed, err);
}

int mount_start(struct repo *repo, struct engine *engine, const struct mount_options *options,
		struct mount **ret, struct errbuf *err)
{
	struct parsed_options parsed;

	int error = mount_options_parse(options->fuse_options, &parsed, err);
	if (error)
		return error;
	if (parsed.workspace && strcmp(parsed.workspace, options->workspace) != 0) {
		err_set(err, -EINVAL, "workspace '%s' is to be mounted, but the options say '%s'",
			options->workspace, parsed.workspace);
		mount_options_release(&parsed);
		return -EINVAL;
	}
	struct mount *mount = mount_new(repo, engine, options);
	if (mount)
		error = start(mount, options, &parsed, err);
	else
		error = err_set(err, -ENOMEM, "no memory");
	mount_options_release(&parsed);
	if (!error)
		*ret = mount;
	else if (mount)
		mount_release(mount);
	return error;
}

/* ---- end ---- */

static void close_handles(struct mount *mount)
{
	head_lock(mount->head);
	while (mount->handles)
		handle_close(mount, mount->handles);
	head_unlock(mount->head);
}

/* Access times that wait are stored where the workspace has changed anyway: that somebody has read
 * it makes no difference to its last point. */
static int commit_rest(struct mount *mount)
{
	int error = repo_commit(mount->repo);
	if (error)
		return error;
	head_lock(mount->head);
	if (head_is_at_base(mount->head) != 1)
		atimes_settle(mount);
	head_unlock(mount->head);
	return repo_commit(mount->repo);
}

void mount_finish(struct mount *mount)
{
	awake_stop(&mount->awake);
	deferred_stop(mount);
	while (atomic_load(&mount->reads_out))
		usleep(1000);
	/* A restore under way ends soon: the kernel answers it with errors now. */
	pthread_mutex_lock(&mount->restore_lock);
	close_handles(mount);
	unlinked_delete_all(mount);
	pthread_mutex_unlock(&mount->restore_lock);
	int error = commit_rest(mount);
	if (error)
		log_line(LOG_LEVEL_ERROR, "%s: the last changes could not be committed: %s",
			 mount->mountpoint, strerror(-error));
	head_detach(mount->head);
	if (!is_mounted_here(mount->mountpoint))
		mount_unregister(mount);

	pthread_mutex_lock(&mount->state_lock);
	mount->ended = true;
	void (*on_end)(void *context) = mount->on_end;
	void *context = mount->on_end_context;
	pthread_cond_broadcast(&mount->state_changed);
	pthread_mutex_unlock(&mount->state_lock);
	if (on_end)
		on_end(context);
}

void mount_wait_end(struct mount *mount)
{
	pthread_mutex_lock(&mount->state_lock);
	while (!mount->ended)
		pthread_cond_wait(&mount->state_changed, &mount->state_lock);
	pthread_mutex_unlock(&mount->state_lock);
}

bool mount_has_ended(struct mount *mount)
{
	pthread_mutex_lock(&mount->state_lock);
	bool ended = mount->ended;
	pthread_mutex_unlock(&mount->state_lock);
	return ended;
}

/* The device hangs up when the kernel has let go, before the dispatcher has noticed. */
bool mount_is_ending(struct mount *mount)
{
	struct pollfd device = {.fd = fuse_session_fd(mount->session)};

	return mount_has_ended(mount) || (poll(&device, 1, 0) > 0 && device.revents & POLLERR);
}

void mount_on_end(struct mount *mount, void (*ended)(void *context), void *context)
{
	pthread_mutex_lock(&mount->state_lock);
	bool late = mount->ended;
	mount->on_end = ended;
	mount->on_end_context = context;
	pthread_mutex_unlock(&mount->state_lock);
	if (late)
		ended(context);
}

struct mount *mount_free(struct mount *mount)
{
	if (!mount)
		return NULL;
	pthread_join(mount->dispatcher, NULL);
	mount_release(mount);
	return NULL;
}

/* ---- what others may know ---- */

const char *mount_point(const struct mount *mount)
{
	return mount->mountpoint;
}

const char *mount_workspace(const struct mount *mount)
{
	return mount->workspace;
}

struct head *mount_head(struct mount *mount)
{
	return mount->head;
}

size_t mount_take_scattered(struct mount *mount, uint64_t *ret, size_t capacity, bool *ret_many)
{
	head_lock(mount->head);
	size_t count = scattered_take(&mount->inodes.scattered, ret, capacity, ret_many);
	head_unlock(mount->head);
	return count;
}

const char *mount_transport(const struct mount *mount)
{
	return mount->ring && ring_is_serving(mount->ring) ? "io_uring" : "dev_fuse";
}

const char *mount_fuse_options(const struct mount *mount)
{
	return mount->fuse_options;
}

void mount_statistics(struct mount *mount, struct mount_statistics *ret)
{
	head_lock_shared(mount->head);
	ret->open_files = mount->open_files;
	ret->open_for_writing = mount->open_for_writing;
	ret->hot_inodes = mount->inodes.by_ino.count;
	head_unlock(mount->head);
	ret->known_inodes = nodes_known(mount);
	ret->dirty_bytes = engine_dirty_bytes(mount->engine);
}
