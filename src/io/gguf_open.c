/* Opens a GGUF file, or all files of a split one, as a source. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/gguf.h"
#include "io/source.h"

#define SHARD_TAIL_BYTES 20 /* "-00001-of-00003.gguf" */

/* Reads the first n bytes without mapping; false when there are fewer or the path is no regular file. */
static bool peek(const char *path, void *buf, size_t n) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, buf, n);
    close(fd);
    return got == (ssize_t)n;
}

bool ht_gguf_probe(const char *path) {
    char magic[4];
    return peek(path, magic, sizeof magic) && memcmp(magic, "GGUF", 4) == 0;
}

char *ht_gguf_shard_path(const char *path, uint32_t i, uint32_t n) {
    size_t len = strlen(path), cap;
    if (len < 5 || strcmp(path + len - 5, ".gguf") != 0) {
        return NULL;
    }
    cap = len + 32;
    char *out = ht_mem_alloc(cap);
    if (out != NULL) {
        snprintf(out, cap, "%.*s-%05u-of-%05u.gguf", (int)(len - 5), path, i + 1, n);
    }
    return out;
}

/* "NAME-00002-of-00003.gguf": *stem gets "NAME.gguf" (heap), *no 1 (from 0), *count 3. False: no such
 * name. */
static bool split_name(const char *path, char **stem, uint32_t *no, uint32_t *count) {
    size_t len = strlen(path);
    *stem = NULL;
    if (len <= SHARD_TAIL_BYTES) {
        return false;
    }
    const char *tail = path + len - SHARD_TAIL_BYTES;
    static const char pattern[] = "-00000-of-00000.gguf";
    uint32_t numbers[2] = {0, 0};
    for (size_t i = 0; i < SHARD_TAIL_BYTES; i++) {
        if (pattern[i] != '0') {
            if (tail[i] != pattern[i]) {
                return false;
            }
        } else if (tail[i] < '0' || tail[i] > '9') {
            return false;
        } else {
            numbers[i > 6] = numbers[i > 6] * 10 + (uint32_t)(tail[i] - '0');
        }
    }
    if (numbers[0] == 0 || numbers[0] > numbers[1]) {
        return false;
    }
    *no = numbers[0] - 1;
    *count = numbers[1];
    *stem = ht_mem_alloc(len + 1);
    if (*stem != NULL) {
        snprintf(*stem, len + 1, "%.*s.gguf", (int)(len - SHARD_TAIL_BYTES), path);
    }
    return true;
}

/* Maps, parses and appends one file. The metadata of the first one becomes the source's. split: what the file
 * says of itself: {no, count, tensors}; count 0 when it says nothing. */
static ht_status add_file(struct ht_source *source, const char *path, bool first, uint64_t split[3],
                          ht_err *err) {
    struct ht_gguf gguf;
    HT_TRY(ht_source_map(source, path, err));
    const struct ht_mapping *map = &source->maps[source->n_maps - 1];
    HT_TRY(ht_gguf_parse(map->data, map->size, path, &gguf, err));
    ht_status status = HT_OK;
    HT_TRY_DONE(ht_meta_get_u64(&gguf.meta, "split.no", HT_MAX_SPLITS - 1, &split[0], NULL, err));
    HT_TRY_DONE(ht_meta_get_u64(&gguf.meta, "split.count", HT_MAX_SPLITS, &split[1], NULL, err));
    HT_TRY_DONE(ht_meta_get_u64(&gguf.meta, "split.tensors.count", HT_MAX_TENSORS, &split[2], NULL, err));
    HT_TRY_DONE(ht_source_add(source, gguf.tensors, gguf.n_tensors, (uint32_t)(source->n_maps - 1), err));
    source->trailing_bytes += gguf.trailing_bytes;
    source->missing_pad_bytes += gguf.missing_pad_bytes;
    if (first) {
        struct ht_meta swap = source->meta;
        source->meta = gguf.meta;
        gguf.meta = swap;
    }
done:
    if (status != HT_OK && err != NULL && err->what[0] == '\0') {
        ht_err inner = *err; /* the metadata getters do not know the file */
        ht_err_clear(err);
        ht_fail(err, inner.code, path, inner.pos, "%s", inner.msg);
    }
    ht_gguf_deinit(&gguf);
    return status;
}

