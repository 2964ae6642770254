/* Choosing the next token. Greedy when the temperature is 0; else temperature, top-k, top-p, min-p, in this
 * order, as transformers' generate does: the filters see the distribution that temperature made.
 * The same seed, options and logits give the same token on every machine.
 * Sources: Holtzman et al. 2019 (top-p, arXiv 1904.09751); Nguyen et al. 2024 (min-p, arXiv 2407.01082). */
#ifndef HT_MODEL_SAMPLER_H
#define HT_MODEL_SAMPLER_H

#include "base/rng.h"
#include "halftone.h"

struct ht_sampler {
    float temperature, top_p, min_p;
    uint32_t top_k;
    struct ht_rng rng;
    struct ht_candidate {
        float logit;
        int32_t id;
    } *candidates; /* [vocab] */
    uint32_t vocab;
};

/* HT_INVAL names the option that is out of range. */
ht_status ht_sampler_init(struct ht_sampler *sampler, uint32_t vocab, const ht_generate_options *options,
                          ht_err *err);
void ht_sampler_deinit(struct ht_sampler *sampler);
/* logits: [vocab]; -infinity excludes a token. HT_NUMERIC when one is NaN or +infinity, or all are excluded. */
ht_status ht_sampler_next(struct ht_sampler *sampler, const float *logits, int32_t *id, ht_err *err);

#endif
