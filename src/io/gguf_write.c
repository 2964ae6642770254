/* GGUF v3 writer: headers are made in memory, tensor bytes stream through. */
#include <stdio.h>

#include "base/buf.h"
#include "base/ckd.h"
#include "base/hash.h"
#include "io/bytes.h"
#include "io/fileset.h"
#include "io/gguf.h"
#include "io/name.h"

#define HEADER_BYTES 24 /* magic, version, two counts */
#define SPLIT_KEYS 3
#define ALIGNMENT_KEY "general.alignment"

struct shard {
    size_t first, n;       /* tensors [first, first + n) */
    uint64_t plain_bytes;  /* of the header */
    uint64_t header_bytes; /* the same with the padding in front of the data */
    uint64_t file_bytes;
};

/* What the files will look like: made before anything is written. */
struct layout {
    const struct ht_meta *meta; /* the caller's, only while the headers are made */
    struct ht_arena names;
    struct ht_tensor *tensors; /* [n] copies, bytes set */
    size_t n;
    uint32_t alignment;
    bool split;
    struct shard *shards;
    size_t n_shards;
    uint64_t total_bytes, largest_bytes;
};

struct ht_gguf_writer {
    struct layout layout;
    struct ht_fileset files;
    size_t shard, tensor; /* in work */
    uint64_t got;         /* bytes of that tensor so far */
};

static uint64_t pad(uint64_t n, uint32_t alignment) {
    return (n + alignment - 1) & ~(uint64_t)(alignment - 1);
}

/* The writer decides how the output is cut: keys about the input's cut are not carried over. */
static bool is_split_key(const struct ht_str *key) {
    return key->len > 6 && memcmp(key->s, "split.", 6) == 0;
}

/* Only the first file holds the full metadata; the others say which part they are, and what a file must say of
 * itself. */
static bool in_file(const struct ht_str *key, bool first) {
    return !is_split_key(key) &&
           (first || strcmp(key->s, ALIGNMENT_KEY) == 0 || strcmp(key->s, HT_GGUF_HEADER_SUM) == 0);
}

/* ---- sizes ------------------------------------------------------------------------------------------- */

static uint64_t kv_bytes(const struct ht_meta_kv *kv) {
    uint64_t n = 8 + kv->key.len + 4;
    if (kv->type == HT_META_STRING) {
        return n + 8 + kv->v.str.len;
    }
    if (kv->type != HT_META_ARRAY) {
        return n + ht_meta_type_bytes(kv->type);
    }
    n += 4 + 8;
    if (kv->elem_type != HT_META_STRING) {
        return n + kv->n * ht_meta_type_bytes(kv->elem_type);
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        n += 8 + ((const struct ht_str *)kv->elems)[i].len;
    }
    return n;
}

static uint64_t info_bytes(const struct ht_tensor *t) {
    return 8 + strlen(t->name) + 4 + 8 * (uint64_t)t->n_dims + 4 + 8;
}

/* Bytes of a header without tensor infos. */
static uint64_t base_bytes(const struct layout *l, bool first) {
    uint64_t n = HEADER_BYTES;
    for (size_t i = 0; i < l->meta->n; i++) {
        const struct ht_meta_kv *kv = &l->meta->kv[i];
        if (in_file(&kv->key, first)) {
            n += kv_bytes(kv);
        }
    }
    if (l->split) {
        n += 3 * (8 + 4) + strlen("split.no") + strlen("split.count") + strlen("split.tensors.count") + 2 +
             2 + 4;
    }
    return n;
}

