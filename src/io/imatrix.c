#include "io/imatrix.h"

#include <math.h>

#include "base/ckd.h"
#include "base/file.h"
#include "base/limits.h"
#include "io/imatrix_impl.h"

ht_status ht_imatrix_new(struct ht_imatrix **imatrix, ht_err *err) {
    struct ht_imatrix *m = ht_mem_calloc(1, sizeof *m);
    *imatrix = m;
    if (m == NULL) {
        return ht_fail_nomem(err, sizeof *m);
    }
    ht_map_init(&m->index);
    ht_arena_init(&m->arena, 0);
    return HT_OK;
}

void ht_imatrix_free(struct ht_imatrix *m) {
    if (m != NULL) {
        ht_map_deinit(&m->index);
        ht_arena_deinit(&m->arena);
        ht_mem_free(m->entries);
        ht_mem_free(m);
    }
}

const struct ht_imatrix_entry *ht_imatrix_find(const struct ht_imatrix *m, const char *name) {
    uint64_t i;
    return ht_map_get_str(&m->index, name, &i) ? &m->entries[i] : NULL;
}

static ht_status add_entry(struct ht_imatrix *m, const char *name, uint64_t n, uint64_t n_mat, ht_err *err) {
    uint64_t total;
    if (n == 0 || n_mat == 0 || ht_ckd_mul(&total, n, n_mat) || total > SIZE_MAX / sizeof(float)) {
        return ht_fail(err, HT_INVAL, NULL, HT_NO_POS, "imatrix entry '%s': a size of %llu x %llu", name,
                       (unsigned long long)n, (unsigned long long)n_mat);
    }
    if (m->n == HT_MAX_TENSORS) {
        return ht_fail(err, HT_LIMIT, NULL, HT_NO_POS, "more than %u imatrix entries", HT_MAX_TENSORS);
    }
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 64;
        struct ht_imatrix_entry *bigger = ht_mem_realloc_array(m->entries, cap, sizeof *bigger);
        if (bigger == NULL) {
            return ht_fail_nomem(err, cap * sizeof *bigger);
        }
        m->entries = bigger;
        m->cap = cap;
    }
    struct ht_imatrix_entry *e = &m->entries[m->n];
    e->name = ht_arena_strdup(&m->arena, name);
    e->n = n;
    e->n_mat = n_mat;
    e->sum2 = ht_arena_calloc(&m->arena, (size_t)total, sizeof(float));
    e->count = ht_arena_calloc(&m->arena, (size_t)n_mat, sizeof(float));
    if (e->name == NULL || e->sum2 == NULL || e->count == NULL ||
        !ht_map_put(&m->index, name, strlen(name), m->n, NULL)) {
        return ht_fail_nomem(err, total * sizeof(float));
    }
    m->n++;
    return HT_OK;
}

ht_status ht_imatrix_entry(struct ht_imatrix *m, const char *name, uint64_t n, uint64_t n_mat,
                           struct ht_imatrix_entry **entry, ht_err *err) {
    uint64_t i;
    *entry = NULL;
    if (!ht_map_get_str(&m->index, name, &i)) {
        HT_TRY(add_entry(m, name, n, n_mat, err));
        i = m->n - 1;
    }
    struct ht_imatrix_entry *e = &m->entries[i];
    if (e->n != n || e->n_mat != n_mat) {
        return ht_fail(err, HT_INVAL, NULL, HT_NO_POS,
                       "imatrix entry '%s' is %llu x %llu here and %llu x %llu there", name,
                       (unsigned long long)e->n, (unsigned long long)e->n_mat, (unsigned long long)n,
                       (unsigned long long)n_mat);
    }
    *entry = e;
    return HT_OK;
}

ht_status ht_imatrix_dataset(struct ht_imatrix *m, const char *name, ht_err *err) {
    if (m->n_datasets >= m->cap_datasets) {
        size_t cap = m->n_datasets * 2 + 4;
        const char **bigger = ht_arena_calloc(&m->arena, cap, sizeof *bigger);
        if (bigger == NULL) {
            return ht_fail_nomem(err, cap * sizeof *bigger);
        }
        if (m->n_datasets != 0) {
            memcpy(bigger, m->datasets, m->n_datasets * sizeof *bigger);
        }
        m->datasets = bigger;
        m->cap_datasets = cap;
    }
    const char *copy = ht_arena_strdup(&m->arena, name);
    if (copy == NULL) {
        return ht_fail_nomem(err, strlen(name));
    }
    m->datasets[m->n_datasets++] = copy;
    return HT_OK;
}

