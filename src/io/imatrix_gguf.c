/* Importance as GGUF: general.type = "imatrix", imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size;
 * for each linear NAME.in_sum2 {n, n_mat} and NAME.counts {1, n_mat}, both F32. Other tensors (NAME.in_sum,
 * NAME.stats of newer writers) are not needed and left alone. Source: llama.cpp tools/imatrix. */
#include <stdio.h>
#include <stdlib.h> /* qsort */

#include "io/bytes.h"
#include "io/gguf.h"
#include "io/imatrix_impl.h"

#define SUM_SUFFIX ".in_sum2"
#define COUNT_SUFFIX ".counts"

/* ---- reading ----------------------------------------------------------------------------------------- */

/* True when name is STEM + suffix; the stem goes to stem[]. */
static bool has_suffix(const char *name, const char *suffix, char stem[HT_MAX_TENSOR_NAME + 1]) {
    size_t len = strlen(name), n = strlen(suffix);
    if (len <= n || strcmp(name + len - n, suffix) != 0) {
        return false;
    }
    memcpy(stem, name, len - n);
    stem[len - n] = '\0';
    return true;
}

static void load_f32(const struct ht_tensor *t, float *x) {
    const unsigned char *p = t->data;
    for (uint64_t i = 0; i < t->bytes / 4; i++) {
        x[i] = ht_le_f32(p + 4 * i);
    }
}

static ht_status read_entry(struct ht_imatrix *m, const struct ht_tensor *sum, const struct ht_tensor *count,
                            const char *stem, const char *what, ht_err *err) {
    struct ht_imatrix_entry *e;
    if (count == NULL) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "imatrix entry '%s': " COUNT_SUFFIX " is missing",
                       stem);
    }
    if (strcmp(sum->format->name, "f32") != 0 || strcmp(count->format->name, "f32") != 0) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "imatrix entry '%s': expected f32, found %s and %s",
                       stem, sum->format->name, count->format->name);
    }
    uint64_t n_mat = count->bytes / 4, total = sum->bytes / 4;
    if (total % n_mat != 0) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "imatrix entry '%s': %llu sums and %llu counts do not match", stem,
                       (unsigned long long)total, (unsigned long long)n_mat);
    }
    HT_TRY(ht_imatrix_entry(m, stem, total / n_mat, n_mat, &e, err));
    load_f32(sum, e->sum2);
    load_f32(count, e->count);
    return HT_OK;
}

static ht_status read_keys(struct ht_imatrix *m, const struct ht_meta *meta, const char *what, ht_err *err) {
    const char *type = "";
    uint64_t chunk_count = 0, chunk_size = 0;
    HT_TRY(ht_meta_get_str(meta, "general.type", &type, NULL, err));
    if (strcmp(type, "imatrix") != 0) {
        return ht_fail(
            err, HT_FORMAT, what, HT_NO_POS,
            "expected an importance file (general.type = \"imatrix\"), found a GGUF file of type '%.40s'",
            type);
    }
    HT_TRY(ht_meta_get_u64(meta, "imatrix.chunk_count", UINT32_MAX, &chunk_count, NULL, err));
    HT_TRY(ht_meta_get_u64(meta, "imatrix.chunk_size", UINT32_MAX, &chunk_size, NULL, err));
    m->chunk_count = (uint32_t)chunk_count;
    m->chunk_size = (uint32_t)chunk_size;
    const struct ht_meta_kv *sets = ht_meta_find(meta, "imatrix.datasets");
    if (sets != NULL && (sets->type != HT_META_ARRAY || sets->elem_type != HT_META_STRING)) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "key 'imatrix.datasets': expected an array of strings");
    }
    for (uint64_t i = 0; sets != NULL && i < sets->n; i++) {
        HT_TRY(ht_imatrix_dataset(m, ht_meta_elem_str(sets, i).s, err));
    }
    return HT_OK;
}

/* counts: stem -> tensor number. */
static ht_status read_entries(struct ht_imatrix *m, const struct ht_gguf *gguf, struct ht_map *counts,
                              const char *what, ht_err *err) {
    char stem[HT_MAX_TENSOR_NAME + 1];
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        if (has_suffix(gguf->tensors[i].name, COUNT_SUFFIX, stem) &&
            !ht_map_put(counts, stem, strlen(stem), i, NULL)) {
            return ht_fail_nomem(err, strlen(stem));
        }
    }
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        if (has_suffix(gguf->tensors[i].name, SUM_SUFFIX, stem)) {
            uint64_t k;
            const struct ht_tensor *count = ht_map_get_str(counts, stem, &k) ? &gguf->tensors[k] : NULL;
            HT_TRY(read_entry(m, &gguf->tensors[i], count, stem, what, err));
        }
    }
    if (m->n == 0 || counts->n != m->n) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "%zu entries with sums and %zu with counts; expected as many, and at least one", m->n,
                       counts->n);
    }
    return HT_OK;
}

