/* Shapes of fold sites, and what their members reach. */
#include <string.h>

#include "quant/transform/transform_impl.h"

const struct ht_foldsite *ht_fold_site(const struct ht_foldsite *table, const char *name) {
    for (; table->name != NULL; table++) {
        if (strcmp(table->name, name) == 0) {
            return table;
        }
    }
    return NULL;
}

/* Outputs of a member: rows of a linear, elements of a norm. */
static uint64_t outputs(const struct ht_fold_block *b, enum ht_role role) {
    return b->matrices[role].w != NULL ? b->matrices[role].rows : b->vectors[role].x != NULL ? b->vectors[role].n : 0;
}

static bool heads_fit(const struct ht_fold_block *b) {
    return b->head_dim != 0 && b->n_kv_heads != 0 && b->n_heads % b->n_kv_heads == 0;
}

/* Both members are matrices of whole heads, or both norms of one head. */
static uint64_t pairs(const struct ht_fold_block *b, const struct ht_foldsite *site) {
    uint64_t k = outputs(b, site->producers[0]), q = outputs(b, site->consumers[0]);
    if (!heads_fit(b) || b->head_dim % 2 != 0) {
        return 0;
    }
    if (b->matrices[site->producers[0]].w == NULL) {
        return k == b->head_dim && q == b->head_dim ? k / 2 : 0;
    }
    uint64_t d = b->head_dim;
    return k == b->n_kv_heads * d && q == b->n_heads * d ? k / 2 : 0;
}

uint64_t ht_fold_inputs(const struct ht_fold_block *b, const struct ht_foldsite *site) {
    if (site->span == HT_FOLD_PAIRS || ht_fold_channels(b, site) == 0) {
        return 0;
    }
    const enum ht_role *role = site->consumers;
    while (b->matrices[*role].w == NULL) {
        role++;
    }
    return b->matrices[*role].cols;
}

/* The residual stream's members are spread over all layers: a block need only hold some of them. */
static uint64_t residual(const struct ht_fold_block *b, const struct ht_foldsite *site) {
    uint64_t n = 0;
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        uint64_t cols = b->matrices[*role].w != NULL ? b->matrices[*role].cols : n;
        if (n != 0 && cols != n) {
            return 0;
        }
        n = cols;
    }
    for (const enum ht_role *role = site->producers; *role != HT_ROLE_OTHER && n != 0; role++) {
        const struct ht_fold_matrix *m = &b->matrices[*role];
        /* The embedding's rows are outputs: token by token. */
        if (m->w != NULL && (*role == HT_ROLE_TOKEN_EMBD ? m->cols : m->rows) != n) {
            return 0;
        }
    }
    return n;
}

uint64_t ht_fold_channels(const struct ht_fold_block *b, const struct ht_foldsite *site) {
    if (site->span == HT_FOLD_RESIDUAL) {
        return residual(b, site);
    }
    if (site->span == HT_FOLD_PAIRS) {
        return pairs(b, site);
    }
    uint64_t n = outputs(b, site->producers[0]), wide = n;
    if (site->span == HT_FOLD_HEADS) {
        if (!heads_fit(b) || n != (uint64_t)b->n_kv_heads * b->head_dim) {
            return 0;
        }
        wide = (uint64_t)b->n_heads * b->head_dim;
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        if (b->matrices[*role].w == NULL || b->matrices[*role].cols != wide) {
            return 0;
        }
    }
    for (const enum ht_role *role = site->along; *role != HT_ROLE_OTHER; role++) {
        if (outputs(b, *role) != n) {
            return 0;
        }
    }
    return n;
}

ht_status ht_fold_check(const struct ht_fold_block *block, const struct ht_foldsite *site, unsigned kinds,
                        ht_err *err) {
    if ((site->kinds & kinds) != kinds) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS,
                       "this place of the architecture cannot fold a %s; see docs/transforms.md",
                       kinds & HT_FOLD_SCALE    ? "scale"
                       : kinds & HT_FOLD_SHIFT  ? "shift"
                       : kinds & HT_FOLD_ROTATE ? "rotation"
                                                : "permutation");
    }
    if (ht_fold_channels(block, site) == 0) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS,
                       "layer %d lacks a matrix of this site, or their shapes do not go together", (int)block->layer);
    }
    return HT_OK;
}

void ht_fold_widen(const struct ht_fold_block *b, const struct ht_foldsite *site, const float *s, float *wide) {
    uint64_t n = ht_fold_inputs(b, site);
    for (uint64_t c = 0; c < n; c++) {
        wide[c] = s[ht_fold_factor_of(b, site, c)];
    }
}

void ht_fold_reach_columns(const struct ht_fold_block *b, const struct ht_foldsite *site, float *most) {
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        const struct ht_fold_matrix *m = &b->matrices[*role];
        for (uint64_t r = 0; r < m->rows; r++) {
            const float *w = m->w + r * m->cols;
            for (uint64_t c = 0; c < m->cols; c++) {
                uint64_t j = ht_fold_factor_of(b, site, c);
                most[j] = ht_fold_larger(most[j], w[c]);
            }
        }
    }
}

void ht_fold_reach_rows(const struct ht_fold_block *b, const struct ht_foldsite *site, enum ht_role role, float *most) {
    const struct ht_fold_matrix *m = &b->matrices[role];
    uint64_t group = role == site->consumers[0] ? b->n_heads / b->n_kv_heads : 1;
    for (uint64_t r = 0; r < m->rows; r++) {
        float *at = &most[site->span == HT_FOLD_PAIRS ? ht_fold_pair_of(b, r, group) : r];
        for (uint64_t c = 0; c < m->cols; c++) {
            *at = ht_fold_larger(*at, m->w[r * m->cols + c]);
        }
    }
}
