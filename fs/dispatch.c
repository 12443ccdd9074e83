/*
 * The request loop of a mount.
 *
 * The loop reads each request into a buffer of its own choice, so that a WRITE can keep the
 * buffer as file data.  libfuse decodes and encodes; what it does not know (3.14) is handled here:
 *
 *   INIT      the reply gets FUSE_HANDLE_KILLPRIV_V2, without which the kernel asks for
 *             security.capability before every write, and FUSE_SETXATTR_EXT, which tells us when
 *             setting an ACL must clear the set-group-ID bit
 *   SETXATTR  the longer form is cut down to what libfuse expects, its flags put aside
 *   TMPFILE   told to libfuse as CREATE, which it equals but for the missing name
 *   STATX     told to libfuse as GETATTR, which it begins like; answered by reply_statx()
 *
 * Where the kernel offers io_uring, requests come through ring.c and this loop gets what is left:
 * FORGET, mostly, and in the end that the kernel has let go.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/fuse_uring_abi.h"
#include "fs/mount_internal.h"

enum {
	WAKE_SIGNAL = SIGUSR1,
	FORGET_WAIT_US = 5000,
	FUSE_TMPFILE_OPCODE = 51,
	FUSE_STATX_OPCODE = 52,
	DIRECT_IO_ALLOW_MMAP = 1 << 4, /* of flags2: mmap(MAP_SHARED) works with direct I/O */
};

_Thread_local struct request_frame request_frame;

const void *request_argument(void)
{
	return request_frame.header + 1;
}

/* ---- INIT ---- */

static void note_init_request(struct mount *mount, const struct fuse_in_header *header)
{
	const struct fuse_init_in *in = (const void *)(header + 1);

	mount->init_unique = header->unique;
	if (header->len < sizeof(*header) + offsetof(struct fuse_init_in, flags2))
		return;
	mount->offered_flags = in->flags;
	if (in->flags & FUSE_INIT_EXT && header->len >= sizeof(*header) + sizeof(*in))
		mount->offered_flags2 = in->flags2;
}

/* Returns whether the ring was agreed on. */
static bool improve_init_reply(struct mount *mount, struct fuse_init_out *out)
{
	bool ring = mount->ring && mount->offered_flags2 & INIT_OVER_IO_URING;
	const uint32_t wanted = FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT;

	out->flags |= mount->offered_flags & wanted;
	mount->extended_setxattr = out->flags & FUSE_SETXATTR_EXT;
	if (mount->offered_flags2 & DIRECT_IO_ALLOW_MMAP) {
		out->flags |= FUSE_INIT_EXT;
		out->flags2 |= DIRECT_IO_ALLOW_MMAP;
	}
	if (ring) {
		out->flags |= FUSE_INIT_EXT;
		out->flags2 |= INIT_OVER_IO_URING;
	}
	return ring;
}

static ssize_t session_write(int fd, struct iovec *vector, int count, void *userdata)
{
	struct mount *mount = userdata;
	const struct fuse_out_header *header = vector[0].iov_base;
	bool ring = false;

	if (ring_is_ours(header->unique))
		return ring_answer(vector, count);
	if (!header->unique)
		ring_hand_over();
	if (mount->init_unique) {
		if (header->unique == mount->init_unique && !header->error && count > 1 &&
		    vector[1].iov_len == sizeof(struct fuse_init_out))
			ring = improve_init_reply(mount, vector[1].iov_base);
		mount->init_unique = 0;
	}
	ssize_t written = writev(fd, vector, count);
	if (ring && written >= 0)
		ring_go(mount->ring, fd);
	return written;
}

static ssize_t session_read(int fd, void *buffer, size_t length, void *userdata)
{
	(void)userdata;
	return read(fd, buffer, length);
}

int dispatch_attach(struct mount *mount)
{
	static const struct fuse_custom_io io = {.writev = session_write, .read = session_read};

	return fuse_session_custom_io(mount->session, &io, fuse_session_fd(mount->session));
}

/*
 * Not FUSE_CAP_ATOMIC_O_TRUNC: with it the kernel truncates twice, the second time without us, and
 * without the file's lock in between.  What another process wrote and sent meanwhile would be gone
 * from its cache, and from the size that it believes, but not from the file.
 */
static void op_init(void *userdata, struct fuse_conn_info *info)
{
	const struct mount *mount = userdata;
	unsigned wanted = FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ASYNC_READ |
			  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
			  FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO | FUSE_CAP_POSIX_ACL |
			  FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK |
			  FUSE_CAP_NO_OPENDIR_SUPPORT;

	if (mount->remembered <= 0)
		wanted &= (unsigned)~(FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT);
	info->want = info->capable & wanted;
	info->max_write = mount->ring ? (unsigned)ring_request_max(mount->ring) : REQUEST_MAX;
	info->max_background = 64;
	info->congestion_threshold = 48;
}

/* ---- the loop ---- */

