/* chunk_avx512.h for 4-bit floats, ternary weights and codes of one and two bits. Layouts: format_fp4.c,
 * format_ternary.c, format_q12.c. */
#ifndef HT_KERNEL_X86_CHUNK_LOW_AVX512_H
#define HT_KERNEL_X86_CHUNK_LOW_AVX512_H

#include "kernel/x86/chunk/chunk_avx512.h"
#include "kernel/x86/chunk/chunk_low_avx2.h"

HT_INLINE __m512i ht_join256(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* 16 bytes each at p, p + step, ... */
HT_INLINE __m512i ht_load4x16(const uint8_t *p, size_t step) {
    __m256i low = _mm256_loadu2_m128i((const void *)(p + step), (const void *)p);
    __m256i high = _mm256_loadu2_m128i((const void *)(p + 3 * step), (const void *)(p + 2 * step));
    return ht_join256(low, high);
}

HT_INLINE __m512i ht_levels512_fp4(__m512i codes) {
    const __m128i table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes);
}

HT_INLINE void ht_chunk_mxfp4(const uint8_t *p, struct ht_chunk *out) {
    struct ht_scales s;
    ht_chunk_nibbles(out, ht_load4x16(p + 1, 17), ht_load4x16(p + 69, 17));
    for (int i = 0; i < 4; i++) {
        out->c[i] = ht_levels512_fp4(out->c[i]);
    }
    ht_scales_mxfp4(p, 8, &s);
    out->s = _mm512_broadcast_f32x8(s.s[0]);
}

/* Per 8 bytes, 8 elements low and 8 high. */
HT_INLINE void ht_chunk_nvfp4(const uint8_t *p, struct ht_chunk *out) {
    for (int i = 0; i < 2; i++) {
        __m512i v = ht_join256(ht_load32(p + 72 * i + 4), ht_load32(p + 72 * i + 40));
        __m512i low = ht_levels512_fp4(ht_low4(v)), high = ht_levels512_fp4(ht_high4(v));
        out->c[2 * i] = _mm512_unpacklo_epi64(low, high);
        out->c[2 * i + 1] = _mm512_unpackhi_epi64(low, high);
    }
    __m512 h = _mm512_cvtph_ps(ht_half_e4m3(ht_bytes_nvfp4(p, 8)));
    out->s = out->m = _mm512_mul_ps(h, _mm512_set1_ps(0x1p7f));
}

HT_INLINE void ht_chunk_q1_0(const uint8_t *p, struct ht_chunk *out) {
    for (int i = 0; i < 4; i++) {
        uint64_t bits = ht_u64(p + 18 * (i / 2) + 2 + 8 * (i & 1));
        out->c[i] = _mm512_maskz_set1_epi8((__mmask64)bits, 2);
    }
    __m128 low = _mm512_castps512_ps128(ht_one_f16(p)), high = _mm512_castps512_ps128(ht_one_f16(p + 18));
    out->s = _mm512_broadcast_f32x8(_mm256_setr_m128(low, high));
}

/* Four codes to a byte, in order: the bytes of four shifts are laced together. */
HT_INLINE void ht_chunk_q2_0(const uint8_t *p, struct ht_chunk *out) {
    const __m512i three = _mm512_set1_epi8(3);
    __m512i v = ht_load4x16(p + 2, 18);
    __m512i a = _mm512_and_si512(v, three), b = _mm512_and_si512(_mm512_srli_epi16(v, 2), three);
    __m512i c = _mm512_and_si512(_mm512_srli_epi16(v, 4), three),
            d = _mm512_and_si512(_mm512_srli_epi16(v, 6), three);
    __m512i ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
    out->c[0] = _mm512_unpacklo_epi16(ab, cd);
    out->c[1] = _mm512_unpackhi_epi16(ab, cd);
    ab = _mm512_unpackhi_epi8(a, b);
    cd = _mm512_unpackhi_epi8(c, d);
    out->c[2] = _mm512_unpacklo_epi16(ab, cd);
    out->c[3] = _mm512_unpackhi_epi16(ab, cd);
    struct ht_scales s;
    ht_scales_q2_0(p, 8, &s);
    out->s = _mm512_broadcast_f32x8(s.s[0]);
}

/* The base 3 digit that a byte's multiple, a power of 3, brings to the front; factor: 16-bit words. */
HT_INLINE __m512i ht_digits3(__m512i bytes, __m512i factor) {
    const __m512i low = _mm512_set1_epi16(0xff), one = _mm512_set1_epi8(1);
    __m512i even = _mm512_mullo_epi16(_mm512_and_si512(bytes, low), factor);
    __m512i odd = _mm512_mullo_epi16(_mm512_srli_epi16(bytes, 8), factor);
    __m512i v = _mm512_mask_mov_epi8(even, 0xaaaaaaaaaaaaaaaau, _mm512_slli_epi16(odd, 8));
    __mmask64 above1 = _mm512_cmpgt_epu8_mask(v, _mm512_set1_epi8(85));
    __mmask64 above2 = _mm512_cmpgt_epu8_mask(v, _mm512_set1_epi8((char)170));
    v = _mm512_maskz_mov_epi8(above1, one);
    return _mm512_mask_add_epi8(v, above2, v, one);
}

/* Powers of 3 for two halves, or for the quarters of one. */
HT_INLINE __m512i ht_halves16(int a, int b) {
    return ht_join256(_mm256_set1_epi16((short)a), _mm256_set1_epi16((short)b));
}

HT_INLINE void ht_chunk_tq1_0(const uint8_t *p, struct ht_chunk *out) {
    const __m256i one_three = _mm256_setr_m128i(_mm_set1_epi16(1), _mm_set1_epi16(3));
    const __m256i nine_27 = _mm256_setr_m128i(_mm_set1_epi16(9), _mm_set1_epi16(27));
    const __m256i last = _mm256_setr_epi16(81, 81, 81, 81, 81, 81, 81, 81, 1, 1, 3, 3, 9, 9, 27, 27);
    __m512i a = ht_twice(p), b = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(p + 32)));
    __m512i c = _mm512_mask_set1_epi32(b, 0xf000, (int)ht_u32(p + 48));
    out->c[0] = ht_digits3(a, ht_halves16(1, 3));
    out->c[1] = ht_digits3(a, ht_halves16(9, 27));
    out->c[2] = ht_digits3(_mm512_mask_mov_epi64(a, 0xf0, b), ht_join256(_mm256_set1_epi16(81), one_three));
    out->c[3] = ht_digits3(c, ht_join256(nine_27, last));
    out->s = ht_one_f16(p + 52);
}

HT_INLINE void ht_chunk_tq2_0(const uint8_t *p, struct ht_chunk *out) {
    const __m512i three = _mm512_set1_epi8(3);
    __m512i q = _mm512_loadu_si512(p);
    out->c[0] = _mm512_and_si512(q, three);
    out->c[1] = _mm512_and_si512(_mm512_srli_epi16(q, 2), three);
    out->c[2] = _mm512_and_si512(_mm512_srli_epi16(q, 4), three);
    out->c[3] = _mm512_and_si512(_mm512_srli_epi16(q, 6), three);
    out->s = ht_one_f16(p + 64);
}

#endif
