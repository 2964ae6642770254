/* APPEND: a file that outlives its process. Unlike the atomic writer, what was appended and synced stays under its
 * name when the process is killed, so that the next one can go on. SPILL: memory of a file without a name, for data
 * larger than memory that dies with the process. */
#ifndef HT_BASE_APPEND_H
#define HT_BASE_APPEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct ht_append;

/* Opens or creates path and cuts it to `keep` bytes; appending goes on there. HT_EXISTS when another process has it
 * open. HT_IO, HT_NOMEM. */
ht_status ht_append_open(const char *path, uint64_t keep, struct ht_append **append, ht_err *err);
ht_status ht_append_write(struct ht_append *append, const void *data, uint64_t len, ht_err *err);
ht_status ht_append_zeros(struct ht_append *append, uint64_t len, ht_err *err); /* at most 4,096 */
uint64_t ht_append_pos(const struct ht_append *append);
ht_status ht_append_sync(struct ht_append *append, ht_err *err); /* what was written is on disk */
void ht_append_close(struct ht_append *append);                  /* NULL is fine; the file stays */
ht_status ht_remove_file(const char *path, ht_err *err);         /* fine when there is none */

struct ht_spill {
    float *data; /* [bytes / 4], zero at first */
    uint64_t bytes;
};

/* The file lies in the folder of path and has no name. Pages go to disk when memory is short or when dropped. */
ht_status ht_spill_new(const char *path, uint64_t bytes, struct ht_spill *spill, ht_err *err);
void ht_spill_drop(const struct ht_spill *spill, uint64_t from, uint64_t len); /* hint: bytes not needed soon */
void ht_spill_free(struct ht_spill *spill);

#endif
