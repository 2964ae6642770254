/* chunk_avx2.h for 4-bit floats, ternary weights and codes of one and two bits. Layouts: format_fp4.c,
 * format_ternary.c, format_q12.c. */
#ifndef HT_KERNEL_X86_CHUNK_LOW_AVX2_H
#define HT_KERNEL_X86_CHUNK_LOW_AVX2_H

#include "kernel/x86/chunk/chunk_avx2.h"

/* ---- mxfp4, nvfp4: level + 12 of a 4-bit float ---------------------------------------------------------------- */

HT_INLINE __m256i ht_levels_fp4(__m256i codes) {
    const __m128i table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

HT_INLINE __m256i ht_codes_mxfp4(const uint8_t *p, int g) {
    return ht_levels_fp4(ht_nibbles32(p + 17 * g + 1));
}

/* 2^(e - 128): a float's exponent, but for the two that are subnormal. */
HT_INLINE void ht_scales_mxfp4(const uint8_t *p, size_t n, struct ht_scales *out) {
    uint64_t bytes = 0;
    for (size_t g = 0; g < n; g++) {
        bytes |= (uint64_t)p[17 * g] << (8 * g);
    }
    __m256i e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i below = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    __m256i s = _mm256_blendv_epi8(normal, below, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e));
    HT_ALIGNED(32) static const int32_t index[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    __m256i there = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_load_si256((const void *)index));
    out->s[0] = _mm256_castsi256_ps(_mm256_and_si256(s, there));
}

/* 8 bytes of two nibbles hold 16 elements: 0 .. 7 low, 8 .. 15 high. */
HT_INLINE __m256i ht_codes_nvfp4(const uint8_t *p, int g) {
    __m128i v = _mm_loadu_si128((const void *)(p + 36 * (g / 2) + 4 + 16 * (g & 1))), h = _mm_srli_epi16(v, 4);
    v = _mm_and_si128(v, _mm_set1_epi8(15));
    h = _mm_and_si128(h, _mm_set1_epi8(15));
    return ht_levels_fp4(_mm256_setr_m128i(_mm_unpacklo_epi64(v, h), _mm_unpackhi_epi64(v, h)));
}

/* Halves of 16 E4M3 floats without sign, as 16 f16 numbers times 2^-7: the bits in an f16's place have an exponent
 * that is 8 too small; subnormals come out right, too. The code of NaN counts as 0. */
HT_INLINE __m256i ht_half_e4m3(__m128i bytes) {
    const __m128i nan = _mm_set1_epi8(0x7f);
    __m128i c = _mm_and_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, nan), bytes), nan);
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(c), 7);
}

/* The 16 scales of n / 2 blocks, n <= 8. */
HT_INLINE __m128i ht_bytes_nvfp4(const uint8_t *p, size_t n) {
    uint32_t d[4] = {0};
    if (n == 8) {
        return _mm_setr_epi32((int)ht_load_u32(p), (int)ht_load_u32(p + 36), (int)ht_load_u32(p + 72),
                              (int)ht_load_u32(p + 108));
    }
    for (size_t b = 0; b < n / 2; b++) {
        d[b] = ht_load_u32(p + 36 * b);
    }
    return _mm_setr_epi32((int)d[0], (int)d[1], (int)d[2], (int)d[3]);
}

HT_INLINE void ht_scales_nvfp4(const uint8_t *p, size_t n, struct ht_scales *out) {
    const __m256 unit = _mm256_set1_ps(0x1p7f);
    __m256i h = ht_half_e4m3(ht_bytes_nvfp4(p, n));
    out->s[0] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), unit);
    out->s[1] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)), unit);
}

/* ---- q1_0, q2_0 ----------------------------------------------------------------------------------------------- */

/* A bit is worth 2, less 1. */
HT_INLINE __m256i ht_codes_q1_0(const uint8_t *p, int g) {
    return _mm256_srli_epi16(ht_fifth32(ht_load_u32(p + 18 * (g / 4) + 2 + 4 * (g % 4))), 3);
}

