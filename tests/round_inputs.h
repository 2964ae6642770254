/* Inputs and weights for tests of rounding: strong correlations and columns of very different size, as real layers
 * have them. */
#ifndef HT_TESTS_ROUND_INPUTS_H
#define HT_TESTS_ROUND_INPUTS_H

#include "base/mem.h"
#include "base/rng.h"
#include "quant/round/dense.h"
#include "test.h"

static inline struct ht_pool *pool_of(int threads) {
    struct ht_pool *pool;
    ht_err err;
    ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
    return pool;
}

static inline void make_inputs(float *x, uint64_t n, uint64_t cols, uint64_t seed) {
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    for (uint64_t t = 0; t < n; t++) {
        float common[4], walk = 0.0f;
        for (int i = 0; i < 4; i++) {
            common[i] = (float)ht_rng_normal(&rng);
        }
        for (uint64_t j = 0; j < cols; j++) {
            walk = 0.8f * walk + 0.6f * (float)ht_rng_normal(&rng);
            float size = 0.1f + (float)((j * 7919u) % 97u) / 50.0f;
            x[t * cols + j] = size * (walk + common[j % 4]);
        }
    }
}

static inline float *make_weights(uint64_t n, uint64_t seed) {
    struct ht_rng rng;
    float *w = ht_mem_alloc_aligned(n, sizeof *w);
    ht_rng_init(&rng, seed);
    for (uint64_t i = 0; i < n; i++) {
        w[i] = 0.05f * (float)ht_rng_normal(&rng);
    }
    return w;
}

static inline float *make_hessian(struct ht_pool *pool, uint64_t n, uint64_t cols) {
    ht_err err;
    float *x = ht_mem_alloc_aligned(n * cols, sizeof *x), *h = ht_mem_alloc_aligned(cols * cols, sizeof *h);
    make_inputs(x, n, cols, 1);
    memset(h, 0, cols * cols * sizeof *h);
    ASSERT_OK(ht_dense_gram(pool, x, n, cols, h, &err), &err);
    for (uint64_t i = 0; i < cols * cols; i++) {
        h[i] /= (float)n;
    }
    ht_mem_free_aligned(x);
    return h;
}

/* sum of e (h + damping * mean diag I) e^T over rows, e = w - v. */
static inline double loss_between(const float *w, const float *v, const float *h, double damping, uint64_t rows,
                                  uint64_t cols) {
    double mean = 0, sum = 0;
    for (uint64_t j = 0; j < cols; j++) {
        mean += (double)h[j * cols + j] / (double)cols;
    }
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t i = 0; i < cols; i++) {
            double g = 0, e = (double)w[r * cols + i] - (double)v[r * cols + i];
            for (uint64_t j = 0; j < cols; j++) {
                g += (double)h[i * cols + j] * ((double)w[r * cols + j] - (double)v[r * cols + j]);
            }
            sum += e * (g + damping * mean * e);
        }
    }
    return sum;
}

#endif
