/* Files: read-only maps for input, an atomic writer for output.
 *
 * The writer creates a temporary file in the folder of the final name, reserves the whole size first (so a
 * full disk is met before work starts), and gives the file its final name only in ht_writer_commit, after
 * fsync; then it syncs the folder. Killed at any point, it leaves the old file, or none, under the final
 * name. Temporary files that a killed process left are removed by the next writer of the same name. */
#ifndef HT_BASE_FILE_H
#define HT_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct ht_mapping {
    const unsigned char *data; /* NULL for an empty file */
    uint64_t size;
    uint64_t dev, ino; /* identity, to refuse input == output */
    int64_t mtime_ns;  /* last change, nanoseconds since 1970 */
};

/* Regular files only. The map is private; pages come on demand. */
ht_status ht_map_file(const char *path, struct ht_mapping *map, ht_err *err);
void ht_unmap_file(struct ht_mapping *map);
/* HT_IO when the file that path names is still the mapped one but has another size or time of change. A file
 * that was replaced or removed is fine: the map keeps the old one. */
ht_status ht_map_check(const struct ht_mapping *map, const char *path, ht_err *err);
/* Hints: bytes [from, from + len) will be read soon in order, or are not needed any more (keeps resident
 * memory low while streaming through a large file). Out-of-range parts are ignored. */
void ht_map_will_need(const struct ht_mapping *map, uint64_t from, uint64_t len);
void ht_map_drop(const struct ht_mapping *map, uint64_t from, uint64_t len);
/* Hint: all of the map will be read again and again. Where the kernel can, what is not in its cache yet comes in large
 * pages (on x86-64 2 MiB instead of 4 KiB), which are read about 8 % faster (docs/measurements/speed.md). */
void ht_map_keep(const struct ht_mapping *map);

/* Whole file into memory (NUL added behind), refused with HT_LIMIT beyond max_bytes. Free with ht_mem_free. */
ht_status ht_read_file(const char *path, uint64_t max_bytes, char **data, size_t *len, ht_err *err);

bool ht_path_is_dir(const char *path);
bool ht_path_exists(const char *path);
/* True when both name the same existing file (also through links). */
bool ht_path_same(const char *a, const char *b);
/* dir + "/" + name; free with ht_mem_free; NULL when memory is out. */
char *ht_path_join(const char *dir, const char *name);
const char *ht_path_base(const char *path); /* behind the last '/' */
ht_status ht_make_dir(const char *path, ht_err *err); /* fine when it exists already */
ht_status ht_make_dirs(const char *path, ht_err *err); /* with the folders above it that are missing */

struct ht_writer;

struct ht_writer_options {
    uint64_t expect_bytes; /* reserved on disk at once; 0: unknown */
    bool overwrite;        /* else an existing final name is refused with HT_EXISTS, also at commit */
};

ht_status ht_writer_open(const char *path, const struct ht_writer_options *options, struct ht_writer **writer,
                         ht_err *err);
ht_status ht_writer_write(struct ht_writer *writer, const void *data, uint64_t len, ht_err *err);
ht_status ht_writer_zeros(struct ht_writer *writer, uint64_t len, ht_err *err);
/* Writes at an absolute place, leaving the append position alone. */
ht_status ht_writer_write_at(struct ht_writer *writer, uint64_t pos, const void *data, uint64_t len,
                             ht_err *err);
/* Moves the append position forward; what write_at put there stays, the rest is zeros. */
ht_status ht_writer_skip(struct ht_writer *writer, uint64_t len, ht_err *err);
uint64_t ht_writer_pos(const struct ht_writer *writer);
/* All of commit except the name: the bytes are on disk, and appending is over; write_at may still correct
 * what is there. For sets of files that should appear together: sync all of them first, then commit each. */
ht_status ht_writer_sync(struct ht_writer *writer, ht_err *err);
/* Flush, truncate to the append position, fsync, rename, fsync the folder. Frees the writer always. On failure the
 * final name is as it was, but for one case: with overwrite, a failed sync of the folder leaves the new file. */
ht_status ht_writer_commit(struct ht_writer *writer, ht_err *err);
/* Removes the temporary file and frees. NULL is fine. */
void ht_writer_abort(struct ht_writer *writer);

/* Small files: open, write, commit in one go. */
ht_status ht_write_file(const char *path, const void *data, size_t len, bool overwrite, ht_err *err);

#endif
