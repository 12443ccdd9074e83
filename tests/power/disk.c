/*
 * State of a disk: for each file what is durable (`base`), and the operations since, in order;
 * likewise for names.  A sync marks operations as durable, and those at the front of the list are
 * then worked into the base.
 *
 * A page of a file is written back as it is in memory.  So a sector that is on the disk as of some
 * operation has what all earlier operations did to it; which operation that is, is what a cut
 * chooses.
 */
#include "disk.h"
#include "tape.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, PAGE = 4096 };

const char *const disk_cut_names[DISK_CUTS] = {
	"nothing", "everything",  "prefix",   "ordered", "some",
	"sectors", "all but one", "only one", "data",	 "metadata",
};
const char *const disk_deaf_names[DISK_DEAFS] = {
	"nothing", "packs", "index", "meta", "redo", "names",
};

struct change {
	uint64_t record;    /* of the tape; orders everything */
	uint64_t operation; /* while it has not ended; 0 afterwards */
	uint64_t ended;	    /* record */
	uint64_t offset, length;
	const uint8_t *data; /* NULL: zeros */
	uint64_t size;	     /* of the file afterwards */
	bool resizes;
	bool sync_itself; /* O_DSYNC */
	bool durable;
	bool chosen;	  /* by the cut under way: some of it is on the disk */
	uint8_t *on_disk; /* for each sector; owned, during a cut */
};

struct file {
	uint64_t number;
	bool directory;
	enum disk_deaf class;
	uint8_t *base; /* owned */
	uint64_t base_size, capacity;
	uint64_t size;		/* latest */
	struct change *changes; /* owned */
	size_t count, room;
};

struct name {
	uint64_t parent, file;
	char text[64];
};

struct name_change {
	uint64_t record;
	enum tape_kind kind;
	struct name name, other; /* other: what a rename makes of it */
	bool durable, chosen;
};

struct sync {
	uint64_t operation, file, record;
};

struct disk {
	uint8_t *tape; /* owned, mapped */
	size_t length, at;
	uint64_t record;
	enum disk_deaf deaf;
	uint64_t journal;   /* record: all names and sizes before it are durable, where the file
			     * system has one journal for all */
	struct file *files; /* owned, as all below */
	size_t file_count;
	struct name *names; /* durable */
	size_t name_count;
	struct name_change *name_changes;
	size_t name_change_count;
	struct sync *syncs; /* under way */
	size_t sync_count;
	char mark[256];
	uint64_t random;
};

static void *grow(void *array, size_t count, size_t size)
{
	if (count & (count - 1)) /* full at powers of two */
		return array;
	array = reallocarray(array, count ? count * 2 : 1, size);
	if (!array)
		abort();
	return array;
}

static struct file *find_file(struct disk *disk, uint64_t number)
{
	for (size_t i = disk->file_count; i-- > 0;)
		if (disk->files[i].number == number)
			return &disk->files[i];
	return NULL;
}

/* ---- random numbers ---- */

static uint64_t below(struct disk *disk, uint64_t limit)
{
	disk->random ^= disk->random >> 12;
	disk->random ^= disk->random << 25;
	disk->random ^= disk->random >> 27;
	return limit ? (disk->random * 2685821657736338717u >> 11) % limit : 0;
}

/* ---- playing ---- */

static enum disk_deaf class_of(const char *name, bool directory)
{
	if (directory)
		return DEAF_TO_NAMES;
	if (strcmp(name, "data.mdb") == 0)
		return DEAF_TO_INDEX;
	if (strcmp(name, "redo") == 0)
		return DEAF_TO_REDO;
	return strlen(name) >= 8 && strspn(name, "0123456789abcdef") == strlen(name)
		       ? DEAF_TO_PACKS
		       : DEAF_TO_NOTHING;
}

static struct file *add_file(struct disk *disk, uint64_t number, const char *name, bool directory)
{
	struct file *file = find_file(disk, number);

