/* AXIS 1, making weights and activations easier to quantize without changing what the model computes. Each part is a
 * pair: factors from statistics, and a fold that moves them into the weights at a site (tensor/fold.h). Parts see one
 * block, never a model or a file; calibration hands statistics over as plain arrays.
 *
 *     factors    migrate     ht_transform_migrate     SmoothQuant
 *                magnitude   ht_transform_magnitude   AWQ, for one exponent
 *                search      ht_transform_search      either of them, the exponent found by trial
 *                equalize    ht_transform_equalize    cross-layer equalization
 *                shift       ht_transform_shift       Outlier Suppression+, with ht_transform_threshold
 *                order       ht_order_deal, _sort, _cluster (RPTQ)
 *                clip        ht_transform_clip        the largest weights of groups cut, by trial; changes the model
 *     folds      scale       ht_fold_scale            norm weights into their readers: ht_fold_norm
 *                rotate      ht_fold_rotate           QuaRot (rotation.h); ht_fold_rotate_inputs in front of one linear
 *                shift       ht_fold_shift            ht_fold_shift_bias where the shift stays at run time
 *                permute     ht_fold_permute          ht_fold_permute_inputs where the order is made at run time
 *
 * Statistics (quant/stats.h) are those of the consumers' common input as the block stands: after a fold they must be
 * collected again before another part uses them.
 *
 * All functions may be called from any thread; results do not depend on the number of threads. */
#ifndef HT_QUANT_TRANSFORM_TRANSFORM_H
#define HT_QUANT_TRANSFORM_TRANSFORM_H

#include "base/pool.h"
#include "quant/stats.h"
#include "quant/transform/rotation.h"
#include "tensor/fold.h"

/* ---- sites ----------------------------------------------------------------------------------------------- */

/* The row of this name; NULL: none. */
const struct ht_foldsite *ht_fold_site(const struct ht_foldsite *table, const char *name);
/* Factors that the site takes in this block: n below. CHANNELS, RESIDUAL: inputs of a consumer. HEADS: outputs of the
 * producer, KV heads * D. PAIRS: half the producer's outputs: factor h * D/2 + i belongs to the i-th pair of head h.
 * 0: the block lacks a member of the site, or their shapes do not go together. */
uint64_t ht_fold_channels(const struct ht_fold_block *block, const struct ht_foldsite *site);
/* Inputs of a consumer: stats->cols. HEADS: heads * D, else n. PAIRS has none: 0. */
uint64_t ht_fold_inputs(const struct ht_fold_block *block, const struct ht_foldsite *site);
/* Factors [n] as its consumers' inputs see them: wide [inputs]. For HEADS each head of a group gets its KV head's. */
void ht_fold_widen(const struct ht_fold_block *block, const struct ht_foldsite *site, const float *s, float *wide);

/* What a part did; reports add nothing up, callers do. */
struct ht_transform_report {
    uint64_t channels;
    uint64_t dead;     /* channels whose input or weights are all 0: factor 1 */
    uint64_t clamped;  /* factors moved into [1e-4, 1e4] */
    uint64_t cut;      /* groups whose weights were clipped */
    float least, most; /* factors taken */
    /* Parts that try: */
    double alpha;      /* of the factors taken; -1: none beat factors of 1, which were taken */
    double loss_before, loss; /* with factors of 1, with those taken; per token, summed over outputs */
    uint64_t trials;
    /* Shifts and orders: */
    double loss_other;             /* of the way that was not taken: without a shift, or with one */
    float least_shift, most_shift; /* of z, where it was taken */
    uint32_t shifted, run_time;    /* z was taken; z or the order is left to the run time */
    uint32_t clusters;             /* that are not empty */
    uint32_t left_out;             /* the site stays as it was: no order folds there, or none matters */
};

/* ---- trials -------------------------------------------------------------------------------------------------- */

/* What the rest of the recipe makes of a matrix: out [rows, cols] = what x comes back as from its grid. Called from
 * the caller's thread, with some rows of a linear's weights (inputs / s are what they will meet; s [cols] may be NULL:
 * ones) or with tokens as rows. */
typedef ht_status ht_trial_fn(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols,
                              const float *s, float *out, ht_err *err);

