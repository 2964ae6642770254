#include "flow/quantize/quantize_work.h"

#include <stdio.h>

#include "base/append.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#define ALIGN 64u
#define SUFFIX ".work"

static const char MAGIC[8] = {'H', 'T', 'W', 'O', 'R', 'K', '0', '5'};

struct file_header {
    char magic[8];
    char digest[64];
    char zeros[56];
};

enum kind { KIND_TENSOR = 1, KIND_VECTOR, KIND_LAYER_END };

/* What a sidecar is made of, without its contents. */
struct side_shape {
    uint32_t leaves, hadamard, n_out, rank, n_clusters;
    float threshold;
    uint64_t n_sparse;
    char act[HT_SCHEME_TEXT];
};

struct item_header {
    uint32_t kind, tensor;
    int32_t layer;
    uint32_t coded; /* codes of a scheme */
    uint64_t bytes; /* of the payload, a multiple of ALIGN */
    uint64_t hash;  /* XXH3-64 of the header with hash 0, xor that of the payload */
    struct ht_job_report report;
    struct side_shape side;
    char zeros[8];
};

_Static_assert(sizeof(struct file_header) == 128, "a multiple of ALIGN");
_Static_assert(sizeof(struct item_header) % ALIGN == 0, "payloads are aligned");

struct ht_work {
    struct ht_append *file;
    struct ht_mapping map;
    char *path;
    struct ht_xxh3 *xxh3;
};

static char *work_path(const char *output) {
    size_t len = strlen(output);
    while (len > 1 && output[len - 1] == '/') {
        len--;
    }
    char *path = ht_mem_alloc(len + sizeof SUFFIX);
    if (path != NULL) {
        snprintf(path, len + sizeof SUFFIX, "%.*s%s", (int)len, output, SUFFIX);
    }
    return path;
}

ht_status ht_work_remove(const char *output, ht_err *err) {
    char *path = work_path(output);
    ht_status status = path != NULL ? ht_remove_file(path, err) : ht_fail_nomem(err, strlen(output));
    ht_mem_free(path);
    return status;
}

/* ---- reading ---- */

/* One that was cut early has a part of the mark. */
static bool is_ours(const struct ht_mapping *map) {
    size_t n = map->size < sizeof MAGIC - 2 ? (size_t)map->size : sizeof MAGIC - 2; /* of any version */
    return n == 0 || memcmp(map->data, MAGIC, n) == 0;
}

ht_status ht_work_look(const char *output, uint64_t *bytes, ht_err *err) {
    struct ht_mapping map;
    char *path = work_path(output);
    ht_status status = path != NULL ? HT_OK : ht_fail_nomem(err, strlen(output));
    *bytes = 0;
    if (status == HT_OK && ht_path_exists(path)) {
        bool ours = ht_map_file(path, &map, NULL) == HT_OK;
        if (ours) {
            *bytes = map.size;
            ours = is_ours(&map);
            ht_unmap_file(&map);
        }
        status = ours ? HT_OK
                      : ht_fail(err, HT_EXISTS, path, HT_NO_POS,
                                "what is finished would be kept under this name, and what stands there is no work file "
                                "of this program: choose another output, or move it away");
    }
    ht_mem_free(path);
    return status;
}

static uint64_t item_hash(const struct item_header *h, const void *payload) {
    struct item_header copy = *h;
    copy.hash = 0;
    return ht_hash_xxh3(&copy, sizeof copy) ^ ht_hash_xxh3(payload, h->bytes);
}

/* The item at `at`, checked; false: none that is whole. */
static bool item_at(const struct ht_mapping *map, uint64_t at, struct item_header *h,
                    const unsigned char **payload) {
    if (at > map->size || map->size - at < sizeof *h) {
        return false;
    }
    memcpy(h, map->data + at, sizeof *h);
    *payload = map->data + at + sizeof *h;
    return h->kind >= KIND_TENSOR && h->kind <= KIND_LAYER_END && h->bytes % ALIGN == 0 &&
           h->bytes <= map->size - at - sizeof *h && h->hash == item_hash(h, *payload);
}

