/* Calibration without data: the model writes its own text. Each window starts at BOS and is sampled from the
 * whole distribution at temperature 1; where a text ends, the next one starts. After LLM-QAT (Liu et al.
 * 2023, arXiv 2305.17888, section 3.1), whose samples start at a random token, as ours do for models without
 * BOS. */
#include "base/mem.h"
#include "calib/data_impl.h"
#include "model/sampler.h"
#include "model/session.h"

static int32_t first_token(const struct ht_vocab *vocab, struct ht_rng *rng) {
    if (vocab->bos >= 0) {
        return vocab->bos;
    }
    int32_t id = 0;
    for (int tries = 0; tries < 1000; tries++) {
        id = (int32_t)ht_rng_below(rng, vocab->n_tokens);
        if (vocab->tokens[id].type == HT_TOKEN_NORMAL) {
            break;
        }
    }
    return id;
}

static ht_status write_window(struct ht_data *d, struct ht_run *run, struct ht_sampler *sampler,
                              float *logits, int32_t *ids, ht_err *err) {
    const struct ht_tokenizer *t = d->model->tokenizer;
    const struct ht_vocab *vocab = ht_tokenizer_vocab(t);
    ht_run_rewind(run, 0);
    ids[0] = first_token(vocab, &sampler->rng);
    for (uint32_t i = 1; i < d->o->window; i++) {
        HT_TRY(ht_run_feed(run, &ids[i - 1], 1, 1, logits, err));
        if (ht_tokenizer_is_end(t, ids[i - 1]) && i > 1) {
            ids[i] = first_token(vocab, &sampler->rng);
        } else {
            HT_TRY(ht_sampler_next(sampler, logits, &ids[i], err));
        }
    }
    return HT_OK;
}

ht_status ht_data_write_self(struct ht_data *d, struct ht_data_source *s, ht_err *err) {
    const struct ht_run_options options = {.ctx = d->o->window, .batch = 1, .math = HT_MATH_FAST};
    const ht_generate_options how = {.size = sizeof how, .temperature = 1, .top_p = 1};
    uint32_t vocab = d->model->hp.vocab;
    struct ht_run *run = NULL;
    struct ht_sampler sampler = {0};
    struct ht_meter meter;
    bool full;
    int32_t *ids = ht_mem_alloc_array(d->o->window, sizeof *ids);
    float *logits = ht_mem_alloc_array(vocab, sizeof *logits);
    ht_status status = HT_OK;
    if (ids == NULL || logits == NULL) {
        status = ht_fail_nomem(err, vocab * sizeof *logits);
        goto done;
    }
    HT_TRY_DONE(ht_run_new(d->ctx->pool, d->model, &options, &run, err));
    HT_TRY_DONE(ht_sampler_init(&sampler, vocab, &how, err));
    ht_meter_init(&meter, d->ctx, "generate", "tokens", s->want * d->o->window);
    for (uint64_t w = 0; w < s->want; w++) {
        ht_rng_init(&sampler.rng, d->o->seed * 0x9E3779B97F4A7C15u + w);
        HT_TRY_DONE(write_window(d, run, &sampler, logits, ids, err));
        HT_TRY_DONE(ht_data_window(d, s, ids, &full, err));
        HT_TRY_DONE(ht_meter_tell(&meter, (w + 1) * d->o->window, 0, "text", err));
    }
    s->documents = s->want;
    s->tokens = s->want * d->o->window;
done:
    ht_run_free(run);
    ht_sampler_deinit(&sampler);
    ht_mem_free(logits);
    ht_mem_free(ids);
    return status;
}
