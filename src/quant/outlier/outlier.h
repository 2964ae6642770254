/* AXIS 5, what leaves the grid. One linear y = W x with H = E[x x^T]; parts mark weights (enum ht_keep) before
 * ht_round_qtensor rounds the others, or look at what it left. What they leave is stored in a sidecar.
 *
 *     columns   the inputs whose rounding costs most stay in f16            OWQ
 *     sparse    the single weights whose rounding costs most get the rest in f16    SpQR
 *     prune     weights become 0, N of every M or a share                   magnitude, Wanda, SparseGPT
 *     low rank  a product of two thin matrices makes up for the error       LQER, LoRC, EoRA
 *     bias      the mean error of each output                               Nagel et al.
 *
 * The order: ht_keep_* mark, ht_round_qtensor (options.keep, options.values), ht_outlier_store, ht_outlier_lowrank.
 * Errors: HT_NOMEM, HT_INVAL for options out of range, HT_NUMERIC for statistics that are not finite. The same
 * results for any number of threads. */
#ifndef HT_QUANT_OUTLIER_OUTLIER_H
#define HT_QUANT_OUTLIER_OUTLIER_H

#include "quant/round/round.h"
#include "tensor/sidecar.h"

/* How many are taken, which shapes and options decide: columns, salient inputs, and (tau 0) single weights. */
struct ht_columns_options;
uint64_t ht_columns_count(const struct ht_columns_options *options, uint64_t rows, uint64_t cols);
uint64_t ht_salient_count(double fraction, uint64_t cols);
uint64_t ht_sparse_count(double fraction, uint64_t rows, uint64_t cols);

/* Sensitivity of column j: H_jj * sum over rows of (w - q(w))^2, q nearest on grids of least error. The largest
 * become HT_KEEP_VALUE in every row of keep [rows, cols]: `fraction` of the columns (rounded up), or, when bits >
 * 0, as many as cost that many bits per weight (16 a weight, 32 an index), at least one. *n: how many.
 * Source: Lee et al. 2023, arXiv 2306.02272, section 3.2; there, rows of H^-1 are not looked at either. */
struct ht_columns_options {
    double fraction, bits;
};
ht_status ht_keep_columns(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                          uint64_t cols, const float *hessian, const struct ht_columns_options *options, uint8_t *keep,
                          uint64_t *n, ht_err *err);

/* The ceil(fraction * cols) inputs of the largest mean magnitude become HT_KEEP_VALUE in every row; ties by column. *n:
 * how many. Source: Lin et al. 2023, arXiv 2306.00978, section 3.1. mean_abs [cols]. */
ht_status ht_keep_salient(const float *mean_abs, uint64_t rows, uint64_t cols, double fraction, uint8_t *keep,
                          uint64_t *n, ht_err *err);

/* Sensitivity of weight (i, j): (w - q(w))^2 / (2 [H^-1]_jj), H damped, q on grids weighted by diag(H). Those above
 * tau become HT_KEEP_REST; tau 0: the `fraction` of all weights with the largest. Weights marked already are left
 * alone. *n: how many.
 * Source: Dettmers et al. 2023, arXiv 2306.03078, section 3.1, eq. 2. There, a group is fitted without the weight in
 * question; here the group is fitted once with all and, by ht_round_qtensor, once without those taken out. */
struct ht_sparse_options {
    double fraction, tau, damping;
};
ht_status ht_keep_sparse(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                         uint64_t cols, const float *hessian, const struct ht_sparse_options *options, uint8_t *keep,
                         uint64_t *n, ht_err *err);

/* Which weights become 0 (HT_KEEP_ZERO), by least score:
 *     MAGNITUDE  |w|                       compared over the whole matrix
 *     ACTIVATION |w| * sqrt(H_jj)          compared within a row: Wanda, Sun et al. 2023, arXiv 2306.11695
 *     HESSIAN    w^2 / [H^-1]_jj           compared within a row: OBS, SparseGPT (2301.00774); there chosen anew
 * every
 *                                          128 columns, here beforehand, so that any visiting order is free
 * n of every m neighbours in a row stay when m > 0 (2:4; a shorter end of a row stays whole), else `fraction` goes.
 * Error feedback then makes up for them with the weights that are left. */
enum ht_prune_score { HT_PRUNE_MAGNITUDE, HT_PRUNE_ACTIVATION, HT_PRUNE_HESSIAN };
struct ht_prune_options {
    enum ht_prune_score score;
    uint32_t n, m;
    double fraction, damping;
};
ht_status ht_keep_pruned(struct ht_pool *pool, const float *w, uint64_t rows, uint64_t cols, const float *hessian,
                         const struct ht_prune_options *options, uint8_t *keep, uint64_t *n, ht_err *err);

/* The sidecar of kept weights: whole columns of HT_KEEP_VALUE as columns, all other kept weights as sparse entries
 * that add what their code lacks. values [rows, cols]: from ht_round_qtensor. *side holds what other parts leave
 * (rows, cols, leaves, counts; zeroed when nothing); it is initialized here with room for all, and rank > 0 makes
 * room for low rank. The caller gives it back. */
ht_status ht_outlier_store(const struct ht_qtensor *q, const uint8_t *keep, const float *values, uint32_t rank,
                           struct ht_sidecar *side, ht_err *err);

/* lr_b lr_a ~ E = W - V, of rank side->rank, with the least tr((E - BA) H (E - BA)^T). For H = S S^T that is the
 * truncated SVD of E S brought back by S^-1; since B A = U U^T E with U the leading left singular vectors of E S,
 * they are found as eigenvectors of E H E^T, and no root or inverse of H is needed. hessian: [cols, cols], or with
 * diagonal its diagonal alone, [cols] (LQER's scale; NULL: ones, LoRC). *before, *after: the loss without and with them
 * as stored in f16.
 * Sources: Zhang et al. 2024 (LQER, arXiv 2402.02446); Yao et al. 2023 (LoRC, arXiv 2303.08302: H = I); Liu et al.
 * 2024 (EoRA, arXiv 2410.21271: the root of H). */
ht_status ht_outlier_lowrank(struct ht_pool *pool, const float *w, const float *values, uint64_t rows, uint64_t cols,
                             const float *hessian, bool diagonal, struct ht_sidecar *side, double *before,
                             double *after, ht_err *err);

/* bias[i] += sum over j of (w_ij - v_ij) mean_j: b' = b - (V - W) E[x]. The output's mean is then that of W.
 * Source: Nagel et al. 2019, arXiv 1906.04721, section 4.2. mean: [cols] of the inputs. */
void ht_outlier_bias(const float *w, const float *values, uint64_t rows, uint64_t cols, const float *mean, float *bias);

/* diag(H^-1) of H [n, n] damped by damping * mean(diag H), raised tenfold while that is not positive definite. out
 * [n]. */
ht_status ht_outlier_inverse_diagonal(struct ht_pool *pool, const float *hessian, uint64_t n, double damping,
                                      float *out, ht_err *err);

#endif
