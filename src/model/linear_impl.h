/* Inside of linear.c: one call on its way. */
#ifndef HT_MODEL_LINEAR_IMPL_H
#define HT_MODEL_LINEAR_IMPL_H

#include "kernel/qmatmul.h"
#include "model/linear.h"
#include "tensor/act.h"

#define HT_LINEAR_ROWS 16u  /* of a task: their codes stay in the first cache beside those of a token */
#define HT_LINEAR_TOKENS 8u
#define HT_LINEAR_DOT 1024u /* summed in pieces, so that rounding stays small */

/* Columns from .. to - 1 share scale `group` of the weight and scale `segment` of the activations. */
struct ht_piece {
    uint32_t from, to, group, segment;
};

struct ht_linear_job {
    const struct ht_linear *l;
    const float *x; /* [T, K] */
    size_t T, K;
    float *y;
    size_t y_stride;
    enum ht_math math;

    float *u, *m;            /* [T, K] inputs behind perm; what the codes see of them */
    float *kept, *low;       /* [T, n_out], [T, rank] */
    uint32_t *large;         /* [n_large] columns beyond the threshold in some token */
    size_t n_large;
    struct ht_affine *grids; /* [T, n_segments] */
    size_t n_segments;
    int16_t *codes;          /* [T, K], or NULL: values in m */
    struct ht_piece *pieces; /* [n_pieces] */
    size_t n_pieces;
    int32_t *sums;           /* [T, n_pieces] of codes */
    unsigned char *shared;   /* [threads, thread_bytes], or a product's scratch */
    size_t thread_bytes;
};

/* Row of the weight alone, without sidecar. */
void ht_linear_codes_row(const struct ht_linear *l, uint64_t row, float *w);

#endif
