/* The ring of a mount: what it needs, its threads, its beginning and its end. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/ring_internal.h"

#define PARAMETER "/sys/module/fuse/parameters/enable_uring"
#define POSSIBLE "/sys/devices/system/cpu/possible"
#define ONLINE "/sys/devices/system/cpu/online"

/* ---- may we? ---- */

int ring_is_offered(struct errbuf *err)
{
	char word[8] = "";
	FILE *stream = fopen(PARAMETER, "re");

	if (!stream)
		return err_set(err, -EOPNOTSUPP,
			       "this kernel has no FUSE over io_uring (Linux 6.14 has, with "
			       "CONFIG_FUSE_IO_URING): use io_uring=auto");
	bool enabled = fgets(word, sizeof(word), stream) && (word[0] == 'Y' || word[0] == '1');
	fclose(stream);
	if (!enabled)
		return err_set(err, -EOPNOTSUPP,
			       "FUSE over io_uring is switched off on this machine: root has to "
			       "run 'echo Y >" PARAMETER "' (or boot with fuse.enable_uring=Y); "
			       "or use io_uring=auto");
	return 0;
}

/* A list as sysfs has it: "0-3,8-11".  Those beyond a set's size are left out. */
static int read_processors(const char *path, cpu_set_t *ret)
{
	unsigned first, last;
	char separator = ',';
	FILE *stream = fopen(path, "re");

	if (!stream)
		return -errno;
	CPU_ZERO(ret);
	while (separator == ',' && fscanf(stream, "%u", &first) == 1) {
		last = first;
		separator = (char)fgetc(stream);
		if (separator == '-' && fscanf(stream, "%u", &last) == 1)
			separator = (char)fgetc(stream);
		for (; first <= last && first < CPU_SETSIZE; first++)
			CPU_SET(first, ret);
	}
	fclose(stream);
	return CPU_COUNT(ret) ? 0 : -EINVAL;
}

/* The kernel has a queue for each processor that there may ever be.  Who keeps us from one that is
 * there (taskset, a cpuset) wants no thread of ours on it. */
static int choose_queues(unsigned *ret_count)
{
	cpu_set_t possible, online, allowed;

	int error = read_processors(POSSIBLE, &possible);
	if (!error)
		error = read_processors(ONLINE, &online);
	if (!error && sched_getaffinity(0, sizeof(allowed), &allowed))
		error = -errno;
	if (error)
		return error;
	CPU_AND(&allowed, &allowed, &online);
	*ret_count = (unsigned)CPU_COUNT(&possible);
	return CPU_EQUAL(&allowed, &online) ? 0 : -EACCES;
}

