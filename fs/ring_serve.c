/*
 * Requests and answers of one queue.
 *
 * libfuse is given a request in the form that /dev/fuse has, in one piece: the header and the
 * first argument, which come by themselves, are put right in front of the payload, which stays
 * where it is.  In place of the request's number it gets RING_UNIQUE and the entry's address, so
 * that an answer finds its entry from whatever thread it comes.
 *
 * An answer is put into the entry, and handed over (COMMIT_AND_FETCH) by the queue's thread only:
 * the kernel delivers the next request of an entry to the thread that gave the command.  Other
 * threads put the entry on a list, and wake the thread where it sleeps.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/ring_internal.h"

#define RING_UNIQUE (UINT64_C(1) << 62) /* the kernel's own numbers count from 0 */
#define RING_WAKE UINT64_C(1)		/* completions of the eventfd; entries are aligned */

static _Thread_local struct ring_queue *own_queue;

/* ---- commands ---- */

static void give_command(struct ring_entry *entry, uint32_t command)
{
	struct ring_queue *queue = entry->queue;
	struct io_uring_sqe *submission = uring_next(&queue->uring);
	const struct fuse_uring_cmd_req request = {
		.commit_id = command == FUSE_IO_URING_CMD_REGISTER ? 0 : entry->commit_id,
		.qid = (uint16_t)queue->number,
	};

	if (!submission) { /* the kernel takes nothing any more */
		queue->dead = true;
		return;
	}
	entry->command = command;
	submission->opcode = IORING_OP_URING_CMD;
	/* Not a registered file: a child that shares our memory (outside.c) would keep it open when
	 * we are killed, because mappings of the ring belong to the memory. */
	submission->fd = queue->ring->fd;
	submission->cmd_op = command;
	submission->user_data = (uintptr_t)entry;
	if (command == FUSE_IO_URING_CMD_REGISTER) {
		submission->addr = (uintptr_t)entry->vector;
		submission->len = 2;
	}
	memcpy(submission->cmd, &request, sizeof(request));
}

static void watch_wake(struct ring_queue *queue)
{
	struct io_uring_sqe *submission = uring_next(&queue->uring);

	if (!submission) {
		queue->dead = true;
		return;
	}
	submission->opcode = IORING_OP_POLL_ADD;
	submission->fd = queue->wake_fd;
	submission->len = IORING_POLL_ADD_MULTI;
	submission->poll32_events = POLLIN;
	submission->user_data = RING_WAKE;
}

int ring_register_block(struct ring_queue *queue)
{
	struct ring_block *block = queue->blocks;

	if (block->next == NULL)
		watch_wake(queue);
	for (size_t i = 0; i < block->count; i++)
		give_command(&block->entries[i], FUSE_IO_URING_CMD_REGISTER);
	return queue->dead ? -EIO : 0;
}

/* ---- answers ---- */

bool ring_is_ours(uint64_t unique)
{
	return unique & RING_UNIQUE;
}

static void hand_over(struct ring_entry *entry)
{
	struct ring_queue *queue = entry->queue;

	if (entry->waits)
		queue->waiting--;
	entry->waits = false;
	if (entry->extra && entry->received > RING_KEEP)
		(void)madvise(entry->payload + RING_KEEP, queue->ring->payload - RING_KEEP,
			      MADV_DONTNEED);
	give_command(entry, FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
}

static void hand_over_later(struct ring_entry *entry)
{
	struct ring_queue *queue = entry->queue;

	pthread_mutex_lock(&queue->lock);
	entry->next_answered = queue->answered;
	queue->answered = entry;
	bool wake = queue->asleep;
	queue->asleep = false;
	pthread_mutex_unlock(&queue->lock);
	if (wake)
		(void)eventfd_write(queue->wake_fd, 1);
}

static void put_answer(struct ring_entry *entry, int32_t error, size_t length)
{
	const struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + length),
		.error = error,
		.unique = entry->unique,
	};

	memcpy(entry->header->in_out, &out, sizeof(out));
	entry->header->ring_ent_in_out = (struct fuse_uring_ent_in_out){
		.commit_id = entry->commit_id,
		.payload_sz = (uint32_t)length,
	};
	atomic_store(&entry->answered, true);
	if (own_queue == entry->queue)
		hand_over(entry);
	else
		hand_over_later(entry);
}