HT_INLINE void ht_scales_q1_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    __m128 low = _mm256_castps256_ps128(ht_broadcast_f16(p));
    __m128 high = n > 4 ? _mm256_castps256_ps128(ht_broadcast_f16(p + 18)) : _mm_setzero_ps();
    out->s[0] = _mm256_setr_m128(low, high);
}

/* Four codes to a byte, in order. */
HT_INLINE __m256i ht_codes_q2_0(const uint8_t *p, int g) {
    const __m128i fifteen = _mm_set1_epi8(15), three = _mm_set1_epi8(3);
    __m128i v = _mm_cvtsi64_si128((int64_t)ht_load_u64(p + 18 * (g / 2) + 2 + 8 * (g & 1)));
    v = _mm_unpacklo_epi8(_mm_and_si128(v, fifteen), _mm_and_si128(_mm_srli_epi16(v, 4), fifteen));
    __m128i even = _mm_and_si128(v, three), odd = _mm_and_si128(_mm_srli_epi16(v, 2), three);
    return _mm256_setr_m128i(_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd));
}

HT_INLINE void ht_scales_q2_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    uint16_t h[4] = {0};
    for (size_t b = 0; b < n / 2; b++) {
        memcpy(&h[b], p + 18 * b, 2);
    }
    __m128i v = _mm_setr_epi16((short)h[0], (short)h[1], (short)h[2], (short)h[3], 0, 0, 0, 0);
    out->s[0] = _mm256_cvtph_ps(_mm_unpacklo_epi16(v, v));
}

/* ---- tq1_0, tq2_0: codes + 1 ---------------------------------------------------------------------------------- */

HT_INLINE __m256i ht_codes_tq2_0(const uint8_t *p, int g) {
    return ht_bits(ht_load32(p + 32 * (g / 4)), 2 * (g % 4), 3);
}

HT_INLINE void ht_scales_tq2_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    out->s[0] = ht_broadcast_f16(p + 64);
}

/* A byte times 3^n, n <= 4: what is left behind the first n digits. */
HT_INLINE __m256i ht_times3(__m256i v, int n) {
    for (int i = 0; i < 4; i++) {
        v = i < n ? _mm256_add_epi8(v, _mm256_add_epi8(v, v)) : v;
    }
    return v;
}

/* The first digit: 3 v / 256, from v less a quarter of it rounded up. */
HT_INLINE __m256i ht_digit3(__m256i v) {
    const __m256i zero = _mm256_setzero_si256();
    return ht_bits(_mm256_sub_epi8(v, _mm256_avg_epu8(_mm256_avg_epu8(v, zero), zero)), 6, 3);
}

/* 32 bytes hold groups 0 .. 4, 16 bytes hold 5, 6 and half of 7, 4 bytes the other half. */
HT_INLINE __m256i ht_codes_tq1_0(const uint8_t *p, int g) {
    if (g < 5) {
        return ht_digit3(ht_times3(ht_load32(p), g));
    }
    __m128i v = _mm_loadu_si128((const void *)(p + 32));
    __m256i w = ht_times3(_mm256_setr_m128i(v, v), 2 * g - 10);
    if (g < 7) {
        return ht_digit3(_mm256_blend_epi32(w, ht_times3(w, 1), 0xf0));
    }
    __m256i four = _mm256_set1_epi32((int)ht_load_u32(p + 48));
    __m256i three = _mm256_blend_epi32(ht_times3(four, 2), ht_times3(four, 3), 0x80);
    __m256i two = _mm256_blend_epi32(four, ht_times3(four, 1), 0x20);
    return ht_digit3(_mm256_blend_epi32(w, _mm256_blend_epi32(two, three, 0xc0), 0xf0));
}

HT_INLINE void ht_scales_tq1_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    out->s[0] = ht_broadcast_f16(p + 52);
}

#endif
