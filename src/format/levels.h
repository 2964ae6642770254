/* LEVELS: where tables of levels come from. Derived from a distribution (normal float), from a rule (dynamic map,
 * logarithm, power law, powers of two), or fitted to values seen: a histogram of the normalized values x / scale of a
 * tensor, from which the levels of least squared error follow. Plain C, deterministic, one thread. */
#ifndef HT_FORMAT_LEVELS_H
#define HT_FORMAT_LEVELS_H

#include "base/error.h"
#include "format/code.h"

#define HT_LEVELS_MAX 256
#define HT_HIST_BINS 4096 /* over [-1, 1]; a bin is 1 / 2048 wide: 1/16 of the step of 8-bit levels */

/* bitsandbytes' signed dynamic map: what nested scales are stored as. 256 levels, ascending: +-(0.1 + 0.9 (j + 1/2) /
 * 2^e) * 10^(e - 6) for e = 0..6, j < 2^e, and 0 and 1 (Dettmers 2015, arXiv 1511.04561). */
extern const float ht_dynamic_map[256];
void ht_levels_dynamic(float levels[256]); /* derived; equals the table above */

/* 2^bits levels (bits 2..8), ascending, -1..1: quantiles of the standard normal distribution at evenly spaced
 * probabilities, 2^(bits-1) - 1 below zero, zero, 2^(bits-1) above, divided by the largest (arXiv 2305.14314, sec. 3).
 * The outermost probability is the mean of 1 - 1/(2 n) and 1 - 1/(2 n - 2), n = 2^bits: 0.9677083 for 4 bits. */
void ht_levels_normal(int bits, float *levels);
double ht_normal_quantile(double p); /* 0 < p < 1; relative error below 1e-12 */

/* Signed powers of two, and sums of powers of two; levels [2^bits - 1]. bits 3..5, 4..7. */
void ht_levels_pot(int bits, float *levels);
void ht_levels_apot(int bits, float *levels);

/* levels [2 L + 1], ascending, -1..1; alpha > 0, p > 0. */
void ht_levels_log(int L, double alpha, float *levels);
void ht_levels_pow(int L, double p, float *levels);

/* Weighted sums of normalized values per bin. */
struct ht_hist {
    double w[HT_HIST_BINS], wx[HT_HIST_BINS], wxx[HT_HIST_BINS];
};
/* x [n] within [-1, 1] (what lies outside counts at the ends); weight [n] or NULL; all times `times`: the square of the
 * scale that x was divided by, so that errors count in the tensor's own units. */
void ht_hist_add(struct ht_hist *h, const float *x, const float *weight, double times, size_t n);
/* Sum of w (x - nearest level)^2, exact but for bins that two levels share. */
double ht_hist_error(const struct ht_hist *h, const float *levels, int n);

/* The levels of a fitted format for what the histogram holds, [hi - lo + 1] ascending. logN and powN: alpha and p
 * searched on a grid and refined; kmeansN: the optimum over all partitions of the bins (dynamic programming, Wang and
 * Song 2011), then the means. An empty histogram gives some levels. *parameter (may be NULL): alpha or p; kmeansN
 * leaves it alone. */
ht_status ht_levels_fit(const struct ht_format *f, const struct ht_hist *h, float *levels, double *parameter,
                        ht_err *err);

#endif
