/* Attention of one head, f32 arithmetic, two passes per query as the reference: all scores, softmax, weighted
 * sum. The weighted sum keeps 32 columns in registers over all keys. */
#include "kernel/arm/levels.h"
#include "kernel/arm/simd_neon.h"

HT_INLINE float32x4_t load(const void *base, bool f16, size_t at, size_t n) {
    return f16 ? ht_load4_f16((const uint16_t *)base + at, n) : ht_load4((const float *)base + at, n);
}

/* Columns c .. c + 31 of the head, or as many as there are; NV vectors of them. */
HT_INLINE void columns(int NV, const struct ht_attention *a, bool f16, const float *p, size_t n, size_t c,
                       float *out) {
    size_t left = a->head_dim - c;
    float32x4_t acc[8];
    for (int v = 0; v < NV; v++) {
        acc[v] = vdupq_n_f32(0);
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t v = 0; v < (size_t)NV; v++) {
            acc[v] = vfmaq_n_f32(acc[v], load(a->v, f16, j * a->v_stride + c + 4 * v, left - 4 * v), p[j]);
        }
    }
    for (size_t v = 0; v < (size_t)NV; v++) {
        ht_store4(out + c + 4 * v, acc[v], left - 4 * v);
    }
}

HT_INLINE void queries(const struct ht_attention *a, bool f16, float *p) {
    size_t D = a->head_dim;
    for (size_t i = 0; i < a->n_q; i++) {
        const float *q = a->q + i * a->q_stride;
        float *out = a->out + i * a->out_stride;
        size_t n = a->first_keys + i * a->keys_step, c = 0;
        for (size_t j = 0; j < n; j++) {
            float s = f16 ? ht_dot_f32_f16_neon(q, (const uint16_t *)a->k + j * a->k_stride, D)
                          : ht_dot_f32_neon(q, (const float *)a->k + j * a->k_stride, D);
            p[j] = s * a->scale;
        }
        ht_softmax_neon(p, n);
        for (; c + 32 <= D; c += 32) {
            columns(8, a, f16, p, n, c, out);
        }
        for (; c < D; c += 4) {
            columns(1, a, f16, p, n, c, out);
        }
    }
}

static void attention(const struct ht_attention *a, void *scratch) {
    if (a->f16) {
        queries(a, true, scratch);
    } else {
        queries(a, false, scratch);
    }
}

void ht_attention_init_neon(struct ht_kernel_table *t) {
    t->ops.attention = attention;
}
