/* What several AVX2 files share. Included only by files built for that level. */
#ifndef HT_KERNEL_X86_SIMD_AVX2_H
#define HT_KERNEL_X86_SIMD_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "base/compiler.h"
#include "kernel/exp.h"

/* The first n of 8 floats (or halves) at p, n <= 8; the rest is 0. Full vectors cost one load. */
HT_INLINE __m256 ht_load8(const float *p, size_t n) {
    if (n >= 8) {
        return _mm256_loadu_ps(p);
    }
    float v[8] = {0};
    memcpy(v, p, n * sizeof *v);
    return _mm256_loadu_ps(v);
}

HT_INLINE __m256 ht_load8_f16(const uint16_t *p, size_t n) {
    if (n >= 8) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
    }
    uint16_t v[8] = {0};
    memcpy(v, p, n * sizeof *v);
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)v));
}

HT_INLINE void ht_store8(float *p, __m256 x, size_t n) {
    if (n >= 8) {
        _mm256_storeu_ps(p, x);
        return;
    }
    float v[8];
    _mm256_storeu_ps(v, x);
    memcpy(p, v, n * sizeof *v);
}

HT_INLINE float ht_sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* The polynomial of kernel/exp.h with fused steps; the same ranges. */
HT_INLINE __m256 ht_exp_avx2(__m256 x) {
    __m256 zero = _mm256_cmp_ps(x, _mm256_set1_ps(HT_EXP_MIN), _CMP_LT_OQ);
    __m256 inf = _mm256_cmp_ps(x, _mm256_set1_ps(HT_EXP_MAX), _CMP_GT_OQ);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(HT_EXP_LOG2E)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(HT_EXP_LN2_HI), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(HT_EXP_LN2_LO), r);
    __m256 p = _mm256_set1_ps(HT_EXP_C0);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HT_EXP_C1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HT_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HT_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HT_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(HT_EXP_C5));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
    /* 2^128 is no float: scale in two steps. */
    __m256i e = _mm256_cvtps_epi32(n), h = _mm256_srai_epi32(e, 1), bias = _mm256_set1_epi32(127);
    __m256i a = _mm256_slli_epi32(_mm256_add_epi32(h, bias), 23);
    __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, h), bias), 23);
    p = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
    p = _mm256_blendv_ps(p, _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000)), inf);
    return _mm256_andnot_ps(zero, p);
}

/* In place: afterwards lane j of v[i] is what lane i of v[j] was. */
HT_INLINE void ht_transpose8_avx2(__m256 v[8]) {
    __m256 a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
        b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(b[i], b[4 + i], 0x20);
        v[4 + i] = _mm256_permute2f128_ps(b[i], b[4 + i], 0x31);
    }
}

#endif
