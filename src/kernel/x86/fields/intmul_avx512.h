/* Codes times codes (kernel/intmul.h) for levels with VNNI, with and without VBMI.
 *
 *     int_rows    1 to 4 tokens, straight from the packed fields: per row and piece a vector of 16 partial sums, then
 *                 the sums of 16 rows side by side
 *     int_tile    any number: 32 rows unpacked once, 4 columns of 16 rows per vector (the panel of gemm_q8), times 6
 *                 tokens at a time
 *
 * Both end with a vector of 16 rows' sums, which combine() scales. */
#ifndef HT_KERNEL_X86_INTMUL_AVX512_H
#define HT_KERNEL_X86_INTMUL_AVX512_H

#include "kernel/intmul.h"
#include "kernel/x86/fields/fields_avx512.h"
#include "kernel/x86/levels.h"

#define HT_INT_PREFETCH 8192 /* rows_q8_avx512.h */

/* What a piece's product needs of 16 rows of the weight. */
struct ht_int_side {
    __m512 scale;
    __m512i offset; /* lo - zero: q_w - zero = field + offset */
    __m512i sum;    /* of q_w - zero_w */
};

HT_INLINE __m512i ht_int_offset(const struct ht_qform *f, const int32_t *zero) {
    return _mm512_sub_epi32(_mm512_set1_epi32((int)f->lo), _mm512_loadu_si512(zero));
}

/* Entry i of a token's sums, scales and zero points; dot: fields times q. */
HT_INLINE __m512 ht_int_combine(bool zeros, const struct ht_int_acts *a, size_t i, const struct ht_int_side *w,
                                __m512i dot, __m512 y) {
    __m512i sum = _mm512_set1_epi32(a->sum[i]);
    if (zeros) {
        sum = _mm512_mullo_epi32(sum, w->offset);
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(_mm512_set1_epi32(a->zero[i]), w->sum));
    }
    __m512 v = _mm512_cvtepi32_ps(_mm512_add_epi32(dot, sum));
    return _mm512_add_ps(y, _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(a->scale[i]), w->scale), v));
}

/* Lane i: the sum over the lanes of v[i]. */
HT_INLINE __m512i ht_int_sum16(const __m512i v[16]) {
    __m512i a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) {
        a[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                                _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    }
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a[2 * i], a[2 * i + 1]),
                                _mm512_unpackhi_epi64(a[2 * i], a[2 * i + 1]));
    }
    for (int i = 0; i < 2; i++) {
        c[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0xdd));
    }
    return _mm512_add_epi32(_mm512_shuffle_i32x4(c[0], c[1], 0x88), _mm512_shuffle_i32x4(c[0], c[1], 0xdd));
}

/* ---- few tokens ------------------------------------------------------------------------------------------------ */

#define HT_INT_PIECES 4 /* whose partial sums of 16 rows wait for each other: 20 KiB */

/* Row at p (of `left` bytes) times columns from .. to - 1 of NT tokens, and of ones. */
HT_INLINE void ht_int_row_piece(bool whole, bool zeros, int NT, const struct ht_fields *f, const uint8_t *row,
                                size_t row_bytes, const struct ht_int_acts *a, const struct ht_int_piece *c,
                                __m512i sum[HT_ROWS_Q8_TOKENS + 1]) {
    const size_t step = 8 * (size_t)f->bits;
    size_t at = c->from / 8 * (size_t)f->bits;
    for (int t = 0; t <= NT; t++) {
        sum[t] = _mm512_setzero_si512();
    }
    for (size_t k = c->from; k < c->to; k += 64, at += step) {
        __mmask64 there = k + 64 <= a->cols ? f->there : ht_mask64(row_bytes - at);
        __m512i v = whole ? _mm512_maskz_loadu_epi8(there, row + at) : ht_fields64(f, row + at, there);
        _mm_prefetch((const char *)row + at + HT_INT_PREFETCH, _MM_HINT_T0);
        for (int t = 0; t < NT; t++) {
            sum[t] = _mm512_dpbusd_epi32(sum[t], v, _mm512_loadu_si512(a->q + (size_t)t * a->width + k));
        }
        if (zeros) {
            sum[NT] = _mm512_dpbusd_epi32(sum[NT], v, _mm512_loadu_si512(a->ones + k));
        }
    }
}

