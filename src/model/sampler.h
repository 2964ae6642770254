/* Choosing the next token: temperature, top-k, top-p, min-p (applied in this order, as llama.cpp does), or
 * greedy. Deterministic for a seed. */
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

ht_status ht_sampler_init(struct ht_sampler *sampler, uint32_t vocab, const ht_generate_options *options,
                          ht_err *err);
void ht_sampler_deinit(struct ht_sampler *sampler);
int32_t ht_sampler_next(struct ht_sampler *sampler, const float *logits);

#endif