	if (!file) {
		disk->files = grow(disk->files, disk->file_count, sizeof(*disk->files));
		file = &disk->files[disk->file_count++];
	} else { /* the number of one that was removed */
		free(file->base);
		free(file->changes);
	}
	*file = (struct file){.number = number, .directory = directory};
	file->class = class_of(name, directory);
	return file;
}

static void need(struct file *file, uint64_t size)
{
	if (size <= file->capacity)
		return;
	size = (size + PAGE) * 2;
	file->base = realloc(file->base, size);
	if (!file->base)
		abort();
	memset(file->base + file->capacity, 0, size - file->capacity);
	file->capacity = size;
}

static void add_change(struct disk *disk, const struct tape_record *record, const uint8_t *payload)
{
	struct file *file = find_file(disk, record->file);
	struct change change = {.record = disk->record,
				.operation = record->operation,
				.offset = record->offset,
				.length = record->payload,
				.data = payload,
				.sync_itself = record->flags & TAPE_DURABLE};

	if (!file)
		return;
	change.size = file->size;
	switch (record->kind) {
	case TAPE_WRITE:
		if (change.offset + change.length > file->size)
			change.size = change.offset + change.length;
		break;
	case TAPE_PUNCH:
		change.data = NULL;
		change.length = record->length;
		break;
	default: /* TAPE_TRUNCATE, TAPE_EXTEND */
		change.data = NULL;
		change.offset = change.length = 0;
		if (record->kind == TAPE_TRUNCATE || record->length > file->size)
			change.size = record->length;
		if (change.size < file->size) {
			change.offset = change.size;
			change.length = file->size - change.size;
		}
	}
	change.resizes = change.size != file->size;
	file->size = change.size;
	file->changes = grow(file->changes, file->count, sizeof(*file->changes));
	file->changes[file->count++] = change;
}

static void apply(uint8_t *bytes, const struct change *change, uint64_t offset, uint64_t length)
{
	if (change->data)
		memcpy(bytes + offset, change->data + (offset - change->offset), length);
	else
		memset(bytes + offset, 0, length);
}

/* What is durable at the front of the lists becomes the base.  `grow` counts on lists that only
 * shrink to nothing or stay, so what is left is kept at the front of the same memory. */
static void fold_file(struct file *file)
{
	size_t done = 0;

	while (done < file->count && file->changes[done].durable &&
	       !file->changes[done].operation) {
		const struct change *change = &file->changes[done++];

		need(file, change->offset + change->length);
		apply(file->base, change, change->offset, change->length);
		file->base_size = change->size;
		need(file, file->base_size);
	}
	if (!done)
		return;
	struct change *rest = NULL;
	size_t count = 0;
	for (size_t i = done; i < file->count; i++) {
		rest = grow(rest, count, sizeof(*rest));
		rest[count++] = file->changes[i];
	}
	free(file->changes);
	file->changes = rest;
	file->count = count;
}

static void set_name(struct name **names, size_t *count, const struct name *name)
{
	for (size_t i = 0; i < *count; i++) {
		if ((*names)[i].parent == name->parent &&
		    strcmp((*names)[i].text, name->text) == 0) {
			(*names)[i].file = name->file;
			return;
		}
	}
	*names = reallocarray(*names, *count + 1, sizeof(**names));
	if (!*names)
		abort();
	(*names)[(*count)++] = *name;
}

/* The number of the file that had it; 0: there was none. */
static uint64_t drop_name(struct name *names, size_t *count, const struct name *name)
{
	for (size_t i = 0; i < *count; i++) {
		if (names[i].parent == name->parent && strcmp(names[i].text, name->text) == 0) {
			uint64_t file = names[i].file;

			names[i] = names[--*count];
			return file;
		}
	}
	return 0;
}

