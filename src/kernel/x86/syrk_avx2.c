/* Tiles of X^T X: 4 rows x 16 columns = 8 sums, and 4 vectors for what goes in. */
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx2.h"

#define TILE_ROWS 4

static void syrk_f32(const float *a, const float *b, size_t n_tokens, float *out) {
    for (size_t at = 0; at < HT_SYRK_COLS * HT_SYRK_COLS; at += 16 * TILE_ROWS) {
        size_t i = at / 16 / TILE_ROWS / 2 * TILE_ROWS, j = at / 16 / TILE_ROWS % 2 * 16;
        __m256 acc[TILE_ROWS][2];
        for (int r = 0; r < TILE_ROWS; r++) {
            acc[r][0] = acc[r][1] = _mm256_setzero_ps();
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const float *x = a + t * HT_SYRK_COLS + i, *y = b + t * HT_SYRK_COLS + j;
            __m256 y0 = _mm256_loadu_ps(y), y1 = _mm256_loadu_ps(y + 8);
#pragma GCC unroll 4
            for (int r = 0; r < TILE_ROWS; r++) {
                __m256 v = _mm256_broadcast_ss(x + r);
                acc[r][0] = _mm256_fmadd_ps(v, y0, acc[r][0]);
                acc[r][1] = _mm256_fmadd_ps(v, y1, acc[r][1]);
            }
        }
        for (size_t r = 0; r < TILE_ROWS; r++) {
            _mm256_storeu_ps(out + (i + r) * HT_SYRK_COLS + j, acc[r][0]);
            _mm256_storeu_ps(out + (i + r) * HT_SYRK_COLS + j + 8, acc[r][1]);
        }
    }
}

void ht_syrk_init_avx2(struct ht_kernel_table *t) {
    t->syrk_f32 = syrk_f32;
}
