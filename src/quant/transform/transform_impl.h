/* Inside quant/transform/: what the parts share. */
#ifndef HT_QUANT_TRANSFORM_IMPL_H
#define HT_QUANT_TRANSFORM_IMPL_H

#include <math.h>

#include "quant/transform/transform.h"

/* max(most, |x|); NaN stays. */
static inline float ht_fold_larger(float most, float x) {
    float a = fabsf(x);
    return a > most || isnan(a) ? a : most;
}

/* HT_INVAL unless the site can do all of `kinds` in this block. */
ht_status ht_fold_check(const struct ht_fold_block *block, const struct ht_foldsite *site, unsigned kinds, ht_err *err);

/* Input c of a consumer -> factor. */
static inline uint64_t ht_fold_factor_of(const struct ht_fold_block *b, const struct ht_foldsite *site, uint64_t c) {
    if (site->span != HT_FOLD_HEADS) {
        return c;
    }
    uint64_t group = b->n_heads / b->n_kv_heads;
    return c / b->head_dim / group * b->head_dim + c % b->head_dim;
}

/* Row r of q, k or their norms' weights -> pair; `per`: rows of one head's factors' owner, see PAIRS. Query heads
 * share: group is query heads per KV head, 1 for keys and norms. */
static inline uint64_t ht_fold_pair_of(const struct ht_fold_block *b, uint64_t r, uint64_t group) {
    uint64_t d = b->head_dim, head = r / d / group, at = r % d;
    return head * (d / 2) + (b->rope_halves ? at % (d / 2) : at / 2);
}

/* most[j] = max(most[j], |values of factor j|) over consumers' columns, or over a member's rows. */
void ht_fold_reach_columns(const struct ht_fold_block *b, const struct ht_foldsite *site, float *most);
void ht_fold_reach_rows(const struct ht_fold_block *b, const struct ht_foldsite *site, enum ht_role role, float *most);

/* HT_NUMERIC names the channel. */
ht_status ht_transform_check_finite(const struct ht_foldsite *site, const float *x, uint64_t n, const char *what,
                                    ht_err *err);
/* Factor 1 where one is not positive and finite, counted dead; clamps; fills the report. */
void ht_transform_settle(float *s, uint64_t n, const float *above, const float *below,
                         struct ht_transform_report *report);

#endif
