/* Few tokens, 8-bit activations: dot products straight from the packed blocks. The driver, for levels with VNNI.
 *
 * A chunk of 256 weights is unpacked once (chunk_avx512.h) and multiplied with 1 to 4 tokens:
 *
 *     lanes of 4 codes: dpbusd -> 16 integer sums -> f32 * (weight scale * activation scale) -> accumulator
 *     mins: one product of 8 or 16 mins with the scaled sums of the activations
 *
 * Rows are handled 16 at a time so that the sums across lanes are shared. */
#ifndef HT_KERNEL_X86_ROWS_Q8_AVX512_H
#define HT_KERNEL_X86_ROWS_Q8_AVX512_H

#include "kernel/x86/chunk/chunk_avx512.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/chunk/shapes.h"
#include "kernel/x86/simd_avx512.h"

/* Weights are asked for this far ahead, over the ends of rows: one core reads 40 instead of 31 GB/s (Zen 5,
 * docs/measurements/kernels.md). */
#define HT_ROWS_PREFETCH 8192

/* For each code vector, the group of every 32-bit lane. */
struct ht_lanes {
    __m512i of[4];
};

HT_INLINE struct ht_lanes ht_lanes_of(const struct ht_chunk_shape *s) {
    struct ht_lanes l;
    HT_ALIGNED(64) int32_t g[16];
    for (int v = 0; v < 4; v++) {
        for (int i = 0; i < 16; i++) {
            int piece = s->piece[4 * v + i / 4];
            g[i] = s->group == 16 ? piece : piece / 2;
            if (s->order == HT_ORDER_EIGHTS) {
                g[i] = s->group == 16 ? 8 * (v / 2) + i / 2 : i / 2;
            }
            if (s->order == HT_ORDER_NIBBLES) {
                g[i] = s->group == 16 ? 8 * (v / 2) + i / 2 : 4 * (v / 2) + i / 4;
            }
        }
        l.of[v] = _mm512_load_si512(g);
    }
    return l;
}

HT_INLINE __m512i ht_dot4(__m512i acc, __m512i codes, const int8_t *q) {
    return _mm512_dpbusd_epi32(acc, codes, _mm512_loadu_si512(q));
}

/* acc[0], acc[1]: two sums so that the additions of one chunk overlap. */
HT_INLINE void ht_dot_chunk(const struct ht_chunk_shape *s, const struct ht_lanes *l, const struct ht_chunk *w,
                         const struct ht_chunk_acts *a, __m512 acc[2]) {
    const __m512i zero = _mm512_setzero_si512();
    __m512 p = _mm512_mul_ps(w->s, _mm512_loadu_ps(a->d));
    if (s->group == 32) {
        acc[1] = _mm512_mask_add_ps(acc[1], 0xff00, acc[1], p);
    } else {
        acc[1] = _mm512_fmadd_ps(s->offset != 0 ? w->s : w->m, _mm512_loadu_ps(a->ns), acc[1]);
    }
    if (s->order == HT_ORDER_LANES || (s->order == HT_ORDER_EIGHTS && s->group == 32)) {
        __m512i x = zero;
        for (int v = 0; v < 4; v++) {
            x = ht_dot4(x, w->c[v], a->q + 64 * v);
        }
        p = s->order == HT_ORDER_LANES ? p : _mm512_permutexvar_ps(l->of[0], p);
        acc[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), p, acc[0]);
        return;
    }
    if (s->chained) {
        __m512i x = ht_dot4(ht_dot4(zero, w->c[0], a->q), w->c[1], a->q + 64);
        __m512i y = ht_dot4(ht_dot4(zero, w->c[2], a->q + 128), w->c[3], a->q + 192);
        acc[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), _mm512_permutexvar_ps(l->of[0], p), acc[0]);
        acc[1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(y), _mm512_permutexvar_ps(l->of[2], p), acc[1]);
        return;
    }
    for (int v = 0; v < 4; v++) {
        __m512 x = _mm512_cvtepi32_ps(ht_dot4(zero, w->c[v], a->q + 64 * v));
        acc[v & 1] = _mm512_fmadd_ps(x, _mm512_permutexvar_ps(l->of[v], p), acc[v & 1]);
    }
}

HT_INLINE void ht_rows_avx512(ht_chunk_fn *unpack, const struct ht_chunk_shape *s, int NT, const struct ht_mat *w,
                    size_t row0, size_t n_rows, const struct ht_chunk_acts *acts, size_t n_chunks, float *y,
                    size_t y_stride) {
    const struct ht_lanes l = ht_lanes_of(s);
    const uint8_t *end = (const uint8_t *)w->data + w->rows * w->row_bytes;
    size_t full = w->cols / 256, tail = w->cols % 256 / 32;
    for (size_t r0 = 0; r0 < n_rows; r0 += 16) {
        size_t count = n_rows - r0 < 16 ? n_rows - r0 : 16;
        __m512 sums[HT_ROWS_Q8_TOKENS][16];
        for (size_t r = 0; r < count; r++) {
            const uint8_t *p = (const uint8_t *)w->data + (row0 + r0 + r) * w->row_bytes;
            struct ht_chunk c;
            __m512 acc[HT_ROWS_Q8_TOKENS][2];
            for (int t = 0; t < NT; t++) {
                acc[t][0] = acc[t][1] = _mm512_setzero_ps();
            }
            for (size_t i = 0; i < full; i++, p += s->bytes) {
                for (uint32_t line = 0; line < s->bytes; line += 64) {
                    _mm_prefetch((const char *)p + HT_ROWS_PREFETCH + line, _MM_HINT_T0);
                }
                unpack(p, &c);
                for (int t = 0; t < NT; t++) {
                    ht_dot_chunk(s, &l, &c, acts + (size_t)t * n_chunks + i, acc[t]);
                }
            }
            if (tail != 0) {
                ht_chunk_tail(unpack, s, p, end, tail, &c);
                for (int t = 0; t < NT; t++) {
                    ht_dot_chunk(s, &l, &c, acts + (size_t)t * n_chunks + full, acc[t]);
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

/* rows_<name>; after unpack comes its shape. */
#define HT_ROWS_AVX512(name, unpack, ...)                                                                    \
    HT_SHAPE(name, __VA_ARGS__);                                                                             \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,  \
                            float *y, size_t y_stride, void *scratch) {                                      \
        (void)scratch;                                                                                       \
        const struct ht_chunk_acts *a = acts->chunks;                                                        \
        size_t n = acts->cols_padded / 256;                                                                  \
        switch (acts->n_tokens) {                                                                            \
        case 1: ht_rows_avx512(unpack, &shape_##name, 1, w, row0, n_rows, a, n, y, y_stride); break;         \
        case 2: ht_rows_avx512(unpack, &shape_##name, 2, w, row0, n_rows, a, n, y, y_stride); break;         \
        case 3: ht_rows_avx512(unpack, &shape_##name, 3, w, row0, n_rows, a, n, y, y_stride); break;         \
        default: ht_rows_avx512(unpack, &shape_##name, 4, w, row0, n_rows, a, n, y, y_stride); break;        \
        }                                                                                                    \
    }

#endif
