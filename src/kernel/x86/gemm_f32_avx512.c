/* f32 matrix product for many tokens. Tokens are the lanes:
 *
 *     packed [k][32 tokens]      w [rows][k]             tile of 12 rows x 32 tokens = 24 accumulators
 *     two vectors per k     x    one broadcast per row
 *
 * so the weights are used in the order decode writes them. A tile's result is turned to token order by
 * 16 x 16 transposes, once per call. */
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx512.h"

#define TILE_ROWS 12

static void pack_f32(const float *x, size_t x_stride, size_t n_tokens, size_t cols, float *packed) {
    for (size_t k = 0; k < cols; k += 16) {
        __mmask16 m = ht_mask16(cols - k < 16 ? cols - k : 16);
        for (size_t h = 0; h < 2; h++) {
            __m512i v[16];
            for (size_t t = 0; t < 16; t++) {
                size_t token = 16 * h + t;
                v[t] = _mm512_setzero_si512();
                if (token < n_tokens) {
                    v[t] = _mm512_maskz_loadu_epi32(m, x + token * x_stride + k);
                }
            }
            ht_transpose16_avx512(v);
            for (size_t i = 0; i < 16 && k + i < cols; i++) {
                _mm512_storeu_si512(packed + (k + i) * HT_GEMM_TOKENS + 16 * h, v[i]);
            }
        }
    }
}

/* acc: up to 16 rows of 16 tokens. */
HT_INLINE void store_tokens(__m512 acc[16], int n_rows, size_t n_tokens, float *y, size_t y_stride,
                            bool add) {
    __m512i v[16];
    for (int r = 0; r < 16; r++) {
        v[r] = r < n_rows ? _mm512_castps_si512(acc[r]) : _mm512_setzero_si512();
    }
    ht_transpose16_avx512(v);
    __mmask16 m = ht_mask16((size_t)n_rows);
    for (size_t t = 0; t < 16; t++) {
        if (t < n_tokens) {
            __m512 s = _mm512_castsi512_ps(v[t]);
            s = add ? _mm512_add_ps(_mm512_maskz_loadu_ps(m, y + t * y_stride), s) : s;
            _mm512_mask_storeu_ps(y + t * y_stride, m, s);
        }
    }
}

/* NR rows, NV * 16 tokens; both are constants where this is inlined. */
HT_INLINE void tile(int NR, int NV, const float *w, size_t w_stride, size_t cols, const float *packed,
                    size_t n_tokens, float *y, size_t y_stride, bool add) {
    __m512 acc[2][16];
    for (int v = 0; v < NV; v++) {
        for (int r = 0; r < NR; r++) {
            acc[v][r] = _mm512_setzero_ps();
        }
    }
    for (size_t k = 0; k < cols; k++) {
        __m512 x[2];
        for (int v = 0; v < NV; v++) {
            x[v] = _mm512_loadu_ps(packed + k * HT_GEMM_TOKENS + 16 * v);
        }
#pragma GCC unroll 12
        for (int r = 0; r < NR; r++) {
            __m512 b = _mm512_set1_ps(w[(size_t)r * w_stride + k]);
            for (int v = 0; v < NV; v++) {
                acc[v][r] = _mm512_fmadd_ps(b, x[v], acc[v][r]);
            }
        }
    }
    for (int v = 0; v < NV; v++) {
        size_t t0 = 16 * (size_t)v;
        store_tokens(acc[v], NR, n_tokens - t0 < 16 ? n_tokens - t0 : 16, y + t0 * y_stride, y_stride, add);
    }
}

typedef void tile_fn(const float *w, size_t w_stride, size_t cols, const float *packed, size_t n_tokens,
                     float *y, size_t y_stride, bool add);

#define TILE(NR, NV)                                                                                         \
    static HT_NOINLINE void tile_##NR##_##NV(const float *w, size_t w_stride, size_t cols,                   \
                                             const float *packed, size_t n_tokens, float *y,                 \
                                             size_t y_stride, bool add) {                                    \
        tile(NR, NV, w, w_stride, cols, packed, n_tokens, y, y_stride, add);                                 \
    }
#define TILES(NR) TILE(NR, 1) TILE(NR, 2)
TILES(1)
TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12)
#define ROW(NR)                                                                                              \
    { tile_##NR##_1, tile_##NR##_2 }
    static tile_fn *const tiles[TILE_ROWS][2] = {ROW(1), ROW(2), ROW(3), ROW(4),  ROW(5),  ROW(6),
                                                 ROW(7), ROW(8), ROW(9), ROW(10), ROW(11), ROW(12)};

static void gemm_f32(const float *w, size_t w_stride, size_t n_rows, size_t cols, const float *packed,
                     size_t n_tokens, float *y, size_t y_stride, bool add) {
    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        size_t n = n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS;
        tiles[n - 1][n_tokens > 16](w + r * w_stride, w_stride, cols, packed, n_tokens, y + r, y_stride, add);
    }
}

void ht_gemm_f32_init_avx512(struct ht_kernel_table *t) {
    t->pack_f32 = pack_f32;
    t->gemm_f32 = gemm_f32;
}
