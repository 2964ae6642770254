/* Rounding error of values against their quantized form: sums that add up over rows, what follows from them, and how
 * wide the cell was that each value was rounded in, so that the model of even cells can be put beside.
 *
 *     x  value, x' = x + e its quantized form, Delta the width of x's cell (distance of neighbouring levels)
 *     clipped: x lies beyond the grid's last level by more than half a cell
 *
 * Model (Bennett 1948): e is even over the cell, E[e^2] = Delta^2 / 12, and knows nothing of x. It needs cells that
 * are small against the density's features: docs/errors.md says where it fails. */
#ifndef HT_QUANT_ERROR_H
#define HT_QUANT_ERROR_H

#include "format/format.h"
#include "format/code.h"

#define HT_ERROR_BINS 32 /* of e / Delta over [-1/2, 1/2) */

struct ht_error_sums {
    uint64_t n;
    double x, xx, e, ee, xe;          /* sums of x, x^2, e, e^2, x e */
    double lag;                       /* of e[i] e[i + 1] within rows */
    double max_x, max_e;              /* magnitudes */
    uint64_t n_clipped;
    double clipped;                   /* sum of e^2 of clipped values */
    uint64_t n_model;                 /* values whose cell is known, clipped ones not among them */
    double model, modelled;           /* sums of Delta^2 / 12 and of e^2 over those */
    uint64_t bin[HT_ERROR_BINS];      /* of those: where in its cell the value lies */
};

/* A row: x, y [n] value and quantized form, both finite; cell [n] the cells' widths, negative for clipped values, 0
 * where unknown; or NULL: unknown. Sums start as zeros. */
void ht_error_add(struct ht_error_sums *sums, const float *x, const float *y, const float *cell, size_t n);
/* The same bits for the same order of calls. */
void ht_error_merge(struct ht_error_sums *into, const struct ht_error_sums *from);

/* NAN where there is nothing to tell. */
struct ht_error_figures {
    double mse, relative;          /* mean e^2; sum e^2 / sum x^2 */
    double snr_db;                 /* 10 log10 of 1 / relative; INFINITY without error */
    double max_error, max_sigmas;  /* largest |e|, and over the root mean square of x */
    double mean_error;
    double cosine;                 /* of x and x' */
    double clipped_share;          /* of the values */
    double clipped_error;          /* of sum e^2 */
    double model_db;               /* SNR that the model predicts for values that are not clipped */
    double model_ratio;            /* their measured error over the model's */
    double correlation;            /* of e and x: 0 in the model */
    double lag;                    /* correlation of neighbouring errors: 0 in the model */
    double evenness;               /* Kolmogorov-Smirnov distance of e / Delta from even, at bin borders */
};
void ht_error_figures(const struct ht_error_sums *sums, struct ht_error_figures *out);

/* ---- cells of a format's rows ---------------------------------------------------------------------------- */

/* Whether ht_error_cells knows the cells: not for lattices, whose levels do not combine freely. */
bool ht_error_knows_cells(const struct ht_format *format);
/* cell [n] for x [n] and its stored form src; n is a multiple of the block. */
void ht_error_cells(const struct ht_format *format, const void *src, const float *x, size_t n, float *cell);

/* Width of the cell around level k of levels [n], ascending, n >= 2; of the outer ones twice their inner half. */
float ht_error_width(const float *levels, int n, int k);
/* Cell of x rounded to `value` at a code whose neighbours lie `width` apart. first, last: the code is the grid's
 * lowest, highest VALUE. */
float ht_error_cell(float x, float value, float width, bool first, bool last);

#endif
