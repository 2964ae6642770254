/* Inside quant/round/: one chunk of rows on its way from real weights to codes. Hot loops take LANES rows at a time,
 * one in each lane, column by column. */
#ifndef HT_QUANT_ROUND_ROUND_IMPL_H
#define HT_QUANT_ROUND_ROUND_IMPL_H

#include "base/compiler.h"
#include "quant/round/round.h"

#define HT_ROUND_LANES 16u
#define HT_ROUND_BLOCK 256u /* most columns of one step: between two steps the rest is brought up to date at once */

struct ht_rounding {
    struct ht_pool *pool;
    const struct ht_format *format;
    uint64_t rows, cols; /* of the chunk */
    uint64_t n_grids;    /* per row */
    uint64_t step;       /* columns of one step: a multiple of the format's vector */
    const float *w;      /* [rows, cols] */
    const float *h;      /* [cols, cols], damped */
    const float *diagonal; /* [cols] of h, undamped: the importance of columns */
    const uint32_t *order; /* [cols] column visited at each turn */
    const float *mt;     /* [cols, cols] by turn: target_j = w_j + sum_{i<j} mt[j][i] e_i */
    const float *cond;   /* [cols] by turn: variance of the input given those not yet visited */
    struct ht_grid *grids; /* [rows, n_grids] */
    int8_t *codes;       /* [rows, cols] */
    float *v;            /* [rows, cols] what codes and grids decode to */
    float *g;            /* [rows, cols] sweeps: (W - V) H; feedback: targets by turn */
    float *e;            /* [rows, step] what the step changed */
    float *y;            /* [rows, cols] products */
    float *m;            /* [step, step] of the step in work */
    void *scratch;       /* of ht_dense_product */
};

/* Grids of all rows, snapped, from the original weights. */
void ht_rounding_fit(struct ht_rounding *r);
/* Codes nearest to the weights, and v. */
void ht_rounding_nearest(struct ht_rounding *r);
/* Codes by error feedback, and v. */
void ht_rounding_feedback(struct ht_rounding *r);
/* g = (W - V) H; returns tr((W - V) H (W - V)^T). */
double ht_rounding_loss(struct ht_rounding *r);
/* One sweep over all columns; g must be current and stays so. */
void ht_rounding_descend(struct ht_rounding *r);
/* One pass over all blocks: their d and dmin; g must be current and stays so. */
void ht_rounding_refit(struct ht_rounding *r);
/* The chunk's bytes. */
void ht_rounding_pack(const struct ht_rounding *r, unsigned char *dst);

/* v of one row's columns [from, from + n), which lie in one grid. */
HT_INLINE void ht_rounding_values(const struct ht_format *f, const struct ht_grid *grid, const int8_t *codes,
                                  uint64_t from, uint64_t n, float *v) {
    (void)f;
    for (uint64_t i = 0; i < n; i++) {
        v[i] = ht_grid_value(grid, (int)((from + i) / (uint64_t)grid->sub_len), codes[i]);
    }
}

#endif
