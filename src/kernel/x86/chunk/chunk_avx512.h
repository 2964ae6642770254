/* 256 weights of each block format to the compute form of the integer kernels, in registers:
 *
 *     c[4]   unsigned 8-bit codes, 64 per vector, in PIECES of 16 elements whose order is the format's own
 *            (struct ht_chunk_shape): whatever falls out of the packed bytes with the fewest instructions
 *     s, m   f32 scales and mins of the groups; element = s * code - m
 *
 * Groups of 32: s holds 8 scales, then 8 mins. Groups of 16: s holds 16 scales, m 16 mins. A format without
 * mins stores its codes shifted up by `offset`, so its min is offset * scale: it puts the scales where mins
 * would be, and the activations' side carries the factor.
 *
 * The acts side of a chunk is struct ht_chunk_acts, made by ht_chunk_acts_fill in the same order.
 * Layouts of the blocks: GGUF specification; the pictures stand in docs/kernels.md. */
#ifndef HT_KERNEL_X86_CHUNK_AVX512_H
#define HT_KERNEL_X86_CHUNK_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "base/compiler.h"
#include "kernel/chunk.h"

struct ht_chunk {
    __m512i c[4];
    __m512 s, m;
};

typedef void ht_chunk_fn(const uint8_t *p, struct ht_chunk *out);

HT_INLINE __m512i ht_low4(__m512i v) {
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

HT_INLINE __m512i ht_high4(__m512i v) {
    return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
}

/* ---- blocks of 32 -----------------------------------------------------------------------------------------
 * A chunk is 8 blocks of WORDS 16-bit words. Three loads a, b, c hold words 0 .. 31, 32 .. 63 and the rest;
 * blocks 0 to 3 lie in a and b, blocks 4 to 7 in b and c, so that each half is one two-source permutation
 * away. (Overlapping loads per half need less but are slow on lines that are still on their way from memory.)
 */

struct ht_words {
    __m512i a, b, c;
};

HT_INLINE struct ht_words ht_load_words(const uint8_t *p, int words) {
    __mmask8 m = (__mmask8)((1u << (2 * words - 16)) - 1u); /* 8-byte parts of c */
    return (struct ht_words){_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64),
                             _mm512_maskz_loadu_epi64(m, p + 128)};
}

/* One table for each half: the words of block i start at FIRST + i * WORDS, counted from the half's first
 * load. */
#define HT_WORDS8(w) (w), (w) + 1, (w) + 2, (w) + 3, (w) + 4, (w) + 5, (w) + 6, (w) + 7
#define HT_QS_HALF(FIRST, WORDS)                                                                             \
    {                                                                                                        \
        HT_WORDS8(FIRST), HT_WORDS8((FIRST) + (WORDS)), HT_WORDS8((FIRST) + 2 * (WORDS)),                    \
            HT_WORDS8((FIRST) + 3 * (WORDS))                                                                 \
    }
/* The 16 bytes of codes of each block, from its word QS on. */
#define HT_QS_TABLE(name, WORDS, QS)                                                                         \
    static const HT_ALIGNED(64) uint16_t name[2][32] = {                                                     \
        HT_QS_HALF(QS, WORDS),                                                                               \
        HT_QS_HALF(4 * (WORDS)-32 + (QS), WORDS),                                                            \
    }
HT_QS_TABLE(ht_qs_q4_0, 9, 1);
HT_QS_TABLE(ht_qs_q4_1, 10, 2);
HT_QS_TABLE(ht_qs_q5_0, 11, 3);
HT_QS_TABLE(ht_qs_q5_1, 12, 4);

/* Heads of four blocks: [d x 4, m x 4, low half of qh x 4, high half of qh x 4] from words 0, M, QH and
 * QH + 1. */
