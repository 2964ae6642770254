/* 256 weights of each block format to the compute form in AVX2 registers, 32 at a time and in natural order:
 *
 *     codes(p, g)        the 32 codes of group g of the chunk at p: unsigned, shifted up by the shape's offset; formats
 *                        whose codes need all 8 bits (offset 128) give them signed and not shifted
 *     scales(p, n, s)    f32 scales and mins of the chunk's groups; element = s * code - m
 *
 * n: groups of 32 that exist (8 but for the end of a row that 256 does not divide); scales sets those behind to 0,
 * codes is not called for them. Nothing outside the n groups is read. Layouts: docs/kernels.md. */
#ifndef HT_KERNEL_X86_CHUNK_AVX2_H
#define HT_KERNEL_X86_CHUNK_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "base/compiler.h"
#include "kernel/chunk.h"

struct ht_scales { /* groups of 32: 8 of each; groups of 16: 16 */
    __m256 s[2], m[2];
};

typedef __m256i ht_codes_fn(const uint8_t *p, int g);
typedef void ht_scales_fn(const uint8_t *p, size_t n, struct ht_scales *out);

HT_INLINE __m256i ht_load32(const uint8_t *p) {
    return _mm256_loadu_si256((const void *)p);
}

HT_INLINE uint32_t ht_load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

HT_INLINE uint64_t ht_load_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

HT_INLINE int ht_load_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

/* (v >> right) & mask per byte; negative: to the left. The bits that cross bytes are masked away. */
HT_INLINE __m256i ht_bits(__m256i v, int right, int mask) {
    v = right > 0 ? _mm256_srli_epi16(v, right) : right < 0 ? _mm256_slli_epi16(v, -right) : v;
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* ---- blocks of 32 ----------------------------------------------------------------------------------------- */

/* 16 bytes of two nibbles: elements 0 .. 15 low, 16 .. 31 high. */
HT_INLINE __m256i ht_nibbles32(const uint8_t *qs) {
    __m128i v = _mm_loadu_si128((const void *)qs);
    return ht_bits(_mm256_setr_m128i(v, _mm_srli_epi16(v, 4)), 0, 15);
}

/* 16 in every byte whose bit of qh is set. */
HT_INLINE __m256i ht_fifth32(uint32_t qh) {
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)qh), spread), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
}

/* The f16 numbers at p, p + step, ... */
HT_INLINE __m256 ht_f16_steps(const uint8_t *p, size_t n, size_t step) {
    if (n == 8) {
        __m128i v = _mm_cvtsi32_si128(ht_load_u16(p));
        v = _mm_insert_epi16(v, ht_load_u16(p + step), 1);
        v = _mm_insert_epi16(v, ht_load_u16(p + 2 * step), 2);
        v = _mm_insert_epi16(v, ht_load_u16(p + 3 * step), 3);
        v = _mm_insert_epi16(v, ht_load_u16(p + 4 * step), 4);
        v = _mm_insert_epi16(v, ht_load_u16(p + 5 * step), 5);
        v = _mm_insert_epi16(v, ht_load_u16(p + 6 * step), 6);
        return _mm256_cvtph_ps(_mm_insert_epi16(v, ht_load_u16(p + 7 * step), 7));
    }
    HT_ALIGNED(16) uint16_t h[8] = {0};
    for (size_t i = 0; i < n; i++) {
        memcpy(&h[i], p + i * step, 2);
    }
    return _mm256_cvtph_ps(_mm_load_si128((const void *)h));
}

/* d only, or d and m with the min -m. */
HT_INLINE void ht_scales_d(const uint8_t *p, size_t n, size_t bytes, struct ht_scales *out) {
    out->s[0] = ht_f16_steps(p, n, bytes);
}

HT_INLINE void ht_scales_dm(const uint8_t *p, size_t n, size_t bytes, struct ht_scales *out) {
    out->s[0] = ht_f16_steps(p, n, bytes);
    out->m[0] = _mm256_sub_ps(_mm256_setzero_ps(), ht_f16_steps(p + 2, n, bytes));
}