static ht_status check_tensors(struct layout *l, ht_err *err) {
    struct ht_map names;
    ht_status status = HT_OK;
    ht_map_init(&names);
    for (size_t i = 0; i < l->n; i++) {
        struct ht_tensor *t = &l->tensors[i];
        bool existed;
        const char *fault = ht_name_fault(t->name, strlen(t->name), HT_MAX_TENSOR_NAME);
        if (fault != NULL) {
            status = ht_fail(err, HT_INVAL, t->name, HT_NO_POS,
                             "GGUF: the tensor name '%.200s' %s; expected 1 to %d bytes of UTF-8", t->name,
                             fault, HT_MAX_TENSOR_NAME);
            goto done;
        }
        if (!ht_map_put(&names, t->name, strlen(t->name), i, &existed)) {
            status = ht_fail_nomem(err, strlen(t->name));
            goto done;
        }
        if (existed) {
            status = ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "GGUF: two tensors are named '%s'", t->name);
            goto done;
        }
        if (t->format->gguf_type < 0) {
            status = ht_fail(err, HT_UNSUPPORTED, t->name, HT_NO_POS, "GGUF has no type for the format %s",
                             t->format->name);
            goto done;
        }
        HT_TRY_DONE(ht_tensor_check(t, t->name, err));
    }
done:
    ht_map_deinit(&names);
    return status;
}

static ht_status find_alignment(struct layout *l, ht_err *err) {
    const struct ht_meta_kv *kv = ht_meta_find(l->meta, ALIGNMENT_KEY);
    l->alignment = HT_GGUF_ALIGNMENT;
    if (kv != NULL) {
        if (kv->type != HT_META_U32 || kv->v.u < 8 || kv->v.u > HT_MAX_ALIGNMENT ||
            (kv->v.u & (kv->v.u - 1)) != 0) {
            return ht_fail(err, HT_INVAL, NULL, HT_NO_POS,
                           "key '%s': expected a u32, a power of two from 8 to %u", ALIGNMENT_KEY,
                           HT_MAX_ALIGNMENT);
        }
        l->alignment = (uint32_t)kv->v.u;
    }
    return HT_OK;
}

/* Cuts greedily: a tensor goes into the open shard unless the file would become larger than shard_bytes. A
 * shard holds at least one tensor, so one that is larger than shard_bytes gets a file of its own. */
static ht_status cut(struct layout *l, uint64_t shard_bytes, ht_err *err) {
    struct shard *s = &l->shards[0];
    uint64_t base = base_bytes(l, true), infos = 0, data = 0;
    l->n_shards = 1;
    *s = (struct shard){0, 0, base, pad(base, l->alignment), pad(base, l->alignment)};
    for (size_t i = 0; i < l->n; i++) {
        const struct ht_tensor *t = &l->tensors[i];
        uint64_t t_bytes = pad(t->bytes, l->alignment), size; /* t->bytes <= INT64_MAX: no overflow */
        if (ht_ckd_add(&size, data, t_bytes) ||
            ht_ckd_add(&size, size, pad(base + infos + info_bytes(t), l->alignment))) {
            return ht_fail(err, HT_LIMIT, t->name, HT_NO_POS, "the tensors' sizes overflow 64 bits");
        }
        if (l->split && s->n != 0 && size > shard_bytes) {
            if (l->n_shards == HT_MAX_SPLITS) {
                return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS,
                               "more than %d files of %llu bytes: use a larger size", HT_MAX_SPLITS,
                               (unsigned long long)shard_bytes);
            }
            s = &l->shards[l->n_shards++];
            *s = (struct shard){.first = i};
            base = base_bytes(l, false);
            infos = data = 0;
        }
        infos += info_bytes(t);
        data += t_bytes;
        s->n++;
        s->plain_bytes = base + infos;
        s->header_bytes = pad(s->plain_bytes, l->alignment);
        s->file_bytes = s->header_bytes + data;
    }
    for (size_t i = 0; i < l->n_shards; i++) {
        if (ht_ckd_add(&l->total_bytes, l->total_bytes, l->shards[i].file_bytes)) {
            return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "the files' sizes overflow 64 bits");
        }
        l->largest_bytes =
            l->shards[i].file_bytes > l->largest_bytes ? l->shards[i].file_bytes : l->largest_bytes;
    }
    return HT_OK;
}

