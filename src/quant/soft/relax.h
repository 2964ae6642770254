/* AXIS 4, rounding relaxed: AdaRound (Nagel et al. 2020, arXiv 2004.10568) on one linear, from the second moments of
 * its inputs. Every weight starts between its two neighbours on the grid, and a penalty that grows sharper drives it to
 * one of them. */
#ifndef HT_QUANT_SOFT_RELAX_H
#define HT_QUANT_SOFT_RELAX_H

#include "quant/soft/soft.h"

struct ht_relax_options {
    uint32_t steps;
    double lr;               /* Adam's, of the soft rounding's variables */
    double weight;           /* of the regularizer (lambda) */
    double beta_from, beta_to; /* its exponent falls between them */
    double warmup;           /* share of the steps without regularizer */
};
/* 400 steps, lr 0.03, lambda 6, beta 20 to 2. No warmup: weights start where their error is 0 and only the penalty
 * moves them, so steps without it would do nothing. */
void ht_relax_defaults(struct ht_relax_options *options);

struct ht_relax_report {
    double loss_nearest; /* tr(E H E^T) of rounding to nearest on the same grids */
    double loss;         /* of what was written */
    double between;      /* share of the weights that had not reached a neighbour (h in 0.01..0.99) at the end */
    uint64_t moved;      /* codes that differ from rounding to nearest */
    uint64_t kept_nearest; /* rows written as rounded to nearest, because nothing did better */
};

/* w [rows, cols], hessian [cols, cols] symmetric, mean of x x^T; values [rows, cols] what the codes decode to, or
 * NULL. The regularized loss is tr(E H E^T) / c + lambda * sum of 1 - |2 h - 1|^beta, with c the mean over all weights
 * of gap^2 H_jj, so that moving one weight by a step costs about 1 whatever the layer's scale. Codes that were given
 * count nothing, grids that were given stay. HT_INVAL, HT_UNSUPPORTED (formats that round vectors), HT_NUMERIC,
 * HT_NOMEM. */
ht_status ht_relax(struct ht_pool *pool, const float *w, uint64_t rows, uint64_t cols, const float *hessian,
                   const struct ht_learn_linear *to, const struct ht_relax_options *options, float *values,
                   struct ht_relax_report *report, ht_err *err);

#endif
