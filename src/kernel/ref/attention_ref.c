#include "kernel/slots.h"

/* Two passes per query: all scores, softmax, then the weighted sum of V. scratch: f32 [max keys]. */
void ht_attention_ref(const struct ht_attention *a, void *scratch) {
    float *p = scratch;
    size_t D = a->head_dim;
    for (size_t i = 0; i < a->n_q; i++) {
        const float *q = a->q + i * a->q_stride;
        float *out = a->out + i * a->out_stride;
        size_t n = a->first_keys + i * a->keys_step;
        for (size_t j = 0; j < n; j++) {
            float s = a->f16 ? ht_dot_f32_f16_ref(q, (const uint16_t *)a->k + j * a->k_stride, D)
                             : ht_dot_f32_ref(q, (const float *)a->k + j * a->k_stride, D);
            p[j] = s * a->scale;
        }
        ht_softmax_ref(p, n);
        for (size_t c = 0; c < D; c++) {
            out[c] = 0;
        }
        for (size_t j = 0; j < n; j++) {
            if (a->f16) {
                ht_axpy_f16_ref(p[j], (const uint16_t *)a->v + j * a->v_stride, out, D);
            } else {
                ht_axpy_f32_ref(p[j], (const float *)a->v + j * a->v_stride, out, D);
            }
        }
    }
}
