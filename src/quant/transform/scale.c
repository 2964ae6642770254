/* Scales move from one side of a site to the other. */
#include <math.h>

#include "quant/transform/transform_impl.h"

static ht_status check_factors(const struct ht_foldsite *site, const float *s, uint64_t n, ht_err *err) {
    for (uint64_t j = 0; j < n; j++) {
        /* 1/s must be finite too. */
        if (!isfinite(s[j]) || !isfinite(1.0f / s[j])) {
            return ht_fail(err, HT_NUMERIC, site->name, j, "factor %llu is %g; expected a finite number that is not 0",
                           (unsigned long long)j, (double)s[j]);
        }
    }
    return HT_OK;
}

static void multiply_columns(struct ht_fold_block *b, const struct ht_foldsite *site, const float *s) {
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        struct ht_fold_matrix *m = &b->matrices[*role];
        for (uint64_t r = 0; r < m->rows; r++) {
            for (uint64_t c = 0; c < m->cols; c++) {
                m->w[r * m->cols + c] *= s[ht_fold_factor_of(b, site, c)];
            }
        }
    }
}

static void multiply_row(struct ht_fold_block *b, enum ht_role role, uint64_t r, float s) {
    struct ht_fold_matrix *m = &b->matrices[role];
    enum ht_role bias = ht_role_bias(role);
    for (uint64_t c = 0; c < m->cols; c++) {
        m->w[r * m->cols + c] *= s;
    }
    if (bias != HT_ROLE_OTHER && b->vectors[bias].used) {
        b->vectors[bias].x[r] *= s;
    }
}

/* Rows of a linear with its bias, or elements of a norm. divide: by s, exactly where s is a power of two. */
static void scale_outputs(struct ht_fold_block *b, const struct ht_foldsite *site, enum ht_role role, const float *s,
                          bool divide) {
    bool matrix = b->matrices[role].w != NULL;
    uint64_t n = matrix ? b->matrices[role].rows : b->vectors[role].n;
    uint64_t group = matrix && role == site->consumers[0] ? b->n_heads / b->n_kv_heads : 1;
    for (uint64_t r = 0; r < n; r++) {
        float f = s[site->span == HT_FOLD_PAIRS ? ht_fold_pair_of(b, r, group) : r];
        f = divide ? 1.0f / f : f;
        if (matrix) {
            multiply_row(b, role, r, f);
        } else {
            b->vectors[role].x[r] *= f;
        }
    }
}

ht_status ht_fold_scale(struct ht_fold_block *block, const struct ht_foldsite *site, const float *s, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    HT_TRY(check_factors(site, s, ht_fold_channels(block, site), err));
    scale_outputs(block, site, site->producers[0], s, true);
    if (site->span == HT_FOLD_PAIRS) {
        scale_outputs(block, site, site->consumers[0], s, false);
    } else {
        multiply_columns(block, site, s);
    }
    return HT_OK;
}

ht_status ht_fold_scale_inputs(struct ht_fold_block *block, const struct ht_foldsite *site, const float *s,
                               ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    if (site->span == HT_FOLD_PAIRS) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "keys and queries have no inputs in common to scale");
    }
    HT_TRY(check_factors(site, s, ht_fold_channels(block, site), err));
    multiply_columns(block, site, s);
    return HT_OK;
}

ht_status ht_fold_norm(struct ht_fold_block *block, const struct ht_foldsite *site, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    struct ht_fold_vector *gamma = &block->vectors[site->producers[0]];
    if (gamma->x == NULL || site->span != HT_FOLD_CHANNELS) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "its producer is %s, not a norm in front of linears",
                       ht_role_name(site->producers[0]));
    }
    multiply_columns(block, site, gamma->x); /* a 0 is fine: the columns become 0 */
    for (uint64_t j = 0; j < gamma->n; j++) {
        gamma->x[j] = 1;
    }
    return HT_OK;
}
