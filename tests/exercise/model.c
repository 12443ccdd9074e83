/* Images, random choices, the trace, and telling of a failure. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

/* ---- choices ---- */

/* splitmix64 */
uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

size_t rng_below(struct rng *rng, size_t bound)
{
	return bound ? rng_next(rng) % bound : 0;
}

bool rng_chance(struct rng *rng, unsigned percent)
{
	return rng_below(rng, 100) < percent;
}

void rng_seed(struct rng *rng, uint64_t seed, uint64_t number)
{
	rng->state = seed;
	rng->state = rng_next(rng) ^ number;
	rng_next(rng);
}

static size_t near(struct rng *rng, size_t value)
{
	size_t moved = value + rng_below(rng, 7);

	return moved > 3 ? moved - 3 : value;
}

size_t choose_length(struct world *world, size_t limit)
{
	struct rng *rng = &world->rng;
	size_t length;

	switch (rng_below(rng, 9)) {
	case 0:
		length = 1 + rng_below(rng, 16);
		break;
	case 1:
		length = 1 + rng_below(rng, 300);
		break;
	case 2:
		length = PAGE * (1 + rng_below(rng, 8));
		break;
	case 3:
		length = 1 + rng_below(rng, PAGE);
		break;
	case 4:
		length = near(rng, PAGE * (1 + rng_below(rng, 8)));
		break;
	case 5:
		length = 1 + rng_below(rng, 64 << 10);
		break;
	case 6: /* a chunk, as streams are cut */
		length = (16 << 10) + rng_below(rng, 260 << 10);
		break;
	case 7:
		length = near(rng, (size_t)(16 << 10) << rng_below(rng, 5));
		break;
	default:
		length =
			rng_chance(rng, 20) ? 1 + rng_below(rng, limit) : 1 + rng_below(rng, 20000);
	}
	return length < limit ? length : limit;
}

/* 0 to limit. */
size_t choose_offset(struct world *world, const struct file *file, size_t limit)
{
	struct rng *rng = &world->rng;
	size_t size = file->image.size, offset;

	switch (rng_below(rng, 9)) {
	case 0:
		offset = 0;
		break;
	case 1:
		offset = size;
		break;
	case 2:
		offset = near(rng, size);
		break;
	case 3:
		offset = rng_below(rng, size + 1) / PAGE * PAGE;
		break;
	case 4:
		offset = near(rng, rng_below(rng, size + 1) / PAGE * PAGE);
		break;
	case 5:
		offset = near(rng, rng_below(rng, size + 1) / (64 << 10) * (64 << 10));
		break;
	case 6:
		offset = rng_chance(rng, 30) ? rng_below(rng, limit + 1) : rng_below(rng, size + 1);
		break;
	default:
		offset = rng_below(rng, size + 1);
	}
	return offset < limit ? offset : limit;
}

void choose_range(struct world *world, const struct file *file, size_t *ret_from,
		  size_t *ret_length)
{
	size_t from = choose_offset(world, file, file->limit - 1);

	*ret_from = from;
	*ret_length = choose_length(world, file->limit - from);
}

bool choose_present(struct world *world, const struct file *file, size_t *ret_from,
		    size_t *ret_length)
{
	size_t size = file->image.size;

	if (!size)
		return false;
	*ret_from = choose_offset(world, file, size - 1);
	*ret_length = choose_length(world, size - *ret_from);
	return true;
}

static void random_bytes(struct rng *rng, uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i += 8) {
		uint64_t word = rng_next(rng);
		memcpy(bytes + i, &word, length - i < 8 ? length - i : 8);
	}
}

/* The same few pieces again and again, at any offset: so that chunks are shared. */
static void known_bytes(struct rng *rng, uint8_t *bytes, size_t length)
{
	struct rng known = {.state = rng_below(rng, 4)};

	random_bytes(&known, bytes, length);
}

static void text_bytes(struct rng *rng, uint8_t *bytes, size_t length)
{
	size_t done = 0;
	unsigned line = (unsigned)rng_below(rng, 1000);

	while (done < length) {
		char text[40];
		size_t count =
			(size_t)snprintf(text, sizeof(text), "%08u;name %u;open;\n", line, line);
		if (count > length - done)
			count = length - done;
		memcpy(bytes + done, text, count);
		done += count;
		line++;
	}
}

void choose_contents(struct world *world, uint8_t *bytes, size_t length)
{
	struct rng *rng = &world->rng;

	switch (rng_below(rng, 8)) {
	case 0:
		memset(bytes, 0, length);
		break;
	case 1: /* zeros inside */
		random_bytes(rng, bytes, length);
		size_t from = rng_below(rng, length);
		memset(bytes + from, 0, rng_below(rng, length - from + 1));
		break;
	case 2:
	case 3:
		known_bytes(rng, bytes, length);
		break;
	case 4:
		text_bytes(rng, bytes, length);
		break;
	default:
		random_bytes(rng, bytes, length);
	}
}

/* ---- images ---- */

