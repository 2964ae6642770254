/* Products of qtensors with 8-bit activations: rows straight from the packed fields, and panels for gemm_q8. For levels
 * with VNNI, with and without VBMI. */
#ifndef HT_KERNEL_X86_QTENSOR_Q8_AVX512_H
#define HT_KERNEL_X86_QTENSOR_Q8_AVX512_H

#include "kernel/x86/fields/fields_avx512.h"
#include "kernel/x86/panel_q8_avx512.h"
#include "kernel/x86/rows_q8_avx512.h"

/* What ht_dot_chunk needs to know; the offset is in the activations already. */
static const struct ht_chunk_shape ht_shape_fields = {HT_PIECES_NATURAL, 32, 1, false, 0, HT_ORDER_PIECES};
static const struct ht_chunk_shape ht_shape_nibbles = {{0}, 32, 1, true, 0, HT_ORDER_NIBBLES};

/* 8 scales, then 8 mins (or the scales again). */
HT_INLINE __m512 ht_scales_of(const float *s, const float *m) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_load_ps(s)), _mm256_load_ps(m), 1);
}

/* A row's scales and mins for 256 columns at a time, in scratch. */
struct ht_row_scales {
    struct ht_qgrids grids;
    float *s, *m;
};

HT_INLINE struct ht_row_scales ht_row_scales_place(const struct ht_qform *f, size_t n, uint64_t groups, void *scratch) {
    struct ht_row_scales r;
    ht_qgrids_place(&r.grids, groups, scratch);
    r.s = (float *)(void *)((char *)scratch + ht_qgrids_bytes(groups));
    r.m = f->shape.offset == 0 ? r.s + n : r.s;
    return r;
}

/* Scales of a chunk straight from the tensor: f16, one for every 32, 64, 128 or 256 columns; mins from zero points of 4
 * bits. */
struct ht_near_grids {
    const uint16_t *scales; /* NULL: not so */
    const uint8_t *zeros;   /* NULL: none */
    size_t groups, per_chunk, zero_bytes;
    __m512i lane; /* which of a chunk's scales */
};

HT_INLINE struct ht_near_grids ht_near_grids_of(const struct ht_qform *f) {
    const struct ht_qtensor *w = f->w;
    const bool zeros = w->scheme.zero == HT_ZERO_CODE && f->bits == 4;
    struct ht_near_grids s = {.groups = (size_t)w->groups, .zero_bytes = (size_t)w->zero_bytes};
    if (w->groups > 1 && w->run % 32 == 0 && 256 % w->run == 0 && (zeros || w->scheme.zero == HT_ZERO_NONE) &&
        !w->scheme.nested && strcmp(w->scheme.scale->name, "f16") == 0) {
        const __m512i group = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
        s.scales = (const void *)w->scales;
        s.zeros = zeros ? w->zeros : NULL;
        s.per_chunk = (size_t)(256 / w->run);
        s.lane = _mm512_srl_epi32(group, _mm_cvtsi32_si128(__builtin_ctz((unsigned)(w->run / 32))));
    }
    return s;
}

/* 8 scales, then 8 mins, which are scale * field of the zero point (or the scales again). */
HT_INLINE __m512 ht_near_grids_at(const struct ht_near_grids *s, uint64_t row, size_t chunk) {
    size_t first = chunk * s->per_chunk, n = s->groups - first < s->per_chunk ? s->groups - first : s->per_chunk;
    __mmask8 there = (__mmask8)((1u << n) - 1u);
    __m256 v = _mm256_cvtph_ps(_mm_maskz_loadu_epi16(there, s->scales + row * s->groups + first));
    __m512 scale = _mm512_permutexvar_ps(s->lane, _mm512_castps256_ps512(v));
    if (s->zeros == NULL) {
        return scale;
    }
    __mmask16 bytes = (__mmask16)((1u << (first % 2 + n + 1) / 2) - 1u);
    __m128i z = _mm_maskz_loadu_epi8(bytes, s->zeros + row * s->zero_bytes + first / 2);
    __m512i at = _mm512_slli_epi32(_mm512_add_epi32(s->lane, _mm512_set1_epi32((int)(first % 2))), 2);
    __m512i field = _mm512_and_si512(_mm512_srlv_epi32(_mm512_broadcastd_epi32(z), at), _mm512_set1_epi32(15));
    return _mm512_mask_mul_ps(scale, 0xff00, scale, _mm512_cvtepi32_ps(field));
}

