/* Lattice formats with VBMI. The 32 (or 64) indices of a chunk are looked up at once: the table of points lies in
 * vectors of 32 words of 16 bits, and a permutation takes a word from each of two by 6 bits of the index; the other
 * bits choose among the results.
 *
 *     words       2 bits per element (8 elements) or 3 bits (4 elements)
 *     multishift  the bits of 4 elements of each group to the bottom of 4 bytes      (HT_ORDER_LANES)
 *     permute     bytes -> 64 + magnitude, by the low 6 bits of each byte
 *     signs       128 - code where the sign bit is set
 *
 * Layouts: format_iq1.c, format_iq2.c, format_iq3.c. */
#ifndef HT_KERNEL_X86_CHUNK_LATTICE_AVX512BF16_H
#define HT_KERNEL_X86_CHUNK_LATTICE_AVX512BF16_H

#include "format/lattice/lattice.h"
#include "kernel/x86/chunk/chunk_lattice_avx512.h"

/* ---- points by index ------------------------------------------------------------------------------------------ */

HT_INLINE __m512i ht_look64(const uint16_t *t, __m512i index) {
    return _mm512_permutex2var_epi16(_mm512_loadu_si512(t), index, _mm512_loadu_si512(t + 32));
}

HT_INLINE __mmask32 ht_index_bit(__m512i index, int bit) {
    return _mm512_test_epi16_mask(index, _mm512_set1_epi16((short)(1 << bit)));
}

HT_INLINE __m512i ht_look256(const uint16_t *t, __m512i index, __mmask32 b6, __mmask32 b7) {
    __m512i low = _mm512_mask_mov_epi16(ht_look64(t, index), b6, ht_look64(t + 64, index));
    __m512i high = _mm512_mask_mov_epi16(ht_look64(t + 128, index), b6, ht_look64(t + 192, index));
    return _mm512_mask_mov_epi16(low, b7, high);
}

/* n points: 256 .. 2048; bits of the index above them do not matter. b8: bit 8. */
HT_INLINE __m512i ht_look(const uint16_t *t, int n, __m512i index, __mmask32 b8) {
    __mmask32 b6 = ht_index_bit(index, 6), b7 = ht_index_bit(index, 7);
    __mmask32 b9 = ht_index_bit(index, 9), b10 = ht_index_bit(index, 10);
    __m512i v[8];
    for (int i = 0; i < n / 256; i++) {
        v[i] = ht_look256(t + 256 * i, index, b6, b7);
    }
    for (int i = 0; i < n / 512; i++) {
        v[i] = _mm512_mask_mov_epi16(v[2 * i], b8, v[2 * i + 1]);
    }
    for (int i = 0; i < n / 1024; i++) {
        v[i] = _mm512_mask_mov_epi16(v[2 * i], b9, v[2 * i + 1]);
    }
    return n == 2048 ? _mm512_mask_mov_epi16(v[0], b10, v[1]) : v[0];
}

/* 32 bytes to words. */
HT_INLINE __m512i ht_words32(const uint8_t *p) {
    return _mm512_cvtepu8_epi16(ht_load32(p));
}

/* ---- words to codes in lanes ---------------------------------------------------------------------------------- */

HT_INLINE __m512i ht_each64(int64_t v) {
    return _mm512_set1_epi64(v);
}

/* Points of 8: vectors 2 h and 2 h + 1, whose lane g holds a half of point 2 g + h. table: by 2 bits. */
HT_INLINE void ht_lanes_of8(__m512i points, __m512i table, __m512i c[4]) {
    /* Words 4 j + h and 4 j + 2 + h to qword j. */
    const __m512i first = _mm512_setr_epi64(0x00020000, 0x00060004, 0x000a0008, 0x000e000c, 0x00120010, 0x00160014,
                                            0x001a0018, 0x001e001c);
    for (int h = 0; h < 2; h++) {
        __m512i w = _mm512_permutexvar_epi16(_mm512_add_epi16(first, _mm512_set1_epi16((short)h)), points);
        __m512i low = _mm512_multishift_epi64_epi8(ht_each64(0x1614121006040200), w);
        __m512i high = _mm512_multishift_epi64_epi8(ht_each64(0x1e1c1a180e0c0a08), w);
        c[2 * h] = _mm512_permutexvar_epi8(low, table);
        c[2 * h + 1] = _mm512_permutexvar_epi8(high, table);
    }
}