HT_INLINE __m256i ht_codes_q4_0(const uint8_t *p, int g) {
    return ht_nibbles32(p + 18 * g + 2);
}

HT_INLINE void ht_scales_q4_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_d(p, n, 18, out);
}

HT_INLINE __m256i ht_codes_q4_1(const uint8_t *p, int g) {
    return ht_nibbles32(p + 20 * g + 4);
}

HT_INLINE void ht_scales_q4_1(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_dm(p, n, 20, out);
}

HT_INLINE __m256i ht_codes_q5_0(const uint8_t *p, int g) {
    p += 22 * g;
    return _mm256_or_si256(ht_nibbles32(p + 6), ht_fifth32(ht_load_u32(p + 2)));
}

HT_INLINE void ht_scales_q5_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_d(p, n, 22, out);
}

HT_INLINE __m256i ht_codes_q5_1(const uint8_t *p, int g) {
    p += 24 * g;
    return _mm256_or_si256(ht_nibbles32(p + 8), ht_fifth32(ht_load_u32(p + 4)));
}

HT_INLINE void ht_scales_q5_1(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_dm(p, n, 24, out);
}

HT_INLINE __m256i ht_codes_q8_0(const uint8_t *p, int g) {
    return ht_load32(p + 34 * g + 2);
}

HT_INLINE void ht_scales_q8_0(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_d(p, n, 34, out);
}

HT_INLINE __m256i ht_levels_iq4(__m256i codes) {
    const __m128i table = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

HT_INLINE __m256i ht_codes_iq4_nl(const uint8_t *p, int g) {
    return ht_levels_iq4(ht_codes_q4_0(p, g));
}

HT_INLINE void ht_scales_iq4_nl(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_d(p, n, 18, out);
}

/* ---- blocks of 256 ---------------------------------------------------------------------------------------- */

HT_INLINE __m256 ht_broadcast_f16(const uint8_t *p) {
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(ht_load_u16(p))));
}

/* The low 8 signed bytes times d. */
HT_INLINE __m256 ht_times_bytes(__m256 d, __m128i bytes) {
    return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
}

HT_INLINE void ht_times_bytes16(__m256 d, __m128i bytes, __m256 out[2]) {
    out[0] = ht_times_bytes(d, bytes);
    out[1] = ht_times_bytes(d, _mm_unpackhi_epi64(bytes, bytes));
}

/* 8 scales and 8 mins of 6 bits in 12 bytes. */
HT_INLINE void ht_scales_q4_k(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    uint32_t a = ht_load_u32(p + 4), b = ht_load_u32(p + 8), c = ht_load_u32(p + 12);
    uint64_t s = (a & 0x3f3f3f3fu) | (uint64_t)((c & 0x0f0f0f0fu) | ((a >> 2) & 0x30303030u)) << 32;
    uint64_t m = (b & 0x3f3f3f3fu) | (uint64_t)(((c >> 4) & 0x0f0f0f0fu) | ((b >> 2) & 0x30303030u)) << 32;
    out->s[0] = ht_times_bytes(ht_broadcast_f16(p), _mm_cvtsi64_si128((int64_t)s));
    out->m[0] = ht_times_bytes(ht_broadcast_f16(p + 2), _mm_cvtsi64_si128((int64_t)m));
}

HT_INLINE __m256i ht_codes_q4_k(const uint8_t *p, int g) {
    return ht_bits(ht_load32(p + 16 + 32 * (g / 2)), 4 * (g & 1), 15);
}

HT_INLINE void ht_scales_q5_k(const uint8_t *p, size_t n, struct ht_scales *out) {
    ht_scales_q4_k(p, n, out);
}

