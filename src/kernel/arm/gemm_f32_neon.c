/* f32 matrix product for many tokens: tiles of 6 rows x 16 tokens, which fill 24 of 32 registers with sums.
 */
#include "kernel/arm/levels.h"
#include "kernel/arm/simd_neon.h"

#define TILE_ROWS 6
#define TILE_TOKENS 16

/* NR rows, 16 tokens, of which n_tokens (or more) exist. */
HT_INLINE void tile(int NR, const float *w, size_t w_stride, size_t cols, const float *packed,
                    size_t n_tokens, float *y, size_t y_stride, bool add) {
    float32x4_t acc[TILE_ROWS][4];
    for (int r = 0; r < NR; r++) {
        acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = vdupq_n_f32(0);
    }
    for (size_t k = 0; k < cols; k++) {
        const float *x = packed + k * HT_GEMM_TOKENS;
        float32x4_t x0 = vld1q_f32(x), x1 = vld1q_f32(x + 4), x2 = vld1q_f32(x + 8), x3 = vld1q_f32(x + 12);
#pragma GCC unroll 6
        for (size_t r = 0; r < (size_t)NR; r++) {
            float32x4_t b = vdupq_n_f32(w[r * w_stride + k]);
            acc[r][0] = vfmaq_f32(acc[r][0], b, x0);
            acc[r][1] = vfmaq_f32(acc[r][1], b, x1);
            acc[r][2] = vfmaq_f32(acc[r][2], b, x2);
            acc[r][3] = vfmaq_f32(acc[r][3], b, x3);
        }
    }
    for (size_t r = 0; r < (size_t)NR; r++) {
        float sums[TILE_TOKENS];
        for (size_t v = 0; v < 4; v++) {
            vst1q_f32(sums + 4 * v, acc[r][v]);
        }
        for (size_t t = 0; t < TILE_TOKENS && t < n_tokens; t++) {
            y[t * y_stride + r] = add ? y[t * y_stride + r] + sums[t] : sums[t];
        }
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
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
static tile_fn *const tiles[TILE_ROWS] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

static void gemm_f32(const float *w, size_t w_stride, size_t n_rows, size_t cols, const float *packed,
                     size_t n_tokens, float *y, size_t y_stride, bool add) {
    for (size_t t = 0; t < n_tokens; t += TILE_TOKENS) {
        for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
            size_t n = n_rows - r < TILE_ROWS ? n_rows - r : TILE_ROWS;
            tiles[n - 1](w + r * w_stride, w_stride, cols, packed + t, n_tokens - t, y + t * y_stride + r,
                         y_stride, add);
        }
    }
}

void ht_gemm_f32_init_neon(struct ht_kernel_table *t) {
    t->gemm_f32 = gemm_f32;
}
