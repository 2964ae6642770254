/* Few tokens, 8-bit activations, 256-bit vectors: the driver, for levels that differ in the integer dot product.
 *
 * A chunk of 256 weights is unpacked 32 codes at a time (chunk_avx2.h) and multiplied with 1 to 4 tokens:
 *
 *     8 integer sums of 4 codes -> f32 * (weight scale * activation scale) -> accumulator
 *     offset or mins of the whole chunk: one product with the scaled sums of the activations */
#ifndef HT_KERNEL_X86_ROWS_Q8_AVX2_H
#define HT_KERNEL_X86_ROWS_Q8_AVX2_H

#include "kernel/x86/chunk/chunk_lattice_avx2.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/chunk/shapes.h"
#include "kernel/x86/simd_avx2.h"

#define HT_ROWS_AVX2_PREFETCH 8192 /* as in rows_q8_avx512vnni.c */

/* 32 codes times 32 activations: 8 sums of 4. is_signed: the codes are; else they are 0 .. 127. For signed codes a
 * level either gives the exact sums (HT_CODES_SIGNED in the shape) or those of code + 128 (the shape's offset). */
typedef __m256i ht_dot32_fn(bool is_signed, __m256i codes, __m256i q);

/* Sums of one token for the 32 codes of group g; p: weight scale times activation scale of each group. */
HT_INLINE __m256 ht_scale_sums(int group, int g, const float *p, __m256i sums, __m256 acc) {
    __m256 scale = _mm256_broadcast_ss(p + g);
    if (group == 16) {
        const __m256i pair = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
        scale = _mm256_castpd_ps(_mm256_broadcast_sd((const double *)(const void *)(p + 2 * g)));
        scale = _mm256_permutevar_ps(scale, pair);
    }
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, acc);
}

HT_INLINE void ht_rows_avx2_chunk(ht_codes_fn *codes, ht_scales_fn *scales, ht_dot32_fn *dot,
                                  const struct ht_chunk_shape *s, int NT, const uint8_t *w, size_t n_groups,
                                  const struct ht_chunk_acts *acts, size_t n_chunks, __m256 acc[][2]) {
    const bool mins = s->offset == 0, is_signed = s->offset == 128 || s->offset == HT_CODES_SIGNED;
    HT_ALIGNED(32) float p[HT_ROWS_Q8_TOKENS][16];
    struct ht_scales sc;
    scales(w, n_groups, &sc);
#pragma GCC unroll 4
    for (int t = 0; t < NT; t++) {
        const struct ht_chunk_acts *a = acts + (size_t)t * n_chunks;
        for (int h = 0; h < (s->group == 16 ? 2 : 1); h++) {
            const float *sums = s->group == 16 ? a->ns + 8 * h : a->d + 8;
            _mm256_store_ps(p[t] + 8 * h, _mm256_mul_ps(sc.s[h], _mm256_loadu_ps(a->d + 8 * h)));
            if (s->offset != HT_CODES_SIGNED) {
                acc[t][1] = _mm256_fmadd_ps(mins ? sc.m[h] : sc.s[h], _mm256_loadu_ps(sums), acc[t][1]);
            }
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        if (g >= (int)n_groups) {
            break;
        }
        __m256i c = codes(w, g);
#pragma GCC unroll 4
        for (int t = 0; t < NT; t++) {
            __m256i q = _mm256_loadu_si256((const void *)(acts[(size_t)t * n_chunks].q + 32 * g));
            acc[t][g & 1] = ht_scale_sums(s->group, g, p[t], dot(is_signed, c, q), acc[t][g & 1]);
        }
    }
}

HT_INLINE void ht_rows_avx2(ht_codes_fn *codes, ht_scales_fn *scales, ht_dot32_fn *dot,
                            const struct ht_chunk_shape *s, int NT, const struct ht_mat *w, size_t row0,
                            size_t n_rows, const struct ht_chunk_acts *acts, size_t n_chunks, float *y,
                            size_t y_stride) {
    size_t full = w->cols / 256, tail = w->cols % 256 / 32;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *p = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        __m256 acc[HT_ROWS_Q8_TOKENS][2];
        for (int t = 0; t < NT; t++) {
            acc[t][0] = acc[t][1] = _mm256_setzero_ps();
        }
        for (size_t i = 0; i < full; i++, p += s->bytes) {
            for (uint32_t line = 0; line < s->bytes; line += 64) {
                _mm_prefetch((const char *)p + HT_ROWS_AVX2_PREFETCH + line, _MM_HINT_T0);
            }
            ht_rows_avx2_chunk(codes, scales, dot, s, NT, p, 8, acts + i, n_chunks, acc);
        }
        if (tail != 0) {
            ht_rows_avx2_chunk(codes, scales, dot, s, NT, p, tail, acts + full, n_chunks, acc);
        }
        for (int t = 0; t < NT; t++) {
            y[(size_t)t * y_stride + r] = ht_sum8(_mm256_add_ps(acc[t][0], acc[t][1]));
        }
    }
}

/* rows_<format> for the dot product DOT; BIASED: it gives the sums of code + 128 for signed codes. */
#define HT_ROWS_AVX2(DOT, BIASED, name, group, offset, bytes)                                                \
    HT_SHAPE(name, HT_PIECES_NATURAL, group, !(BIASED) && (offset) == 128 ? HT_CODES_SIGNED : (offset), false,\
             bytes, HT_ORDER_PIECES);                                                                        \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,  \
                            float *y, size_t y_stride, void *scratch) {                                      \
        (void)scratch;                                                                                       \
        const struct ht_chunk_shape *s = &shape_##name;                                                      \
        const struct ht_chunk_acts *a = acts->chunks;                                                        \
        size_t n = acts->cols_padded / 256;                                                                  \
        ht_codes_fn *codes = ht_codes_##name;                                                                \
        ht_scales_fn *scales = ht_scales_##name;                                                             \
        switch (acts->n_tokens) {                                                                            \
        case 1: ht_rows_avx2(codes, scales, DOT, s, 1, w, row0, n_rows, a, n, y, y_stride); break;           \
        case 2: ht_rows_avx2(codes, scales, DOT, s, 2, w, row0, n_rows, a, n, y, y_stride); break;           \
        case 3: ht_rows_avx2(codes, scales, DOT, s, 3, w, row0, n_rows, a, n, y, y_stride); break;           \
        default: ht_rows_avx2(codes, scales, DOT, s, 4, w, row0, n_rows, a, n, y, y_stride); break;          \
        }                                                                                                    \
    }

#endif
