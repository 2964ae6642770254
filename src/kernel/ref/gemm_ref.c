#include "kernel/slots.h"

void ht_pack_f32_ref(const float *x, size_t x_stride, size_t n_tokens, size_t cols, float *packed) {
    for (size_t k = 0; k < cols; k++) {
        for (size_t t = 0; t < HT_GEMM_TOKENS; t++) {
            packed[k * HT_GEMM_TOKENS + t] = t < n_tokens ? x[t * x_stride + k] : 0;
        }
    }
}

void ht_gemm_f32_ref(const float *w, size_t w_stride, size_t n_rows, size_t cols, const float *packed,
                     size_t n_tokens, float *y, size_t y_stride, bool add) {
    for (size_t r = 0; r < n_rows; r++) {
        float sum[HT_GEMM_TOKENS] = {0};
        for (size_t k = 0; k < cols; k++) {
            for (size_t t = 0; t < HT_GEMM_TOKENS; t++) {
                sum[t] += w[r * w_stride + k] * packed[k * HT_GEMM_TOKENS + t];
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            y[t * y_stride + r] = add ? y[t * y_stride + r] + sum[t] : sum[t];
        }
    }
}
