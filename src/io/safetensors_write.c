/* safetensors writer: headers are made in memory, tensor bytes stream through. Metadata {"format": "pt"},
 * which transformers asks for; single files may carry more. Headers are padded with spaces so that data
 * begin at a multiple of 8. */
#include <stdio.h>
#include <stdlib.h> /* qsort */
#include <unistd.h> /* unlink */

#include "base/buf.h"
#include "base/ckd.h"
#include "base/hash.h"
#include "io/bytes.h"
#include "io/fileset.h"
#include "io/hf.h"
#include "io/name.h"
#include "io/safetensors.h"

#define SINGLE_NAME "model.safetensors"
#define FIXED_HEADER_BYTES 64 /* length field, braces, metadata, padding: an upper bound */

struct shard {
    size_t first, n; /* tensors [first, first + n) in the planned order */
    uint64_t data_bytes;
    uint64_t header_bytes;
    bool in_order; /* tensors lie in the planned order */
};

struct ht_safetensors_writer {
    struct ht_tensor *tensors; /* [n] copies, bytes set */
    uint64_t *offsets;         /* [n] in the shard's data */
    size_t n;
    struct ht_arena names;
    const char *single;        /* one file of this name, in the arena; NULL: model.safetensors and its kin */
    const char *metadata;      /* JSON text behind "__metadata__":, in the arena */
    struct shard *shards;
    size_t n_shards;
    struct ht_fileset files; /* the index first, when there is one, then the shards */
    struct ht_safetensors_file *facts; /* [files.n] */
    char *stale;             /* other kind of weight file that the new set replaces; NULL: none */
    size_t shard, tensor;    /* in work */
    uint64_t got;            /* bytes of that tensor so far */
};

static size_t has_index(const struct ht_safetensors_writer *w) {
    return w->n_shards > 1;
}

static uint32_t elem_bytes(const struct ht_tensor *t) {
    return t->format->block_bytes / t->format->block_elems;
}

/* ---- layout ------------------------------------------------------------------------------------------ */

static ht_status check_tensors(struct ht_safetensors_writer *w, ht_err *err) {
    struct ht_map names;
    ht_status status = HT_OK;
    ht_map_init(&names);
    for (size_t i = 0; i < w->n; i++) {
        struct ht_tensor *t = &w->tensors[i];
        bool existed;
        const char *fault = ht_name_fault(t->name, strlen(t->name), HT_MAX_ST_NAME);
        if (fault == NULL && strcmp(t->name, "__metadata__") == 0) {
            fault = "is reserved";
        }
        if (fault != NULL) {
            status = ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "safetensors: the tensor name '%.200s' %s",
                             t->name, fault);
            goto done;
        }
        if (!ht_map_put(&names, t->name, strlen(t->name), i, &existed)) {
            status = ht_fail_nomem(err, strlen(t->name));
            goto done;
        }
        if (existed) {
            status = ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "safetensors: two tensors are named '%s'",
                             t->name);
            goto done;
        }
        if (t->format->st_dtype == NULL) {
            status = ht_fail(err, HT_UNSUPPORTED, t->name, HT_NO_POS,
                             "safetensors has no dtype for the format %s", t->format->name);
            goto done;
        }
        HT_TRY_DONE(ht_tensor_check(t, t->name, err));
    }
done:
    ht_map_deinit(&names);
    return status;
}

/* Upper bound of a tensor's entry in the header: names may need an escape per byte, numbers 20 digits. */
static uint64_t entry_bound(const struct ht_tensor *t) {
    return 2 * (uint64_t)strlen(t->name) + 64 + 21 * ((uint64_t)t->n_dims + 2);
}

/* Cuts greedily by an upper bound of the file size; every shard holds at least one tensor. */
static ht_status cut(struct ht_safetensors_writer *w, uint64_t shard_bytes, ht_err *err) {
    uint64_t bound = FIXED_HEADER_BYTES;
    struct shard *s = &w->shards[0];
    w->n_shards = 1;
    for (size_t i = 0; i < w->n; i++) {
        const struct ht_tensor *t = &w->tensors[i];
        uint64_t more;
        if (ht_ckd_add(&more, bound, t->bytes) || ht_ckd_add(&more, more, entry_bound(t))) {
            return ht_fail(err, HT_LIMIT, t->name, HT_NO_POS, "the tensors' sizes overflow 64 bits");
        }
        if (shard_bytes != 0 && s->n != 0 && more > shard_bytes) {
            if (w->n_shards == HT_MAX_SPLITS) {
                return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS,
                               "more than %d files of %llu bytes: use a larger size", HT_MAX_SPLITS,
                               (unsigned long long)shard_bytes);
            }
            s = &w->shards[w->n_shards++];
            s->first = i;
            more = FIXED_HEADER_BYTES + t->bytes + entry_bound(t);
        }
        s->n++;
        bound = more;
    }
    return HT_OK;
}