struct ht_trial {
    ht_trial_fn *weights;
    ht_trial_fn *inputs; /* NULL: activations are not quantized */
    void *ctx;
    bool relative;       /* of a sample: each token's loss counts by 1 / |x|^2, so that few huge ones do not decide */
    uint64_t max_rows;   /* of each linear, evenly spaced; 0: all */
    struct ht_pool *pool; /* may be NULL */
};

/* Loss of the consumers' outputs, per token, when inputs are (x - z) / s:
 *     activations stay:       tr(E H E^T), E = Q(W diag(s)) diag(1/s) - W          stats->gram, else the sample
 *     inputs are quantized:   mean |W (x - z) - Q(W diag(s)) Qx((x - z) / s)|^2    stats->sample
 * s, z: wide [cols], NULL: ones, zeros. HT_INVAL when the statistics are missing. */
ht_status ht_trial_loss(const struct ht_trial *trial, const struct ht_fold_block *block, const struct ht_foldsite *site,
                        const struct ht_stats *stats, const float *s, const float *z, double *loss, ht_err *err);

/* ---- factors ------------------------------------------------------------------------------------------------ */

/* s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), over the columns j of all consumers. Source: SmoothQuant, Xiao et al.
 * 2022, arXiv 2211.10438, eq. 4. stats->absmax; heads of a group share the largest. alpha in [0, 1], the paper's 0.5.
 * HT_NUMERIC when statistics are not finite; HT_INVAL when the site cannot scale or stats do not fit it. s [n]. */
ht_status ht_transform_migrate(const struct ht_fold_block *block, const struct ht_foldsite *site,
                               const struct ht_stats *stats, double alpha, float *s,
                               struct ht_transform_report *report, ht_err *err);

/* s_j = mean|x_j|^alpha, divided by the root of the product of the largest and the smallest. Source: AWQ, Lin et al.
 * 2023, arXiv 2306.00978, sec. 3.2; the division as in the authors' llm-awq. stats->mean_abs; heads of a group share
 * their mean. Errors as migrate. */
ht_status ht_transform_magnitude(const struct ht_fold_block *block, const struct ht_foldsite *site,
                                 const struct ht_stats *stats, double alpha, float *s,
                                 struct ht_transform_report *report, ht_err *err);

/* One of the two above; alpha in [0, 1]. */
typedef ht_status ht_factors_fn(const struct ht_fold_block *block, const struct ht_foldsite *site,
                                const struct ht_stats *stats, double alpha, float *s,
                                struct ht_transform_report *report, ht_err *err);
/* The alpha of k / grid, k = 0 .. grid, with the least loss; factors of 1 when none is better. grid >= 1, AWQ's 20.
 * s [n]. */
ht_status ht_transform_search(ht_factors_fn *factors, const struct ht_trial *trial, const struct ht_fold_block *block,
                              const struct ht_foldsite *site, const struct ht_stats *stats, uint32_t grid, float *s,
                              struct ht_transform_report *report, ht_err *err);

/* z_j = (max x_j + min x_j) / 2: channels lie around 0 afterwards. Source: Outlier Suppression+, Wei et al. 2023, arXiv
 * 2304.09145, sec. 4.1, eq. 4. stats->min, max; heads of a group have one z. z [n]; report->dead: channels where it is
 * 0; least, most: of z. */
ht_status ht_transform_shift(const struct ht_fold_block *block, const struct ht_foldsite *site,
                             const struct ht_stats *stats, float *z, struct ht_transform_report *report, ht_err *err);
/* s_j = max(1, max|x_j - z_j| / t): only channels beyond the threshold t are scaled, to just there; of t = k / grid *
 * max|x - z|, k = 1 .. grid, the one with the least loss (the paper's sec. 4.2; report->alpha is k / grid). z [n] or
 * NULL: not shifted. stats->min, max and what ht_trial_loss needs. s [n]. */
ht_status ht_transform_threshold(const struct ht_trial *trial, const struct ht_fold_block *block,
                                 const struct ht_foldsite *site, const struct ht_stats *stats, const float *z,
                                 uint32_t grid, float *s, struct ht_transform_report *report, ht_err *err);

/* Orders of n channels: position j takes channel order[j]. HEADS: make one for each head and add h * D.
 * By falling importance; ties by channel. HT_NUMERIC when one is not finite, HT_NOMEM. */