static void free_layout(struct layout *l) {
    ht_arena_deinit(&l->names);
    ht_mem_free(l->tensors);
    ht_mem_free(l->shards);
    memset(l, 0, sizeof *l);
}

static ht_status make_layout(struct layout *l, const struct ht_meta *meta, const struct ht_tensor *tensors,
                             size_t n, uint64_t shard_bytes, ht_err *err) {
    memset(l, 0, sizeof *l);
    ht_arena_init(&l->names, 0);
    if (n > HT_MAX_TENSORS) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "%zu tensors, the limit is %u", n, HT_MAX_TENSORS);
    }
    l->meta = meta;
    l->n = n;
    l->split = shard_bytes != 0;
    l->tensors = ht_mem_alloc_array(n, sizeof *l->tensors);
    l->shards =
        ht_mem_calloc(l->split && n > 1 ? (n < HT_MAX_SPLITS ? n : HT_MAX_SPLITS) : 1, sizeof *l->shards);
    if (l->tensors == NULL || l->shards == NULL) {
        free_layout(l);
        return ht_fail_nomem(err, n * sizeof *l->tensors);
    }
    ht_status status = HT_OK;
    for (size_t i = 0; i < n; i++) {
        l->tensors[i] = tensors[i];
        l->tensors[i].name = ht_arena_strdup(&l->names, tensors[i].name);
        if (l->tensors[i].name == NULL) {
            status = ht_fail_nomem(err, strlen(tensors[i].name));
            goto done;
        }
    }
    HT_TRY_DONE(find_alignment(l, err));
    HT_TRY_DONE(check_tensors(l, err));
    HT_TRY_DONE(cut(l, shard_bytes, err));
done:
    if (status != HT_OK) {
        free_layout(l);
    }
    return status;
}

ht_status ht_gguf_plan(const struct ht_meta *meta, const struct ht_tensor *tensors, size_t n,
                       uint64_t shard_bytes, struct ht_gguf_plan *plan, ht_err *err) {
    struct layout l;
    HT_TRY(make_layout(&l, meta, tensors, n, shard_bytes, err));
    *plan = (struct ht_gguf_plan){l.total_bytes, (uint32_t)l.n_shards, l.largest_bytes};
    free_layout(&l);
    return HT_OK;
}

/* ---- headers ----------------------------------------------------------------------------------------- */

static void put(struct ht_buf *b, uint64_t v, int bytes) {
    unsigned char le[8];
    ht_le_store(le, v, bytes);
    ht_buf_append(b, le, (size_t)bytes);
}

static void put_str(struct ht_buf *b, const char *s, uint64_t len) {
    put(b, len, 8);
    ht_buf_append(b, s, (size_t)len);
}

static void put_scalar(struct ht_buf *b, const struct ht_meta_kv *kv) {
    uint64_t bits = kv->v.u; /* signed values: the low bytes of two's complement */
    if (kv->type == HT_META_F32) {
        float f = (float)kv->v.f;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        bits = u;
    } else if (kv->type == HT_META_F64) {
        memcpy(&bits, &kv->v.f, sizeof bits);
    }
    put(b, bits, (int)ht_meta_type_bytes(kv->type));
}

static void put_kv(struct ht_buf *b, const struct ht_meta_kv *kv) {
    put_str(b, kv->key.s, kv->key.len);
    put(b, kv->type, 4);
    if (kv->type == HT_META_STRING) {
        put_str(b, kv->v.str.s, kv->v.str.len);
    } else if (kv->type != HT_META_ARRAY) {
        put_scalar(b, kv);
    } else {
        put(b, kv->elem_type, 4);
        put(b, kv->n, 8);
        if (kv->elem_type != HT_META_STRING) {
            ht_buf_append(b, kv->elems, (size_t)kv->n * ht_meta_type_bytes(kv->elem_type));
        } else {
            for (uint64_t i = 0; i < kv->n; i++) {
                const struct ht_str *s = (const struct ht_str *)kv->elems + i;
                put_str(b, s->s, s->len);
            }
        }
    }
}

