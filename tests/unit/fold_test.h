/* Models whose weights tests change through blocks, and their logits before and after. */
#ifndef HT_TESTS_UNIT_FOLD_TEST_H
#define HT_TESTS_UNIT_FOLD_TEST_H

#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/fold_view.h"
#include "model/session.h"
#include "quant/transform/transform.h"
#include "tiny_model.h"

#define FOLD_TOKENS 24

struct folded {
    struct ht_pool *pool;
    struct ht_model *model;
    struct ht_fold_block *blocks; /* [n_layers + 1]: the last is layer -1 */
    size_t n;
};


static inline void folded_put(struct folded *f) {
    ht_err err = {0};
    for (size_t i = 0; i < f->n; i++) {
        ASSERT_OK(ht_fold_view_put(f->model, &f->blocks[i], &err), &err);
    }
}

static inline struct ht_fold_block *folded_globals(struct folded *f) {
    return &f->blocks[f->n - 1];
}

/* biases: every bias that the architecture can carry gets values. Norms get some too, so that they are not all 1. */
static inline void folded_open(struct folded *f, const char *path, bool biases) {
    ht_err err = {0};
    struct ht_model_options options = {.tokenizer_optional = true};
    struct ht_rng rng;
    ht_rng_init(&rng, 7);
    ASSERT_OK(ht_pool_new(2, &f->pool, &err), &err);
    ASSERT_OK(ht_model_load_with(path, &options, &f->model, &err), &err);
    f->n = f->model->hp.n_layers + 1;
    f->blocks = ht_mem_calloc(f->n, sizeof *f->blocks);
    assert_non_null(f->blocks);
    for (size_t i = 0; i < f->n; i++) {
        int32_t layer = i + 1 < f->n ? (int32_t)i : -1;
        ASSERT_OK(ht_fold_view_take(f->pool, f->model, layer, &f->blocks[i], &err), &err);
        for (int role = 0; role < HT_ROLES; role++) {
            struct ht_fold_vector *v = &f->blocks[i].vectors[role];
            bool norm = v->used && (v->n == 0 || fabsf(v->x[0] - 1) < 1e-6f);
            for (uint64_t j = 0; j < v->n && (norm || (biases && !v->used)); j++) {
                v->x[j] = (norm ? 1.0f : 0.0f) + 0.1f * (float)ht_rng_normal(&rng);
            }
            v->used = v->used || (biases && v->x != NULL);
        }
    }
    folded_put(f);
}

static inline void folded_close(struct folded *f) {
    for (size_t i = 0; i < f->n; i++) {
        ht_fold_block_deinit(&f->blocks[i]);
    }
    ht_mem_free(f->blocks);
    ht_model_unload(f->model);
    ht_pool_free(f->pool);
}

/* [FOLD_TOKENS, V]; freed with ht_mem_free_aligned. */
static inline float *folded_logits(struct folded *f) {
    ht_err err = {0};
    struct ht_run *run;
    struct ht_run_options o = {.ctx = FOLD_TOKENS, .math = HT_MATH_EXACT, .f32_cache = true};
    int32_t ids[FOLD_TOKENS];
    struct ht_rng rng;
    ht_rng_init(&rng, 11);
    for (size_t i = 0; i < FOLD_TOKENS; i++) {
        ids[i] = (int32_t)ht_rng_below(&rng, f->model->hp.vocab);
    }
    float *logits = ht_mem_alloc_aligned((uint64_t)FOLD_TOKENS * f->model->hp.vocab, sizeof *logits);
    assert_non_null(logits);
    ASSERT_OK(ht_run_new(f->pool, f->model, &o, &run, &err), &err);
    ASSERT_OK(ht_run_feed(run, ids, FOLD_TOKENS, FOLD_TOKENS, logits, &err), &err);
    ht_run_free(run);
    return logits;
}

/* max |a - b| / max |b| of the model's present logits against `before`. */
static inline double folded_difference(struct folded *f, const float *before) {
    float *now = folded_logits(f);
    double d = 0, top = 0;
    for (size_t i = 0; i < (size_t)FOLD_TOKENS * f->model->hp.vocab; i++) {
        assert_true(isfinite(now[i]));
        d = fmax(d, fabs((double)now[i] - (double)before[i]));
        top = fmax(top, fabs((double)before[i]));
    }
    ht_mem_free_aligned(now);
    return d / top;
}

#endif