/* Bytes up to the last finished layer, which follow each other from 0; 0: not this job's file. */
static uint64_t whole_part(const struct ht_mapping *map, const char *digest, uint32_t *layers) {
    struct file_header f;
    struct item_header h;
    const unsigned char *payload;
    uint64_t keep = sizeof f;
    *layers = 0;
    if (map->size < sizeof f) {
        return 0;
    }
    memcpy(&f, map->data, sizeof f);
    if (memcmp(f.magic, MAGIC, sizeof f.magic) != 0 || memcmp(f.digest, digest, sizeof f.digest) != 0) {
        return 0;
    }
    for (uint64_t at = sizeof f; item_at(map, at, &h, &payload);) {
        at += sizeof h + h.bytes;
        if (h.layer != (int32_t)*layers) {
            break;
        }
        if (h.kind == KIND_LAYER_END) {
            (*layers)++;
            keep = at;
        }
    }
    return keep;
}

static ht_status start(struct ht_work *w, const char *digest, bool restart, uint32_t *layers, bool *replaced,
                       ht_err *err) {
    uint64_t keep = 0;
    *layers = 0;
    *replaced = false;
    if (ht_path_exists(w->path)) {
        struct ht_mapping map;
        HT_TRY(ht_map_file(w->path, &map, err));
        keep = restart ? 0 : whole_part(&map, digest, layers);
        *replaced = keep == 0 && map.size > 0;
        ht_unmap_file(&map);
    }
    HT_TRY(ht_append_open(w->path, keep, &w->file, err));
    if (keep == 0) {
        struct file_header f = {{0}, {0}, {0}};
        memcpy(f.magic, MAGIC, sizeof f.magic);
        memcpy(f.digest, digest, sizeof f.digest);
        HT_TRY(ht_append_write(w->file, &f, sizeof f, err));
    }
    return HT_OK;
}

ht_status ht_work_open(const char *output, const char digest[65], bool restart, struct ht_work **out,
                       uint32_t *layers, bool *replaced, ht_err *err) {
    *out = NULL;
    struct ht_work *w = ht_mem_calloc(1, sizeof *w);
    if (w == NULL || (w->path = work_path(output)) == NULL) {
        ht_mem_free(w);
        return ht_fail_nomem(err, sizeof *w);
    }
    ht_status status = ht_xxh3_new(&w->xxh3, err);
    if (status == HT_OK) {
        status = start(w, digest, restart, layers, replaced, err);
    }
    if (status != HT_OK) {
        ht_work_close(w);
        return status;
    }
    *out = w;
    return HT_OK;
}

void ht_work_close(struct ht_work *w) {
    if (w != NULL) {
        if (w->map.data != NULL) {
            ht_unmap_file(&w->map);
        }
        ht_append_close(w->file);
        ht_xxh3_free(w->xxh3);
        ht_mem_free(w->path);
        ht_mem_free(w);
    }
}

/* ---- writing ---- */