struct slot {
    uint32_t elem_bytes;
    size_t tensor;
};

static int by_element(const void *a, const void *b) {
    const struct slot *x = a, *y = b;
    if (x->elem_bytes != y->elem_bytes) {
        return x->elem_bytes > y->elem_bytes ? -1 : 1;
    }
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* Tensors lie in the planned order when that keeps each at a multiple of its element size; else larger
 * elements come first, as the reference implementation writes them: PyTorch cannot view misaligned bytes. */
static ht_status place(struct ht_safetensors_writer *w, struct shard *s, ht_err *err) {
    uint64_t at = 0;
    s->in_order = true;
    for (size_t i = s->first; i < s->first + s->n; i++) {
        s->in_order = s->in_order && at % elem_bytes(&w->tensors[i]) == 0;
        w->offsets[i] = at;
        at += w->tensors[i].bytes;
    }
    s->data_bytes = at;
    if (s->in_order) {
        return HT_OK;
    }
    struct slot *slots = ht_mem_alloc_array(s->n, sizeof *slots);
    if (slots == NULL) {
        return ht_fail_nomem(err, s->n * sizeof *slots);
    }
    for (size_t i = 0; i < s->n; i++) {
        slots[i] = (struct slot){elem_bytes(&w->tensors[s->first + i]), s->first + i};
    }
    qsort(slots, s->n, sizeof *slots, by_element);
    at = 0;
    for (size_t i = 0; i < s->n; i++) {
        w->offsets[slots[i].tensor] = at;
        at += w->tensors[slots[i].tensor].bytes;
    }
    ht_mem_free(slots);
    return HT_OK;
}

/* ---- headers and index ------------------------------------------------------------------------------- */

/* Names are plain UTF-8: only quotes and backslashes need an escape. */
static void put_name(struct ht_buf *b, const char *s) {
    ht_buf_putc(b, '"');
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\') {
            ht_buf_putc(b, '\\');
        }
        ht_buf_putc(b, *s);
    }
    ht_buf_putc(b, '"');
}

static ht_status make_header(const struct ht_safetensors_writer *w, const struct shard *s, struct ht_buf *b,
                             ht_err *err) {
    ht_buf_append(b, "\0\0\0\0\0\0\0\0", 8);
    ht_buf_puts(b, "{\"__metadata__\":");
    ht_buf_puts(b, w->metadata);
    for (size_t i = s->first; i < s->first + s->n; i++) {
        const struct ht_tensor *t = &w->tensors[i];
        ht_buf_putc(b, ',');
        put_name(b, t->name);
        ht_buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", t->format->st_dtype);
        for (int d = t->n_dims - 1; d >= 0; d--) {
            ht_buf_printf(b, "%llu%s", (unsigned long long)t->ne[d], d > 0 ? "," : "");
        }
        ht_buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->offsets[i],
                      (unsigned long long)(w->offsets[i] + t->bytes));
    }
    ht_buf_putc(b, '}');
    while (b->len % 8 != 0 && ht_buf_ok(b)) {
        ht_buf_putc(b, ' ');
    }
    if (!ht_buf_ok(b)) {
        return ht_fail_nomem(err, b->len);
    }
    if (b->len - 8 > HT_MAX_ST_HEADER_BYTES) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS,
                       "the safetensors header would have %zu bytes, the limit is %u: "
                       "write smaller shards",
                       b->len - 8, HT_MAX_ST_HEADER_BYTES);
    }
    ht_le_store(b->data, b->len - 8, 8);
    return HT_OK;
}

static void shard_name(const struct ht_safetensors_writer *w, size_t i, char name[64]) {
    if (w->single != NULL) {
        snprintf(name, 64, "%s", w->single); /* for facts alone: the file is opened by its path */
    } else if (has_index(w)) {
        snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", i + 1, w->n_shards);
    } else {
        snprintf(name, 64, SINGLE_NAME);
    }
}

