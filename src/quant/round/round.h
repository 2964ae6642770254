/* AXIS 4, rounding with the layer's own inputs in view. One linear y = W x is given with H = E[x x^T]; what counts
 * is the loss of its output,
 *
 *     tr(E H E^T),  E = W - W^                                   (mean squared error of y, summed over outputs)
 *
 * not the error of the weights themselves. Rows of W are independent of each other and share H.
 *
 *     feedback   columns are rounded one after the other; the error of each is made up for by those that follow
 *     descent    codes move by single steps while that lowers the loss
 *     refit      scales move to their best value for the codes there are
 *
 * Grids are fitted to the original weights with diag(H) as importance, before any code is chosen: the visiting
 * order is then free, and files keep the natural order. Dynamic grids are fitted when feedback reaches their first
 * column, to the weights as feedback has left them; orders for them keep groups together.
 *
 * Sources: GPTQ, Frantar et al. 2023, arXiv 2210.17323 (feedback, damping, act-order, lazy batches); QuIP, Chee et
 * al. 2023, arXiv 2307.13304, section 3 (the same in its LDL form, used here); OBQ, Frantar and Alistarh 2022, arXiv
 * 2208.11580 (greedy); SparseGPT, Frantar and Alistarh 2023, arXiv 2301.00774 (pruned weights in feedback);
 * CDQuant, Nair and Suggala 2024, arXiv 2406.17542 (descent). */
#ifndef HT_QUANT_ROUND_ROUND_H
#define HT_QUANT_ROUND_ROUND_H

#include <stdbool.h>

#include "base/error.h"
#include "base/pool.h"
#include "format/format.h"
#include "quant/range.h"
#include "tensor/qtensor.h"

/* In which order columns are rounded. Errors go to those that follow, so important ones come first. */
enum ht_round_order {
    HT_ORDER_FALLING, /* by falling diag(H), "act-order"; columns of one vector stay together */
    HT_ORDER_NATURAL,
    HT_ORDER_GROUPS   /* groups by the falling sum of their diag(H), columns by falling diag(H) within: "group-aware" */
};

/* What a weight is written as. */
enum ht_keep {
    HT_KEEP_GRID,   /* a code of the grid */
    HT_KEEP_VALUE,  /* its value in f16, beside the codes: it counts nothing for grids and takes any code */
    HT_KEEP_REST,   /* a code, and in f16 what that lacks of the value */
    HT_KEEP_ZERO    /* pruned: the code whose value is nearest to 0 */
};

struct ht_round_options {
    double damping;   /* added to the diagonal of H, times its mean; more when H is not positive definite */
    enum ht_round_order order;
    bool dynamic;     /* fit each grid at its first column; not with HT_ORDER_FALLING */
    uint32_t descents; /* sweeps of descent; refit goes between them */
    bool greedy;       /* Optimal Brain Quantization in place of feedback: each row in its own order, the cheapest
                        * weight next, n^3 per row; at most HT_ROUND_GREEDY_COLS columns; without vectors, dynamic
                        * grids, keep */
    const uint8_t *keep;  /* [rows, cols] enum ht_keep, or NULL: all on the grid. Schemes only. Columns that are VALUE
                           * in every row come last: they take up what all others leave, and lose nothing */
    float *values;        /* [rows, cols] or NULL: receives what each weight is written as, kept ones too. Schemes
                           * only */
    const struct ht_range_choice *range; /* of schemes; NULL: weighted least squares (binary, ternary: their own) */
};

struct ht_round_report {
    double loss_nearest; /* tr(E H E^T), H as given, undamped, of rounding to nearest on the static grids */
    double loss;         /* of what was written */
    double damping;      /* taken; above the one asked for when the factorization failed first */
    uint32_t dampings;   /* times it was raised */
    uint64_t dead;       /* columns whose input was always 0 */
    uint64_t kept_nearest; /* rows written as rounded to nearest, because nothing did better */
};

#define HT_ROUND_GREEDY_COLS 2048u

/* Damping 0.01, falling order, static grids, 4 descents. */
void ht_round_defaults(struct ht_round_options *options);

/* w [rows, cols] f32, finite; hessian [cols, cols] symmetric, mean of x x^T; dst: rows of the format, natural order.
 * format is a grid format and cols a multiple of its block. HT_NUMERIC when hessian holds NaN or Inf; HT_NOMEM. */
ht_status ht_round_feedback(struct ht_pool *pool, const struct ht_format *format, const float *w, uint64_t rows,
                            uint64_t cols, const float *hessian, const struct ht_round_options *options, void *dst,
                            struct ht_round_report *report, ht_err *err);

/* The same on the codes of a scheme: formats of at most 8 bits, any granularity. q is initialized here; the caller
 * gives it back. Scales are refitted except nested ones and those of a whole tensor, which are found beforehand (so
 * are fitted levels) and cannot be dynamic. HT_INVAL says which option does not go with the scheme. */
ht_status ht_round_qtensor(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                           uint64_t cols, const float *hessian, const struct ht_round_options *options,
                           struct ht_qtensor *q, struct ht_round_report *report, ht_err *err);

/* Bytes that ht_round_feedback and ht_round_qtensor allocate, without the result. */
uint64_t ht_round_memory(const struct ht_format *format, uint64_t rows, uint64_t cols, int threads);
uint64_t ht_round_qtensor_memory(const struct ht_scheme *scheme, uint64_t rows, uint64_t cols, int threads);

#endif
