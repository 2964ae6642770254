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

void ht_fold_block_deinit(struct ht_fold_block *block) {
    for (int role = 0; role < HT_ROLES; role++) {
        ht_mem_free_aligned(block->matrices[role].w);
        ht_mem_free(block->vectors[role].x);
    }
    memset(block, 0, sizeof *block);
}
