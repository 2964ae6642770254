/* Evaluation: perplexity and KL divergence between two models run in lock-step, without logit files.
 * Windows of ctx tokens without overlap. Convention "llama": positions ctx/2 .. ctx-2 predict scored tokens, as
 * llama.cpp's perplexity tool; "all": every position but the first. Intervals: block bootstrap over windows. */
#ifndef HT_EVAL_EVAL_H
#define HT_EVAL_EVAL_H

#include "base/context.h"
#include "model/model.h"

/* Per scored position. */
struct ht_score {
    double nll, ref_nll, kld; /* nats */
    bool same_top;
};

/* KL(p || q) of two logit rows and both negative log-likelihoods of target; double sums.
 * p: reference. ref may be NULL: only nll is set. */
void ht_score_position(const float *logits, const float *ref, size_t vocab, int32_t target,
                       struct ht_score *score);

struct ht_bootstrap { /* mean of per-block ratios: sum(value) / sum(weight) */
    double mean, low, high;
};
/* Percentile interval (95 %) of sum(v) / n over resampled blocks. */
struct ht_bootstrap ht_bootstrap_mean(const double *block_sums, const double *block_counts, size_t n_blocks,
                                      uint32_t resamples, uint64_t seed);

ht_status ht_eval_run(struct ht_context *ctx, const ht_eval_options *options, ht_eval_result *result,
                      char **json, ht_err *err);

#endif