static void put_number(struct ht_buf *b, const char *key, enum ht_meta_type type, uint64_t v) {
    struct ht_meta_kv kv = {.key = {key, strlen(key)}, .type = type, .v.u = v};
    put_kv(b, &kv);
}

static ht_status make_header(const struct layout *l, size_t i_shard, struct ht_buf *b, ht_err *err) {
    const struct shard *s = &l->shards[i_shard];
    uint64_t n_kv = l->split ? SPLIT_KEYS : 0, offset = 0;
    size_t sum_at = 0; /* of the header's own checksum */
    for (size_t i = 0; i < l->meta->n; i++) {
        n_kv += in_file(&l->meta->kv[i].key, i_shard == 0);
    }
    ht_buf_append(b, "GGUF", 4);
    put(b, 3, 4);
    put(b, s->n, 8);
    put(b, n_kv, 8);
    for (size_t i = 0; i < l->meta->n; i++) {
        const struct ht_meta_kv *kv = &l->meta->kv[i];
        if (in_file(&kv->key, i_shard == 0)) {
            put_kv(b, kv);
            if (kv->type == HT_META_U64 && strcmp(kv->key.s, HT_GGUF_HEADER_SUM) == 0) {
                sum_at = b->len - 8;
            }
        }
    }
    if (l->split) { /* llama-gguf-split's order */
        put_number(b, "split.no", HT_META_U16, i_shard);
        put_number(b, "split.tensors.count", HT_META_I32, l->n);
        put_number(b, "split.count", HT_META_U16, l->n_shards);
    }
    for (size_t i = s->first; i < s->first + s->n; i++) {
        const struct ht_tensor *t = &l->tensors[i];
        put_str(b, t->name, strlen(t->name));
        put(b, (uint64_t)t->n_dims, 4);
        for (int d = 0; d < t->n_dims; d++) {
            put(b, t->ne[d], 8);
        }
        put(b, (uint64_t)t->format->gguf_type, 4);
        put(b, offset, 8);
        offset += pad(t->bytes, l->alignment);
    }
    if (ht_buf_ok(b) && b->len != s->plain_bytes) {
        return ht_fail(err, HT_INVAL, NULL, HT_NO_POS, "GGUF header of %zu bytes, planned %llu: the metadata changed",
                       b->len, (unsigned long long)s->plain_bytes);
    }
    while (b->len < s->header_bytes && ht_buf_ok(b)) {
        ht_buf_putc(b, '\0');
    }
    if (!ht_buf_ok(b)) {
        return ht_fail_nomem(err, s->header_bytes);
    }
    if (sum_at != 0) {
        memset(b->data + sum_at, 0, 8);
        ht_le_store(b->data + sum_at, ht_hash_xxh3(b->data, b->len), 8);
    }
    return HT_OK;
}

/* ---- writer ------------------------------------------------------------------------------------------ */

static ht_status open_shard(struct ht_gguf_writer *w, const char *path, size_t i, ht_err *err) {
    const struct layout *l = &w->layout;
    char *shard_path =
        l->split ? ht_gguf_shard_path(path, (uint32_t)i, (uint32_t)l->n_shards) : ht_mem_strdup(path);
    struct ht_buf header;
    ht_buf_init(&header, 0);
    ht_status status = HT_OK;
    if (shard_path == NULL) {
        status = ht_fail_nomem(err, strlen(path));
        goto done;
    }
    HT_TRY_DONE(ht_fileset_open(&w->files, i, shard_path, l->shards[i].file_bytes, err));
    HT_TRY_DONE(make_header(l, i, &header, err));
    HT_TRY_DONE(ht_writer_write(w->files.writers[i], header.data, header.len, err));
done:
    ht_buf_deinit(&header);
    ht_mem_free(shard_path);
    return status;
}

