/* What an evaluation has seen: sums per window (the blocks of the bootstrap) and every position's divergence
 * (for quantiles). Windows of several texts follow each other; all have the same number of scored positions. */
#ifndef HT_EVAL_TALLY_H
#define HT_EVAL_TALLY_H

#include "eval/eval.h"

struct ht_tally {
    uint32_t per_window; /* scored positions of a window */
    bool has_reference;
    size_t n, cap;       /* windows */
    double *nll, *ref_nll, *same_top, *kld_sum; /* [n] sums over a window */
    double *kld;                                /* [n, per_window] */
};

void ht_tally_init(struct ht_tally *tally, uint32_t per_window, bool has_reference);
void ht_tally_deinit(struct ht_tally *tally);
/* scores: [per_window] in order of position. */
ht_status ht_tally_add(struct ht_tally *tally, const struct ht_score *scores, ht_err *err);

struct ht_summary {
    uint64_t windows, tokens_scored;
    ht_estimate perplexity;
    /* the rest only with a reference */
    ht_estimate reference_perplexity, ratio; /* ratio: perplexity / reference's, paired */
    ht_estimate kld, same_top, kld_p99;
    double kld_median, kld_p999, kld_max;
    uint64_t max_window, max_position; /* where kld_max is: window of the tally, scored position of it */
};

/* Windows [first, first + n) of the tally, n > 0. */
ht_status ht_tally_summary(const struct ht_tally *tally, size_t first, size_t n, uint32_t resamples,
                           uint64_t seed, struct ht_summary *summary, ht_err *err);

#endif
