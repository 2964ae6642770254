/* Integer matrix product for many tokens, 256-bit vectors: 16 rows of a panel (8 per vector) times 4 tokens; the
 * plan of gemm_q8_avx512vnni.c. For levels that differ in the integer dot product. */
#ifndef HT_KERNEL_X86_GEMM_Q8_AVX2_H
#define HT_KERNEL_X86_GEMM_Q8_AVX2_H

#include "kernel/chunk.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx2.h"

#define HT_TILE_TOKENS 4

/* sum + 8 sums of 4 products of codes and activations. is_signed: the codes are, and magnitude holds them without
 * sign; otherwise they are unsigned. */
typedef __m256i ht_add_dot_fn(bool is_signed, __m256i sum, __m256i codes, __m256i magnitude, __m256i q);

struct ht_tile {
    const uint8_t *codes; /* of the panel, from the tile's first row on */
    const float *scale, *min;
    size_t n_groups; /* of 32 columns */
    const int8_t *q;
    const float *d;
    const int32_t *corr;
    size_t q_stride, d_stride, corr_stride; /* elements from token to token */
    float *y;
    size_t y_stride, n_rows;
    bool add;
};

typedef void ht_tile_fn(const struct ht_tile *p);

HT_INLINE __m256i ht_broadcast4(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* One group of columns of 16 rows and NT tokens. */
HT_INLINE void ht_tile_dots(ht_add_dot_fn *dot, int NT, int steps, bool is_signed, const struct ht_tile *p,
                            const uint8_t *codes, const int8_t *q, __m256i sum[HT_TILE_TOKENS][2]) {
#pragma GCC unroll 8
    for (int k = 0; k < steps; k++) {
        __m256i w[2], m[2];
        for (int h = 0; h < 2; h++) {
            w[h] = _mm256_load_si256((const void *)(codes + 4 * HT_PANEL_ROWS * k + 32 * h));
            m[h] = is_signed ? _mm256_abs_epi8(w[h]) : w[h];
        }
#pragma GCC unroll 4
        for (int t = 0; t < NT; t++) {
            __m256i a = ht_broadcast4(q + (size_t)t * p->q_stride + 4 * k);
            sum[t][0] = dot(is_signed, sum[t][0], w[0], m[0], a);
            sum[t][1] = dot(is_signed, sum[t][1], w[1], m[1], a);
        }
    }
}

HT_INLINE void ht_tile_avx2(ht_add_dot_fn *dot, int NT, int group, bool mins, bool is_signed, const struct ht_tile *p) {
    __m256 acc[HT_TILE_TOKENS][2];
    for (int t = 0; t < NT; t++) {
        acc[t][0] = acc[t][1] = _mm256_setzero_ps();
    }
    const size_t n = p->n_groups * (size_t)(32 / group), steps = (size_t)group / 4;
    for (size_t c = 0; c < n; c++) {
        __m256i sum[HT_TILE_TOKENS][2];
#pragma GCC unroll 4
        for (int t = 0; t < NT; t++) {
            int32_t start = mins || is_signed ? 0 : p->corr[(size_t)t * p->corr_stride + c];
            sum[t][0] = sum[t][1] = _mm256_set1_epi32(start);
        }
        ht_tile_dots(dot, NT, group / 4, is_signed, p, p->codes + 4 * HT_PANEL_ROWS * steps * c,
                     p->q + (size_t)group * c, sum);
        for (int h = 0; h < 2; h++) {
            __m256 s = _mm256_load_ps(p->scale + HT_PANEL_ROWS * c + 8 * (size_t)h);
            __m256 m = mins ? _mm256_load_ps(p->min + HT_PANEL_ROWS * c + 8 * (size_t)h) : s;
#pragma GCC unroll 4
            for (int t = 0; t < NT; t++) {
                __m256 d = _mm256_broadcast_ss(p->d + (size_t)t * p->d_stride + c / (size_t)(32 / group));
                acc[t][h] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum[t][h]), s), d, acc[t][h]);
                if (mins) {
                    __m256i q = _mm256_set1_epi32(p->corr[(size_t)t * p->corr_stride + c]);
                    acc[t][h] = _mm256_fnmadd_ps(m, _mm256_castsi256_ps(q), acc[t][h]);
                }
            }
        }
    }
    for (int t = 0; t < NT; t++) {
        for (size_t h = 0; h < 2 && 8 * h < p->n_rows; h++) {
            float *y = p->y + (size_t)t * p->y_stride + 8 * h;
            __m256 v = p->add ? _mm256_add_ps(acc[t][h], ht_load8(y, p->n_rows - 8 * h)) : acc[t][h];
            ht_store8(y, v, p->n_rows - 8 * h);
        }
    }
}