HT_INLINE void ht_int_rows(bool whole, bool zeros, int NT, const struct ht_qform *f, const struct ht_int_acts *a,
                           uint64_t row0, size_t n_rows, float *y, size_t y_stride, struct ht_int_scratch *s) {
    const struct ht_qtensor *w = f->w;
    const struct ht_fields fields = ht_fields_make(f);
    __m512i part[HT_ROWS_Q8_TOKENS + 1][HT_INT_PIECES][16];
    for (size_t r0 = 0; r0 < n_rows; r0 += 16) {
        size_t count = n_rows - r0 < 16 ? n_rows - r0 : 16;
        __m512 acc[HT_ROWS_Q8_TOKENS];
        if (count < 16) {
            memset(part, 0, sizeof part);
        }
        for (int t = 0; t < NT; t++) {
            acc[t] = _mm512_setzero_ps();
        }
        ht_int_grids(f, a, row0 + r0, count, 16, s);
        for (size_t p0 = 0; p0 < a->n_pieces; p0 += HT_INT_PIECES) {
            size_t n = a->n_pieces - p0 < HT_INT_PIECES ? a->n_pieces - p0 : HT_INT_PIECES;
            for (size_t r = 0; r < count; r++) {
                const uint8_t *row = w->codes + (row0 + r0 + r) * w->row_bytes;
                for (size_t p = 0; p < n; p++) {
                    __m512i sum[HT_ROWS_Q8_TOKENS + 1];
                    ht_int_row_piece(whole, zeros, NT, &fields, row, (size_t)w->row_bytes, a, &a->pieces[p0 + p], sum);
                    for (int t = 0; t < NT + zeros; t++) {
                        part[t][p][r] = sum[t];
                    }
                }
            }
            for (size_t p = p0; p < p0 + n; p++) {
                struct ht_int_side side = {.scale = _mm512_loadu_ps(s->scale + 16 * p)};
                if (zeros) {
                    __m512i columns = _mm512_set1_epi32((int)(a->pieces[p].to - a->pieces[p].from));
                    side.offset = ht_int_offset(f, s->zero + 16 * p);
                    side.sum = _mm512_add_epi32(ht_int_sum16(part[NT][p - p0]),
                                                _mm512_mullo_epi32(columns, side.offset));
                }
                for (int t = 0; t < NT; t++) {
                    __m512i dot = ht_int_sum16(part[t][p - p0]);
                    acc[t] = ht_int_combine(zeros, a, (size_t)t * a->n_pieces + p, &side, dot, acc[t]);
                }
            }
        }
        for (int t = 0; t < NT; t++) {
            _mm512_mask_storeu_ps(y + (size_t)t * y_stride + r0, ht_mask16(count), acc[t]);
        }
    }
}

typedef void ht_int_inner_fn(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n_rows,
                             float *y, size_t y_stride, struct ht_int_scratch *s);

#define HT_INT_ROWS(name, whole, zeros, NT)                                                                          \
    static HT_NOINLINE void name##_##NT(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0,         \
                                        size_t n_rows, float *y, size_t y_stride, struct ht_int_scratch *s) {         \
        ht_int_rows(whole, zeros, NT, f, a, row0, n_rows, y, y_stride, s);                                            \
    }
#define HT_INT_ROWS4(name, whole, zeros)                                                                              \
    HT_INT_ROWS(name, whole, zeros, 1)                                                                                \
    HT_INT_ROWS(name, whole, zeros, 2)                                                                                \
    HT_INT_ROWS(name, whole, zeros, 3)                                                                                \
    HT_INT_ROWS(name, whole, zeros, 4)
HT_INT_ROWS4(rows_fields, false, false)
HT_INT_ROWS4(rows_fields_zeros, false, true)
HT_INT_ROWS4(rows_bytes, true, false)
HT_INT_ROWS4(rows_bytes_zeros, true, true)

static void int_rows(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n_rows, float *y,
                     size_t y_stride, void *scratch) {
#define FOUR(name) {name##_1, name##_2, name##_3, name##_4}
    static ht_int_inner_fn *const by_kind[2][2][HT_ROWS_Q8_TOKENS] = {{FOUR(rows_fields), FOUR(rows_fields_zeros)},
                                                                      {FOUR(rows_bytes), FOUR(rows_bytes_zeros)}};
#undef FOUR
    struct ht_int_scratch s;
    ht_int_scratch_place(&s, f, a, scratch);
    by_kind[f->bits == 8][a->zeros][a->n_tokens - 1](f, a, row0, n_rows, y, y_stride, &s);
}

