/* The inner loop of every encoder: how well do HT_LANES candidate grids fit a handful of elements?
 *
 * Candidates lie in the lanes, elements go by one after the other: each sum is added up in element order
 * within its own lane. The result does not depend on the vector width, so that one C body compiled for
 * several levels (HT_CLONES) gives the same bits everywhere.
 *
 * Everything here works on a normalized block: values scaled by a power of two to less than 4, importance turned
 * into weights (the metric) and scaled likewise, so that no sum can overflow whatever finite input came. */
#ifndef HT_FORMAT_SEARCH_H
#define HT_FORMAT_SEARCH_H

#include "format/lanes.h"

struct ht_work {
    float x[HT_BLOCK_MAX]; /* real value = up * x */
    float w[HT_BLOCK_MAX]; /* weights, largest about 1; not all zero unless all x are */
    float up, down;        /* powers of two, up * down == 1 */
    float amax;            /* of x; 0: the block is all zero */
};

/* Loads a block of n elements: clamps to +-limit (what the format reaches), normalizes, applies the
 * metric of the format that spec describes. */
void ht_search_load(struct ht_work *work, const float *x, const float *weight, int n,
                    const struct ht_grid_spec *spec, float limit);

/* The element of largest magnitude, with its sign. */
float ht_search_extreme(const float *x, int n);

enum ht_search_by {
    HT_BY_ERROR, /* the best lane has the lowest err; fills err */
    HT_BY_SUMS,  /* the same; fills the other sums, too */
    HT_BY_REFIT  /* the lowest error after the lane's own codes have chosen their scale (and min); fills all */
};

/* Candidate l: scale = scale0 + scale1 * scale_table[l], and the same for min; value = scale * level - min. */
struct ht_trials {
    float scale0, scale1, min0, min1;
    const float *scale_table, *min_table; /* [HT_LANES] */
    float up, down;                       /* 0: as is; else to what f16 can hold of up * scale */
    float scale[HT_LANES], min[HT_LANES];
    float err[HT_LANES];                  /* sum of w * r * r, where r = x - value of the nearest code */
    float wrq[HT_LANES], wqq[HT_LANES];   /* sums of w * r * q and w * q * q, q the level */
    float wr[HT_LANES], wq[HT_LANES];     /* sums of w * r and w * q; of the affine search only */
    float score[HT_LANES];                /* what the lanes are compared by */
};

/* Each returns the best lane (the first of equals). Candidates without min: codes lo..hi are levels themselves. */
int ht_search_ints(const float *x, const float *w, int n, int lo, int hi, enum ht_search_by by, struct ht_trials *t);
/* The same for 16 levels of a table, ascending. */
int ht_search_levels(const float *x, const float *w, int n, const float *levels, enum ht_search_by by,
                     struct ht_trials *t);
/* Candidates with min, codes 0..hi. sum_w: of w. sign 1 or -1: min has this sign or is 0; 0: any. */
int ht_search_affine(const float *x, const float *w, int n, int hi, float sum_w, float sign, enum ht_search_by by,
                     struct ht_trials *t);

#endif