HT_INLINE __m256i ht_codes_q5_k(const uint8_t *p, int g) {
    __m256i low = ht_bits(ht_load32(p + 48 + 32 * (g / 2)), 4 * (g & 1), 15);
    return _mm256_or_si256(low, ht_bits(ht_load32(p + 16), g - 4, 16));
}

HT_INLINE __m256i ht_codes_iq4_xs(const uint8_t *p, int g) {
    return ht_levels_iq4(ht_nibbles32(p + 8 + 16 * g));
}

HT_INLINE void ht_scales_iq4_xs(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    /* Low nibbles: one per group in 4 bytes; high pairs: one per group in 2. */
    uint64_t low = ht_load_u32(p + 4), high = (uint64_t)ht_load_u16(p + 2);
    low = (low | low << 16) & 0x0000ffff0000ffffu;
    low = (low | low << 8) & 0x00ff00ff00ff00ffu;
    low = (low | low << 4) & 0x0f0f0f0f0f0f0f0fu;
    high = (high | high << 24) & 0x000000ff000000ffu;
    high = (high | high << 12) & 0x000f000f000f000fu;
    high = (high | high << 6) & 0x0303030303030303u;
    __m128i s = _mm_sub_epi8(_mm_cvtsi64_si128((int64_t)(low | high << 4)), _mm_set1_epi8(32));
    out->s[0] = ht_times_bytes(ht_broadcast_f16(p), s);
}

HT_INLINE __m256i ht_codes_q6_k(const uint8_t *p, int g) {
    int half = g / 4, k = g % 4;
    __m256i low = ht_bits(ht_load32(p + 64 * half + 32 * (k & 1)), 4 * (k / 2), 15);
    return _mm256_or_si256(low, ht_bits(ht_load32(p + 128 + 32 * half), 2 * k - 4, 0x30));
}

HT_INLINE void ht_scales_q6_k(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    ht_times_bytes16(ht_broadcast_f16(p + 208), _mm_loadu_si128((const void *)(p + 192)), out->s);
}

HT_INLINE __m256i ht_codes_q2_k(const uint8_t *p, int g) {
    return ht_bits(ht_load32(p + 16 + 32 * (g / 4)), 2 * (g % 4), 3);
}

HT_INLINE void ht_scales_q2_k(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    const __m128i fifteen = _mm_set1_epi8(15);
    __m128i v = _mm_loadu_si128((const void *)p);
    ht_times_bytes16(ht_broadcast_f16(p + 80), _mm_and_si128(v, fifteen), out->s);
    ht_times_bytes16(ht_broadcast_f16(p + 82), _mm_and_si128(_mm_srli_epi16(v, 4), fifteen), out->m);
}

HT_INLINE __m256i ht_codes_q3_k(const uint8_t *p, int g) {
    __m256i low = ht_bits(ht_load32(p + 32 + 32 * (g / 4)), 2 * (g % 4), 3);
    return _mm256_or_si256(low, ht_bits(ht_load32(p), g - 2, 4));
}

HT_INLINE void ht_scales_q3_k(const uint8_t *p, size_t n, struct ht_scales *out) {
    (void)n;
    /* 16 scales of 6 bits: low nibbles in 8 bytes, high pairs in 4. */
    uint64_t low = ht_load_u64(p + 96), pairs = ht_load_u32(p + 104);
    pairs |= pairs >> 2 << 32; /* bits 0-1: scales 0 .. 3, then 4 .. 7; bits 4-5: 8 .. 15 */
    uint64_t a = (low & 0x0f0f0f0f0f0f0f0fu) | ((pairs << 4) & 0x3030303030303030u);
    uint64_t b = ((low >> 4) & 0x0f0f0f0f0f0f0f0fu) | (pairs & 0x3030303030303030u);
    __m128i scales = _mm_sub_epi8(_mm_set_epi64x((int64_t)b, (int64_t)a), _mm_set1_epi8(32));
    ht_times_bytes16(ht_broadcast_f16(p + 108), scales, out->s);
}

#endif