#define HT_WORDS4(w, WORDS) (w), (w) + (WORDS), (w) + 2 * (WORDS), (w) + 3 * (WORDS)
#define HT_HEAD_HALF(FIRST, WORDS, M, QH)                                                                    \
    {                                                                                                        \
        HT_WORDS4(FIRST, WORDS), HT_WORDS4((FIRST) + (M), WORDS), HT_WORDS4((FIRST) + (QH), WORDS),          \
            HT_WORDS4((FIRST) + (QH) + 1, WORDS)                                                             \
    }
#define HT_HEAD_TABLE(name, WORDS, M, QH)                                                                    \
    static const HT_ALIGNED(64) uint16_t name[2][32] = {                                                     \
        HT_HEAD_HALF(0, WORDS, M, QH),                                                                       \
        HT_HEAD_HALF(4 * (WORDS)-32, WORDS, M, QH),                                                          \
    }
HT_HEAD_TABLE(ht_head_q4_0, 9, 0, 0); /* no m: d again; no qh: not used */
HT_HEAD_TABLE(ht_head_q4_1, 10, 1, 0);
HT_HEAD_TABLE(ht_head_q5_0, 11, 0, 1);
HT_HEAD_TABLE(ht_head_q5_1, 12, 1, 2);

HT_INLINE __m512i ht_pick_low(const struct ht_words *w, const uint16_t table[2][32]) {
    return _mm512_permutex2var_epi16(w->a, _mm512_load_si512(table[0]), w->b);
}

HT_INLINE __m512i ht_pick_high(const struct ht_words *w, const uint16_t table[2][32]) {
    return _mm512_permutex2var_epi16(w->b, _mm512_load_si512(table[1]), w->c);
}

/* 8 times d, 8 times m from the heads of both halves. */
HT_INLINE __m512 ht_head_scales(__m512i low, __m512i high) {
    __m128i l = _mm512_castsi512_si128(low), h = _mm512_castsi512_si128(high);
    return _mm512_cvtph_ps(_mm256_setr_m128i(_mm_unpacklo_epi64(l, h), _mm_unpackhi_epi64(l, h)));
}

HT_INLINE void ht_chunk_nibbles(struct ht_chunk *out, __m512i a, __m512i b) {
    out->c[0] = ht_low4(a);
    out->c[1] = ht_high4(a);
    out->c[2] = ht_low4(b);
    out->c[3] = ht_high4(b);
}

HT_INLINE void ht_chunk_q4(const uint8_t *p, struct ht_chunk *out, int words, const uint16_t qs[2][32],
                           const uint16_t head[2][32]) {
    struct ht_words w = ht_load_words(p, words);
    ht_chunk_nibbles(out, ht_pick_low(&w, qs), ht_pick_high(&w, qs));
    out->s = ht_head_scales(ht_pick_low(&w, head), ht_pick_high(&w, head));
}

HT_INLINE void ht_chunk_q4_0(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_q4(p, out, 9, ht_qs_q4_0, ht_head_q4_0);
}

/* value = d * code + m: the min is -m. */
HT_INLINE __m512 ht_negate_high(__m512 v) {
    return _mm512_mask_sub_ps(v, 0xff00, _mm512_setzero_ps(), v);
}

HT_INLINE void ht_chunk_q4_1(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_q4(p, out, 10, ht_qs_q4_1, ht_head_q4_1);
    out->s = ht_negate_high(out->s);
}

/* Nonlinear 4-bit codes: the table's values + 128. */
HT_INLINE __m512i ht_iq4_levels(__m512i codes) {
    const __m128i levels = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153,
                                         (char)166, (char)181, (char)197, (char)217, (char)241);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), codes);
}

HT_INLINE void ht_chunk_levels(struct ht_chunk *out) {
    for (int i = 0; i < 4; i++) {
        out->c[i] = ht_iq4_levels(out->c[i]);
    }
}

HT_INLINE void ht_chunk_iq4_nl(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_q4_0(p, out);
    ht_chunk_levels(out);
}

