/* TRAIL: what transforms of a block did to the inputs of its linears, in order, so that rows of another matrix that
 * read those inputs before can be taken along: errors of rounding the weights as the model had them. Outputs are not
 * turned: that changes no sum of squares; by what they were multiplied stands in the front (job.h). */
#ifndef HT_QUANT_FOLD_TRAIL_H
#define HT_QUANT_FOLD_TRAIL_H

#include "quant/transform/transform.h"

struct ht_fold_step;

struct ht_fold_trail {
    struct ht_fold_step *steps; /* [n] */
    size_t n;
};

void ht_fold_trail_deinit(struct ht_fold_trail *trail);

/* Each appends one step; trail NULL: nothing does. HT_NOMEM. */
/* Consumers of the site read x / s: s [channels]. */
ht_status ht_fold_trail_scale(struct ht_fold_trail *trail, const struct ht_fold_block *block,
                              const struct ht_foldsite *site, const float *s, ht_err *err);
/* Consumers of the site read Q x, of HEADS each head: the rotation of n channels that the seed gives. */
ht_status ht_fold_trail_rotate(struct ht_fold_trail *trail, const struct ht_foldsite *site, uint64_t n, uint64_t seed,
                               ht_err *err);
/* The same for a rotation that lives as long as the trail. */
ht_status ht_fold_trail_stream(struct ht_fold_trail *trail, const struct ht_foldsite *site,
                               const struct ht_rotation *q, ht_err *err);
/* The role reads H x, blocks of H of this size. */
ht_status ht_fold_trail_hadamard(struct ht_fold_trail *trail, enum ht_role role, uint64_t block, ht_err *err);

/* Rows x [n, cols] that read the inputs of the role as they were become rows that read them as they are. */
ht_status ht_fold_trail_apply(const struct ht_fold_trail *trail, enum ht_role role, struct ht_pool *pool, float *x,
                              uint64_t n, uint64_t cols, ht_err *err);

#endif
