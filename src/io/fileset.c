#include "io/fileset.h"

#include <errno.h>
#include <unistd.h> /* unlink */

#include "base/mem.h"

ht_status ht_fileset_init(struct ht_fileset *set, size_t n, bool overwrite, ht_err *err) {
    set->writers = ht_mem_calloc(n, sizeof *set->writers);
    set->paths = ht_mem_calloc(n, sizeof *set->paths);
    set->n = n;
    set->overwrite = overwrite;
    if (set->writers == NULL || set->paths == NULL) {
        set->n = 0;
        ht_fileset_abort(set);
        return ht_fail_nomem(err, n * (sizeof *set->writers + sizeof *set->paths));
    }
    return HT_OK;
}

ht_status ht_fileset_open(struct ht_fileset *set, size_t i, const char *path, uint64_t bytes, ht_err *err) {
    set->paths[i] = ht_mem_strdup(path);
    if (set->paths[i] == NULL) {
        return ht_fail_nomem(err, strlen(path) + 1);
    }
    struct ht_writer_options options = {.expect_bytes = bytes, .overwrite = set->overwrite};
    return ht_writer_open(path, &options, &set->writers[i], err);
}

ht_status ht_fileset_commit(struct ht_fileset *set, ht_err *err) {
    ht_status status = HT_OK;
    size_t named = set->n; /* files [named, n) have their names */
    for (size_t i = 0; i < set->n; i++) {
        HT_TRY_DONE(ht_writer_sync(set->writers[i], err));
    }
    /* Old and new files of one set must never be taken for a whole: without the first file there is no set. */
    if (set->overwrite && set->n > 1 && unlink(set->paths[0]) != 0 && errno != ENOENT) {
        status = ht_fail_errno(err, errno, set->paths[0], "replace the old file");
        goto done;
    }
    while (named > 0) {
        struct ht_writer *w = set->writers[named - 1];
        set->writers[named - 1] = NULL;
        HT_TRY_DONE(ht_writer_commit(w, err));
        named--;
    }
done:
    if (status != HT_OK && !set->overwrite) {
        for (size_t i = named; i < set->n; i++) {
            unlink(set->paths[i]);
        }
    }
    ht_fileset_abort(set);
    return status;
}

void ht_fileset_abort(struct ht_fileset *set) {
    for (size_t i = 0; i < set->n; i++) {
        ht_writer_abort(set->writers[i]);
        ht_mem_free(set->paths[i]);
    }
    ht_mem_free(set->writers);
    ht_mem_free(set->paths);
    memset(set, 0, sizeof *set);
}