/* Adds the fifth bits of four blocks to their low and high halves. */
HT_INLINE void ht_fifth_bits(__m512i *low, __m512i *high, __m512i head) {
    const __m512i sixteen = _mm512_set1_epi8(16);
    __m128i bits = _mm512_extracti32x4_epi32(head, 1);
    __mmask64 kl = _cvtu64_mask64((uint64_t)_mm_cvtsi128_si64(bits));
    __mmask64 kh = _cvtu64_mask64((uint64_t)_mm_extract_epi64(bits, 1));
    *low = _mm512_mask_add_epi8(*low, kl, *low, sixteen);
    *high = _mm512_mask_add_epi8(*high, kh, *high, sixteen);
}

HT_INLINE void ht_chunk_q5(const uint8_t *p, struct ht_chunk *out, int words, const uint16_t qs[2][32],
                           const uint16_t head[2][32]) {
    struct ht_words w = ht_load_words(p, words);
    __m512i low = ht_pick_low(&w, head), high = ht_pick_high(&w, head);
    ht_chunk_nibbles(out, ht_pick_low(&w, qs), ht_pick_high(&w, qs));
    ht_fifth_bits(&out->c[0], &out->c[1], low);
    ht_fifth_bits(&out->c[2], &out->c[3], high);
    out->s = ht_head_scales(low, high);
}

HT_INLINE void ht_chunk_q5_0(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_q5(p, out, 11, ht_qs_q5_0, ht_head_q5_0);
}

HT_INLINE void ht_chunk_q5_1(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_q5(p, out, 12, ht_qs_q5_1, ht_head_q5_1);
    out->s = ht_negate_high(out->s);
}

HT_INLINE void ht_chunk_q8_0(const uint8_t *p, struct ht_chunk *out) {
    /* Of blocks 2 i and 2 i + 1: their scales are words 0 and 17 of 32. */
    static const HT_ALIGNED(64) uint16_t pair[32] = {0, 17, 32, 49};
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i head[4];
    for (int i = 0; i < 4; i++) {
        const uint8_t *b = p + 68 * i;
        head[i] = _mm512_loadu_si512(b);
        __m256i lo = _mm256_loadu_si256((const void *)(b + 2)),
                hi = _mm256_loadu_si256((const void *)(b + 36));
        out->c[i] = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1), flip);
    }
    __m512i x = _mm512_permutex2var_epi16(head[0], _mm512_load_si512(pair), head[1]);
    __m512i y = _mm512_permutex2var_epi16(head[2], _mm512_load_si512(pair), head[3]);
    __m128i d = _mm_unpacklo_epi64(_mm512_castsi512_si128(x), _mm512_castsi512_si128(y));
    out->s = _mm512_cvtph_ps(_mm256_broadcastsi128_si256(d));
}

/* ---- blocks of 256 ----------------------------------------------------------------------------------------
 */

HT_INLINE uint32_t ht_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

HT_INLINE uint64_t ht_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

HT_INLINE __m512 ht_f32_of_bytes(__m128i bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* Two f16 at p (d, dmin) as lanes 0 and 1. */
HT_INLINE __m512 ht_two_f16(const uint8_t *p) {
    return _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi32_si128((int)ht_u32(p))));
}

HT_INLINE __m512 ht_one_f16(const uint8_t *p) {
    int16_t h;
    memcpy(&h, p, 2);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}

/* 8 scales and 8 mins of 6 bits in 12 bytes, times d and dmin. */
HT_INLINE __m512 ht_scales_k4(const uint8_t *p) {
    uint32_t a = ht_u32(p + 4), b = ht_u32(p + 8), c = ht_u32(p + 12);
    uint64_t s = (a & 0x3f3f3f3fu) | (uint64_t)((c & 0x0f0f0f0fu) | ((a >> 2) & 0x30303030u)) << 32;
    uint64_t m = (b & 0x3f3f3f3fu) | (uint64_t)(((c >> 4) & 0x0f0f0f0fu) | ((b >> 2) & 0x30303030u)) << 32;
    const __m512i half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m512 d = _mm512_permutexvar_ps(half, ht_two_f16(p));
    return _mm512_mul_ps(d, ht_f32_of_bytes(_mm_set_epi64x((int64_t)m, (int64_t)s)));
}