/* The header of SETXATTR without its extension. */
static void shorten_setxattr(struct fuse_in_header *header)
{
	uint8_t *argument = (uint8_t *)(header + 1);
	const struct fuse_setxattr_in *in = (const void *)argument;
	const size_t extension = sizeof(*in) - FUSE_COMPAT_SETXATTR_IN_SIZE;

	request_frame.setxattr_flags = in->setxattr_flags;
	header->len -= (uint32_t)extension;
	memmove(argument + FUSE_COMPAT_SETXATTR_IN_SIZE, argument + sizeof(*in),
		header->len - sizeof(*header) - FUSE_COMPAT_SETXATTR_IN_SIZE);
}

static void translate(struct mount *mount, struct fuse_in_header *header)
{
	switch (header->opcode) {
	case FUSE_INIT:
		note_init_request(mount, header);
		break;
	case FUSE_SETXATTR:
		if (mount->extended_setxattr)
			shorten_setxattr(header);
		break;
	case FUSE_TMPFILE_OPCODE:
		request_frame.unnamed = true;
		header->opcode = FUSE_CREATE;
		break;
	case FUSE_STATX_OPCODE:
		request_frame.statx = true;
		header->opcode = FUSE_GETATTR;
		break;
	}
}

void dispatch_process(struct mount *mount, const struct request_frame *frame)
{
	request_frame = *frame;
	translate(mount, frame->header);
	const struct fuse_buf request = {
		.size = frame->header->len, .mem = frame->header, .fd = -1};
	fuse_session_process_buf(mount->session, &request);
	request_frame = (struct request_frame){0};
}

static void process(struct mount *mount, struct buffer *buffer, size_t length)
{
	const struct request_frame frame = {.buffer = buffer, .header = (void *)buffer->data};

	buffer->used = length;
	dispatch_process(mount, &frame);
}

/* A fresh buffer, waiting until memory comes back: there is nobody to report to. */
static struct buffer *request_buffer(struct mount *mount)
{
	struct buffer *buffer;

	while (!(buffer = buffer_new(mount->buffers, BUFFER_REQUEST)))
		usleep(10000);
	return buffer;
}

struct serving {
	struct mount *mount;
	struct buffer *buffer; /* owned */
};

/* The next request, or negative errno. */
static ssize_t receive(struct serving *serving, int fd)
{
	ssize_t length = read(fd, serving->buffer->data, BUFFER_REQUEST);
	return length < 0 ? -errno : length;
}

/* Until the kernel has let go (ENODEV) or the connection was cut off. */
static void serve(struct serving *serving)
{
	struct mount *mount = serving->mount;
	int fd = fuse_session_fd(mount->session);

	while (!atomic_load(&mount->cut)) {
		ssize_t length = receive(serving, fd);
		/* ENOENT: the request was interrupted before we took it. */
		if (length == -EINTR || length == -ENOENT || length == -EAGAIN)
			continue;
		if (length < 0) {
			if (length != -ENODEV && length != -ECONNABORTED)
				log_line(LOG_LEVEL_ERROR, "%s: reading from the kernel: %s",
					 mount->mountpoint, strerror((int)-length));
			return;
		}
		if ((size_t)length < sizeof(struct fuse_in_header))
			continue;
		const struct fuse_in_header *header = (const void *)serving->buffer->data;
		uint32_t opcode = header->opcode;
		if (opcode == FUSE_INTERRUPT && mount->ring)
			continue; /* libfuse does not know the request by that number */
		awake_note_request(&mount->awake);
		process(mount, serving->buffer, (size_t)length);
		if (mount->ring && (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET))
			usleep(FORGET_WAIT_US); /* many at once: they are in no hurry */
		if (atomic_load(&serving->buffer->references) > 1) {
			buffer_unref(mount->buffers, serving->buffer);
			serving->buffer = request_buffer(mount);
		}
	}
}

static void wake(int number)
{
	(void)number; /* that read(2) ends with EINTR is all that is wanted */
}

/* The only thread that takes WAKE_SIGNAL. */
static void accept_wake_signal(void)
{
	const struct sigaction action = {.sa_handler = wake};
	sigset_t set;

	sigaction(WAKE_SIGNAL, &action, NULL);
	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void *dispatch_run(void *context)
{
	struct serving serving = {.mount = context};

	accept_wake_signal();
	serving.buffer = request_buffer(context);
	serve(&serving);
	buffer_unref(serving.mount->buffers, serving.buffer);
	if (serving.mount->ring)
		ring_stop(serving.mount->ring);
	atomic_store(&serving.mount->served, true);
	mount_finish(context);
	return NULL;
}

/*
 * Requests from now on get no answer until mount_free() closes the device: then -ENOTCONN.  The
 * dispatcher may be about to read when the signal comes, so that once need not be enough.
 */
void dispatch_cut(struct mount *mount)
{
	atomic_store(&mount->cut, true);
	while (!atomic_load(&mount->served)) {
		pthread_kill(mount->dispatcher, WAKE_SIGNAL);
		usleep(1000);
	}
}

int thread_start(pthread_t *ret, void *(*run)(void *), void *context)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(ret, NULL, run, context);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

/* FLUSH is left out on purpose: ENOSYS once, and close() costs no round trip from then on. */
const struct fuse_lowlevel_ops mount_operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
};