HT_INLINE void ht_q_rows(bool nibbles, bool lookup, int NT, const struct ht_qform *f, uint64_t row0, size_t n_rows,
                         const struct ht_chunk_acts *acts, size_t n_chunks, float *y, size_t y_stride, void *scratch) {
    const struct ht_qtensor *w = f->w;
    const struct ht_fields fields = ht_fields_make(f);
    const struct ht_chunk_shape *shape = nibbles ? &ht_shape_nibbles : &ht_shape_fields;
    const struct ht_lanes l = ht_lanes_of(shape);
    const size_t bytes = 32 * (size_t)f->bits;
    struct ht_row_scales rs = ht_row_scales_place(f, 8 * n_chunks, w->groups, scratch);
    const struct ht_near_grids near = ht_near_grids_of(f);
    const size_t ahead = HT_ROWS_PREFETCH / (size_t)w->row_bytes + 1;
    for (size_t r0 = 0; r0 < n_rows; r0 += 16) {
        size_t count = n_rows - r0 < 16 ? n_rows - r0 : 16;
        __m512 sums[HT_ROWS_Q8_TOKENS][16];
        for (size_t r = 0; r < count; r++) {
            const uint8_t *p = w->codes + (row0 + r0 + r) * w->row_bytes, *end = p + w->row_bytes;
            struct ht_chunk c;
            __m512 acc[HT_ROWS_Q8_TOKENS][2];
            for (int t = 0; t < NT; t++) {
                acc[t][0] = acc[t][1] = _mm512_setzero_ps();
            }
            if (near.scales != NULL) { /* asked for as far ahead as the codes */
                _mm_prefetch((const char *)(near.scales + (row0 + r0 + r + ahead) * near.groups), _MM_HINT_T0);
            } else {
                ht_qgrids_row(f, row0 + r0 + r, 0, w->groups, &rs.grids);
                ht_qgrids_expand(f, &rs.grids, 0, 8 * n_chunks, rs.s, rs.m);
            }
            for (size_t i = 0; i < n_chunks; i++, p += bytes) {
                for (size_t line = 0; line < bytes; line += 64) {
                    _mm_prefetch((const char *)p + HT_ROWS_PREFETCH + line, _MM_HINT_T0);
                }
                size_t left = (size_t)(end - p) < bytes ? (size_t)(end - p) : bytes;
                if (nibbles) {
                    ht_nibbles_chunk(&fields, lookup, p, left, c.c);
                } else {
                    ht_fields_chunk(&fields, lookup, p, left, c.c);
                }
                c.s = near.scales != NULL ? ht_near_grids_at(&near, row0 + r0 + r, i)
                                          : ht_scales_of(rs.s + 8 * i, rs.m + 8 * i);
                for (int t = 0; t < NT; t++) {
                    ht_dot_chunk(shape, &l, &c, acts + (size_t)t * n_chunks + i, acc[t]);
                }
            }
            for (int t = 0; t < NT; t++) {
                sums[t][r] = _mm512_add_ps(acc[t][0], acc[t][1]);
            }
        }
        for (int t = 0; t < NT; t++) {
            for (size_t r = count; r < 16; r++) {
                sums[t][r] = _mm512_setzero_ps();
            }
            _mm512_mask_storeu_ps(y + (size_t)t * y_stride + r0, ht_mask16(count), ht_sum16_avx512(sums[t]));
        }
    }
}

