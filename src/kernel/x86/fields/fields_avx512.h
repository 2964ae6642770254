/* Fields of 1 to 8 bits, one after the other in a string of bits, to bytes: 64 at a time, one code for all widths.
 *
 * With VBMI: a byte permutation brings the 8 bytes that hold 8 fields to each 64-bit lane, a multishift parts them.
 * Without: 128-bit lane l gets the 2 bits bytes of its 16 fields; two byte shuffles put the 16 bits around every even
 * and odd field into a word, a multiplication moves the field to the top of it, a shift brings it down. */
#ifndef HT_KERNEL_X86_FIELDS_AVX512_H
#define HT_KERNEL_X86_FIELDS_AVX512_H

#include "kernel/qform.h"
#include "kernel/x86/simd_avx512.h"

struct ht_fields {
    __mmask64 there; /* bytes of 64 fields */
    int bits;
    __m512i table; /* of ht_qform's byte_of */
#if defined(__AVX512VBMI__)
    __m512i from, shift, mask;
#else
    __m512i lane, from[2], up[2];
    __m128i down[2];
#endif
};

HT_INLINE __mmask64 ht_mask64(size_t n) {
    return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}

HT_INLINE struct ht_fields ht_fields_make(const struct ht_qform *q) {
    const size_t b = (size_t)q->bits;
    struct ht_fields f;
    f.there = ht_mask64(8 * b);
    f.bits = (int)b;
    f.table = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)q->byte_of));
#if defined(__AVX512VBMI__)
    /* Byte i of 64: from i / 8 * b + i % 8, shift i % 8 * b; none is above 63. */
    const __m512i eighth = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const uint64_t count = 0x0706050403020100u;
    f.from = _mm512_add_epi8(_mm512_mullo_epi32(eighth, _mm512_set1_epi32((int)(b * 0x01010101u))),
                             _mm512_set1_epi64((int64_t)count));
    f.shift = _mm512_set1_epi64((int64_t)(count * b));
    f.mask = _mm512_set1_epi8((char)((1u << b) - 1));
#else
    HT_ALIGNED(64) uint16_t lane[32], up[2][32];
    HT_ALIGNED(64) uint8_t from[2][64];
    for (size_t i = 0; i < 32; i++) {
        lane[i] = (uint16_t)(i / 8 * b + i % 8);
        for (size_t odd = 0; odd < 2; odd++) {
            size_t bit = (2 * (i % 8) + odd) * b;
            from[odd][2 * i] = (uint8_t)(bit / 8);
            from[odd][2 * i + 1] = (uint8_t)((bit / 8 + 1) % 16);
            up[odd][i] = (uint16_t)(1u << (16 - b - bit % 8));
        }
    }
    f.lane = _mm512_load_si512(lane);
    for (int odd = 0; odd < 2; odd++) {
        f.from[odd] = _mm512_load_si512(from[odd]);
        f.up[odd] = _mm512_load_si512(up[odd]);
    }
    f.down[0] = _mm_cvtsi32_si128(16 - (int)b);
    f.down[1] = _mm_cvtsi32_si128(8 - (int)b);
#endif
    return f;
}

/* The bytes of p under the mask are read. */
HT_INLINE __m512i ht_fields64(const struct ht_fields *f, const uint8_t *p, __mmask64 there) {
    __m512i v = _mm512_maskz_loadu_epi8(there, p);
#if defined(__AVX512VBMI__)
    v = _mm512_multishift_epi64_epi8(f->shift, _mm512_permutexvar_epi8(f->from, v));
    return _mm512_and_si512(v, f->mask);
#else
    v = _mm512_permutexvar_epi16(f->lane, v);
    __m512i even = _mm512_mullo_epi16(_mm512_shuffle_epi8(v, f->from[0]), f->up[0]);
    __m512i odd = _mm512_mullo_epi16(_mm512_shuffle_epi8(v, f->from[1]), f->up[1]);
    even = _mm512_srl_epi16(even, f->down[0]);
    odd = _mm512_srl_epi16(odd, f->down[1]);
    return _mm512_ternarylogic_epi32(even, odd, _mm512_set1_epi16((short)0xff00), 0xf8); /* even | (odd & mask) */
#endif
}

/* A chunk of 256 fields at p, of which `bytes` exist (32 * bits: all). */
HT_INLINE void ht_fields_chunk(const struct ht_fields *f, bool lookup, const uint8_t *p, size_t bytes, __m512i c[4]) {
    const size_t step = 8 * (size_t)f->bits;
    for (size_t v = 0; v < 4; v++) {
        __mmask64 there = f->there;
        if (bytes < 4 * step) {
            size_t left = bytes > v * step ? bytes - v * step : 0;
            there = ht_mask64(left < step ? left : step);
        }
        c[v] = ht_fields64(f, p + v * step, there);
        c[v] = lookup ? _mm512_shuffle_epi8(f->table, c[v]) : c[v];
    }
}

/* The same for 4 bits in HT_ORDER_NIBBLES. */
HT_INLINE void ht_nibbles_chunk(const struct ht_fields *f, bool lookup, const uint8_t *p, size_t bytes, __m512i c[4]) {
    const __m512i low = _mm512_set1_epi8(15);
    for (size_t h = 0; h < 2; h++) {
        size_t left = bytes > 64 * h ? bytes - 64 * h : 0;
        __mmask64 there = ht_mask64(left);
        __m512i v = bytes == 128 ? _mm512_loadu_si512(p + 64 * h) : _mm512_maskz_loadu_epi8(there, p + 64 * h);
        c[2 * h] = _mm512_and_si512(v, low);
        c[2 * h + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    }
    for (size_t v = 0; v < 4 && lookup; v++) {
        c[v] = _mm512_shuffle_epi8(f->table, c[v]);
    }
}

#endif