static void apply_name(struct name **names, size_t *count, const struct name_change *change)
{
	struct name other = change->other;

	switch (change->kind) {
	case TAPE_MAKE:
		set_name(names, count, &change->name);
		break;
	case TAPE_UNLINK:
		drop_name(*names, count, &change->name);
		break;
	default: /* TAPE_RENAME; of what never came to be nothing comes */
		other.file = drop_name(*names, count, &change->name);
		if (other.file)
			set_name(names, count, &other);
	}
}

static void fold_names(struct disk *disk)
{
	size_t done = 0;

	while (done < disk->name_change_count && disk->name_changes[done].durable)
		apply_name(&disk->names, &disk->name_count, &disk->name_changes[done++]);
	struct name_change *rest = NULL;
	size_t count = 0;
	for (size_t i = done; done && i < disk->name_change_count; i++) {
		rest = grow(rest, count, sizeof(*rest));
		rest[count++] = disk->name_changes[i];
	}
	if (!done)
		return;
	free(disk->name_changes);
	disk->name_changes = rest;
	disk->name_change_count = count;
}

static void copy_text(char to[64], const char *from, size_t length)
{
	if (length > 63)
		length = 63;
	memcpy(to, from, length);
	to[length] = '\0';
}

static void add_name_change(struct disk *disk, const struct tape_record *record,
			    const char *payload)
{
	struct name_change change = {.record = disk->record, .kind = record->kind};
	size_t first = strnlen(payload, record->payload);

	change.name.parent = record->parent;
	change.name.file = record->file;
	copy_text(change.name.text, payload, first);
	if (record->kind == TAPE_RENAME) {
		change.other.parent = record->file;
		copy_text(change.other.text, payload + first + 1, record->payload - first - 1);
	}
	if (record->kind == TAPE_MAKE)
		add_file(disk, record->file, change.name.text, record->flags & TAPE_DIRECTORY);
	disk->name_changes =
		grow(disk->name_changes, disk->name_change_count, sizeof(*disk->name_changes));
	disk->name_changes[disk->name_change_count++] = change;
}

static void end_sync(struct disk *disk, const struct sync *sync)
{
	struct file *file = find_file(disk, sync->file);

	if (!file || (disk->deaf && file->class == disk->deaf))
		return;
	if (sync->record > disk->journal)
		disk->journal = sync->record;
	for (size_t i = 0; i < file->count; i++)
		if (!file->changes[i].operation && file->changes[i].ended < sync->record)
			file->changes[i].durable = true;
	fold_file(file);
	for (size_t i = 0; file->directory && i < disk->name_change_count; i++) {
		struct name_change *change = &disk->name_changes[i];

		if (change->record < sync->record &&
		    (change->name.parent == file->number || change->other.parent == file->number))
			change->durable = true;
	}
	fold_names(disk);
}

/* True: it was a sync that has ended well. */
static bool end_operation(struct disk *disk, uint64_t operation, int64_t result)
{
	for (size_t i = 0; i < disk->sync_count; i++) {
		if (disk->syncs[i].operation != operation)
			continue;
		struct sync sync = disk->syncs[i];

		disk->syncs[i] = disk->syncs[--disk->sync_count];
		if (result == 0)
			end_sync(disk, &sync);
		return result == 0;
	}
	for (size_t f = 0; f < disk->file_count; f++) {
		struct file *file = &disk->files[f];

		for (size_t i = file->count; i-- > 0;) {
			struct change *change = &file->changes[i];

			if (change->operation != operation)
				continue;
			change->operation = 0;
			change->ended = disk->record;
			if (change->sync_itself && result >= 0 &&
			    !(disk->deaf == DEAF_TO_META && file->class == DEAF_TO_INDEX))
				change->durable = true;
			fold_file(file);
			return false;
		}
	}
	return false;
}

static void begin_sync(struct disk *disk, const struct tape_record *record)
{
	disk->syncs = reallocarray(disk->syncs, disk->sync_count + 1, sizeof(*disk->syncs));
	if (!disk->syncs)
		abort();
	disk->syncs[disk->sync_count++] =
		(struct sync){record->operation, record->file, disk->record};
}