/* ---- many tokens ----------------------------------------------------------------------------------------------- */

/* A row's fields as bytes where their columns lie; 0 elsewhere. natural [cols + 64] is scratch. */
HT_INLINE void ht_int_unpack(const struct ht_fields *f, const struct ht_int_acts *a, const uint8_t *row,
                             size_t row_bytes, uint8_t *natural, uint8_t *out) {
    uint8_t *to = a->natural ? out : natural;
    for (size_t k = 0, at = 0; k < a->cols; k += 64, at += 8 * (size_t)f->bits) {
        __mmask64 there = k + 64 <= a->cols ? f->there : ht_mask64(row_bytes - at);
        _mm512_storeu_si512(to + k, ht_fields64(f, row + at, there));
    }
    if (a->natural) {
        memset(out + a->cols, 0, a->width - a->cols);
        return;
    }
    memset(out, 0, a->width);
    for (size_t p = 0; p < a->n_pieces; p++) {
        memcpy(out + a->pieces[p].at, natural + a->pieces[p].from, a->pieces[p].to - a->pieces[p].from);
    }
}

/* 16 rows at a time, side by side: panel [width / 4][HT_PANEL_ROWS][4]. */
HT_INLINE void ht_int_panel(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n_rows,
                            struct ht_int_scratch *s) {
    const struct ht_fields fields = ht_fields_make(f);
    const size_t stride = a->width + 64;
    uint8_t *natural = s->rows + 16 * stride;
    for (size_t half = 0; half < 2; half++) {
        size_t count = n_rows > 16 * half ? n_rows - 16 * half : 0;
        for (size_t r = 0; r < 16; r++) {
            if (r < count) {
                const uint8_t *row = f->w->codes + (row0 + 16 * half + r) * f->w->row_bytes;
                ht_int_unpack(&fields, a, row, (size_t)f->w->row_bytes, natural, s->rows + r * stride);
            } else {
                memset(s->rows + r * stride, 0, a->width);
            }
        }
        for (size_t k = 0; k < a->width; k += 64) {
            __m512i v[16];
            for (size_t r = 0; r < 16; r++) {
                v[r] = _mm512_loadu_si512(s->rows + r * stride + k);
            }
            ht_transpose16_avx512(v);
            for (size_t i = 0; i < 16; i++) {
                _mm512_store_si512(s->panel + ((k / 4 + i) * 2 + half) * 64, v[i]);
            }
        }
    }
}

/* Sums of q_w - zero_w of each piece and row. */
HT_INLINE void ht_int_panel_sums(const struct ht_qform *f, const struct ht_int_acts *a, struct ht_int_scratch *s) {
    for (size_t p = 0; p < a->n_pieces; p++) {
        const struct ht_int_piece *c = &a->pieces[p];
        __m512i columns = _mm512_set1_epi32((int)(c->to - c->from));
        for (size_t half = 0; half < 2; half++) {
            __m512i sum = _mm512_setzero_si512();
            for (size_t k = c->at / 4; k < (c->at + (c->to - c->from) + 3) / 4; k++) {
                sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(s->panel + (2 * k + half) * 64), _mm512_set1_epi8(1));
            }
            size_t at = p * HT_PANEL_ROWS + 16 * half;
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(columns, ht_int_offset(f, s->zero + at)));
            _mm512_storeu_si512(s->sum + at, sum);
        }
    }
}

#define HT_INT_TOKENS 6