ht_status ht_imatrix_parse_gguf(struct ht_imatrix *m, const void *data, uint64_t size, const char *what,
                                ht_err *err) {
    struct ht_gguf gguf;
    struct ht_map counts;
    HT_TRY(ht_gguf_parse(data, size, what, &gguf, err));
    ht_status status = HT_OK;
    ht_map_init(&counts);
    HT_TRY_DONE(read_keys(m, &gguf.meta, what, err));
    HT_TRY_DONE(read_entries(m, &gguf, &counts, what, err));
done:
    if (status != HT_OK && err != NULL && err->what[0] == '\0') {
        snprintf(err->what, sizeof err->what, "%.*s", (int)sizeof err->what - 1, what);
    }
    ht_map_deinit(&counts);
    ht_gguf_deinit(&gguf);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    const struct ht_imatrix_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

const struct ht_imatrix_entry **ht_imatrix_sorted(const struct ht_imatrix *m) {
    const struct ht_imatrix_entry **sorted = ht_mem_alloc_array(m->n, sizeof *sorted);
    if (sorted != NULL) {
        for (size_t i = 0; i < m->n; i++) {
            sorted[i] = &m->entries[i];
        }
        qsort(sorted, m->n, sizeof *sorted, by_name);
    }
    return sorted;
}

static ht_status make_keys(const struct ht_imatrix *m, struct ht_meta *meta, ht_err *err) {
    struct ht_str *sets = ht_mem_alloc_array(m->n_datasets, sizeof *sets);
    if (sets == NULL) {
        return ht_fail_nomem(err, m->n_datasets * sizeof *sets);
    }
    for (size_t i = 0; i < m->n_datasets; i++) {
        sets[i] = (struct ht_str){m->datasets[i], strlen(m->datasets[i])};
    }
    ht_status status = HT_OK;
    HT_TRY_DONE(ht_meta_set_str(meta, "general.type", "imatrix", 7, err));
    HT_TRY_DONE(ht_meta_set_array(meta, "imatrix.datasets", HT_META_STRING, sets, m->n_datasets, err));
    HT_TRY_DONE(ht_meta_set_u32(meta, "imatrix.chunk_count", m->chunk_count, err));
    HT_TRY_DONE(ht_meta_set_u32(meta, "imatrix.chunk_size", m->chunk_size, err));
done:
    ht_mem_free(sets);
    return status;
}

/* tensors: [2 n] sums and counts in turn; names: [2 n] storage for their names. */
static ht_status make_tensors(const struct ht_imatrix *m, const struct ht_imatrix_entry **sorted,
                              struct ht_tensor *tensors, char (*names)[HT_MAX_TENSOR_NAME + 1], ht_err *err) {
    const struct ht_format *f32 = ht_format_find("f32");
    for (size_t i = 0; i < m->n; i++) {
        const struct ht_imatrix_entry *e = sorted[i];
        if (strlen(e->name) > HT_MAX_TENSOR_NAME - strlen(SUM_SUFFIX)) {
            return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS,
                           "imatrix entry '%.200s': with " SUM_SUFFIX " the name exceeds GGUF's %d bytes",
                           e->name, HT_MAX_TENSOR_NAME);
        }
        snprintf(names[2 * i], sizeof names[0], "%.55s" SUM_SUFFIX, e->name);
        snprintf(names[2 * i + 1], sizeof names[0], "%.55s" COUNT_SUFFIX, e->name);
        tensors[2 * i] = (struct ht_tensor){names[2 * i], f32, 2, {e->n, e->n_mat, 1, 1}, NULL, 0};
        tensors[2 * i + 1] = (struct ht_tensor){names[2 * i + 1], f32, 2, {1, e->n_mat, 1, 1}, NULL, 0};
    }
    return HT_OK;
}

static ht_status write_f32(struct ht_gguf_writer *w, const float *x, uint64_t n, ht_err *err) {
    unsigned char le[4096];
    while (n != 0) {
        uint64_t step = n < sizeof le / 4 ? n : sizeof le / 4;
        ht_le_store_f32s(le, x, step);
        HT_TRY(ht_gguf_writer_tensor(w, le, 4 * step, err));
        x += step;
        n -= step;
    }
    return HT_OK;
}

ht_status ht_imatrix_save_gguf(const struct ht_imatrix *m, const struct ht_imatrix_entry **sorted,
                               const char *path, bool overwrite, ht_err *err) {
    struct ht_meta meta;
    struct ht_gguf_writer *w = NULL;
    ht_status status = HT_OK;
    struct ht_tensor *tensors = ht_mem_calloc(2 * m->n, sizeof *tensors);
    char(*names)[HT_MAX_TENSOR_NAME + 1] = ht_mem_calloc(2 * m->n, sizeof *names);
    ht_meta_init(&meta);
    if (tensors == NULL || names == NULL) {
        status = ht_fail_nomem(err, 2 * m->n * (sizeof *tensors + sizeof *names));
        goto done;
    }
    HT_TRY_DONE(make_keys(m, &meta, err));
    HT_TRY_DONE(make_tensors(m, sorted, tensors, names, err));
    HT_TRY_DONE(ht_gguf_writer_new(path, &meta, tensors, 2 * m->n, 0, overwrite, &w, err));
    for (size_t i = 0; i < m->n; i++) {
        HT_TRY_DONE(write_f32(w, sorted[i]->sum2, sorted[i]->n * sorted[i]->n_mat, err));
        HT_TRY_DONE(write_f32(w, sorted[i]->count, sorted[i]->n_mat, err));
    }
    struct ht_gguf_writer *full = w;
    w = NULL;
    status = ht_gguf_writer_commit(full, err);
done:
    ht_gguf_writer_abort(w);
    ht_meta_deinit(&meta);
    ht_mem_free(tensors);
    ht_mem_free(names);
    return status;
}