static void add_base(struct disk *disk, const struct tape_record *record, const char *payload)
{
	struct name name = {.parent = record->parent, .file = record->file};
	struct file *file;

	copy_text(name.text, payload, record->payload);
	file = add_file(disk, record->file, name.text, record->flags & TAPE_DIRECTORY);
	need(file, record->length);
	file->size = file->base_size = record->length;
	set_name(&disk->names, &disk->name_count, &name);
}

bool disk_next(struct disk *disk, struct disk_event *ret)
{
	struct tape_record record;
	const uint8_t *payload;

	*ret = (struct disk_event){0};
	if (disk->length - disk->at < sizeof(record))
		return false;
	memcpy(&record, disk->tape + disk->at, sizeof(record));
	payload = disk->tape + disk->at + sizeof(record);
	if (record.payload > disk->length - disk->at - sizeof(record))
		return false; /* the process was killed as it wrote that */
	disk->at += sizeof(record) + record.payload;
	disk->record++;
	ret->is_change = true;
	switch ((enum tape_kind)record.kind) {
	case TAPE_FILE:
		add_base(disk, &record, (const char *)payload);
		ret->is_change = false;
		break;
	case TAPE_BYTES:
		memcpy(find_file(disk, record.file)->base + record.offset, payload, record.payload);
		ret->is_change = false;
		break;
	case TAPE_WRITE:
	case TAPE_TRUNCATE:
	case TAPE_PUNCH:
	case TAPE_EXTEND:
		add_change(disk, &record, payload);
		break;
	case TAPE_SYNC:
		begin_sync(disk, &record);
		break;
	case TAPE_END:
		ret->is_sync_end = end_operation(disk, record.operation, (int64_t)record.length);
		break;
	case TAPE_MAKE:
	case TAPE_UNLINK:
	case TAPE_RENAME:
		add_name_change(disk, &record, (const char *)payload);
		break;
	case TAPE_MARK:
		snprintf(disk->mark, sizeof(disk->mark), "%.*s", (int)record.payload,
			 (const char *)payload);
		*ret = (struct disk_event){.is_mark = true, .mark = disk->mark};
		break;
	}
	return true;
}

uint64_t disk_position(const struct disk *disk)
{
	return disk->record;
}

size_t disk_waiting(const struct disk *disk)
{
	size_t waiting = disk->name_change_count;

	for (size_t i = 0; i < disk->file_count; i++)
		waiting += disk->files[i].count;
	return waiting;
}

