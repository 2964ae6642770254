/* Products of qtensors with 8-bit activations: rows straight from the packed fields, and panels for gemm_q8. For levels
 * with VNNI, with and without VBMI. */
#ifndef HT_KERNEL_X86_QTENSOR_Q8_AVX512_H
#define HT_KERNEL_X86_QTENSOR_Q8_AVX512_H

#include "kernel/x86/fields/fields_avx512.h"
#include "kernel/x86/panel_q8_avx512.h"
#include "kernel/x86/rows_q8_avx512.h"

/* What ht_dot_chunk needs to know; the offset is in the activations already. Groups of 16 always have mins, which are
 * the scales where the tensor has none. [groups of 16][nibbles] */
static const struct ht_chunk_shape ht_shape_fields[2][2] = {
    {{HT_PIECES_NATURAL, 32, 1, false, 0, HT_ORDER_PIECES}, {{0}, 32, 1, true, 0, HT_ORDER_NIBBLES}},
    {{HT_PIECES_NATURAL, 16, 0, false, 0, HT_ORDER_PIECES}, {{0}, 16, 0, true, 0, HT_ORDER_NIBBLES}}};

/* A row's scales and mins for 256 columns at a time, in scratch; m is s where there are no mins. */
struct ht_row_scales {
    struct ht_qgrids grids;
    float *s, *m;
};

/* Of chunk i. Groups of 32: 8 scales, then 8 mins. */
HT_INLINE void ht_scales_of(bool g16, const struct ht_row_scales *r, size_t i, __m512 *s, __m512 *m) {
    if (g16) {
        *s = _mm512_load_ps(r->s + 16 * i);
        *m = _mm512_load_ps(r->m + 16 * i);
    } else {
        __m512 low = _mm512_castps256_ps512(_mm256_load_ps(r->s + 8 * i));
        *s = _mm512_insertf32x8(low, _mm256_load_ps(r->m + 8 * i), 1);
    }
}

HT_INLINE struct ht_row_scales ht_row_scales_place(const struct ht_qform *f, size_t n, uint64_t groups, void *scratch) {
    struct ht_row_scales r;
    ht_qgrids_place(&r.grids, groups, scratch);
    r.s = (float *)(void *)((char *)scratch + ht_qgrids_bytes(groups));
    r.m = f->shape.offset == 0 ? r.s + n : r.s;
    return r;
}

/* Scales of a chunk straight from the tensor. Groups of 32 to 256: f16, mins from zero points of 4 bits. Groups of 16,
 * without zero points: f16, or nested. */
struct ht_near_grids {
    bool there;
    const void *stored; /* the scales: f16 [rows, groups], or codes of nested ones */
    size_t row_bytes;   /* of stored */
    const uint8_t *zeros; /* NULL: none */
    size_t groups, per_chunk, zero_bytes;
    __m512i lane; /* which of a chunk's scales */
    const float *map, *scale2; /* nested; or NULL */
    __m512 offset;
};

HT_INLINE struct ht_near_grids ht_near_grids_of(bool g16, const struct ht_qform *f) {
    const struct ht_qtensor *w = f->w;
    const bool zeros = w->scheme.zero == HT_ZERO_CODE && f->bits == 4 && !g16;
    const bool nested = w->scheme.nested, f16 = !nested && strcmp(w->scheme.scale->name, "f16") == 0;
    struct ht_near_grids s = {.groups = (size_t)w->groups, .zero_bytes = (size_t)w->zero_bytes};
    if (w->groups == 1 || (g16 ? w->run != 16 : 256 % w->run != 0) || !(zeros || w->scheme.zero == HT_ZERO_NONE) ||
        !(f16 || (nested && g16))) {
        return s;
    }
    s.there = true;
    s.stored = f16 ? w->scales : w->scale_codes;
    s.row_bytes = (f16 ? sizeof(uint16_t) : 1) * s.groups;
    s.zeros = zeros ? w->zeros : NULL;
    s.per_chunk = (size_t)(256 / w->run);
    if (nested) {
        s.map = w->scale_map;
        s.scale2 = w->scale2;
        s.offset = _mm512_set1_ps(w->scale_offset[0]);
    }
    if (!g16) {
        const __m512i group = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
        s.lane = _mm512_srl_epi32(group, _mm_cvtsi32_si128(__builtin_ctz((unsigned)(w->run / 32))));
    }
    return s;
}

