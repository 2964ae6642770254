/* Evaluation: perplexity and KL divergence between two models run in lock-step, without logit files.
 *
 * A text is tokenized once and cut into windows of ctx tokens without overlap. Both models read the same
 * window piece by piece; the logits of a piece are compared and forgotten, so memory stays at two pieces of
 * [tokens, vocab] whatever the text's length. Which positions are scored is the convention:
 *
 *   llama   positions ctx/2 .. ctx-2, each predicting its successor (llama.cpp's perplexity tool)
 *   all     positions 0 .. ctx-2: every token but a window's first is predicted
 *
 * Intervals are block bootstraps whose blocks are the windows: tokens of one window are not independent.
 * Formulas and their reading: docs/evaluation.md. */
#ifndef HT_EVAL_EVAL_H
#define HT_EVAL_EVAL_H

#include "base/context.h"
#include "model/model.h"

/* Per scored position. */
struct ht_score {
    double nll, ref_nll, kld; /* nats */
    bool same_top;            /* both models rate the same token highest (of equals, the first) */
};

/* KL(p || q) of two logit rows and both negative log-likelihoods of target; double sums.
 * logits (q): [vocab]; ref (p): [vocab], may be NULL: then only nll is set. Equal rows give kld exactly 0.
 * False when a logit is NaN or infinite; *score is then meaningless. */
bool ht_score_position(const float *logits, const float *ref, size_t vocab, int32_t target,
                       struct ht_score *score);

struct ht_bootstrap { /* mean of per-block ratios: sum(value) / sum(weight) */
    double mean, low, high;
};

/* 95 % interval of sum(block_sums) / sum(block_counts) over resampled blocks, both [n_blocks]: bias-corrected
 * and accelerated (Efron 1987), at levels widened for few blocks (Hesterberg 2015, section 5.3). One block
 * gives low = -inf, high = inf: nothing is known. mean is NaN when memory is out. */
struct ht_bootstrap ht_bootstrap_mean(const double *block_sums, const double *block_counts, size_t n_blocks,
                                      uint32_t resamples, uint64_t seed);

/* Quantile of all values and the interval of it over resampled blocks. values: [n_blocks, per_block], left as
 * they are. Quantiles interpolate linearly between order statistics (Hyndman and Fan's type 7). Meant for
 * upper quantiles: the cost of a resample grows with (1 - quantile) * n. mean is NaN when memory is out. */
struct ht_bootstrap ht_bootstrap_quantile(const double *values, size_t n_blocks, size_t per_block,
                                          double quantile, uint32_t resamples, uint64_t seed);

/* Below this number of windows the JSON calls its intervals unreliable: the coverage of 95 % intervals was
 * simulated, see docs/evaluation.md. */
#define HT_EVAL_RELIABLE_WINDOWS 8

/* *json and *result may be NULL. HT_GATE when options->fail_if_kld is exceeded; *json and *result are then
 * filled. HT_INVAL when the models do not share a tokenizer or a text has no full window; HT_NUMERIC names the
 * window and position of a logit that is not finite. */
ht_status ht_eval_run(struct ht_context *ctx, const ht_eval_options *options, ht_eval_result *result,
                      char **json, ht_err *err);

#endif