static void make_index(const struct ht_safetensors_writer *w, struct ht_buf *b) {
    uint64_t total = 0;
    char name[64];
    for (size_t i = 0; i < w->n; i++) {
        total += w->tensors[i].bytes;
    }
    ht_buf_printf(b, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                  (unsigned long long)total);
    for (size_t k = 0; k < w->n_shards; k++) {
        shard_name(w, k, name);
        for (size_t i = w->shards[k].first; i < w->shards[k].first + w->shards[k].n; i++) {
            ht_buf_puts(b, i == 0 ? "\n    " : ",\n    ");
            put_name(b, w->tensors[i].name);
            ht_buf_printf(b, ": \"%s\"", name);
        }
    }
    ht_buf_puts(b, "\n  }\n}\n");
}

/* Places the tensors of each shard and makes its header: all sizes are known after this. */
static ht_status lay_out(struct ht_safetensors_writer *w, struct ht_buf *b, size_t i, ht_err *err) {
    struct shard *s = &w->shards[i];
    ht_buf_clear(b);
    HT_TRY(place(w, s, err));
    HT_TRY(make_header(w, s, b, err));
    s->header_bytes = b->len;
    return HT_OK;
}

/* Opens file number i of the set and writes what b holds. */
static ht_status open_file(struct ht_safetensors_writer *w, size_t i, const char *folder, const char *name,
                           const struct ht_buf *b, uint64_t data_bytes, ht_err *err) {
    char *path = w->single != NULL ? ht_mem_strdup(folder) : ht_path_join(folder, name);
    if (path == NULL || !ht_buf_ok(b)) {
        ht_mem_free(path);
        return ht_fail_nomem(err, b->len);
    }
    struct ht_safetensors_file *facts = &w->facts[i];
    snprintf(facts->name, sizeof facts->name, "%s", name);
    facts->bytes = b->len + data_bytes;
    facts->head_bytes = b->len;
    facts->head_xxh3 = ht_hash_xxh3(b->data, b->len);
    ht_status status = ht_fileset_open(&w->files, i, path, b->len + data_bytes, err);
    ht_mem_free(path);
    return status == HT_OK ? ht_writer_write(w->files.writers[i], b->data, b->len, err) : status;
}

static ht_status open_files(struct ht_safetensors_writer *w, const char *folder, ht_err *err) {
    ht_status status = HT_OK;
    struct ht_buf b;
    char name[64];
    ht_buf_init(&b, 0);
    if (has_index(w)) {
        make_index(w, &b);
        HT_TRY_DONE(open_file(w, 0, folder, HT_HF_INDEX, &b, 0, err));
    }
    for (size_t i = 0; i < w->n_shards; i++) {
        struct shard *s = &w->shards[i];
        HT_TRY_DONE(lay_out(w, &b, i, err));
        shard_name(w, i, name);
        HT_TRY_DONE(open_file(w, i + has_index(w), folder, name, &b, s->data_bytes, err));
        if (!s->in_order) {
            HT_TRY_DONE(ht_writer_skip(w->files.writers[i + has_index(w)], s->data_bytes, err));
        }
    }
done:
    ht_buf_deinit(&b);
    return status;
}

/* Of a folder with model.safetensors and an index only the former is read, so the other kind must go. */
static ht_status find_stale(struct ht_safetensors_writer *w, const char *folder, bool overwrite,
                            ht_err *err) {
    char *path = ht_path_join(folder, has_index(w) ? SINGLE_NAME : HT_HF_INDEX);
    if (path == NULL) {
        return ht_fail_nomem(err, strlen(folder));
    }
    if (!ht_path_exists(path)) {
        ht_mem_free(path);
        return HT_OK;
    }
    if (!overwrite) {
        ht_status status =
            ht_fail(err, HT_EXISTS, path, HT_NO_POS,
                    "the folder holds other weights already; choose another one or allow overwriting "
                    "(--force)");
        ht_mem_free(path);
        return status;
    }
    w->stale = path;
    return HT_OK;
}

/* ---- writer ------------------------------------------------------------------------------------------ */

