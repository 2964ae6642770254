/* Rotations folded into a block. */
#include "quant/transform/rotation.h"
#include "quant/transform/transform_impl.h"
#include "tensor/hadamard.h"

/* Norms on the stream must be ones: a norm's weights do not commute with a rotation. */
static ht_status check_norms(const struct ht_fold_block *b, const struct ht_foldsite *site, ht_err *err) {
    for (const enum ht_role *role = site->along; *role != HT_ROLE_OTHER; role++) {
        const struct ht_fold_vector *v = &b->vectors[*role];
        for (uint64_t j = 0; j < v->n && v->used; j++) {
            if (v->x[j] != 1.0f) {
                return ht_fail(err, HT_INVAL, site->name, j,
                               "%s of layer %d has weights besides 1; ht_fold_norm moves them into its readers first",
                               ht_role_name(*role), (int)b->layer);
            }
        }
    }
    return HT_OK;
}

ht_status ht_fold_rotate(struct ht_fold_block *block, const struct ht_foldsite *site, const struct ht_rotation *q,
                         struct ht_pool *pool, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_ROTATE, err));
    bool heads = site->span == HT_FOLD_HEADS;
    uint64_t n = heads ? block->head_dim : ht_fold_channels(block, site);
    if (q->n != n) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "expected a rotation of %llu channels, found %llu",
                       (unsigned long long)n, (unsigned long long)q->n);
    }
    HT_TRY(check_norms(block, site, err));
    for (const enum ht_role *role = site->producers; *role != HT_ROLE_OTHER; role++) {
        struct ht_fold_matrix *m = &block->matrices[*role];
        struct ht_fold_vector *bias = &block->vectors[ht_role_bias(*role)];
        if (m->w != NULL && *role == HT_ROLE_TOKEN_EMBD) {
            HT_TRY(ht_rotation_rows(q, pool, m->w, m->rows, m->cols, err));
            continue;
        }
        for (uint64_t r = 0; m->w != NULL && r < m->rows; r += n) {
            HT_TRY(ht_rotation_outputs(q, pool, m->w + r * m->cols, m->cols, err));
        }
        if (m->w != NULL && ht_role_bias(*role) != HT_ROLE_OTHER && bias->used) {
            HT_TRY(ht_rotation_rows(q, pool, bias->x, bias->n / n, n, err));
        }
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        struct ht_fold_matrix *m = &block->matrices[*role];
        if (m->w != NULL) {
            HT_TRY(ht_rotation_rows(q, pool, m->w, m->rows * (m->cols / n), n, err));
        }
    }
    return HT_OK;
}

ht_status ht_fold_rotate_inputs(struct ht_fold_block *block, enum ht_role role, uint64_t hadamard, ht_err *err) {
    struct ht_fold_matrix *m = &block->matrices[role];
    if (m->w == NULL || !ht_hadamard_fits(hadamard, m->cols)) {
        return ht_fail(err, HT_INVAL, ht_role_name(role), HT_NO_POS,
                       "expected blocks of a power of two above 1 that divides %llu columns, found %llu",
                       (unsigned long long)m->cols, (unsigned long long)hadamard);
    }
    for (uint64_t r = 0; r < m->rows; r++) {
        ht_hadamard(m->w + r * m->cols, (size_t)m->cols, (size_t)hadamard);
    }
    return HT_OK;
}