ssize_t ring_answer(const struct iovec *vector, int count)
{
	const struct fuse_out_header *out = vector[0].iov_base;
	struct ring_entry *entry = (void *)(uintptr_t)(out->unique & ~RING_UNIQUE);
	size_t length = 0, room = entry->queue->ring->payload;
	int32_t error = out->error;

	for (int i = 1; i < count; i++) {
		if (vector[i].iov_len > room - length) {
			error = -EIO;
			length = 0;
			break;
		}
		/* READ has filled it already (request_room). */
		if (vector[i].iov_base != entry->payload + length)
			memmove(entry->payload + length, vector[i].iov_base, vector[i].iov_len);
		length += vector[i].iov_len;
	}
	put_answer(entry, error, length);
	return (ssize_t)(sizeof(*out) + length);
}

void ring_hand_over(void)
{
	if (own_queue && uring_enter(&own_queue->uring, false))
		own_queue->dead = true;
}

/* ---- requests that wait ---- */

/* READ waits for packs, WRITE for room in memory: neither waits for the kernel. */
static bool may_wait_for_kernel(uint32_t opcode)
{
	return opcode != FUSE_READ && opcode != FUSE_WRITE;
}

static bool kick_with(struct ring_queue *queue, uint64_t node)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_retrieve_out retrieve;
	} notification = {
		.header = {.len = sizeof(notification), .error = FUSE_NOTIFY_RETRIEVE},
		.retrieve = {.notify_unique = RING_UNIQUE | ++queue->kicks << 1, .nodeid = node},
	};

	return write(queue->ring->fd, &notification, sizeof(notification)) > 0;
}

/* A file that is open for writing: WRITEs can only be of such. 0: there is none. */
static uint64_t find_writer(struct mount *mount)
{
	uint64_t node = 0;

	head_lock_shared(mount->head);
	for (struct handle *handle = mount->handles; handle && !node; handle = handle->next)
		node = handle->writes ? handle->node : 0;
	head_unlock(mount->head);
	return node;
}

/*
 * Makes the kernel send us a request on this queue: it comes behind those that wait there, or
 * takes a free entry, and its answer makes room for the first of these.  The kernel does that for
 * regular files that it knows: most often that is the one of the request at hand.
 */
static void kick(struct ring_queue *queue, uint64_t node)
{
	ring_hand_over();
	if (!kick_with(queue, node) && (node = find_writer(queue->ring->mount)))
		(void)kick_with(queue, node); /* it fails where the kernel lets go */
}

/*
 * Also where there is no need of more entries: requests in the background may wait beside free
 * ones, because the kernel moves several of them at a time to the queue.
 */
static void note_waiting(struct ring_entry *entry, uint64_t node)
{
	struct ring_queue *queue = entry->queue;

	entry->waits = true;
	queue->waiting++;
	if (queue->count - queue->waiting < RING_SPARE &&
	    !ring_add_entries(queue, RING_GROWTH, true))
		(void)ring_register_block(queue);
	kick(queue, node);
}

/* ---- requests ---- */

/* In the form of /dev/fuse; NULL: it makes no sense. */
static struct fuse_in_header *assemble(struct ring_entry *entry)
{
	const struct fuse_in_header *header = (const void *)entry->header->in_out;
	size_t payload = entry->received, first = header->len - sizeof(*header) - payload;