ht_status ht_order_sort(const float *importance, uint32_t n, uint32_t *order, ht_err *err);
/* Dealt like cards, back and forth: every group of `group` neighbours gets its share of important channels. HT_INVAL
 * when groups do not divide n. */
ht_status ht_order_deal(const float *importance, uint32_t n, uint32_t group, uint32_t *order, ht_err *err);
/* Channels of similar range next to each other: K-means on (min, max), k-means++ from the seed, at most 100 rounds;
 * clusters by falling width. first [k]: where each starts (a sidecar's act_idx); empty ones are left out, so that
 * *n_clusters <= k. Source: RPTQ, Yuan et al. 2023, arXiv 2304.01089, sec. 4.1. HT_INVAL, HT_NUMERIC, HT_NOMEM. */
ht_status ht_order_cluster(const float *min, const float *max, uint32_t n, uint32_t k, uint64_t seed, uint32_t *order,
                           uint32_t *first, uint32_t *n_clusters, ht_err *err);

/* Weights of one linear are cut to m * max|w| of their group of a row, m = 1 - k / grid for k = 0 .. grid / 2,
 * whichever loses least through trial->weights: e^T H_gg e over the group, e = W - Q(cut W). The function changes, so
 * this comes last of all. Source: AWQ's authors, llm-awq auto_clip.py (their grid 20). Groups of `group` columns (0:
 * the row), the last may be shorter. stats->gram. report: channels are groups. */
ht_status ht_transform_clip(const struct ht_trial *trial, struct ht_fold_block *block, enum ht_role role,
                            const struct ht_stats *stats, uint64_t group, uint32_t grid,
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

/* Inputs of the site become Q x: producers write Q W, consumers read W Q^T. HEADS: q [head_dim], every head by the
 * same q. RESIDUAL: q [width], the same for every layer and layer -1, with all norms on the stream ones (ht_fold_norm;
 * HT_INVAL otherwise), so that the head is its own matrix: a model whose head shares the embedding must be untied
 * first, because the last norm's weights go into the head alone. Large embeddings and heads are turned in chunks:
 * ht_rotation_rows, heads after multiplying their columns with the last norm's weights. After HT_NOMEM the block is
 * not to be used. */
ht_status ht_fold_rotate(struct ht_fold_block *block, const struct ht_foldsite *site, const struct ht_rotation *q,
                         struct ht_pool *pool, ht_err *err);
/* W becomes W H for inputs that are turned by H at run time (tensor/hadamard.h; leaves HT_LEAVES_HADAMARD): what QuaRot
 * does in front of ffn_down. hadamard: block of H, ht_hadamard_block(cols) or less. HT_INVAL. */
ht_status ht_fold_rotate_inputs(struct ht_fold_block *block, enum ht_role role, uint64_t hadamard, ht_err *err);

/* Consumers read x - z: the producer's bias loses z [n], the consumers' biases take W z. HT_INVAL when the site cannot
 * shift, HT_UNSUPPORTED when a bias has no slot in this architecture; nothing has changed then. */
ht_status ht_fold_shift(struct ht_fold_block *block, const struct ht_foldsite *site, const float *z, ht_err *err);
/* W z of one consumer, bias [rows]: what is to be added when x - z is computed at run time (HT_LEAVES_IN_SHIFT,
 * OUT_BIAS where the architecture has no bias). z [n] in units of the input as the block stands: after a later
 * ht_fold_scale the run time subtracts z / s, while W z stays. */
void ht_fold_shift_bias(const struct ht_fold_block *block, const struct ht_foldsite *site, enum ht_role role,
                        const float *z, float *bias);
/* Input j of the consumers is what was input order[j]: rows of producers and what goes along, elements of norms,
 * columns of consumers and of the embedding. order [n]; HEADS: within each head. RESIDUAL: the same for every layer and
 * layer -1. HT_INVAL when an order is none; after HT_NOMEM the block is not to be used. */
ht_status ht_fold_permute(struct ht_fold_block *block, const struct ht_foldsite *site, const uint32_t *order,
                          ht_err *err);
/* The consumers' half alone, of any site with inputs: u[j] = x[order[j]] is made at run time (HT_LEAVES_PERM). order
 * [inputs]. */
ht_status ht_fold_permute_inputs(struct ht_fold_block *block, const struct ht_foldsite *site, const uint32_t *order,
                                 ht_err *err);

#endif
