/* Integer matrix product for many tokens: a panel of 32 rows (16 per vector) times 6 tokens.
 *
 *     per 4 columns:  w0 w1 = codes of 32 rows;  per token: broadcast 4 codes, 2 dpbusd       12 integer sums
 *     per group:      12 sums -> f32, * scale of the row, * scale of the token -> 12 f32 sums
 *
 * Formats without mins start the integer sums at -offset * sum(q), so the difference is exact; formats with
 * mins subtract min * (scale * sum(q)) in f32. */
#include "kernel/chunk.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx512.h"

#define TILE_TOKENS 6

struct tile {
    const struct ht_panel_q8 *panel;
    size_t n_groups; /* of 32 columns */
    const int8_t *q;
    const float *d;
    const int32_t *corr;
    size_t q_stride, d_stride, corr_stride; /* elements from token to token */
    float *y;
    size_t y_stride;
    __mmask16 rows[2];
    bool add;
};

HT_INLINE __m512i broadcast4(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* Integer sums over steps * 4 columns. */
HT_INLINE void dot_steps(int NT, int steps, const struct tile *p, const uint8_t *codes, const int8_t *q,
                         __m512i sum[TILE_TOKENS][2]) {
#pragma GCC unroll 8
    for (int k = 0; k < steps; k++) {
        __m512i w0 = _mm512_load_si512(codes + 128 * k), w1 = _mm512_load_si512(codes + 128 * k + 64);
#pragma GCC unroll 6
        for (int t = 0; t < NT; t++) {
            __m512i a = broadcast4(q + (size_t)t * p->q_stride + 4 * k);
            sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], w0, a);
            sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], w1, a);
        }
    }
}

/* NT tokens, groups of 16 or 32, with or without mins: constants where this is inlined. */
HT_INLINE void tile(int NT, int group, bool mins, const struct tile *p) {
    __m512 acc[TILE_TOKENS][2];
#pragma GCC unroll 6
    for (int t = 0; t < NT; t++) {
        acc[t][0] = acc[t][1] = _mm512_setzero_ps();
    }
    const int parts = 32 / group, steps = group / 4;
    const uint8_t *codes = p->panel->codes;
    const float *scale = p->panel->scale, *min = p->panel->min;
    for (size_t g = 0; g < p->n_groups; g++) {
        __m512 both[TILE_TOKENS][2]; /* scaled sums of two groups of 16 meet before the token's scale */
#pragma GCC unroll 2
        for (int part = 0; part < parts; part++) {
            size_t c = g * (size_t)parts + (size_t)part;
            __m512i sum[TILE_TOKENS][2];
#pragma GCC unroll 6
            for (int t = 0; t < NT; t++) {
                sum[t][0] = sum[t][1] = _mm512_set1_epi32(mins ? 0 : p->corr[(size_t)t * p->corr_stride + c]);
            }
            dot_steps(NT, steps, p, codes, p->q + 32 * g + (size_t)(group * part), sum);
            codes += 128 * steps;
            __m512 s0 = _mm512_load_ps(scale), s1 = _mm512_load_ps(scale + 16);
            scale += HT_PANEL_ROWS;
#pragma GCC unroll 6
            for (int t = 0; t < NT; t++) {
                __m512 x0 = _mm512_cvtepi32_ps(sum[t][0]), x1 = _mm512_cvtepi32_ps(sum[t][1]);
                both[t][0] = part == 0 ? _mm512_mul_ps(x0, s0) : _mm512_fmadd_ps(x0, s0, both[t][0]);
                both[t][1] = part == 0 ? _mm512_mul_ps(x1, s1) : _mm512_fmadd_ps(x1, s1, both[t][1]);
            }
            if (mins) {
                __m512 m0 = _mm512_load_ps(min), m1 = _mm512_load_ps(min + 16);
                min += HT_PANEL_ROWS;
#pragma GCC unroll 6
                for (int t = 0; t < NT; t++) {
                    __m512 s =
                        _mm512_castsi512_ps(_mm512_set1_epi32(p->corr[(size_t)t * p->corr_stride + c]));
                    acc[t][0] = _mm512_fnmadd_ps(m0, s, acc[t][0]);
                    acc[t][1] = _mm512_fnmadd_ps(m1, s, acc[t][1]);
                }
            }
        }
#pragma GCC unroll 6
        for (int t = 0; t < NT; t++) {
            __m512 d = _mm512_set1_ps(p->d[(size_t)t * p->d_stride + g]);
            acc[t][0] = _mm512_fmadd_ps(both[t][0], d, acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(both[t][1], d, acc[t][1]);
        }
    }
    for (int t = 0; t < NT; t++) {
        for (int h = 0; h < 2; h++) {
            float *y = p->y + (size_t)t * p->y_stride + 16 * h;
            __m512 v = acc[t][h];
            v = p->add ? _mm512_add_ps(v, _mm512_maskz_loadu_ps(p->rows[h], y)) : v;
            _mm512_mask_storeu_ps(y, p->rows[h], v);
        }
    }
}

typedef void tile_fn(const struct tile *p);

#define TILE(NT)                                                                                             \
    static HT_NOINLINE void tile_32_##NT(const struct tile *p) {                                             \
        tile(NT, 32, false, p);                                                                              \
    }                                                                                                        \
    static HT_NOINLINE void tile_32m_##NT(const struct tile *p) {                                            \
        tile(NT, 32, true, p);                                                                               \
    }                                                                                                        \
    static HT_NOINLINE void tile_16_##NT(const struct tile *p) {                                             \
        tile(NT, 16, false, p);                                                                              \
    }                                                                                                        \
    static HT_NOINLINE void tile_16m_##NT(const struct tile *p) {                                            \
        tile(NT, 16, true, p);                                                                               \
    }
TILE(1)
TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)

#define KIND(kind)                                                                                           \
    { kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6 }
    /* [group 32, 16][without, with mins][tokens - 1] */
    static tile_fn *const tiles[2][2][TILE_TOKENS] = {{KIND(tile_32), KIND(tile_32m)},
                                                      {KIND(tile_16), KIND(tile_16m)}};

static void gemm_q8(const struct ht_panel_q8 *panel, const struct ht_chunk_shape *shape, size_t n_rows,
                    const struct ht_acts *acts, size_t col0, size_t cols, float *y, size_t y_stride,
                    bool add) {
    struct tile p = {
        .panel = panel,
        .n_groups = cols / 32,
        .q_stride = acts->cols_padded,
        .d_stride = acts->cols_padded / 32,
        .corr_stride = acts->cols_padded / (size_t)shape->group,
        .y_stride = y_stride,
        .rows = {ht_mask16(n_rows < 16 ? n_rows : 16), ht_mask16(n_rows > 16 ? n_rows - 16 : 0)},
        .add = add,
    };
    tile_fn *const *by_tokens = tiles[shape->group == 16][shape->offset == 0];
    for (size_t t = 0; t < acts->n_tokens; t += TILE_TOKENS) {
        size_t n = acts->n_tokens - t < TILE_TOKENS ? acts->n_tokens - t : TILE_TOKENS;
        p.q = acts->q + t * p.q_stride + col0;
        p.d = acts->d + t * p.d_stride + col0 / 32;
        p.corr = acts->corrections + t * p.corr_stride + col0 / (size_t)shape->group;
        p.y = y + t * y_stride;
        by_tokens[n - 1](&p);
    }
}

void ht_gemm_q8_init_avx512vnni(struct ht_kernel_table *t) {
    t->gemm_q8 = gemm_q8;
}
