/* The inner loop of every encoder: how well do HT_LANES candidate grids fit a handful of elements?
 *
 * Candidates lie in the lanes, elements go by one after the other: each sum is added up in element order
 * within its own lane. The result does not depend on the vector width, so that one C body compiled for
 * several levels (HT_CLONES) gives the same bits everywhere.
 *
 * Everything here works on a normalized block: values scaled by a power of two to at most 2, importance turned
 * into weights (the metric) and scaled likewise, so that no sum can overflow whatever finite input came. */
#ifndef HT_FORMAT_SEARCH_H
#define HT_FORMAT_SEARCH_H

#include "format/format_impl.h"

#define HT_LANES 16

struct ht_trials {
    float scale[HT_LANES], min[HT_LANES]; /* in: candidates, value = scale * level - min */
    float err[HT_LANES];                  /* sum of w * r * r, where r = x - value of the nearest code */
    float wrq[HT_LANES], wqq[HT_LANES];   /* sums of w * r * q and w * q * q, q the level */
    float wr[HT_LANES], wq[HT_LANES];     /* sums of w * r and w * q; of the affine search only */
};

struct ht_work {
    float x[HT_BLOCK_MAX]; /* real value = up * x */
    float w[HT_BLOCK_MAX]; /* weights, largest in [1, 2); not all zero unless all x are */
    float up, down;        /* powers of two, up * down == 1 */
    float amax;            /* of x; 0: the block is all zero */
};

/* Loads a block of n elements: clamps to +-limit (what the format reaches), normalizes, applies the metric. */
void ht_search_load(struct ht_work *work, const float *x, const float *weight, int n, float limit);

/* Fills err, wrq, wqq of candidates without min. Codes lo..hi are levels themselves. */
void ht_search_ints(const float *x, const float *w, int n, int lo, int hi, struct ht_trials *t);
/* The same for the levels of a table [count], ascending. */
void ht_search_levels(const float *x, const float *w, int n, const float *levels, int count, struct ht_trials *t);
/* Candidates with min, codes 0..hi: fills all sums. */
void ht_search_affine(const float *x, const float *w, int n, int hi, struct ht_trials *t);

#endif
