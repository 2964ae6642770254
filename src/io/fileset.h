/* Several output files that should appear together: shards, and the index that names them. Every file is
 * written under a temporary name with its full size reserved at the start; commit first brings all bytes to
 * disk and then gives the names, from the last file to the first, so that the first one (the shard or index
 * that a reader opens) appears only when all others are there. When a set is replaced, its first file goes
 * away before: killed in between, a run leaves no set rather than one of old and new files. */
#ifndef HT_IO_FILESET_H
#define HT_IO_FILESET_H

#include "base/file.h"

struct ht_fileset {
    struct ht_writer **writers; /* [n] NULL: not opened yet */
    char **paths;               /* [n] */
    size_t n;
    bool overwrite;
};

ht_status ht_fileset_init(struct ht_fileset *set, size_t n, bool overwrite, ht_err *err);
/* Opens file i. HT_EXISTS, HT_NOSPACE, HT_IO. */
ht_status ht_fileset_open(struct ht_fileset *set, size_t i, const char *path, uint64_t bytes, ht_err *err);
/* Frees always. When a name cannot be given, those given before are taken back, unless overwriting: the old
 * files of those names are gone then, so the new ones stay. */
ht_status ht_fileset_commit(struct ht_fileset *set, ht_err *err);
void ht_fileset_abort(struct ht_fileset *set);

#endif