static ht_status copy_tensors(struct ht_safetensors_writer *w, const struct ht_tensor *tensors, size_t n,
                              uint64_t shard_bytes, ht_err *err) {
    if (n > HT_MAX_TENSORS) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "%zu tensors, the limit is %u", n, HT_MAX_TENSORS);
    }
    w->n = n;
    w->tensors = ht_mem_alloc_array(n, sizeof *w->tensors);
    w->offsets = ht_mem_calloc(n, sizeof *w->offsets);
    w->shards = ht_mem_calloc(shard_bytes != 0 && n > 1 ? (n < HT_MAX_SPLITS ? n : HT_MAX_SPLITS) : 1,
                              sizeof *w->shards);
    if (w->tensors == NULL || w->offsets == NULL || w->shards == NULL) {
        return ht_fail_nomem(err, n * sizeof *w->tensors);
    }
    for (size_t i = 0; i < n; i++) {
        w->tensors[i] = tensors[i];
        w->tensors[i].name = ht_arena_strdup(&w->names, tensors[i].name);
        if (w->tensors[i].name == NULL) {
            return ht_fail_nomem(err, strlen(tensors[i].name));
        }
    }
    return HT_OK;
}

static int append_piece(const char *data, size_t len, void *user) {
    ht_buf_append(user, data, len);
    return ht_buf_ok(user) ? 0 : -1;
}

/* {"format": "pt"} and the strings of meta (may be NULL), as JSON. */
static ht_status metadata_text(struct ht_safetensors_writer *w, const struct ht_meta *meta, ht_err *err) {
    struct ht_buf text;
    ht_buf_init(&text, 0);
    json_t *o = json_pack("{s:s}", "format", "pt");
    bool ok = o != NULL;
    for (size_t i = 0; ok && meta != NULL && i < meta->n; i++) {
        const struct ht_meta_kv *kv = &meta->kv[i];
        ok = kv->type == HT_META_STRING &&
             json_object_set_new(o, kv->key.s, json_stringn(kv->v.str.s, (size_t)kv->v.str.len)) == 0;
    }
    ok = ok && json_dump_callback(o, append_piece, &text, JSON_COMPACT) == 0 && ht_buf_ok(&text);
    w->metadata = ok ? ht_arena_strdup(&w->names, text.data) : NULL;
    ht_buf_deinit(&text);
    json_decref(o);
    return w->metadata != NULL ? HT_OK
                               : ht_fail(err, HT_NOMEM, NULL, HT_NO_POS,
                                         "out of memory, or metadata that is no string of UTF-8");
}

/* Copies, checks and cuts: a writer without files. */
static ht_status new_layout(const struct ht_tensor *tensors, size_t n, uint64_t shard_bytes, const struct ht_meta *meta,
                            struct ht_safetensors_writer **writer, ht_err *err) {
    struct ht_safetensors_writer *w = ht_mem_calloc(1, sizeof *w);
    *writer = w;
    if (w == NULL) {
        return ht_fail_nomem(err, sizeof *w);
    }
    ht_arena_init(&w->names, 0);
    HT_TRY(copy_tensors(w, tensors, n, shard_bytes, err));
    HT_TRY(metadata_text(w, meta, err));
    HT_TRY(check_tensors(w, err));
    return cut(w, shard_bytes, err);
}

ht_status ht_safetensors_plan(const struct ht_tensor *tensors, size_t n, uint64_t shard_bytes,
                              struct ht_safetensors_plan *plan, ht_err *err) {
    struct ht_safetensors_writer *w;
    struct ht_buf b;
    ht_buf_init(&b, 0);
    *plan = (struct ht_safetensors_plan){0};
    ht_status status = new_layout(tensors, n, shard_bytes, NULL, &w, err);
    for (size_t i = 0; status == HT_OK && i < w->n_shards; i++) {
        status = lay_out(w, &b, i, err);
        plan->total_bytes += w->shards[i].header_bytes + w->shards[i].data_bytes;
        plan->n_files++;
    }
    ht_buf_deinit(&b);
    ht_safetensors_writer_abort(w);
    return status;
}

/* place: a folder; of a single file its path. */
static ht_status start(struct ht_safetensors_writer *w, const char *place, bool overwrite,
                       struct ht_safetensors_writer **writer, ht_err *err) {
    ht_status status = HT_OK;
    w->facts = ht_mem_calloc(w->n_shards + has_index(w), sizeof *w->facts);
    if (w->facts == NULL) {
        status = ht_fail_nomem(err, w->n_shards * sizeof *w->facts);
        goto done;
    }
    HT_TRY_DONE(ht_fileset_init(&w->files, w->n_shards + has_index(w), overwrite, err));
    HT_TRY_DONE(open_files(w, place, err));
    *writer = w;
    w = NULL;
done:
    ht_safetensors_writer_abort(w);
    return status;
}