/* Points of 4: lane g of vector v holds point 4 g + v. table: by 3 bits. */
HT_INLINE void ht_lanes_of4(__m512i low, __m512i high, __m512i table, __m512i c[4]) {
    /* Words 8 j + v and 8 j + 4 + v to qword j. */
    const __m512i first = _mm512_setr_epi64(0x00040000, 0x000c0008, 0x00140010, 0x001c0018, 0x00240020, 0x002c0028,
                                            0x00340030, 0x003c0038);
    for (int v = 0; v < 4; v++) {
        __m512i at = _mm512_add_epi16(first, _mm512_set1_epi16((short)v));
        __m512i w = _mm512_permutex2var_epi16(low, at, high);
        w = _mm512_multishift_epi64_epi8(ht_each64(0x1916131009060300), w);
        c[v] = _mm512_permutexvar_epi8(w, table);
    }
}

/* 32 bytes of signs, of which the byte of elements 8 i .. 8 i + 7 stands at `step` * i, or at 8 (i / 4) + i % 4 for
 * step 0. */
HT_INLINE void ht_lanes_sign(__m512i signs, int step, __m512i c[4]) {
    const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i apart = _mm512_setr_epi32(0, 2, 8, 10, 16, 18, 24, 26, 32, 34, 40, 42, 48, 50, 56, 58);
    const __m512i first = step == 0 ? apart : _mm512_mullo_epi32(index, _mm512_set1_epi32(step));
    const __m512i spread = _mm512_shuffle_epi8(first, _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    for (int v = 0; v < 4; v++) {
        __m512i at = _mm512_add_epi8(spread, _mm512_set1_epi8((char)((step == 0 ? 1 : step) * (v / 2))));
        __mmask64 minus = _mm512_test_epi8_mask(_mm512_permutexvar_epi8(at, signs),
                                                _mm512_set1_epi32(v % 2 ? (int)0x80402010 : 0x08040201));
        c[v] = _mm512_mask_sub_epi8(c[v], minus, _mm512_set1_epi8((char)128), c[v]);
    }
}

/* Bytes with 7 signs each: bit 7 becomes their parity. */
HT_INLINE __m512i ht_even512(__m512i s) {
    /* Bit 7 of byte i: the parity of the 6 bits of i. */
    const __m512i parity = _mm512_setr_epi64(
        (int64_t)0x8000008000808000u, (int64_t)0x0080800080000080u, (int64_t)0x0080800080000080u,
        (int64_t)0x8000008000808000u, (int64_t)0x0080800080000080u, (int64_t)0x8000008000808000u,
        (int64_t)0x8000008000808000u, (int64_t)0x0080800080000080u);
    __m512i top = _mm512_xor_si512(_mm512_permutexvar_epi8(s, parity), _mm512_add_epi8(s, s));
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x7f), s, top, 0xca); /* 0x7f ? s : top */
}

/* Level tables, repeated up to 64 bytes. */
HT_INLINE __m512i ht_table4(int a, int b, int c) {
    return _mm512_set1_epi32(64 + a + ((64 + b) << 8) + ((64 + c) << 16));
}

/* Scales of groups of 32 or 16, for both groups of 16 in the first case. */
HT_INLINE void ht_lanes_scales(ht_scales_fn *scales, int group, const uint8_t *p, struct ht_chunk *out) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    struct ht_scales s;
    scales(p, 8, &s);
    out->s = _mm512_castps256_ps512(s.s[0]);
    out->s = group == 16 ? _mm512_insertf32x8(out->s, s.s[1], 1) : _mm512_permutexvar_ps(twice, out->s);
    out->m = out->s;
}

/* ---- formats -------------------------------------------------------------------------------------------------- */

HT_INLINE void ht_lanes_iq2_xxs(const uint8_t *p, struct ht_chunk *out) {
    /* Byte 8 (i / 4) + i % 4 to word i. */
    const __m512i bytes = _mm512_setr_epi64(0x0003000200010000, 0x000b000a00090008, 0x0013001200110010,
                                            0x001b001a00190018, 0x0023002200210020, 0x002b002a00290028,
                                            0x0033003200310030, 0x003b003a00390038);
    __m512i v = _mm512_loadu_si512(p + 2);
    __m512i points = ht_look(ht_lattice_points_iq2_xxs, 256, _mm512_permutexvar_epi8(bytes, v), 0);
    ht_lanes_of8(points, ht_table4(8, 25, 43), out->c);
    ht_lanes_sign(ht_even512(_mm512_multishift_epi64_epi8(ht_each64(0x352e2720352e2720), v)), 0, out->c);
    ht_lanes_scales(ht_scales_iq2_xxs, 32, p, out);
}