HT_INLINE void ht_chunk_q4_k(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_nibbles(out, _mm512_loadu_si512(p + 16), _mm512_loadu_si512(p + 80));
    out->s = ht_scales_k4(p);
}

/* 32 bytes twice. */
HT_INLINE __m512i ht_twice(const uint8_t *p) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)p));
}

HT_INLINE void ht_chunk_q5_k(const uint8_t *p, struct ht_chunk *out) {
    const __m512i sixteen = _mm512_set1_epi8(16);
    /* Sub-blocks of c[0]: 0 and 2, c[1]: 1 and 3, c[2]: 4 and 6, c[3]: 5 and 7; sub-block j has bit j. */
    static const uint64_t bits[4][2] = {{0x01, 0x04}, {0x02, 0x08}, {0x10, 0x40}, {0x20, 0x80}};
    __m512i h = ht_twice(p + 16);
    ht_chunk_nibbles(out, _mm512_loadu_si512(p + 48), _mm512_loadu_si512(p + 112));
    for (int i = 0; i < 4; i++) {
        int64_t lo = (int64_t)(bits[i][0] * 0x0101010101010101u),
                hi = (int64_t)(bits[i][1] * 0x0101010101010101u);
        __mmask64 k = _mm512_test_epi8_mask(h, _mm512_setr_epi64(lo, lo, lo, lo, hi, hi, hi, hi));
        out->c[i] = _mm512_mask_add_epi8(out->c[i], k, out->c[i], sixteen);
    }
    out->s = ht_scales_k4(p);
}

HT_INLINE void ht_chunk_iq4_xs(const uint8_t *p, struct ht_chunk *out) {
    ht_chunk_nibbles(out, _mm512_loadu_si512(p + 8), _mm512_loadu_si512(p + 72));
    ht_chunk_levels(out);
    uint16_t high;
    memcpy(&high, p + 2, 2);
    uint64_t s = _pdep_u64(ht_u32(p + 4), 0x0f0f0f0f0f0f0f0fu) | _pdep_u64(high, 0x3030303030303030u);
    __m128i scales = _mm_sub_epi8(_mm_set1_epi64x((int64_t)s), _mm_set1_epi8(32));
    out->s = _mm512_mul_ps(ht_one_f16(p), ht_f32_of_bytes(scales));
}

HT_INLINE void ht_chunk_q6_k(const uint8_t *p, struct ht_chunk *out) {
    /* Bits 4 and 5 of quarter k of a half are bits 2 k of qh: shift them there. */
    const __m512i left = _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2),
                  right = _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2);
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(0x30);
    for (int i = 0; i < 2; i++) {
        __m512i l = _mm512_loadu_si512(p + 64 * i), h = ht_twice(p + 128 + 32 * i);
        __m512i h0 = _mm512_and_si512(_mm512_sllv_epi64(h, left), high);
        __m512i h1 = _mm512_and_si512(_mm512_srlv_epi64(h, right), high);
        out->c[2 * i] = _mm512_ternarylogic_epi32(l, low, h0, 0xea); /* (l & low) | h0 */
        out->c[2 * i + 1] = _mm512_ternarylogic_epi32(_mm512_srli_epi16(l, 4), low, h1, 0xea);
    }
    __m128i scales = _mm_loadu_si128((const void *)(p + 192));
    out->s = out->m = _mm512_mul_ps(ht_one_f16(p + 208), ht_f32_of_bytes(scales));
}

HT_INLINE void ht_scales512_q2_k(const uint8_t *p, struct ht_chunk *out) {
    const __m128i fifteen = _mm_set1_epi8(15);
    __m128i scales = _mm_loadu_si128((const void *)p);
    __m128i s = _mm_and_si128(scales, fifteen), m = _mm_and_si128(_mm_srli_epi16(scales, 4), fifteen);
    out->s = _mm512_mul_ps(ht_one_f16(p + 80), ht_f32_of_bytes(s));
    out->m = _mm512_mul_ps(ht_one_f16(p + 82), ht_f32_of_bytes(m));
}