ht_status ht_safetensors_writer_new(const char *folder, const struct ht_tensor *tensors, size_t n,
                                    uint64_t shard_bytes, bool overwrite,
                                    struct ht_safetensors_writer **writer, ht_err *err) {
    *writer = NULL;
    struct ht_safetensors_writer *w;
    ht_status status = new_layout(tensors, n, shard_bytes, NULL, &w, err);
    status = status == HT_OK ? find_stale(w, folder, overwrite, err) : status;
    if (status != HT_OK) {
        ht_safetensors_writer_abort(w);
        return status;
    }
    return start(w, folder, overwrite, writer, err);
}

ht_status ht_safetensors_writer_new_file(const char *path, const struct ht_meta *meta, const struct ht_tensor *tensors,
                                         size_t n, bool overwrite, struct ht_safetensors_writer **writer, ht_err *err) {
    *writer = NULL;
    struct ht_safetensors_writer *w;
    ht_status status = new_layout(tensors, n, 0, meta, &w, err);
    if (status == HT_OK && (w->single = ht_arena_strdup(&w->names, ht_path_base(path))) == NULL) {
        status = ht_fail_nomem(err, strlen(path));
    }
    if (status != HT_OK) {
        ht_safetensors_writer_abort(w);
        return status;
    }
    return start(w, path, overwrite, writer, err);
}

size_t ht_safetensors_writer_files(const struct ht_safetensors_writer *w) {
    return w->files.n;
}

void ht_safetensors_writer_file(const struct ht_safetensors_writer *w, size_t i, struct ht_safetensors_file *file) {
    *file = w->facts[i];
}

ht_status ht_safetensors_writer_tensor(struct ht_safetensors_writer *w, const void *data, uint64_t len,
                                       ht_err *err) {
    if (len == 0) {
        return HT_OK;
    }
    size_t file = w->shard + has_index(w);
    if (w->tensor == w->n) {
        return ht_fail(err, HT_INVAL, w->files.paths[file], HT_NO_POS, "%llu bytes behind the last tensor",
                       (unsigned long long)len);
    }
    const struct ht_tensor *t = &w->tensors[w->tensor];
    if (len > t->bytes - w->got) {
        return ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "tensor '%s': %llu bytes, expected %llu", t->name,
                       (unsigned long long)(w->got + len), (unsigned long long)t->bytes);
    }
    const struct shard *s = &w->shards[w->shard];
    struct ht_writer *out = w->files.writers[file];
    HT_TRY(s->in_order
               ? ht_writer_write(out, data, len, err)
               : ht_writer_write_at(out, s->header_bytes + w->offsets[w->tensor] + w->got, data, len, err));
    w->got += len;
    if (w->got == t->bytes) {
        w->got = 0;
        w->tensor++;
        if (w->tensor == s->first + s->n && w->shard + 1 < w->n_shards) {
            HT_TRY(ht_writer_sync(out, err));
            w->shard++;
        }
    }
    return HT_OK;
}

ht_status ht_safetensors_writer_commit(struct ht_safetensors_writer *w, ht_err *err) {
    ht_status status;
    if (w->tensor != w->n) {
        const struct ht_tensor *t = &w->tensors[w->tensor];
        status = ht_fail(err, HT_INVAL, t->name, HT_NO_POS, "tensor '%s' got %llu of %llu bytes", t->name,
                         (unsigned long long)w->got, (unsigned long long)t->bytes);
    } else {
        status = ht_fileset_commit(&w->files, err);
        if (status == HT_OK && w->stale != NULL) {
            unlink(w->stale);
        }
    }
    ht_safetensors_writer_abort(w);
    return status;
}

void ht_safetensors_writer_abort(struct ht_safetensors_writer *w) {
    if (w != NULL) {
        ht_fileset_abort(&w->files);
        ht_arena_deinit(&w->names);
        ht_mem_free(w->tensors);
        ht_mem_free(w->offsets);
        ht_mem_free(w->shards);
        ht_mem_free(w->facts);
        ht_mem_free(w->stale);
        ht_mem_free(w);
    }
}