ht_status ht_gguf_writer_new(const char *path, const struct ht_meta *meta, const struct ht_tensor *tensors,
                             size_t n, uint64_t shard_bytes, bool overwrite, struct ht_gguf_writer **writer,
                             ht_err *err) {
    *writer = NULL;
    size_t len = strlen(path);
    if (shard_bytes != 0 && (len < 6 || strcmp(path + len - 5, ".gguf") != 0)) {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS, "the name of a split output must end in .gguf");
    }
    struct ht_gguf_writer *w = ht_mem_calloc(1, sizeof *w);
    if (w == NULL) {
        return ht_fail_nomem(err, sizeof *w);
    }
    ht_status status = HT_OK;
    HT_TRY_DONE(make_layout(&w->layout, meta, tensors, n, shard_bytes, err));
    HT_TRY_DONE(ht_fileset_init(&w->files, w->layout.n_shards, overwrite, err));
    for (size_t i = 0; i < w->layout.n_shards; i++) {
        HT_TRY_DONE(open_shard(w, path, i, err));
    }
    w->layout.meta = NULL;
    *writer = w;
    w = NULL;
done:
    ht_gguf_writer_abort(w);
    return status;
}

ht_status ht_gguf_writer_tensor(struct ht_gguf_writer *w, const void *data, uint64_t len, ht_err *err) {
    struct layout *l = &w->layout;
    if (len == 0) {
        return HT_OK;
    }
    if (w->tensor == l->n) {
        return ht_fail(err, HT_INVAL, w->files.paths[w->shard], HT_NO_POS,
                       "%llu bytes behind the last tensor", (unsigned long long)len);
    }
    const struct ht_tensor *t = &l->tensors[w->tensor];
    if (len > t->bytes - w->got) {
        return ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "tensor '%s': %llu bytes, expected %llu", t->name,
                       (unsigned long long)(w->got + len), (unsigned long long)t->bytes);
    }
    const struct shard *s = &l->shards[w->shard];
    struct ht_writer *file = w->files.writers[w->shard];
    HT_TRY(ht_writer_write(file, data, len, err));
    w->got += len;
    if (w->got == t->bytes) {
        HT_TRY(ht_writer_zeros(file, pad(t->bytes, l->alignment) - t->bytes, err));
        w->got = 0;
        w->tensor++;
        if (w->tensor == s->first + s->n && w->shard + 1 < l->n_shards) {
            HT_TRY(ht_writer_sync(file, err));
            w->shard++;
        }
    }
    return HT_OK;
}

ht_status ht_gguf_writer_update(struct ht_gguf_writer *w, const struct ht_meta *meta, ht_err *err) {
    struct ht_buf header;
    ht_buf_init(&header, 0);
    w->layout.meta = meta;
    ht_status status = make_header(&w->layout, 0, &header, err);
    w->layout.meta = NULL;
    if (status == HT_OK) {
        status = ht_writer_write_at(w->files.writers[0], 0, header.data, header.len, err);
    }
    ht_buf_deinit(&header);
    return status;
}

ht_status ht_gguf_writer_commit(struct ht_gguf_writer *w, ht_err *err) {
    ht_status status;
    if (w->tensor != w->layout.n) {
        const struct ht_tensor *t = &w->layout.tensors[w->tensor];
        status = ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "tensor '%s' got %llu of %llu bytes", t->name,
                         (unsigned long long)w->got, (unsigned long long)t->bytes);
    } else {
        status = ht_fileset_commit(&w->files, err);
    }
    ht_gguf_writer_abort(w);
    return status;
}

void ht_gguf_writer_abort(struct ht_gguf_writer *w) {
    if (w != NULL) {
        ht_fileset_abort(&w->files);
        free_layout(&w->layout);
        ht_mem_free(w);
    }
}
