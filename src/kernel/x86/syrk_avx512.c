/* Tiles of X^T X: 8 rows x 32 columns = 16 sums, twice: enough in flight for two products per cycle of latency 4. */
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx512.h"

#define TILE_ROWS 8

static void syrk_f32(const float *a, const float *b, size_t n_tokens, float *out) {
    for (size_t i = 0; i < HT_SYRK_COLS; i += TILE_ROWS) {
        __m512 acc[TILE_ROWS][2];
        for (int r = 0; r < TILE_ROWS; r++) {
            acc[r][0] = acc[r][1] = _mm512_setzero_ps();
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const float *x = a + t * HT_SYRK_COLS + i, *y = b + t * HT_SYRK_COLS;
            __m512 y0 = _mm512_loadu_ps(y), y1 = _mm512_loadu_ps(y + 16);
#pragma GCC unroll 8
            for (int r = 0; r < TILE_ROWS; r++) {
                __m512 v = _mm512_set1_ps(x[r]);
                acc[r][0] = _mm512_fmadd_ps(v, y0, acc[r][0]);
                acc[r][1] = _mm512_fmadd_ps(v, y1, acc[r][1]);
            }
        }
        for (size_t r = 0; r < TILE_ROWS; r++) {
            _mm512_storeu_ps(out + (i + r) * HT_SYRK_COLS, acc[r][0]);
            _mm512_storeu_ps(out + (i + r) * HT_SYRK_COLS + 16, acc[r][1]);
        }
    }
}

void ht_syrk_init_avx512(struct ht_kernel_table *t) {
    t->syrk_f32 = syrk_f32;
}