/* One that is not there yet runs nobody who would call. */
static void bind_thread(unsigned processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	(void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* ---- memory ---- */

/* Requests are at most REQUEST_MAX; smaller ones where that would be too much. */
static int choose_sizes(struct ring *ring)
{
	size_t payload = REQUEST_MAX;

	while (RING_BYTES / payload / ring->count < RING_DEPTH_MIN && payload > RING_FEW)
		payload /= 2;
	size_t depth = RING_BYTES / payload / ring->count;
	if (depth < RING_DEPTH_MIN)
		return -E2BIG;
	ring->payload = payload;
	ring->depth = depth < RING_DEPTH_MAX ? (unsigned)depth : RING_DEPTH_MAX;
	return 0;
}

int ring_add_entries(struct ring_queue *queue, size_t count, bool extra)
{
	size_t stride = RING_FRONT + queue->ring->payload;
	struct ring_block *block = calloc(1, sizeof(*block) + count * sizeof(block->entries[0]));

	if (!block)
		return -ENOMEM;
	block->size = count * stride;
	block->memory = mmap(NULL, block->size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (block->memory == MAP_FAILED) {
		free(block);
		return -ENOMEM;
	}
	block->count = count;
	for (size_t i = 0; i < count; i++) {
		struct ring_entry *entry = &block->entries[i];
		entry->queue = queue;
		entry->header = (void *)(block->memory + i * stride);
		entry->payload = block->memory + i * stride + RING_FRONT;
		entry->vector[0] = (struct iovec){entry->header, sizeof(*entry->header)};
		entry->vector[1] = (struct iovec){entry->payload, queue->ring->payload};
		entry->extra = extra;
	}
	block->next = queue->blocks;
	queue->blocks = block;
	queue->count += count;
	return 0;
}

static void free_queue(struct ring_queue *queue)
{
	while (queue->blocks) {
		struct ring_block *block = queue->blocks;
		queue->blocks = block->next;
		munmap(block->memory, block->size);
		free(block);
	}
	uring_close(&queue->uring);
	if (queue->wake_fd >= 0)
		close(queue->wake_fd);
	pthread_mutex_destroy(&queue->lock);
}

/* ---- the threads ---- */

static void report(struct ring *ring, int error)
{
	pthread_mutex_lock(&ring->lock);
	ring->reported++;
	if (error && !ring->error)
		ring->error = error;
	pthread_cond_broadcast(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

/* The io_uring belongs to the thread that makes it. */
static int prepare_queue(struct ring_queue *queue)
{
	unsigned depth = queue->ring->depth;

	bind_thread(queue->number);
	int error = uring_open(&queue->uring, RING_DEPTH_MAX * 2, 256);
	if (!error)
		error = ring_add_entries(queue, depth, false);
	return error;
}

static int register_queue(struct ring_queue *queue)
{
	int error = ring_register_block(queue);
	if (!error)
		error = uring_enter(&queue->uring, false);
	return error ? error : ring_take_all(queue);
}

/* True: the device is known. */
static bool await_start(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	while (ring->state < RING_STARTING)
		pthread_cond_wait(&ring->changed, &ring->lock);
	bool starting = ring->state == RING_STARTING;
	pthread_mutex_unlock(&ring->lock);
	return starting;
}

static void *queue_run(void *context)
{
	struct ring_queue *queue = context;
	struct ring *ring = queue->ring;

	int error = prepare_queue(queue);
	report(ring, error);
	if (!error && await_start(ring)) {
		error = register_queue(queue);
		report(ring, error);
		if (!error)
			ring_serve(queue);
	}
	uring_close(&queue->uring);
	return NULL;
}

/* ---- life ---- */

static struct ring *allocate(struct mount *mount, unsigned count)
{
	struct ring *ring = calloc(1, sizeof(*ring) + count * sizeof(ring->queues[0]));

	if (!ring)
		return NULL;
	ring->mount = mount;
	ring->count = count;
	ring->fd = -1;
	pthread_mutex_init(&ring->lock, NULL);
	pthread_cond_init(&ring->changed, NULL);
	for (unsigned i = 0; i < count; i++) {
		struct ring_queue *queue = &ring->queues[i];
		queue->ring = ring;
		queue->number = i;
		queue->uring = URING_CLOSED;
		queue->wake_fd = -1;
		pthread_mutex_init(&queue->lock, NULL);
	}
	return ring;
}

static int start_threads(struct ring *ring)
{
	int error = 0;

	for (unsigned i = 0; i < ring->count && !error; i++) {
		struct ring_queue *queue = &ring->queues[i];
		queue->wake_fd = eventfd(0, EFD_CLOEXEC);
		error = queue->wake_fd < 0 ? -errno
					   : thread_start(&queue->thread, queue_run, queue);
		ring->threads += !error;
	}
	pthread_mutex_lock(&ring->lock);
	while (ring->reported < ring->threads)
		pthread_cond_wait(&ring->changed, &ring->lock);
	ring->state = RING_PREPARED;
	ring->reported = 0;
	error = error ? error : ring->error;
	pthread_mutex_unlock(&ring->lock);
	return error;
}

static int describe(int error, struct errbuf *err)
{
	const char *why = strerror(-error);

	if (error == -EPERM || error == -ENOSYS)
		why = "the kernel allows no io_uring here (sysctl kernel.io_uring_disabled, or a "
		      "container's filter)";
	else if (error == -EACCES)
		why = "the daemon may not run on every processor (taskset, cpuset)";
	else if (error == -E2BIG)
		why = "it would take too much memory on a machine with so many processors";
	return err_set(err, error, "FUSE over io_uring cannot be used: %s", why);
}

int ring_new(struct mount *mount, struct ring **ret, struct errbuf *err)
{
	unsigned count;

	int error = choose_queues(&count);
	if (error)
		return describe(error, err);
	struct ring *ring = allocate(mount, count);
	if (!ring)
		return describe(-ENOMEM, err);
	error = choose_sizes(ring);
	if (!error)
		error = start_threads(ring);
	if (error) {
		ring_stop(ring);
		ring_free(ring);
		return describe(error, err);
	}
	ring->set_aside = (size_t)count * ring->depth * (RING_FRONT + ring->payload);
	engine_set_aside(mount->engine, (int64_t)ring->set_aside);
	*ret = ring;
	return 0;
}

size_t ring_request_max(const struct ring *ring)
{
	return ring->payload;
}

void ring_go(struct ring *ring, int fd)
{
	pthread_mutex_lock(&ring->lock);
	if (ring->state == RING_PREPARED) {
		ring->state = RING_STARTING;
		ring->fd = fd;
		pthread_cond_broadcast(&ring->changed);
	}
	pthread_mutex_unlock(&ring->lock);
}

int ring_wait_registered(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	while (ring->state == RING_STARTING && ring->reported < ring->threads)
		pthread_cond_wait(&ring->changed, &ring->lock);
	if (ring->state == RING_STARTING && !ring->error)
		ring->state = RING_SERVING;
	int error = ring->state == RING_SERVING ? 0 : ring->error ? ring->error : -EOPNOTSUPP;
	pthread_mutex_unlock(&ring->lock);
	return error;
}

bool ring_is_serving(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	bool serving = ring->state == RING_SERVING;
	pthread_mutex_unlock(&ring->lock);
	return serving;
}

void ring_stop(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->state = RING_STOPPED;
	pthread_cond_broadcast(&ring->changed);
	unsigned threads = ring->threads;
	ring->threads = 0;
	pthread_mutex_unlock(&ring->lock);
	atomic_store(&ring->stopping, true);
	for (unsigned i = 0; i < threads; i++)
		(void)eventfd_write(ring->queues[i].wake_fd, 1);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ring->queues[i].thread, NULL);
	engine_set_aside(ring->mount->engine, -(int64_t)ring->set_aside);
	ring->set_aside = 0;
}

struct ring *ring_free(struct ring *ring)
{
	if (!ring)
		return NULL;
	for (unsigned i = 0; i < ring->count; i++)
		free_queue(&ring->queues[i]);
	pthread_cond_destroy(&ring->changed);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
	return NULL;
}