	if (header->len < sizeof(*header) + payload || first > sizeof(entry->header->op_in) ||
	    payload > entry->queue->ring->payload)
		return NULL;
	struct fuse_in_header *request = (void *)(entry->payload - first - sizeof(*header));
	memcpy(request + 1, entry->header->op_in, first);
	*request = *header;
	request->unique = RING_UNIQUE | (uintptr_t)entry;
	return request;
}

/* What the kernel sends on a queue it wants back.  Most FORGETs come through /dev/fuse; those of
 * names that READDIRPLUS brought and nobody could use are sent, and waited for, as requests. */
static bool has_no_reply(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

static void serve_request(struct ring_entry *entry)
{
	struct mount *mount = entry->queue->ring->mount;
	const struct fuse_in_header *header = (const void *)entry->header->in_out;
	uint32_t opcode = header->opcode;
	uint64_t node = header->nodeid;

	entry->unique = header->unique;
	entry->commit_id = entry->header->ring_ent_in_out.commit_id;
	entry->received = entry->header->ring_ent_in_out.payload_sz;
	atomic_store_explicit(&entry->answered, false, memory_order_relaxed);
	if (opcode == FUSE_NOTIFY_REPLY)
		return put_answer(entry, 0, 0);
	struct request_frame frame = {
		.header = assemble(entry),
		.room = entry->payload,
		.room_size = entry->queue->ring->payload,
	};
	if (!frame.header)
		return put_answer(entry, -EIO, 0);
	awake_note_request(&mount->awake);
	dispatch_process(mount, &frame);
	if (has_no_reply(opcode))
		put_answer(entry, 0, 0);
	else if (!atomic_load(&entry->answered) && may_wait_for_kernel(opcode))
		note_waiting(entry, node);
}

/* What came of a command.  Returns the error of a registration. */
static int take_completion(struct ring_queue *queue, const struct io_uring_cqe *completion)
{
	struct ring_entry *entry = (void *)(uintptr_t)completion->user_data;

	if (completion->user_data == RING_WAKE) {
		if (!(completion->flags & IORING_CQE_F_MORE))
			watch_wake(queue);
		return 0;
	}
	if (completion->res == 0) {
		serve_request(entry);
		return 0;
	}
	if (completion->res == -EINTR || completion->res == -EAGAIN) {
		give_command(entry, entry->command);
		return 0;
	}
	if (completion->res == -ENOTCONN || completion->res == -ECONNABORTED ||
	    entry->command == FUSE_IO_URING_CMD_COMMIT_AND_FETCH) {
		queue->dead = true; /* the kernel has let go */
		return 0;
	}
	queue->count--;
	return completion->res;
}

int ring_take_all(struct ring_queue *queue)
{
	struct io_uring_cqe completion;
	int error = 0;

	own_queue = queue;
	while (uring_take(&queue->uring, &completion)) {
		int result = take_completion(queue, &completion);
		error = error ? error : result;
	}
	return error;
}

/* Also says that we are about to sleep. */
static void take_answered(struct ring_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	struct ring_entry *entry = queue->answered;
	queue->answered = NULL;
	queue->asleep = true;
	pthread_mutex_unlock(&queue->lock);
	while (entry) {
		struct ring_entry *next = entry->next_answered;
		hand_over(entry);
		entry = next;
	}
}

static void stay_awake(struct ring_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->asleep = false;
	pthread_mutex_unlock(&queue->lock);
}

void ring_serve(struct ring_queue *queue)
{
	own_queue = queue;
	while (!queue->dead && !atomic_load(&queue->ring->stopping)) {
		take_answered(queue);
		int error = uring_enter(&queue->uring, !uring_has_more(&queue->uring));
		stay_awake(queue);
		if (error) {
			log_line(LOG_LEVEL_ERROR, "%s: io_uring: %s",
				 queue->ring->mount->mountpoint, strerror(-error));
			break;
		}
		(void)ring_take_all(queue);
	}
	own_queue = NULL;
}