void image_resize(struct image *image, size_t size)
{
	if (size > image->capacity) {
		size_t capacity = size + size / 2 + PAGE;
		uint8_t *bytes = realloc(image->bytes, capacity);
		if (!bytes) {
			perror("bytes");
			exit(2);
		}
		image->bytes = bytes;
		image->capacity = capacity;
	}
	if (size > image->size)
		memset(image->bytes + image->size, 0, size - image->size);
	image->size = size;
}

void image_copy(struct image *target, const struct image *source)
{
	image_resize(target, 0);
	image_resize(target, source->size);
	if (source->size)
		memcpy(target->bytes, source->bytes, source->size);
}

void image_write(struct image *image, size_t offset, const void *bytes, size_t length)
{
	if (offset + length > image->size)
		image_resize(image, offset + length);
	if (length)
		memcpy(image->bytes + offset, bytes, length);
}

void image_zero(struct image *image, size_t offset, size_t length)
{
	if (offset >= image->size)
		return;
	if (length > image->size - offset)
		length = image->size - offset;
	memset(image->bytes + offset, 0, length);
}

bool is_zero(const uint8_t *bytes, size_t length)
{
	return !length || (!bytes[0] && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* ---- trace ---- */

void trace(struct world *world, const struct file *file, size_t from, size_t to, const char *format,
	   ...)
{
	struct trace_entry *entry = &world->trace[world->trace_count++ % TRACE];
	va_list arguments;

	*entry =
		(struct trace_entry){.number = world->number, .file = file, .from = from, .to = to};
	va_start(arguments, format);
	vsnprintf(entry->text, sizeof(entry->text), format, arguments);
	va_end(arguments);
}

static void print_entry(const struct trace_entry *entry)
{
	if (!entry->file)
		printf("  %8llu      %s\n", (unsigned long long)entry->number, entry->text);
	else if (entry->file->slot < 0)
		printf("  %8llu ghost %s [%zu, %zu)\n", (unsigned long long)entry->number,
		       entry->text, entry->from, entry->to);
	else
		printf("  %8llu f%d   %s [%zu, %zu)\n", (unsigned long long)entry->number,
		       entry->file->slot, entry->text, entry->from, entry->to);
}

/* Entries without a file concern all. */
static bool touches(const struct trace_entry *entry, const struct file *file, size_t offset)
{
	return !entry->file || (entry->file == file && entry->from <= offset && offset < entry->to);
}

/* The last steps, and the last ones that touched this byte of the file, or all files. */
static void print_trace(struct world *world, const struct file *file, size_t offset)
{
	enum { LAST = 20, TOUCHED = 25 };
	uint64_t count = world->trace_count < TRACE ? world->trace_count : TRACE;
	uint64_t first = world->trace_count - count, shown = world->trace_count;

	for (int found = 0; shown > first && found < TOUCHED;)
		found += touches(&world->trace[--shown % TRACE], file, offset);
	printf("the last steps that touched %s:\n", file ? "this byte" : "everything");
	for (; shown < world->trace_count; shown++)
		if (touches(&world->trace[shown % TRACE], file, offset))
			print_entry(&world->trace[shown % TRACE]);
	printf("the last steps:\n");
	for (shown = count > LAST ? world->trace_count - LAST : first; shown < world->trace_count;
	     shown++)
		print_entry(&world->trace[shown % TRACE]);
}

static _Noreturn void end(struct world *world, const struct file *file, size_t offset)
{
	print_trace(world, file, offset);
	printf("FAILED at step %llu of seed %llu\n", (unsigned long long)world->number,
	       (unsigned long long)world->seed);
	fflush(stdout);
	exit(1);
}

void fail(struct world *world, const char *format, ...)
{
	va_list arguments;
	int error = errno;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(" (errno %d: %s)\n", error, strerror(error));
	end(world, NULL, 0);
}

static void print_bytes(const char *what, const uint8_t *bytes, size_t length)
{
	printf("  %s", what);
	for (size_t i = 0; i < length; i++)
		printf(" %02x", bytes[i]);
	printf("\n");
}

void compare(struct world *world, const struct file *file, const struct image *image,
	     const char *what, size_t offset, const uint8_t *bytes, size_t length)
{
	const uint8_t *right = image->bytes + offset;
	size_t first = 0, last = length, wrong = 0;

	if (!length || memcmp(bytes, right, length) == 0)
		return;
	while (bytes[first] == right[first])
		first++;
	while (bytes[last - 1] == right[last - 1])
		last--;
	for (size_t i = first; i < last; i++)
		wrong += bytes[i] != right[i];
	size_t shown = last - first < 16 ? last - first : 16;
	printf("%s of f%d, size %zu: %zu bytes differ in [%zu, %zu)\n", what,
	       file ? file->slot : -1, image->size, wrong, offset + first, offset + last);
	print_bytes("found   ", bytes + first, shown);
	print_bytes("expected", right + first, shown);
	end(world, file, offset + first);
}