HT_INLINE __m512i ht_int_broadcast4(const int8_t *q) {
    int32_t v;
    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* Tokens t0 .. t0 + NT - 1 times the panel. */
HT_INLINE void ht_int_tile(bool zeros, int NT, const struct ht_qform *f, const struct ht_int_acts *a, size_t t0,
                           size_t n_rows, float *y, size_t y_stride, const struct ht_int_scratch *s) {
    __m512 acc[HT_INT_TOKENS][2];
    const int8_t *tokens = a->q + t0 * a->width;
#pragma GCC unroll 6
    for (int t = 0; t < NT; t++) {
        acc[t][0] = acc[t][1] = _mm512_setzero_ps();
    }
    for (size_t p = 0; p < a->n_pieces; p++) {
        const struct ht_int_piece *c = &a->pieces[p];
        const uint8_t *codes = s->panel + (size_t)c->at * HT_PANEL_ROWS;
        const int8_t *q = tokens + c->at;
        __m512i sum[HT_INT_TOKENS][2];
#pragma GCC unroll 6
        for (int t = 0; t < NT; t++) {
            sum[t][0] = sum[t][1] = _mm512_setzero_si512();
        }
#pragma GCC unroll 4
        for (size_t k = 0; k < (c->to - c->from + 3) / 4; k++) {
            __m512i w0 = _mm512_load_si512(codes + 128 * k), w1 = _mm512_load_si512(codes + 128 * k + 64);
#pragma GCC unroll 6
            for (int t = 0; t < NT; t++) {
                __m512i v = ht_int_broadcast4(q + (size_t)t * a->width + 4 * k);
                sum[t][0] = _mm512_dpbusd_epi32(sum[t][0], w0, v);
                sum[t][1] = _mm512_dpbusd_epi32(sum[t][1], w1, v);
            }
        }
        for (size_t half = 0; half < 2; half++) {
            size_t at = p * HT_PANEL_ROWS + 16 * half;
            struct ht_int_side side = {.scale = _mm512_loadu_ps(s->scale + at)};
            if (zeros) {
                side.offset = ht_int_offset(f, s->zero + at);
                side.sum = _mm512_loadu_si512(s->sum + at);
            }
#pragma GCC unroll 6
            for (int t = 0; t < NT; t++) {
                size_t i = (t0 + (size_t)t) * a->n_pieces + p;
                acc[t][half] = ht_int_combine(zeros, a, i, &side, sum[t][half], acc[t][half]);
            }
        }
    }
    for (int t = 0; t < NT; t++) {
        float *out = y + (t0 + (size_t)t) * y_stride;
        _mm512_mask_storeu_ps(out, ht_mask16(n_rows < 16 ? n_rows : 16), acc[t][0]);
        if (n_rows > 16) {
            _mm512_mask_storeu_ps(out + 16, ht_mask16(n_rows - 16), acc[t][1]);
        }
    }
}

typedef void ht_int_tile_fn(const struct ht_qform *f, const struct ht_int_acts *a, size_t t0, size_t n_rows, float *y,
                            size_t y_stride, const struct ht_int_scratch *s);

#define HT_INT_TILE(NT)                                                                                               \
    static HT_NOINLINE void tile_##NT(const struct ht_qform *f, const struct ht_int_acts *a, size_t t0,               \
                                      size_t n_rows, float *y, size_t y_stride, const struct ht_int_scratch *s) {     \
        ht_int_tile(false, NT, f, a, t0, n_rows, y, y_stride, s);                                                     \
    }                                                                                                                 \
    static HT_NOINLINE void tile_zeros_##NT(const struct ht_qform *f, const struct ht_int_acts *a, size_t t0,         \
                                            size_t n_rows, float *y, size_t y_stride,                                 \
                                            const struct ht_int_scratch *s) {                                         \
        ht_int_tile(true, NT, f, a, t0, n_rows, y, y_stride, s);                                                      \
    }
HT_INT_TILE(1)
HT_INT_TILE(2)
HT_INT_TILE(3)
HT_INT_TILE(4)
HT_INT_TILE(5)
HT_INT_TILE(6)

static void int_tile(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n_rows, float *y,
                     size_t y_stride, void *scratch) {
#define SIX(name) {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}
    static ht_int_tile_fn *const by_tokens[2][HT_INT_TOKENS] = {SIX(tile), SIX(tile_zeros)};
#undef SIX
    struct ht_int_scratch s;
    ht_int_scratch_place(&s, f, a, scratch);
    ht_int_panel(f, a, row0, n_rows, &s);
    ht_int_grids(f, a, row0, n_rows, HT_PANEL_ROWS, &s);
    if (a->zeros) {
        ht_int_panel_sums(f, a, &s);
    }
    for (size_t t = 0; t < a->n_tokens; t += HT_INT_TOKENS) {
        size_t n = a->n_tokens - t < HT_INT_TOKENS ? a->n_tokens - t : HT_INT_TOKENS;
        by_tokens[a->zeros][n - 1](f, a, t, n_rows, y, y_stride, &s);
    }
}

#endif