ht_status ht_imatrix_add(struct ht_imatrix *into, const struct ht_imatrix *other, ht_err *err) {
    if (into->n != 0 && other->n != 0 && (into->chunk_size == 0) != (other->chunk_size == 0)) {
        return ht_fail(
            err, HT_INVAL, NULL, HT_NO_POS,
            "one importance matrix counts tokens and the other, of an old .dat file, chunks of unknown "
            "length: their weights cannot be compared; collect the old one again");
    }
    for (size_t i = 0; i < other->n; i++) {
        const struct ht_imatrix_entry *from = &other->entries[i];
        struct ht_imatrix_entry *to;
        HT_TRY(ht_imatrix_entry(into, from->name, from->n, from->n_mat, &to, err));
        for (uint64_t j = 0; j < from->n * from->n_mat; j++) {
            to->sum2[j] += from->sum2[j];
        }
        for (uint64_t j = 0; j < from->n_mat; j++) {
            to->count[j] += from->count[j];
        }
    }
    for (size_t i = 0; i < other->n_datasets; i++) {
        HT_TRY(ht_imatrix_dataset(into, other->datasets[i], err));
    }
    into->chunk_size = into->chunk_size ? into->chunk_size : other->chunk_size;
    into->chunk_count = other->chunk_count > UINT32_MAX - into->chunk_count
                            ? UINT32_MAX
                            : into->chunk_count + other->chunk_count;
    return HT_OK;
}

/* One expert: importance[n]. */
static ht_status matrix_importance(const struct ht_imatrix_entry *e, uint64_t mat, float *importance,
                                   const char *path, ht_err *err) {
    float count = e->count[mat];
    bool any = false;
    if (!(count >= 0) || !isfinite(count)) {
        return ht_fail(err, HT_NUMERIC, path, HT_NO_POS, "imatrix entry '%s': the count is %g", e->name,
                       (double)count);
    }
    for (uint64_t i = 0; i < e->n; i++) {
        float s = e->sum2[mat * e->n + i];
        if (!(s >= 0) || !isfinite(s)) {
            return ht_fail(
                err, HT_NUMERIC, path, HT_NO_POS,
                "imatrix entry '%s': the sum of input %llu is %g, expected a finite number that is not "
                "negative; collect the importance again",
                e->name, (unsigned long long)i, (double)s);
        }
        importance[i] = count > 0 ? s / count : 1.0f;
        if (!isfinite(importance[i])) {
            return ht_fail(err, HT_NUMERIC, path, HT_NO_POS,
                           "imatrix entry '%s': sum %g over count %g overflows", e->name, (double)s,
                           (double)count);
        }
        any = any || importance[i] > 0;
    }
    return any ? HT_OK
               : ht_fail(err, HT_NUMERIC, path, HT_NO_POS,
                         "imatrix entry '%s': every input is zero; collect the importance again", e->name);
}

ht_status ht_imatrix_importance(const struct ht_imatrix_entry *entry, float *importance, const char *path,
                                ht_err *err) {
    for (uint64_t i = 0; i < entry->n_mat; i++) {
        HT_TRY(matrix_importance(entry, i, importance + i * entry->n, path, err));
    }
    return HT_OK;
}

/* ---- files ------------------------------------------------------------------------------------------- */

ht_status ht_imatrix_parse(const void *data, uint64_t size, const char *what, struct ht_imatrix **imatrix,
                           ht_err *err) {
    struct ht_imatrix *m;
    HT_TRY(ht_imatrix_new(&m, err));
    bool gguf = size >= 4 && memcmp(data, "GGUF", 4) == 0;
    ht_status status = gguf ? ht_imatrix_parse_gguf(m, data, size, what, err)
                            : ht_imatrix_parse_dat(m, data, size, what, err);
    if (status != HT_OK) {
        ht_imatrix_free(m);
        m = NULL;
    }
    *imatrix = m;
    return status;
}

ht_status ht_imatrix_load(const char *path, struct ht_imatrix **imatrix, ht_err *err) {
    struct ht_mapping map;
    *imatrix = NULL;
    HT_TRY(ht_map_file(path, &map, err));
    ht_status status = ht_imatrix_parse(map.data, map.size, path, imatrix, err);
    ht_unmap_file(&map);
    return status;
}

ht_status ht_imatrix_save(const struct ht_imatrix *m, const char *path, bool overwrite, ht_err *err) {
    if (m->n == 0) {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS, "the importance matrix has no entries");
    }
    size_t len = strlen(path);
    bool dat = len > 4 && strcmp(path + len - 4, ".dat") == 0;
    const struct ht_imatrix_entry **sorted = ht_imatrix_sorted(m);
    if (sorted == NULL) {
        return ht_fail_nomem(err, m->n * sizeof *sorted);
    }
    ht_status status = dat ? ht_imatrix_save_dat(m, sorted, path, overwrite, err)
                           : ht_imatrix_save_gguf(m, sorted, path, overwrite, err);
    ht_mem_free(sorted);
    return status;
}
