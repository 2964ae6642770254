/* Inside quant/range/ only: what the parts share. */
#ifndef HT_QUANT_RANGE_IMPL_H
#define HT_QUANT_RANGE_IMPL_H

#include "quant/range.h"

typedef ht_status ht_range_fit_fn(const struct ht_range_input *in, const struct ht_range_grid *grid,
                                  const double *options, struct ht_range *out, ht_err *err);

ht_range_fit_fn ht_range_fit_absmax, ht_range_fit_minmax, ht_range_fit_percentile, ht_range_fit_average;
ht_range_fit_fn ht_range_fit_entropy, ht_range_fit_mse, ht_range_fit_weighted, ht_range_fit_halfquad;

/* Values with a mass each: the form that every part but the plain bounds works on. A stream becomes one point per
 * bin that is not empty, at its middle, with the count as mass. */
struct ht_range_points {
    const float *x;    /* [n] */
    const float *mass; /* [n], or NULL: 1 each */
    size_t n;
    float min, max;    /* of the values, for streams the exact ones */
    /* Of the first i of sorted x, [n + 1] each, or NULL: mass, mass * x, mass * x^2. */
    const double *count, *sum, *square;
    void *owned, *owned_aligned;
};

struct ht_range_sums { /* of mass times ... */
    double m, q, qq, x, xq, xx;
};

/* weighted: importance is the mass of values. HT_NOMEM. */
ht_status ht_range_points_init(struct ht_range_points *p, const struct ht_range_input *in, bool weighted,
                               ht_err *err);
/* For parts that try many ranges by sum |x - x'|^norm. Many values are sorted, or thinned out: range_sorted.c.
 * HT_NOMEM: nothing is owned. */
ht_status ht_range_points_search(struct ht_range_points *p, const struct ht_range_input *in, bool weighted,
                                 const struct ht_range_grid *grid, double norm, ht_err *err);
/* Sums of sorted points with running sums, q the nearest levels - from. */
void ht_range_moments(const struct ht_range_points *p, const struct ht_range_grid *grid, const struct ht_range *range,
                      double from, struct ht_range_sums *sums);
void ht_range_points_deinit(struct ht_range_points *p);

/* Smallest value v of the points with at least `share` (0..1) of the mass at or below it: the inverse of the
 * distribution function, exact. magnitude: of |x|. */
float ht_range_quantile(const struct ht_range_points *p, double share, bool magnitude);

/* Sum of mass * |x - x'|^norm. */
double ht_range_loss(const struct ht_range_points *p, const struct ht_range_grid *grid,
                     const struct ht_range *range, double norm);

static inline float ht_range_level(const struct ht_range_grid *grid, int code) {
    return grid->levels != NULL ? grid->levels[code - grid->lo] : (float)code;
}

/* Nearest level to r = x / scale + zero. */
float ht_range_round(const struct ht_range_grid *grid, float r);

/* 1 / scale, 0 where scale is too small to divide by. */
static inline float ht_range_inverse(float scale) {
    return scale > 1e-37f ? 1.0f / scale : 0.0f;
}

#endif