HT_INLINE void ht_lanes_iq2_xs(const uint8_t *p, struct ht_chunk *out) {
    __m512i v = _mm512_loadu_si512(p + 2);
    __m512i points = ht_look(ht_lattice_points_iq2_xs, 512, v, ht_index_bit(v, 8));
    ht_lanes_of8(points, ht_table4(8, 25, 43), out->c);
    ht_lanes_sign(ht_even512(_mm512_srli_epi16(v, 9)), 2, out->c);
    ht_lanes_scales(ht_scales_iq2_xs, 16, p, out);
}

/* The bytes at p are the low halves of words; the high half of word i is taken from qword i / 4 of high, from bit
 * step * (i % 4) on. */
HT_INLINE __m512i ht_index_words(const uint8_t *p, __m512i high, int step) {
    int64_t from = (int64_t)step << 24 | (int64_t)(2 * step) << 40 | (int64_t)(3 * step) << 56;
    return _mm512_mask_multishift_epi64_epi8(ht_words32(p), 0xaaaaaaaaaaaaaaaau, ht_each64(from), high);
}

HT_INLINE void ht_lanes_iq2_s(const uint8_t *p, struct ht_chunk *out) {
    __m512i high = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const void *)(p + 66)));
    __m512i index = ht_index_words(p + 2, high, 2);
    ht_lanes_of8(ht_look(ht_lattice_points_iq2_s, 1024, index, ht_index_bit(index, 8)), ht_table4(8, 25, 43), out->c);
    ht_lanes_sign(_mm512_castsi256_si512(ht_load32(p + 34)), 1, out->c);
    ht_lanes_scales(ht_scales_iq2_s, 16, p, out);
}

/* Two lookups of 32 points of 4; high: bit 8 of each index. */
HT_INLINE void ht_lanes_iq3(const uint16_t *t, int n, const uint8_t *p, uint64_t high, __m512i table,
                            struct ht_chunk *out) {
    __m512i a = ht_look(t, n, ht_words32(p), (__mmask32)high);
    __m512i b = ht_look(t, n, ht_words32(p + 32), (__mmask32)(high >> 32));
    ht_lanes_of4(a, b, table, out->c);
}

HT_INLINE void ht_lanes_iq3_xxs(const uint8_t *p, struct ht_chunk *out) {
    const __m512i table = ht_each64(0x7e746c645c544c44); /* 64 + 4, 12 .. 52, 62 */
    ht_lanes_iq3(ht_lattice_points_iq3_xxs, 256, p + 2, 0, table, out);
    __m512i signs = _mm512_castsi256_si512(ht_load32(p + 66));
    ht_lanes_sign(ht_even512(_mm512_multishift_epi64_epi8(ht_each64(0x352e2720150e0700), signs)), 1, out->c);
    ht_lanes_scales(ht_scales_iq3_xxs, 32, p, out);
}

HT_INLINE void ht_lanes_iq3_s(const uint8_t *p, struct ht_chunk *out) {
    const __m512i table = ht_each64(0x4f4d4b4947454341); /* 64 + 1, 3 .. 15 */
    ht_lanes_iq3(ht_lattice_points_iq3_s, 512, p + 2, ht_load_u64(p + 66), table, out);
    ht_lanes_sign(_mm512_castsi256_si512(ht_load32(p + 74)), 1, out->c);
    ht_lanes_scales(ht_scales_iq3_s, 32, p, out);
}

/* Points of 8 bytes from a table in memory, for HT_ORDER_EIGHTS: broadcasts from memory under masks of one lane. Faster
 * than lookups in vectors where points are many. Bytes of `low` and fields of `high` under `mask` make 4 indices of 16
 * bits; they stay in general registers, because loading words of a vector just stored costs more than the points. */
HT_INLINE uint64_t ht_four_indices(const uint8_t *low, const uint8_t *high, uint64_t fields, uint64_t mask) {
    return _pdep_u64(ht_load_u32(low), 0x00ff00ff00ff00ff) | _pdep_u64((uint64_t)ht_load_u16(high) & fields, mask);
}

HT_INLINE void ht_eighth(__m512i *c, const uint64_t *point, int lane) {
    __m128i p = _mm_loadl_epi64((const void *)point);
    *c = lane == 0 ? _mm512_broadcastq_epi64(p) : _mm512_mask_broadcastq_epi64(*c, (__mmask8)(1 << lane), p);
}