/* map[code] * scale2 + offset, rounded as ht_qtensor_grid rounds it; two blocks of 256 scales may meet in 16. */
HT_INLINE __m512 ht_near_nested(const struct ht_near_grids *s, size_t at, __mmask16 there) {
    size_t block = at / HT_NESTED_BLOCK, rest = HT_NESTED_BLOCK - at % HT_NESTED_BLOCK;
    __m128i codes = _mm_maskz_loadu_epi8(there, (const uint8_t *)s->stored + at);
    __m512 unit = _mm512_set1_ps(s->scale2[block]);
    __mmask16 next = rest < 16 ? there & (__mmask16)(0xffffu << rest) : 0;
    if (next != 0) {
        unit = _mm512_mask_mov_ps(unit, next, _mm512_set1_ps(s->scale2[block + 1]));
    }
    /* Eight lookups of 32 entries and blends in place of the gather take a third longer. */
    __m512 v = _mm512_i32gather_ps(_mm512_cvtepu8_epi32(codes), s->map, 4);
    return _mm512_maskz_add_ps(there, _mm512_mul_ps(v, unit), s->offset);
}

/* 16 scales; or 8 scales, then 8 mins, which are scale * field of the zero point (or the scales again). */
HT_INLINE __m512 ht_near_grids_at(bool g16, const struct ht_near_grids *s, uint64_t row, size_t chunk) {
    size_t first = chunk * s->per_chunk, n = s->groups - first < s->per_chunk ? s->groups - first : s->per_chunk;
    const size_t at = (size_t)row * s->groups + first;
    const uint16_t *f16 = s->stored;
    if (g16) {
        __mmask16 all = ht_mask16(n);
        return s->map != NULL ? ht_near_nested(s, at, all) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(all, f16 + at));
    }
    __mmask8 there = (__mmask8)((1u << n) - 1u);
    __m256 v = _mm256_cvtph_ps(_mm_maskz_loadu_epi16(there, f16 + at));
    __m512 scale = _mm512_permutexvar_ps(s->lane, _mm512_castps256_ps512(v));
    if (s->zeros == NULL) {
        return scale;
    }
    __mmask16 bytes = (__mmask16)((1u << (first % 2 + n + 1) / 2) - 1u);
    __m128i z = _mm_maskz_loadu_epi8(bytes, s->zeros + row * s->zero_bytes + first / 2);
    __m512i bit = _mm512_slli_epi32(_mm512_add_epi32(s->lane, _mm512_set1_epi32((int)(first % 2))), 2);
    __m512i field = _mm512_and_si512(_mm512_srlv_epi32(_mm512_broadcastd_epi32(z), bit), _mm512_set1_epi32(15));
    return _mm512_mask_mul_ps(scale, 0xff00, scale, _mm512_cvtepi32_ps(field));
}

