#include "kernel/slots.h"

void ht_syrk_f32_ref(const float *a, const float *b, size_t n_tokens, float *out) {
    memset(out, 0, HT_SYRK_COLS * HT_SYRK_COLS * sizeof *out);
    for (size_t t = 0; t < n_tokens; t++, a += HT_SYRK_COLS, b += HT_SYRK_COLS) {
        for (size_t i = 0; i < HT_SYRK_COLS; i++) {
            for (size_t j = 0; j < HT_SYRK_COLS; j++) {
                out[i * HT_SYRK_COLS + j] += a[i] * b[j];
            }
        }
    }
}