static ht_status add_shard(struct ht_source *source, const char *stem, uint32_t i, uint32_t count,
                           uint64_t *n_tensors, ht_err *err) {
    uint64_t split[3] = {0, 0, 0};
    char *path = ht_gguf_shard_path(stem, i, count);
    if (path == NULL) {
        return ht_fail_nomem(err, strlen(stem));
    }
    ht_status status = HT_OK;
    if (!ht_path_exists(path)) {
        status = ht_fail(err, HT_NOTFOUND, path, HT_NO_POS,
                         "file %u of %u of a split model is missing; all of them must lie in one folder",
                         i + 1, count);
        goto done;
    }
    HT_TRY_DONE(add_file(source, path, i == 0, split, err));
    if (split[0] != i || split[1] != count) {
        status = ht_fail(err, HT_FORMAT, path, HT_NO_POS,
                         "the name says file %u of %u, its metadata split.no = %llu, split.count = %llu",
                         i + 1, count, (unsigned long long)split[0], (unsigned long long)split[1]);
        goto done;
    }
    if (i != 0 && split[2] != *n_tensors && split[2] != 0) {
        status = ht_fail(err, HT_FORMAT, path, HT_NO_POS,
                         "split.tensors.count is %llu here and %llu in the first file",
                         (unsigned long long)split[2], (unsigned long long)*n_tensors);
        goto done;
    }
    if (i == 0) {
        *n_tensors = split[2];
    }
done:
    ht_mem_free(path);
    return status;
}

static ht_status open_shards(const char *stem, uint32_t count, struct ht_source *source, ht_err *err) {
    uint64_t n_tensors = 0;
    for (uint32_t i = 0; i < count; i++) {
        HT_TRY(add_shard(source, stem, i, count, &n_tensors, err));
    }
    if (n_tensors != source->n_tensors) {
        return ht_fail(err, HT_FORMAT, source->map_paths[0], HT_NO_POS,
                       "split.tensors.count is %llu, but the %u files hold %zu tensors",
                       (unsigned long long)n_tensors, count, source->n_tensors);
    }
    return HT_OK;
}

ht_status ht_gguf_open(const char *path, struct ht_source *source, ht_err *err) {
    uint64_t split[3] = {0, 0, 0};
    uint32_t no, count;
    char *stem;
    ht_status status = HT_OK;
    if (split_name(path, &stem, &no, &count)) {
        if (stem == NULL) {
            return ht_fail_nomem(err, strlen(path));
        }
        if (count > HT_MAX_SPLITS) {
            status =
                ht_fail(err, HT_LIMIT, path, HT_NO_POS, "%u files, the limit is %d", count, HT_MAX_SPLITS);
            goto done;
        }
        HT_TRY_DONE(open_shards(stem, count, source, err));
    } else {
        HT_TRY_DONE(add_file(source, path, true, split, err));
        if (split[1] > 1) {
            status = ht_fail(err, HT_FORMAT, path, HT_NO_POS,
                             "one of %llu files of a split model; expected a name like "
                             "NAME-00001-of-%05llu.gguf: give the files their names back",
                             (unsigned long long)split[1], (unsigned long long)split[1]);
            goto done;
        }
    }
    /* The source is the whole model: how it was cut into files is no property of it. */
    ht_meta_remove(&source->meta, "split.no");
    ht_meta_remove(&source->meta, "split.count");
    ht_meta_remove(&source->meta, "split.tensors.count");
done:
    ht_mem_free(stem);
    return status;
}
