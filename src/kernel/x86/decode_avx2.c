/* Rows of the block formats to f32, bit for bit as format->decode: (scale * code) - min in that order, where scale and
 * min are already products in f32. */
#include "kernel/x86/chunk/chunk_lattice_avx2.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/chunk/shapes.h"

HT_INLINE void decode_chunk(ht_codes_fn *codes, ht_scales_fn *scales, const struct ht_chunk_shape *s,
                            const uint8_t *p, size_t n_groups, float *x) {
    const bool mins = s->offset == 0, is_signed = s->offset == 128;
    const __m256i offset = _mm256_set1_epi8((char)(is_signed ? 0 : s->offset));
    HT_ALIGNED(32) float scale[16], min[16];
    struct ht_scales sc;
    scales(p, n_groups, &sc);
    for (int h = 0; h < (s->group == 16 ? 2 : 1); h++) {
        _mm256_store_ps(scale + 8 * h, sc.s[h]);
        if (mins) {
            _mm256_store_ps(min + 8 * h, sc.m[h]);
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < (int)n_groups; g++) {
        __m256i c = _mm256_sub_epi8(codes(p, g), offset);
        for (int i = 0; i < 4; i++) {
            __m128i half = i < 2 ? _mm256_castsi256_si128(c) : _mm256_extracti128_si256(c, 1);
            __m256i q = _mm256_cvtepi8_epi32(i & 1 ? _mm_unpackhi_epi64(half, half) : half);
            int at = s->group == 16 ? 2 * g + i / 2 : g;
            __m256 w = _mm256_mul_ps(_mm256_broadcast_ss(scale + at), _mm256_cvtepi32_ps(q));
            if (mins) {
                w = _mm256_sub_ps(w, _mm256_broadcast_ss(min + at));
            }
            _mm256_storeu_ps(x + 32 * g + 8 * i, w);
        }
    }
}

/* n is a multiple of 32 (of 256 where that is the block). */
#define DECODE(name, pieces, group, offset, chained, bytes)                                                  \
    HT_SHAPE(name, HT_PIECES_NATURAL, group, offset, false, bytes, HT_ORDER_PIECES);                         \
    static void decode_##name(const void *src, float *x, size_t n) {                                         \
        const uint8_t *p = src;                                                                              \
        for (; n >= 256; n -= 256, p += (bytes), x += 256) {                                                 \
            decode_chunk(ht_codes_##name, ht_scales_##name, &shape_##name, p, 8, x);                         \
        }                                                                                                    \
        if (n > 0) {                                                                                         \
            decode_chunk(ht_codes_##name, ht_scales_##name, &shape_##name, p, n / 32, x);                    \
        }                                                                                                    \
    }
HT_CHUNK_LIST(DECODE)

void ht_decode_init_avx2(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .decode = decode_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