HT_INLINE void ht_q_rows(bool g16, bool nibbles, bool lookup, int NT, const struct ht_qform *f, uint64_t row0,
                         size_t n_rows, const struct ht_chunk_acts *acts, size_t n_chunks, float *y, size_t y_stride,
                         void *scratch) {
    const struct ht_qtensor *w = f->w;
    const struct ht_fields fields = ht_fields_make(f);
    const struct ht_chunk_shape *shape = &ht_shape_fields[g16][nibbles];
    const struct ht_lanes l = ht_lanes_of(shape);
    const size_t bytes = 32 * (size_t)f->bits, n_scales = (g16 ? 16 : 8) * n_chunks;
    struct ht_row_scales rs = ht_row_scales_place(f, n_scales, w->groups, scratch);
    const struct ht_near_grids near = ht_near_grids_of(g16, f);
    const size_t ahead = HT_ROWS_PREFETCH / (size_t)w->row_bytes + 1;
    for (size_t r0 = 0; r0 < n_rows; r0 += 16) {
        size_t count = n_rows - r0 < 16 ? n_rows - r0 : 16;
        __m512 sums[HT_ROWS_Q8_TOKENS][16];
        for (size_t r = 0; r < count; r++) {
            const uint64_t row = row0 + r0 + r;
            const uint8_t *p = w->codes + row * w->row_bytes, *end = p + w->row_bytes;
            struct ht_chunk c;
            __m512 acc[HT_ROWS_Q8_TOKENS][2];
            for (int t = 0; t < NT; t++) {
                acc[t][0] = acc[t][1] = _mm512_setzero_ps();
            }
            if (near.there) { /* asked for as far ahead as the codes */
                for (size_t line = 0; line < near.row_bytes; line += 64) {
                    _mm_prefetch((const char *)near.stored + (row + ahead) * near.row_bytes + line, _MM_HINT_T0);
                }
            } else {
                ht_qgrids_row(f, row, 0, w->groups, &rs.grids);
                ht_qgrids_expand(f, &rs.grids, 0, n_scales, rs.s, rs.m);
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
                if (near.there) {
                    c.s = c.m = ht_near_grids_at(g16, &near, row, i);
                } else {
                    ht_scales_of(g16, &rs, i, &c.s, &c.m);
                }
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

/* [groups of 16][4 bits][lookup][tokens - 1] */
#define HT_Q_ROWS(g16, nibbles, lookup, NT)                                                                       \
    static HT_NOINLINE void q_rows_##g16##nibbles##lookup##_##NT(const struct ht_qform *f, uint64_t row0,         \
                                                                 size_t n_rows, const struct ht_acts *a,          \
                                                                 float *y, size_t y_stride, void *scratch) {      \
        size_t n = a->cols_padded / 256;                                                                          \
        ht_q_rows(g16, nibbles, lookup, NT, f, row0, n_rows, a->chunks, n, y, y_stride, scratch);                 \
    }
#define HT_Q_ROWS_4(g16, nibbles, lookup)                                                            \
    HT_Q_ROWS(g16, nibbles, lookup, 1)                                                               \
    HT_Q_ROWS(g16, nibbles, lookup, 2) HT_Q_ROWS(g16, nibbles, lookup, 3) HT_Q_ROWS(g16, nibbles, lookup, 4)
HT_Q_ROWS_4(0, 0, 0)
HT_Q_ROWS_4(0, 0, 1)
HT_Q_ROWS_4(0, 1, 0)
HT_Q_ROWS_4(0, 1, 1)
HT_Q_ROWS_4(1, 0, 0)
HT_Q_ROWS_4(1, 0, 1)
HT_Q_ROWS_4(1, 1, 0)
HT_Q_ROWS_4(1, 1, 1)
#define HT_Q_TOKENS(kind) {q_rows_##kind##_1, q_rows_##kind##_2, q_rows_##kind##_3, q_rows_##kind##_4}

static void q_rows_q8(const struct ht_qform *f, uint64_t row0, size_t n_rows, const struct ht_acts *acts, float *y,
                      size_t y_stride, void *scratch) {
    static ht_q_rows_q8_fn *const kinds[2][2][2][HT_ROWS_Q8_TOKENS] = {
        {{HT_Q_TOKENS(000), HT_Q_TOKENS(001)}, {HT_Q_TOKENS(010), HT_Q_TOKENS(011)}},
        {{HT_Q_TOKENS(100), HT_Q_TOKENS(101)}, {HT_Q_TOKENS(110), HT_Q_TOKENS(111)}}};
    ht_q_rows_q8_fn *const *by_tokens = kinds[f->shape.group == 16][f->bits == 4][f->lookup];
    by_tokens[acts->n_tokens - 1](f, row0, n_rows, acts, y, y_stride, scratch);
}

static void q_panel_q8(const struct ht_qform *f, uint64_t row0, size_t n_rows, uint64_t col0, size_t cols,
                       struct ht_panel_q8 *panel, void *scratch) {
    const struct ht_qtensor *w = f->w;
    const struct ht_fields fields = ht_fields_make(f);
    const size_t bytes = 32 * (size_t)f->bits, n_chunks = (cols + 255) / 256;
    const uint64_t g0 = col0 / w->run, groups = (col0 + cols - 1) / w->run - g0 + 1;
    const bool g16 = f->shape.group == 16;
    const size_t n_scales = (g16 ? 16 : 8) * n_chunks;
    struct ht_row_scales rs = ht_row_scales_place(f, 16 * n_scales, groups, scratch);
    struct ht_unpacked u;
    for (size_t half = 0; half < 2; half++) {
        size_t count = n_rows > 16 * half ? n_rows - 16 * half : 0;
        count = count < 16 ? count : 16;
        for (size_t i = 0; i < count; i++) {
            ht_qgrids_row(f, row0 + 16 * half + i, g0, groups, &rs.grids);
            ht_qgrids_expand(f, &rs.grids, col0 / (g16 ? 16 : 32), n_scales, rs.s + n_scales * i, rs.m + n_scales * i);
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
                __m512 s, m;
                ht_scales_of(g16, &rs, n_chunks * i + chunk, &s, &m);
                u.s[i] = _mm512_castps_si512(s);
                if (g16) {
                    u.m[i] = _mm512_castps_si512(m);
                }
            }
            struct ht_chunk_shape shape = ht_shape_fields[g16][0];
            shape.offset = f->shape.offset;
            ht_store_chunk(&shape, &u, chunk, half, panel);
        }
    }
}

#endif