struct disk *disk_open(const char *tape, enum disk_deaf deaf)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	int fd = open(tape, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (!disk || fd < 0 || fstat(fd, &st) < 0 || !st.st_size)
		abort();
	disk->length = (size_t)st.st_size;
	disk->deaf = deaf;
	disk->tape = mmap(NULL, disk->length, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (disk->tape == MAP_FAILED)
		abort();
	return disk;
}

struct disk *disk_close(struct disk *disk)
{
	for (size_t i = 0; i < disk->file_count; i++) {
		free(disk->files[i].base);
		free(disk->files[i].changes);
	}
	munmap(disk->tape, disk->length);
	free(disk->files);
	free(disk->names);
	free(disk->name_changes);
	free(disk->syncs);
	free(disk);
	return NULL;
}

/* ---- cutting ---- */

struct cutting {
	struct disk *disk;
	enum disk_cut cut;
	uint64_t instant; /* CUT_PREFIX, CUT_ORDERED: records up to here; …_ONE: this one */
	uint64_t percent; /* CUT_SOME, CUT_SECTORS */
};

static uint64_t sectors_of(const struct change *change)
{
	if (!change->length)
		return 0;
	return (change->offset + change->length - 1) / SECTOR - change->offset / SECTOR + 1;
}

/* Whether the cut leaves the whole operation, leaves nothing of it, or decides for each sector. */
static enum {
	NONE,
	WHOLE,
	TORN
} decide(const struct cutting *cutting, uint64_t record, bool data, bool grows)
{
	switch (cutting->cut) {
	case CUT_NOTHING:
		return NONE;
	case CUT_EVERYTHING:
		return WHOLE;
	case CUT_PREFIX:
		return record < cutting->instant ? WHOLE : record == cutting->instant ? TORN : NONE;
	case CUT_ORDERED:
		if (record <= cutting->instant && (!data || grows))
			return WHOLE;
		return data && !grows ? TORN : NONE;
	case CUT_SOME:
		return below(cutting->disk, 100) < cutting->percent ? WHOLE : NONE;
	case CUT_SECTORS:
		return TORN;
	case CUT_ALL_BUT_ONE:
		return record == cutting->instant ? NONE : WHOLE;
	case CUT_ONLY_ONE:
		return record == cutting->instant ? WHOLE : NONE;
	case CUT_DATA:
		return data ? WHOLE : NONE;
	default: /* CUT_METADATA */
		return data ? NONE : WHOLE;
	}
}

static void choose(struct cutting *cutting, struct change *change)
{
	uint64_t sectors = sectors_of(change);
	int decision = change->durable ? WHOLE
				       : (int)decide(cutting, change->record, change->data != NULL,
						     change->resizes);

	change->on_disk = calloc(1, sectors + 1);
	if (!change->on_disk)
		abort();
	change->chosen = decision == WHOLE;
	for (uint64_t i = 0; i < sectors && decision != NONE; i++) {
		change->on_disk[i] =
			decision == WHOLE || below(cutting->disk, 100) < cutting->percent;
		change->chosen = change->chosen || change->on_disk[i];
	}
	if (decision == TORN && !sectors)
		change->chosen = below(cutting->disk, 2);
}

/* Where a sector is as of one operation, it has the earlier ones too. */
static void complete(struct file *file, uint64_t size)
{
	uint8_t *later = calloc(1, size / SECTOR + 2);

	if (!later)
		abort();
	for (size_t i = file->count; i-- > 0;) {
		struct change *change = &file->changes[i];
		uint64_t first = change->offset / SECTOR;

		for (uint64_t s = 0; s < sectors_of(change); s++) {
			if (change->on_disk[s])
				later[first + s] = 1;
			else
				change->on_disk[s] = later[first + s];
		}
	}
	free(later);
}

static void apply_sectors(uint8_t *bytes, const struct change *change)
{
	uint64_t first = change->offset / SECTOR, end = change->offset + change->length;

	for (uint64_t s = 0; s < sectors_of(change); s++) {
		uint64_t from = (first + s) * SECTOR, to = from + SECTOR;

		if (!change->on_disk[s])
			continue;
		if (from < change->offset)
			from = change->offset;
		if (to > end)
			to = end;
		apply(bytes, change, from, to - from);
	}
}

/* One of the sizes since the durable one. */
static uint64_t choose_size(struct cutting *cutting, const struct file *file)
{
	uint64_t size = file->base_size;
	size_t floor = 0; /* changes before it count in any case */

	for (size_t i = 0; i < file->count; i++)
		if (file->changes[i].durable)
			floor = i + 1;
	if (cutting->cut == CUT_SECTORS) {
		floor += (size_t)below(cutting->disk, file->count - floor + 1);
		return floor ? file->changes[floor - 1].size : size;
	}
	for (size_t i = 0; i < file->count; i++) {
		const struct change *change = &file->changes[i];
		bool counts = change->chosen;

		if (cutting->cut == CUT_DATA || cutting->cut == CUT_METADATA)
			counts = cutting->cut == CUT_METADATA;
		if (cutting->cut == CUT_ORDERED)
			counts = change->record <= cutting->instant;
		if (i < floor || counts)
			size = change->size;
	}
	return size;
}

static int write_sparsely(int fd, const uint8_t *bytes, uint64_t size)
{
	static const uint8_t zeros[PAGE];

	for (uint64_t at = 0; at < size;) {
		uint64_t length = 0;

		while (at + length < size) {
			uint64_t piece = size - at - length < PAGE ? size - at - length : PAGE;

			if (memcmp(bytes + at + length, zeros, piece) == 0)
				break;
			length += piece;
		}
		if (length && pwrite(fd, bytes + at, length, (off_t)at) != (ssize_t)length)
			return -EIO;
		at += length ? length : PAGE;
	}
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int cut_file(struct cutting *cutting, struct file *file, const char *path)
{
	uint64_t all = file->base_size, size;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r;
	uint8_t *bytes;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < file->count; i++) {
		const struct change *change = &file->changes[i];

		if (change->offset + change->length > all)
			all = change->offset + change->length;
		if (change->size > all)
			all = change->size;
	}
	bytes = calloc(1, all + 1);
	if (!bytes)
		abort();
	if (file->base_size)
		memcpy(bytes, file->base, file->base_size);
	for (size_t i = 0; i < file->count; i++)
		choose(cutting, &file->changes[i]);
	complete(file, all);
	size = choose_size(cutting, file);
	for (size_t i = 0; i < file->count; i++) {
		apply_sectors(bytes, &file->changes[i]);
		free(file->changes[i].on_disk);
	}
	r = write_sparsely(fd, bytes, size);
	free(bytes);
	close(fd);
	return r;
}

static int cut_directory(struct cutting *cutting, const struct name *names, size_t count,
			 uint64_t number, const char *path)
{
	int r = mkdir(path, 0700) < 0 ? -errno : 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		struct file *file = find_file(cutting->disk, names[i].file);
		char below_it[PATH_MAX];

		if (names[i].parent != number || !names[i].text[0] || !file)
			continue;
		if (snprintf(below_it, sizeof(below_it), "%s/%s", path, names[i].text) >= PATH_MAX)
			return -ENAMETOOLONG;
		r = file->directory ? cut_directory(cutting, names, count, file->number, below_it)
				    : cut_file(cutting, file, below_it);
	}
	return r;
}