/* tiles: by group (32, 16), mins (without, with), tokens - 1; signed codes by tokens - 1. */
HT_INLINE void ht_gemm_avx2(ht_tile_fn *const tiles[2][2][HT_TILE_TOKENS],
                            ht_tile_fn *const signed_tiles[HT_TILE_TOKENS],
                            const struct ht_panel_q8 *panel, const struct ht_chunk_shape *shape, size_t n_rows,
                            const struct ht_acts *acts, size_t col0, size_t cols, float *y, size_t y_stride,
                            bool add) {
    struct ht_tile p = {
        .n_groups = cols / 32,
        .q_stride = acts->cols_padded,
        .d_stride = acts->cols_padded / 32,
        .corr_stride = acts->cols_padded / (size_t)shape->group,
        .y_stride = y_stride,
        .add = add,
    };
    ht_tile_fn *const *by_tokens =
        shape->offset == HT_CODES_SIGNED ? signed_tiles : tiles[shape->group == 16][shape->offset == 0];
    for (size_t t = 0; t < acts->n_tokens; t += HT_TILE_TOKENS) {
        size_t n = acts->n_tokens - t < HT_TILE_TOKENS ? acts->n_tokens - t : HT_TILE_TOKENS;
        p.q = acts->q + t * p.q_stride + col0;
        p.d = acts->d + t * p.d_stride + col0 / 32;
        p.corr = acts->corrections + t * p.corr_stride + col0 / (size_t)shape->group;
        for (size_t r = 0; r < n_rows; r += 16) {
            p.codes = panel->codes + 4 * r;
            p.scale = panel->scale + r;
            p.min = panel->min + r;
            p.n_rows = n_rows - r;
            p.y = y + t * y_stride + r;
            by_tokens[n - 1](&p);
        }
    }
}

#define HT_TILE_AVX2(DOT, kind, NT, group, mins, is_signed)                                                  \
    static HT_NOINLINE void kind##_##NT(const struct ht_tile *p) {                                           \
        ht_tile_avx2(DOT, NT, group, mins, is_signed, p);                                                    \
    }
#define HT_TILES_AVX2(DOT, kind, group, mins, is_signed)                                                     \
    HT_TILE_AVX2(DOT, kind, 1, group, mins, is_signed)                                                       \
    HT_TILE_AVX2(DOT, kind, 2, group, mins, is_signed)                                                       \
    HT_TILE_AVX2(DOT, kind, 3, group, mins, is_signed)                                                       \
    HT_TILE_AVX2(DOT, kind, 4, group, mins, is_signed)
#define HT_TILE_ROW(kind)                                                                                    \
    { kind##_1, kind##_2, kind##_3, kind##_4 }

/* gemm_q8 for the dot product DOT. Signed codes: groups of 32 without mins. */
#define HT_GEMM_AVX2(DOT)                                                                                    \
    HT_TILES_AVX2(DOT, tile_32, 32, false, false)                                                            \
    HT_TILES_AVX2(DOT, tile_32m, 32, true, false)                                                            \
    HT_TILES_AVX2(DOT, tile_16, 16, false, false)                                                            \
    HT_TILES_AVX2(DOT, tile_16m, 16, true, false)                                                            \
    HT_TILES_AVX2(DOT, tile_signed, 32, false, true)                                                         \
    static void gemm_q8(const struct ht_panel_q8 *panel, const struct ht_chunk_shape *shape, size_t n_rows,  \
                        const struct ht_acts *acts, size_t col0, size_t cols, float *y, size_t y_stride,     \
                        bool add) {                                                                          \
        static ht_tile_fn *const tiles[2][2][HT_TILE_TOKENS] = {                                             \
            {HT_TILE_ROW(tile_32), HT_TILE_ROW(tile_32m)}, {HT_TILE_ROW(tile_16), HT_TILE_ROW(tile_16m)}};   \
        static ht_tile_fn *const signed_tiles[HT_TILE_TOKENS] = HT_TILE_ROW(tile_signed);                    \
        ht_gemm_avx2(tiles, signed_tiles, panel, shape, n_rows, acts, col0, cols, y, y_stride, add);         \
    }

#endif
