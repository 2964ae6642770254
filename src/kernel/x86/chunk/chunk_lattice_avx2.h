/* chunk_avx2.h for the lattice formats: codes are 64 + sign * magnitude; iq1_*: 64 + 8 * level + or - 1, with an eighth
 * of the scale. Layouts: format_iq1.c, format_iq2.c, format_iq3.c. */
#ifndef HT_KERNEL_X86_CHUNK_LATTICE_AVX2_H
#define HT_KERNEL_X86_CHUNK_LATTICE_AVX2_H

#include "kernel/x86/chunk/chunk_low_avx2.h"
#include "kernel/x86/chunk/lattice_x86.h"

HT_INLINE __m256i ht_four64(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return _mm256_setr_epi64x((int64_t)a, (int64_t)b, (int64_t)c, (int64_t)d);
}

HT_INLINE __m256i ht_signed64(__m256i magnitudes, __m256i signs) {
    return _mm256_add_epi8(_mm256_sign_epi8(magnitudes, signs), _mm256_set1_epi8(64));
}

/* By four times 7 bits. */
HT_INLINE __m256i ht_even_signs(uint32_t bits) {
    const uint64_t *t = ht_lattice_x86.even;
    return ht_four64(t[bits & 127], t[bits >> 7 & 127], t[bits >> 14 & 127], t[bits >> 21 & 127]);
}

HT_INLINE __m256i ht_all_signs(uint32_t bits) {
    const uint64_t *t = ht_lattice_x86.sign;
    return ht_four64(t[bits & 255], t[bits >> 8 & 255], t[bits >> 16 & 255], t[bits >> 24]);
}

/* d * unit * (2 s + 1) of 8 dwords. */
HT_INLINE __m256 ht_odd_scales(__m256 d, float unit, __m256i s) {
    __m256i odd = _mm256_add_epi32(_mm256_add_epi32(s, s), _mm256_set1_epi32(1));
    return _mm256_mul_ps(d, _mm256_mul_ps(_mm256_set1_ps(unit), _mm256_cvtepi32_ps(odd)));
}

/* 16 nibbles in 8 bytes, low ones first. */
HT_INLINE void ht_odd_nibbles16(const uint8_t *p, const uint8_t *nibbles, struct ht_scales *out) {
    const __m128i fifteen = _mm_set1_epi8(15);
    __m128i v = _mm_loadl_epi64((const void *)nibbles);
    v = _mm_unpacklo_epi8(_mm_and_si128(v, fifteen), _mm_and_si128(_mm_srli_epi16(v, 4), fifteen));
    __m256 d = ht_broadcast_f16(p);
    out->s[0] = ht_odd_scales(d, 0.125f, _mm256_cvtepi8_epi32(v));
    out->s[1] = ht_odd_scales(d, 0.125f, _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(v, v)));
}

/* ---- iq2 ------------------------------------------------------------------------------------------------------ */

HT_INLINE __m256i ht_codes_iq2_xxs(const uint8_t *p, int g) {
    const uint64_t *t = ht_lattice_x86.iq2_xxs;
    p += 2 + 8 * g;
    return ht_signed64(ht_four64(t[p[0]], t[p[1]], t[p[2]], t[p[3]]), ht_even_signs(ht_load_u32(p + 4)));
}

HT_INLINE void ht_scales_iq2_xxs(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    __m256 a = _mm256_loadu_ps((const void *)(p + 2)), b = _mm256_loadu_ps((const void *)(p + 34));
    __m256i words = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8);
    out->s[0] = ht_odd_scales(ht_broadcast_f16(p), 0.125f, _mm256_srli_epi32(words, 28));
}

HT_INLINE __m256i ht_codes_iq2_xs(const uint8_t *p, int g) {
    const uint64_t *t = ht_lattice_x86.iq2_xs, *e = ht_lattice_x86.even;
    uint64_t w = ht_load_u64(p + 2 + 8 * g);
    __m256i v = ht_four64(t[w & 511], t[w >> 16 & 511], t[w >> 32 & 511], t[w >> 48 & 511]);
    return ht_signed64(v, ht_four64(e[w >> 9 & 127], e[w >> 25 & 127], e[w >> 41 & 127], e[w >> 57]));
}

HT_INLINE void ht_scales_iq2_xs(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    ht_odd_nibbles16(p, p + 66, out);
}

HT_INLINE __m256i ht_codes_iq2_s(const uint8_t *p, int g) {
    const uint64_t *t = ht_lattice_x86.iq2_s;
    const uint8_t *i = p + 2 + 4 * g;
    unsigned h = p[66 + g];
    __m256i v = ht_four64(t[i[0] | (h << 8 & 0x300)], t[i[1] | (h << 6 & 0x300)], t[i[2] | (h << 4 & 0x300)],
                          t[i[3] | (h << 2 & 0x300)]);
    return ht_signed64(v, ht_all_signs(ht_load_u32(p + 34 + 4 * g)));
}

HT_INLINE void ht_scales_iq2_s(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    ht_odd_nibbles16(p, p + 74, out);
}