static uint64_t padded(uint64_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

#define FOLD_SUMS 5

struct pieces { /* of a payload, each padded */
    const void *data[40];
    uint64_t bytes[40];
    size_t n;
};

static void add_piece(struct pieces *p, const void *data, uint64_t bytes) {
    if (data != NULL && bytes > 0 && p->n < sizeof p->data / sizeof p->data[0]) {
        p->data[p->n] = data;
        p->bytes[p->n++] = bytes;
    }
}

static ht_status put(struct ht_work *w, struct item_header *h, const struct pieces *p, ht_err *err) {
    static const unsigned char zeros[ALIGN];
    h->bytes = h->hash = 0;
    for (size_t i = 0; i < p->n; i++) {
        ht_xxh3_update(w->xxh3, p->data[i], p->bytes[i]);
        ht_xxh3_update(w->xxh3, zeros, padded(p->bytes[i]) - p->bytes[i]);
        h->bytes += padded(p->bytes[i]);
    }
    uint64_t payload = ht_xxh3_final(w->xxh3);
    h->hash = ht_hash_xxh3(h, sizeof *h) ^ payload;
    HT_TRY(ht_append_write(w->file, h, sizeof *h, err));
    for (size_t i = 0; i < p->n; i++) {
        HT_TRY(ht_append_write(w->file, p->data[i], p->bytes[i], err));
        HT_TRY(ht_append_write(w->file, zeros, padded(p->bytes[i]) - p->bytes[i], err));
    }
    return HT_OK;
}

ht_status ht_work_put(struct ht_work *w, uint32_t tensor, int32_t layer, struct ht_job *job, ht_err *err) {
    struct item_header h = {.kind = KIND_TENSOR,
                            .tensor = tensor,
                            .layer = layer,
                            .coded = job->block == NULL,
                            .report = job->report};
    struct pieces pieces = {.n = 0};
    struct ht_qpart part;
    const struct ht_sidecar *s = &job->side;
    if (job->block != NULL) {
        add_piece(&pieces, job->bytes, job->rows * ht_format_row_bytes(job->block, job->cols));
    }
    for (size_t i = 0; job->block == NULL && ht_qtensor_part(&job->q, i, &part); i++) {
        add_piece(&pieces, *part.slot, part.bytes);
    }
    if (s->leaves != 0) {
        h.side = (struct side_shape){s->leaves,     s->hadamard,  s->n_out,    s->rank,
                                     s->n_clusters, s->threshold, s->n_sparse, {0}};
        if ((s->leaves & HT_LEAVES_ACT) != 0) {
            ht_scheme_text(&s->act, h.side.act);
        }
    }
    for (size_t i = 0; s->leaves != 0 && ht_sidecar_part(&job->side, i, &part); i++) {
        add_piece(&pieces, *part.slot, part.bytes);
    }
    return put(w, &h, &pieces, err);
}

ht_status ht_work_put_vector(struct ht_work *w, uint32_t tensor, int32_t layer, const float *x, uint64_t n,
                             ht_err *err) {
    struct item_header h = {.kind = KIND_VECTOR, .tensor = tensor, .layer = layer};
    struct pieces pieces = {.n = 0};
    add_piece(&pieces, x, n * sizeof *x);
    return put(w, &h, &pieces, err);
}

ht_status ht_work_end_layer(struct ht_work *w, int32_t layer, const struct ht_work_folds *folds, ht_err *err) {
    struct item_header h = {.kind = KIND_LAYER_END, .layer = layer};
    const uint64_t sums[FOLD_SUMS] = {folds->sites, folds->dead, folds->clamped, folds->cut, folds->n_notes};
    struct pieces pieces = {.n = 0};
    add_piece(&pieces, sums, sizeof sums);
    add_piece(&pieces, folds->notes, folds->n_notes * sizeof *folds->notes);
    HT_TRY(put(w, &h, &pieces, err));
    return ht_append_sync(w->file, err);
}

/* ---- what is there, as views ---- */

ht_status ht_work_map(struct ht_work *w, ht_err *err) {
    if (w->map.data != NULL) {
        ht_unmap_file(&w->map);
        w->map = (struct ht_mapping){0};
    }
    return ht_map_file(w->path, &w->map, err);
}

const struct ht_mapping *ht_work_mapping(const struct ht_work *w) {
    return &w->map;
}

/* A part of the payload; NULL past its end. */
static void *take(const unsigned char *payload, uint64_t *used, uint64_t bytes, uint64_t all) {
    if (bytes > all - *used) {
        return NULL;
    }
    void *p = (void *)(payload + *used);
    *used += padded(bytes) < all - *used ? padded(bytes) : all - *used;
    return p;
}

static bool take_parts(bool (*part_of)(void *of, size_t i, struct ht_qpart *part), void *of,
                       const unsigned char *payload, uint64_t *used, uint64_t all) {
    struct ht_qpart part;
    for (size_t i = 0; part_of(of, i, &part); i++) {
        if (part.bytes > 0 && (*part.slot = take(payload, used, part.bytes, all)) == NULL) {
            return false;
        }
    }
    return true;
}

static bool q_part(void *of, size_t i, struct ht_qpart *part) {
    return ht_qtensor_part(of, i, part);
}

static bool side_part(void *of, size_t i, struct ht_qpart *part) {
    return ht_sidecar_part(of, i, part);
}

static ht_status view_side(const struct item_header *h, const struct ht_plan_tensor *t,
                           struct ht_work_item *item, const unsigned char *payload, uint64_t *used,
                           ht_err *err) {
    const struct side_shape *s = &h->side;
    struct ht_sidecar *side = &item->side;
    *side = (struct ht_sidecar){.rows = t->out.ne[1],
                                .cols = t->out.ne[0],
                                .leaves = s->leaves,
                                .hadamard = s->hadamard,
                                .n_out = s->n_out,
                                .rank = s->rank,
                                .n_clusters = s->n_clusters,
                                .threshold = s->threshold,
                                .n_sparse = s->n_sparse};
    if (s->leaves == 0) {
        return HT_OK;
    }
    if ((s->leaves & HT_LEAVES_ACT) != 0) {
        HT_TRY(ht_scheme_parse(s->act, &side->act, err));
    }
    HT_TRY(ht_sidecar_check_shape(side, t->out.name, err));
    if (!take_parts(side_part, side, payload, used, h->bytes)) {
        return ht_fail(err, HT_FORMAT, t->out.name, HT_NO_POS, "the work file lacks a part of its sidecar");
    }
    return ht_sidecar_check(side, "work file", t->out.name, err);
}

static ht_status view(const struct item_header *h, const struct ht_flow_plan *plan,
                      const unsigned char *payload, struct ht_work_item *item, ht_err *err) {
    if (h->tensor >= plan->n_tensors) {
        return ht_fail(err, HT_FORMAT, "work file", HT_NO_POS, "tensor %u of %zu", h->tensor,
                       plan->n_tensors);
    }
    const struct ht_plan_tensor *t = &plan->tensors[h->tensor];
    uint64_t used = 0, rows = t->out.ne[1], cols = t->out.ne[0];
    bool ok = true;
    *item = (struct ht_work_item){
        .tensor = h->tensor, .layer = h->layer, .vector = h->kind == KIND_VECTOR, .report = h->report};
    if (item->vector) {
        item->n_bytes = ht_tensor_elems(&t->out) * sizeof(float);
        item->bytes = take(payload, &used, item->n_bytes, h->bytes);
        ok = item->bytes != NULL;
    } else if (h->coded) {
        if (t->scheme == NULL) {
            return ht_fail(err, HT_FORMAT, t->out.name, HT_NO_POS,
                           "the work file has codes for a tensor without scheme");
        }
        HT_TRY(ht_qtensor_shape(&item->q, t->scheme, rows, cols, t->out.name, err));
        item->has_q = true;
        ok = take_parts(q_part, &item->q, payload, &used, h->bytes);
    } else {
        item->n_bytes = rows * ht_format_row_bytes(t->out.format, cols);
        item->bytes = take(payload, &used, item->n_bytes, h->bytes);
        ok = item->bytes != NULL;
    }
    if (!ok) {
        return ht_fail(err, HT_FORMAT, t->out.name, HT_NO_POS, "the work file holds too few bytes for it");
    }
    return item->vector ? HT_OK : view_side(h, t, item, payload, &used, err);
}

bool ht_work_next(const struct ht_work *w, const struct ht_flow_plan *plan, uint64_t *at,
                  struct ht_work_item *item, ht_status *status, ht_err *err) {
    struct item_header h;
    const unsigned char *payload;
    *status = HT_OK;
    *at = *at == 0 ? sizeof(struct file_header) : *at;
    for (;;) {
        if (*at > w->map.size || w->map.size - *at < sizeof h) {
            return false;
        }
        memcpy(&h, w->map.data + *at, sizeof h);
        payload = w->map.data + *at + sizeof h;
        if (h.bytes > w->map.size - *at - sizeof h) {
            return false;
        }
        *at += sizeof h + h.bytes;
        if (h.kind != KIND_LAYER_END) {
            *status = view(&h, plan, payload, item, err);
            return *status == HT_OK;
        }
    }
}

bool ht_work_next_layer(const struct ht_work *w, uint64_t *at, struct ht_work_folds *folds) {
    struct item_header h;
    const unsigned char *payload;
    uint64_t sums[FOLD_SUMS], used = 0;
    *at = *at == 0 ? sizeof(struct file_header) : *at;
    while (item_at(&w->map, *at, &h, &payload)) {
        *at += sizeof h + h.bytes;
        if (h.kind != KIND_LAYER_END || h.bytes < sizeof sums) {
            continue;
        }
        memcpy(sums, take(payload, &used, sizeof sums, h.bytes), sizeof sums);
        *folds = (struct ht_work_folds){sums[0], sums[1], sums[2], sums[3], sums[4], NULL};
        if (folds->n_notes > (h.bytes - used) / sizeof *folds->notes) {
            return false;
        }
        folds->notes = take(payload, &used, folds->n_notes * sizeof *folds->notes, h.bytes);
        return true;
    }
    return false;
}
