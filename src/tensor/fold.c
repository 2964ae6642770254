#include "tensor/fold.h"

#include <string.h>

#include "base/ckd.h"
#include "base/mem.h"

ht_status ht_fold_block_matrix(struct ht_fold_block *block, enum ht_role role, uint64_t rows, uint64_t cols,
                               ht_err *err) {
    struct ht_fold_matrix *m = &block->matrices[role];
    uint64_t n = 0;
    m->w = ht_ckd_mul(&n, rows, cols) ? NULL : ht_mem_alloc_aligned(n, sizeof *m->w);
    m->rows = rows;
    m->cols = cols;
    return m->w != NULL ? HT_OK : ht_fail_nomem(err, n * sizeof *m->w);
}

ht_status ht_fold_block_vector(struct ht_fold_block *block, enum ht_role role, uint64_t n, ht_err *err) {
    struct ht_fold_vector *v = &block->vectors[role];
    v->x = ht_mem_calloc(n, sizeof *v->x);
    v->n = n;
    v->used = false;
    return v->x != NULL ? HT_OK : ht_fail_nomem(err, n * sizeof *v->x);
}

ht_status ht_fold_block_copy(struct ht_fold_block *to, const struct ht_fold_block *from, ht_err *err) {
    ht_status status = HT_OK;
    *to = *from;
    memset(to->matrices, 0, sizeof to->matrices);
    memset(to->vectors, 0, sizeof to->vectors);
    for (int role = 0; role < HT_ROLES && status == HT_OK; role++) {
        const struct ht_fold_matrix *m = &from->matrices[role];
        const struct ht_fold_vector *v = &from->vectors[role];
        if (m->w != NULL) {
            HT_TRY_DONE(ht_fold_block_matrix(to, (enum ht_role)role, m->rows, m->cols, err));
            memcpy(to->matrices[role].w, m->w, m->rows * m->cols * sizeof *m->w);
        }
        if (v->x != NULL) {
            HT_TRY_DONE(ht_fold_block_vector(to, (enum ht_role)role, v->n, err));
            memcpy(to->vectors[role].x, v->x, v->n * sizeof *v->x);
            to->vectors[role].used = v->used;
        }
    }
done:
    if (status != HT_OK) {
        ht_fold_block_deinit(to);
    }
    return status;
}

void ht_fold_block_deinit(struct ht_fold_block *block) {
    for (int role = 0; role < HT_ROLES; role++) {
        ht_mem_free_aligned(block->matrices[role].w);
        ht_mem_free(block->vectors[role].x);
    }
    memset(block, 0, sizeof *block);
}

uint64_t ht_fold_block_bytes(const struct ht_fold_block *block) {
    uint64_t elems = 0;
    for (int role = 0; role < HT_ROLES; role++) {
        elems += block->matrices[role].w != NULL ? block->matrices[role].rows * block->matrices[role].cols : 0;
        elems += block->vectors[role].x != NULL ? block->vectors[role].n : 0;
    }
    return elems * sizeof(float);
}
