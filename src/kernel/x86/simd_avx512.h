/* What several AVX-512 files share: exp, 16 x 16 transpose. Included only by files built for that level. */
#ifndef HT_KERNEL_X86_SIMD_AVX512_H
#define HT_KERNEL_X86_SIMD_AVX512_H

#include <immintrin.h>

#include "base/compiler.h"
#include "kernel/exp.h"

/* Mask of the first n of 16 lanes, n <= 16. */
HT_INLINE __mmask16 ht_mask16(size_t n) {
    return (__mmask16)((1u << n) - 1u);
}

/* The polynomial of kernel/exp.h with fused steps; the same ranges. */
HT_INLINE __m512 ht_exp_avx512(__m512 x) {
    __mmask16 zero = _mm512_cmp_ps_mask(x, _mm512_set1_ps(HT_EXP_MIN), _CMP_LT_OQ);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(HT_EXP_LOG2E)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(HT_EXP_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(HT_EXP_LN2_LO), r);
    __m512 p = _mm512_set1_ps(HT_EXP_C0);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HT_EXP_C1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HT_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HT_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HT_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(HT_EXP_C5));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
    p = _mm512_scalef_ps(p, n);
    /* Beyond the range r is no longer small, and Inf - Inf is NaN: say what the limit is. */
    __mmask16 inf = _mm512_cmp_ps_mask(x, _mm512_set1_ps(HT_EXP_MAX), _CMP_GT_OQ);
    p = _mm512_mask_mov_ps(p, inf, _mm512_castsi512_ps(_mm512_set1_epi32(0x7f800000)));
    return _mm512_mask_mov_ps(p, zero, _mm512_setzero_ps());
}

/* Sum over the lanes of each of 16 vectors: lane i of the result is the sum of v[i]. */
HT_INLINE __m512 ht_sum16_avx512(const __m512 v[16]) {
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) { /* pairs 2i, 2i+1: [x0 y0 x1 y1] per 128 bits after the add */
        __m512 lo = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
               hi = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
        a[i] = _mm512_add_ps(lo, hi);
    }
    for (int i = 0; i < 4; i++) { /* [x y z w] per 128 bits */
        __m512d p = _mm512_castps_pd(a[2 * i]), q = _mm512_castps_pd(a[2 * i + 1]);
        b[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
    }
    for (int i = 0; i < 2; i++) {
        c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
}

/* In place: afterwards lane j of v[i] is what lane i of v[j] was. */
HT_INLINE void ht_transpose16_avx512(__m512i v[16]) {
    __m512i a[16], b[16];
    for (int i = 0; i < 8; i++) {
        a[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    /* b[4 i + c]: 128-bit lane l holds rows 4 i .. 4 i + 3 of column 4 l + c. */
    for (int c = 0; c < 4; c++) {
        __m512i p = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88),
                q = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        __m512i r = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
        __m512i s = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        v[c] = _mm512_shuffle_i32x4(p, r, 0x88);
        v[8 + c] = _mm512_shuffle_i32x4(p, r, 0xdd);
        v[4 + c] = _mm512_shuffle_i32x4(q, s, 0x88);
        v[12 + c] = _mm512_shuffle_i32x4(q, s, 0xdd);
    }
}

#endif