/* ---- iq3 ------------------------------------------------------------------------------------------------------ */

/* 8 points by the bytes of i, each with a bit of h above it. */
HT_INLINE __m256i ht_points4(const uint32_t *t, const uint8_t *i, unsigned h) {
    return _mm256_setr_epi32((int)t[i[0] | (h << 8 & 256)], (int)t[i[1] | (h << 7 & 256)],
                             (int)t[i[2] | (h << 6 & 256)], (int)t[i[3] | (h << 5 & 256)],
                             (int)t[i[4] | (h << 4 & 256)], (int)t[i[5] | (h << 3 & 256)],
                             (int)t[i[6] | (h << 2 & 256)], (int)t[i[7] | (h << 1 & 256)]);
}

HT_INLINE __m256i ht_codes_iq3_xxs(const uint8_t *p, int g) {
    __m256i v = ht_points4(ht_lattice_x86.iq3_xxs, p + 2 + 8 * g, 0);
    return ht_signed64(v, ht_even_signs(ht_load_u32(p + 66 + 4 * g)));
}

HT_INLINE void ht_scales_iq3_xxs(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    out->s[0] = ht_odd_scales(ht_broadcast_f16(p), 0.25f, _mm256_srli_epi32(ht_load32(p + 66), 28));
}

HT_INLINE __m256i ht_codes_iq3_s(const uint8_t *p, int g) {
    __m256i v = ht_points4(ht_lattice_x86.iq3_s, p + 2 + 8 * g, p[66 + g]);
    return ht_signed64(v, ht_all_signs(ht_load_u32(p + 74 + 4 * g)));
}

HT_INLINE void ht_scales_iq3_s(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    const __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i s = _mm256_srlv_epi32(_mm256_set1_epi32((int)ht_load_u32(p + 106)), shift);
    out->s[0] = ht_odd_scales(ht_broadcast_f16(p), 1.0f, _mm256_and_si256(s, _mm256_set1_epi32(15)));
}

/* ---- iq1 ------------------------------------------------------------------------------------------------------ */

HT_INLINE __m256i ht_codes_iq1_s(const uint8_t *p, int g) {
    const uint64_t *t = ht_lattice_x86.iq1;
    const uint8_t *i = p + 2 + 4 * g;
    unsigned w = (unsigned)ht_load_u16(p + 34 + 2 * g);
    __m256i v = ht_four64(t[i[0] | (w << 8 & 0x700)], t[i[1] | (w << 5 & 0x700)], t[i[2] | (w << 2 & 0x700)],
                          t[i[3] | (w >> 1 & 0x700)]);
    return _mm256_add_epi8(v, _mm256_set1_epi8(w >> 15 ? -1 : 1));
}

HT_INLINE void ht_scales_iq1_s(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    __m128i w = _mm_srli_epi16(_mm_loadu_si128((const void *)(p + 34)), 12);
    __m256i s = _mm256_cvtepi16_epi32(_mm_and_si128(w, _mm_set1_epi16(7)));
    out->s[0] = ht_odd_scales(ht_broadcast_f16(p), 0.125f, s);
}

/* A point by a byte and the nibble that has its high bits and its shift's sign. */
HT_INLINE uint64_t ht_point_iq1_m(unsigned low, unsigned nibble) {
    const uint64_t ones = 0x0101010101010101u;
    return ht_lattice_x86.iq1[low | (nibble << 8 & 0x700)] + ones - (nibble << 8 & 0x800) / 0x400 * ones;
}

HT_INLINE __m256i ht_codes_iq1_m(const uint8_t *p, int g) {
    const uint8_t *i = p + 4 * g;
    unsigned h = (unsigned)ht_load_u16(p + 32 + 2 * g);
    return ht_four64(ht_point_iq1_m(i[0], h), ht_point_iq1_m(i[1], h >> 4), ht_point_iq1_m(i[2], h >> 8),
                     ht_point_iq1_m(i[3], h >> 12));
}

/* The nibbles of d stand above 3-bit scales, 4 to a word: moved to the top of 16 bits by a product, then down. */
HT_INLINE void ht_scales_iq1_m(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    const __m256i spread = _mm256_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 4, 5, 4, 5, 4, 5, 4, 5, 6,
                                            7, 6, 7, 6, 7, 6, 7);
    const __m256i up = _mm256_set1_epi64x(0x0010008004002000);
    uint64_t w = ht_load_u64(p + 48);
    uint64_t d = (w >> 12 & 0xf) | (w >> 24 & 0xf0) | (w >> 36 & 0xf00) | (w >> 48 & 0xf000);
    __m256i s = _mm256_shuffle_epi8(_mm256_set1_epi64x((int64_t)w), spread);
    s = _mm256_srli_epi16(_mm256_mullo_epi16(s, up), 13);
    __m256 df = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128((int)d)));
    out->s[0] = ht_odd_scales(df, 0.125f, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(s)));
    out->s[1] = ht_odd_scales(df, 0.125f, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(s, 1)));
}

#endif