HT_INLINE void ht_chunk_q2_k(const uint8_t *p, struct ht_chunk *out) {
    const __m512i three = _mm512_set1_epi8(3);
    __m512i q = _mm512_loadu_si512(p + 16);
    out->c[0] = _mm512_and_si512(q, three);
    out->c[1] = _mm512_and_si512(_mm512_srli_epi16(q, 2), three);
    out->c[2] = _mm512_and_si512(_mm512_srli_epi16(q, 4), three);
    out->c[3] = _mm512_and_si512(_mm512_srli_epi16(q, 6), three);
    ht_scales512_q2_k(p, out);
}

/* 16 scales of 6 bits: low nibbles in 8 bytes, high pairs in 4; d behind them. */
HT_INLINE __m512 ht_scales512_q3_k(const uint8_t *p) {
    const __m128i low8 = _mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
    const __m128i high4 = _mm_setr_epi8(10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13);
    __m128i v = _mm_loadu_si128((const void *)(p + 94));
    __m128i low = _mm_srlv_epi64(_mm_shuffle_epi8(v, low8), _mm_set_epi64x(4, 0));
    __m128i high = _mm_rolv_epi32(_mm_shuffle_epi8(v, high4), _mm_setr_epi32(4, 2, 0, -2));
    __m128i s = _mm_ternarylogic_epi32(low, _mm_set1_epi8(15), _mm_and_si128(high, _mm_set1_epi8(0x30)), 0xea);
    return _mm512_mul_ps(ht_one_f16(p + 108), ht_f32_of_bytes(_mm_sub_epi8(s, _mm_set1_epi8(32))));
}

HT_INLINE void ht_chunk_q3_k(const uint8_t *p, struct ht_chunk *out) {
    const __m512i three = _mm512_set1_epi8(3), four = _mm512_set1_epi8(4);
    __m512i q = _mm512_loadu_si512(p + 32);
    /* Third bit of quarter k: bit k of hmask in the first half, bit 4 + k in the second. */
    __m512i h = _mm512_srlv_epi64(ht_twice(p), _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4));
    __m512i h0 = _mm512_and_si512(_mm512_slli_epi16(h, 2), four),
            h1 = _mm512_and_si512(_mm512_slli_epi16(h, 1), four);
    __m512i h2 = _mm512_and_si512(h, four), h3 = _mm512_and_si512(_mm512_srli_epi16(h, 1), four);
    out->c[0] = _mm512_ternarylogic_epi32(q, three, h0, 0xea);
    out->c[1] = _mm512_ternarylogic_epi32(_mm512_srli_epi16(q, 2), three, h1, 0xea);
    out->c[2] = _mm512_ternarylogic_epi32(_mm512_srli_epi16(q, 4), three, h2, 0xea);
    out->c[3] = _mm512_ternarylogic_epi32(_mm512_srli_epi16(q, 6), three, h3, 0xea);
    out->s = out->m = ht_scales512_q3_k(p);
}

/* ---- all formats ------------------------------------------------------------------------------------------
 */

/* The last chunk of a row that 256 does not divide: the blocks behind belong to the next row (or to nobody,
 * then they are copied away from the end); their scales are set to 0. */
HT_INLINE void ht_chunk_tail(ht_chunk_fn *unpack, const struct ht_chunk_shape *s, const uint8_t *p,
                             const uint8_t *end, size_t n_groups, struct ht_chunk *w) {
    uint8_t copy[8 * 34];
    if ((size_t)(end - p) < s->bytes) {
        memset(copy, 0, sizeof copy);
        memcpy(copy, p, s->bytes * n_groups / 8);
        p = copy;
    }
    unpack(p, w);
    uint32_t there = s->group == 16 ? (1u << 2 * n_groups) - 1u : ((1u << n_groups) - 1u) * 0x101u;
    w->s = _mm512_maskz_mov_ps((__mmask16)there, w->s);
}

#endif
