/* f32 matrix product for many tokens: the plan of gemm_f32_avx512.c with tiles of 6 rows x 16 tokens, which
 * fill 12 of 16 registers. */
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx2.h"

#define TILE_ROWS 6

static void pack_f32(const float *x, size_t x_stride, size_t n_tokens, size_t cols, float *packed) {
    for (size_t k = 0; k < cols; k += 8) {
        for (size_t t0 = 0; t0 < HT_GEMM_TOKENS; t0 += 8) {
            __m256 v[8];
            for (size_t t = 0; t < 8; t++) {
                v[t] =
                    t0 + t < n_tokens ? ht_load8(x + (t0 + t) * x_stride + k, cols - k) : _mm256_setzero_ps();
            }
            ht_transpose8_avx2(v);
            for (size_t i = 0; i < 8 && k + i < cols; i++) {
                _mm256_storeu_ps(packed + (k + i) * HT_GEMM_TOKENS + t0, v[i]);
            }
        }
    }
}

/* acc: n_rows <= 8 rows of 8 tokens. */
HT_INLINE void store_tokens(const __m256 *acc, int n_rows, size_t n_tokens, float *y, size_t y_stride,
                            bool add) {
    __m256 v[8];
    for (int r = 0; r < 8; r++) {
        v[r] = r < n_rows ? acc[r] : _mm256_setzero_ps();
    }
    ht_transpose8_avx2(v);
    for (size_t t = 0; t < 8 && t < n_tokens; t++) {
        float *out = y + t * y_stride;
        __m256 s = add ? _mm256_add_ps(ht_load8(out, (size_t)n_rows), v[t]) : v[t];
        ht_store8(out, s, (size_t)n_rows);
    }
}

/* NR rows, 16 tokens. */
HT_INLINE void tile(int NR, const float *w, size_t w_stride, size_t cols, const float *packed,
                    size_t n_tokens, float *y, size_t y_stride, bool add) {
    __m256 acc[2][TILE_ROWS];
    for (int r = 0; r < NR; r++) {
        acc[0][r] = acc[1][r] = _mm256_setzero_ps();
    }
    for (size_t k = 0; k < cols; k++) {
        const float *x = packed + k * HT_GEMM_TOKENS;
        __m256 x0 = _mm256_loadu_ps(x), x1 = _mm256_loadu_ps(x + 8);
#pragma GCC unroll 6
        for (int r = 0; r < NR; r++) {
            __m256 b = _mm256_set1_ps(w[(size_t)r * w_stride + k]);
            acc[0][r] = _mm256_fmadd_ps(b, x0, acc[0][r]);
            acc[1][r] = _mm256_fmadd_ps(b, x1, acc[1][r]);
        }
    }
    store_tokens(acc[0], NR, n_tokens, y, y_stride, add);
    if (n_tokens > 8) {
        store_tokens(acc[1], NR, n_tokens - 8, y + 8 * y_stride, y_stride, add);
    }
}

typedef void tile_fn(const float *w, size_t w_stride, size_t cols, const float *packed, size_t n_tokens,
                     float *y, size_t y_stride, bool add);

#define TILE(NR)                                                                                             \
    static HT_NOINLINE void tile_##NR(const float *w, size_t w_stride, size_t cols, const float *packed,     \
                                      size_t n_tokens, float *y, size_t y_stride, bool add) {                \
        tile(NR, w, w_stride, cols, packed, n_tokens, y, y_stride, add);                                     \
    }
TILE(1)
TILE(2) TILE(3) TILE(4) TILE(5)
    TILE(6) static tile_fn *const tiles[TILE_ROWS] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

static void gemm_f32(const float *w, size_t w_stride, size_t n_rows, size_t cols, const float *packed,
                     size_t n_tokens, float *y, size_t y_stride, bool add) {
    for (size_t t = 0; t < n_tokens; t += 16) {
        for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
            size_t n = n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS;
            tiles[n - 1](w + r * w_stride, w_stride, cols, packed + t, n_tokens - t, y + t * y_stride + r,
                         y_stride, add);
        }
    }
}

void ht_gemm_f32_init_avx2(struct ht_kernel_table *t) {
    t->pack_f32 = pack_f32;
    t->gemm_f32 = gemm_f32;
}