/* The records that wait, for the cuts that are about one of them. */
static uint64_t pick_record(struct disk *disk)
{
	uint64_t which = below(disk, disk_waiting(disk));

	for (size_t f = 0; f < disk->file_count; f++) {
		struct file *file = &disk->files[f];

		if (which < file->count)
			return file->changes[which].record;
		which -= file->count;
	}
	return which < disk->name_change_count ? disk->name_changes[which].record : disk->record;
}

int disk_cut(struct disk *disk, enum disk_cut cut, uint64_t seed, const char *directory)
{
	struct cutting cutting = {.disk = disk, .cut = cut};
	size_t count = disk->name_count;
	struct name *names = calloc(count + 1, sizeof(*names));
	int r;

	if (!names)
		abort();
	disk->random = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
	for (int i = 0; i < 8; i++)
		below(disk, 2);
	cutting.percent = (uint64_t[]){10, 50, 50, 90}[below(disk, 4)];
	cutting.instant = pick_record(disk);
	if (cut == CUT_ORDERED)
		cutting.instant = disk->journal + below(disk, disk->record - disk->journal + 1);
	memcpy(names, disk->names, count * sizeof(*names));
	for (size_t i = 0; i < disk->name_change_count; i++) {
		struct name_change *change = &disk->name_changes[i];
		int decision = change->durable
				       ? WHOLE
				       : (int)decide(&cutting, change->record, false, false);

		if (decision == WHOLE || (decision == TORN && below(disk, 2)))
			apply_name(&names, &count, change);
	}
	r = cut_directory(&cutting, names, count, disk->names[0].file, directory);
	free(names);
	return r;
}