/* The shift of a group, + or - 1 in every code, goes to its min: scale * (64 -+ 1). */
HT_INLINE void ht_eights_iq1_s(const uint8_t *p, struct ht_chunk *out) {
    const uint64_t *t = ht_lattice_x86.iq1;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        uint64_t at = ht_four_indices(p + 2 + 4 * g, p + 34 + 2 * g, 0xfff, 0x0700070007000700);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            ht_eighth(&out->c[i], t + (at >> 16 * i & 0xffff), g);
        }
    }
    struct ht_scales s;
    ht_scales_iq1_s(p, 8, &s);
    __m128i w = _mm_srai_epi16(_mm_loadu_si128((const void *)(p + 34)), 15);
    __m256 shift = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_or_si128(w, _mm_set1_epi16(1))));
    __m256 min = _mm256_mul_ps(s.s[0], _mm256_sub_ps(_mm256_set1_ps(64), shift));
    out->s = out->m = _mm512_insertf32x8(_mm512_castps256_ps512(s.s[0]), min, 1);
}

/* A nibble has the high bits of an index and the shift of the point. */
HT_INLINE void ht_eights_iq1_m(const uint8_t *p, struct ht_chunk *out) {
    /* Words 2 i + v % 2 of each half to qwords. */
    const __m512i even = _mm512_shuffle_epi8(_mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14),
                                             _mm512_set4_epi32(0x09080908, 0x09080908, 0x01000100, 0x01000100));
    const uint64_t *t = ht_lattice_x86.iq1;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        uint64_t at = ht_four_indices(p + 4 * g, p + 32 + 2 * g, 0x7777, 0x0f000f000f000f00);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            ht_eighth(&out->c[g / 4 * 2 + i % 2], t + (at >> 16 * i & 0xffff), g % 4 * 2 + i / 2);
        }
    }
    __m512i w = _mm512_cvtepu16_epi64(_mm_loadu_si128((const void *)(p + 32)));
    __m512i shift = _mm512_srai_epi16(_mm512_slli_epi16(ht_index_words(p, w, 4), 4), 15);
    shift = _mm512_or_si512(shift, _mm512_set1_epi8(1));
    for (int v = 0; v < 4; v++) {
        __m512i word = _mm512_add_epi16(even, _mm512_set1_epi16((short)(16 * (v / 2) + v % 2)));
        out->c[v] = _mm512_add_epi8(out->c[v], _mm512_permutexvar_epi16(word, shift));
    }
    ht_lanes_scales(ht_scales_iq1_m, 16, p, out);
}

/* A nibble has the high bits of an index and the shift of the point.  */
HT_INLINE void ht_lanes_iq1_m(const uint8_t *p, struct ht_chunk *out) {
    const __m512i first = _mm512_setr_epi32(0, 0x00020002, 0x00040004, 0x00060006, 0x00080008, 0x000a000a, 0x000c000c,
                                            0x000e000e, 0x00100010, 0x00120012, 0x00140014, 0x00160016, 0x00180018,
                                            0x001a001a, 0x001c001c, 0x001e001e);
    __m512i w = _mm512_cvtepu16_epi64(_mm_loadu_si128((const void *)(p + 32)));
    __m512i index = ht_index_words(p, w, 4);
    __m512i shift = _mm512_srai_epi16(_mm512_slli_epi16(index, 4), 15);
    shift = _mm512_or_si512(shift, _mm512_set1_epi8(1));
    ht_lanes_of8(ht_look(ht_lattice_points_iq1, 2048, index, ht_index_bit(index, 8)), ht_table4(-8, 0, 8), out->c);
    for (int v = 0; v < 4; v++) {
        __m512i at = _mm512_add_epi16(first, _mm512_set1_epi16((short)(v / 2)));
        out->c[v] = _mm512_add_epi8(out->c[v], _mm512_permutexvar_epi16(at, shift));
    }
    ht_lanes_scales(ht_scales_iq1_m, 16, p, out);
}

/* ---- lanes to pieces, for panels and decoding ----------------------------------------------------------------- */

/* HT_PIECES_QUADS; scales of groups of 32: the low 8 of s. */
HT_INLINE void ht_pieces_of_lanes(int group, struct ht_chunk *c) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14);
    __m512i a = _mm512_unpacklo_epi32(c->c[0], c->c[1]), b = _mm512_unpackhi_epi32(c->c[0], c->c[1]);
    __m512i d = _mm512_unpacklo_epi32(c->c[2], c->c[3]), e = _mm512_unpackhi_epi32(c->c[2], c->c[3]);
    c->c[0] = _mm512_unpacklo_epi64(a, d);
    c->c[1] = _mm512_unpackhi_epi64(a, d);
    c->c[2] = _mm512_unpacklo_epi64(b, e);
    c->c[3] = _mm512_unpackhi_epi64(b, e);
    c->s = group == 32 ? _mm512_permutexvar_ps(even, c->s) : c->s;
    c->m = c->s;
}

#endif
