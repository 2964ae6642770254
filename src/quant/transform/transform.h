/* AXIS 1, making weights and activations easier to quantize without changing what the model computes. Each part is a
 * pair: factors from statistics, and a fold that moves them into the weights at a site (tensor/fold.h). Parts see one
 * block, never a model or a file; calibration hands statistics over as plain arrays.
 *
 *     factors    scale:migrate   ht_transform_migrate     SmoothQuant
 *                equalize        ht_transform_equalize    cross-layer equalization
 *     folds      scale           ht_fold_scale            norm weights into their readers: ht_fold_norm
 *
 * All functions may be called from any thread; results do not depend on the number of threads. */
#ifndef HT_QUANT_TRANSFORM_TRANSFORM_H
#define HT_QUANT_TRANSFORM_TRANSFORM_H

#include "base/pool.h"
#include "tensor/fold.h"

/* ---- sites ----------------------------------------------------------------------------------------------- */

/* The row of this name; NULL: none. */
const struct ht_foldsite *ht_fold_site(const struct ht_foldsite *table, const char *name);
/* Factors that the site takes in this block: n below. CHANNELS, RESIDUAL: inputs of a consumer. HEADS: outputs of the
 * producer, KV heads * D. PAIRS: half the producer's outputs: factor h * D/2 + i belongs to the i-th pair of head h.
 * 0: the block lacks a member of the site, or their shapes do not go together. */
uint64_t ht_fold_channels(const struct ht_fold_block *block, const struct ht_foldsite *site);
/* Inputs of a consumer: the length of statistics. HEADS: heads * D, else n. PAIRS has none: 0. */
uint64_t ht_fold_inputs(const struct ht_fold_block *block, const struct ht_foldsite *site);
/* Factors [n] as its consumers' inputs see them: wide [inputs]. For HEADS each head of a group gets its KV head's. */
void ht_fold_widen(const struct ht_fold_block *block, const struct ht_foldsite *site, const float *s, float *wide);

/* ---- statistics of the input of a site's consumers ---------------------------------------------------------- */

/* x [tokens, inputs]. What a part does not name may be NULL. */
struct ht_fold_stats {
    uint64_t inputs, tokens;
    const float *absmax;   /* [inputs] max |x_j| */
    const float *min, *max; /* [inputs] */
    const float *mean_abs; /* [inputs] mean |x_j| */
    const float *gram;     /* [inputs, inputs] mean x x^T, full */
    const float *sample;   /* [n_sample, inputs] some of the x, in order */
    uint64_t n_sample;
};

/* What a part did; reports add nothing up, callers do. */
struct ht_transform_report {
    uint64_t channels;
    uint64_t dead;     /* channels whose input or weights are all 0: factor 1 */
    uint64_t clamped;  /* factors moved into [1e-4, 1e4] */
    float least, most; /* factors taken */
};

/* ---- factors ------------------------------------------------------------------------------------------------ */

/* s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), over the columns j of all consumers. Source: SmoothQuant, Xiao et al.
 * 2022, arXiv 2211.10438, eq. 4. stats->absmax; heads of a group share the largest. alpha in [0, 1], the paper's 0.5.
 * HT_NUMERIC when statistics are not finite; HT_INVAL when the site cannot scale or stats do not fit it. s [n]. */
ht_status ht_transform_migrate(const struct ht_fold_block *block, const struct ht_foldsite *site,
                               const struct ht_fold_stats *stats, double alpha, float *s,
                               struct ht_transform_report *report, ht_err *err);

/* s_j = sqrt(max|producer row j| / max|consumer column j|): both sides end with the same range. Needs no data, and a
 * producer that is a matrix. PAIRS: rows of k against rows of q. Source: Nagel et al. 2019, arXiv 1906.04721,
 * section 4.1, eq. 11. HT_INVAL for a norm as producer. s [n]. */
ht_status ht_transform_equalize(const struct ht_fold_block *block, const struct ht_foldsite *site, float *s,
                                struct ht_transform_report *report, ht_err *err);

/* ---- folds: the block computes the same as before ------------------------------------------------------------- */

/* Consumers read x / s: their columns are multiplied by s [n], the producer is divided. PAIRS: k / s and q * s.
 * HT_NUMERIC when a factor is 0 or not finite, HT_INVAL when the site cannot scale; nothing has changed then. */
ht_status ht_fold_scale(struct ht_fold_block *block, const struct ht_foldsite *site, const float *s, ht_err *err);
/* The consumers' half alone, for factors that stay at run time in front of them (x / s is computed there). */
ht_status ht_fold_scale_inputs(struct ht_fold_block *block, const struct ht_foldsite *site, const float *s,
                               ht_err *err);
/* A norm's weights move into the linears that read it and become 1; what a rotation of the residual stream needs.
 * HT_INVAL when the site's producer is not one norm. */
ht_status ht_fold_norm(struct ht_fold_block *block, const struct ht_foldsite *site, ht_err *err);

#endif