#define HT_Q_ROWS(NT)                                                                                        \
    static HT_NOINLINE void q_rows_##NT(const struct ht_qform *f, uint64_t row0, size_t n_rows,              \
                                        const struct ht_acts *a, float *y, size_t y_stride, void *scratch) { \
        size_t n = a->cols_padded / 256;                                                                     \
        if (f->bits == 4 && f->lookup) {                                                                     \
            ht_q_rows(true, true, NT, f, row0, n_rows, a->chunks, n, y, y_stride, scratch);                  \
        } else if (f->bits == 4) {                                                                           \
            ht_q_rows(true, false, NT, f, row0, n_rows, a->chunks, n, y, y_stride, scratch);                 \
        } else if (f->lookup) {                                                                              \
            ht_q_rows(false, true, NT, f, row0, n_rows, a->chunks, n, y, y_stride, scratch);                 \
        } else {                                                                                             \
            ht_q_rows(false, false, NT, f, row0, n_rows, a->chunks, n, y, y_stride, scratch);                \
        }                                                                                                    \
    }
HT_Q_ROWS(1)
HT_Q_ROWS(2)
HT_Q_ROWS(3)
HT_Q_ROWS(4)

static void q_rows_q8(const struct ht_qform *f, uint64_t row0, size_t n_rows, const struct ht_acts *acts, float *y,
                      size_t y_stride, void *scratch) {
    static ht_q_rows_q8_fn *const by_tokens[HT_ROWS_Q8_TOKENS] = {q_rows_1, q_rows_2, q_rows_3, q_rows_4};
    by_tokens[acts->n_tokens - 1](f, row0, n_rows, acts, y, y_stride, scratch);
}

static void q_panel_q8(const struct ht_qform *f, uint64_t row0, size_t n_rows, uint64_t col0, size_t cols,
                       struct ht_panel_q8 *panel, void *scratch) {
    const struct ht_qtensor *w = f->w;
    const struct ht_fields fields = ht_fields_make(f);
    const size_t bytes = 32 * (size_t)f->bits, n_chunks = (cols + 255) / 256;
    const uint64_t g0 = col0 / w->run, groups = (col0 + cols - 1) / w->run - g0 + 1;
    struct ht_row_scales rs = ht_row_scales_place(f, 16 * 8 * n_chunks, groups, scratch);
    struct ht_unpacked u;
    for (size_t half = 0; half < 2; half++) {
        size_t count = n_rows > 16 * half ? n_rows - 16 * half : 0;
        count = count < 16 ? count : 16;
        for (size_t i = 0; i < count; i++) {
            size_t at = 8 * n_chunks * i;
            ht_qgrids_row(f, row0 + 16 * half + i, g0, groups, &rs.grids);
            ht_qgrids_expand(f, &rs.grids, col0 / 32, 8 * n_chunks, rs.s + at, rs.m + at);
        }
        for (size_t chunk = 0; chunk < n_chunks; chunk++) {
            if (count < 16) {
                memset(&u, 0, sizeof u);
            }
            for (size_t i = 0; i < count; i++) {
                __m512i c[4];
                const uint8_t *row = w->codes + (row0 + 16 * half + i) * w->row_bytes;
                size_t from = (size_t)col0 / 8 * (size_t)f->bits + chunk * bytes, left = (size_t)w->row_bytes - from;
                left = left < bytes ? left : bytes;
                if (f->lookup) {
                    ht_fields_chunk(&fields, true, row + from, left, c);
                } else {
                    ht_fields_chunk(&fields, false, row + from, left, c);
                }
                for (int v = 0; v < 4; v++) {
                    u.c[v][i] = c[v];
                }
                size_t at = 8 * (n_chunks * i + chunk);
                u.s[i] = _mm512_castps_si512(ht_scales_of(rs.s + at, rs.m + at));
            }
            struct ht_chunk_shape shape = ht_shape_fields;
            shape.offset = f->shape.offset;
            ht_store_chunk(&shape, &u, chunk, half, panel);
        }
    }
}

#endif
