/* Rows of the block formats to f32, bit for bit as format->decode: (scale * code) - min in that order, where scale and
 * min are already products in f32. */
#ifndef HT_KERNEL_X86_DECODE_AVX512_H
#define HT_KERNEL_X86_DECODE_AVX512_H

#include "kernel/x86/chunk/chunk_avx512.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/chunk/shapes.h"

HT_INLINE void ht_decode_chunk512(const struct ht_chunk_shape *s, const struct ht_chunk *c, float *x) {
    HT_ALIGNED(64) uint8_t codes[256];
    HT_ALIGNED(64) float scale[16], min[16];
    for (int v = 0; v < 4; v++) {
        _mm512_store_si512(codes + 64 * v, c->c[v]);
    }
    _mm512_store_ps(scale, c->s);
    if (s->offset == 0 && s->group == 16) {
        _mm512_store_ps(min, c->m);
    }
    const __m512i offset = _mm512_set1_epi32(s->offset);
    for (int i = 0; i < 16; i++) {
        int piece = s->piece[i], g = s->group == 16 ? piece : piece / 2;
        __m512i q = _mm512_cvtepu8_epi32(_mm_load_si128((const void *)(codes + 16 * i)));
        __m512 w = _mm512_mul_ps(_mm512_set1_ps(scale[g]), _mm512_cvtepi32_ps(_mm512_sub_epi32(q, offset)));
        if (s->offset == 0) {
            w = _mm512_sub_ps(w, _mm512_set1_ps(s->group == 16 ? min[g] : scale[8 + g]));
        }
        _mm512_storeu_ps(x + 16 * piece, w);
    }
}

/* n is a multiple of 32 (of 256 where that is the block). */
HT_INLINE void ht_decode_avx512(ht_chunk_fn *unpack, const struct ht_chunk_shape *s, const uint8_t *p, float *x,
                                size_t n) {
    struct ht_chunk c;
    for (; n >= 256; n -= 256, p += s->bytes, x += 256) {
        unpack(p, &c);
        ht_decode_chunk512(s, &c, x);
    }
    if (n > 0) {
        uint8_t blocks[8 * 34] = {0};
        float rest[256];
        memcpy(blocks, p, s->bytes * (n / 32) / 8);
        unpack(blocks, &c);
        ht_decode_chunk512(s, &c, rest);
        memcpy(x, rest, n * sizeof *x);
    }
}

/* decode_<name>; after unpack comes its shape. */
#define HT_DECODE_AVX512(name, unpack, ...)                                                                  \
    HT_SHAPE(decode_##name, __VA_ARGS__);                                                                    \
    static void decode_##name(const void *src, float *x, size_t n) {                                         \
        ht_decode_avx512(unpack, &shape_decode_##name, src, x, n);                                           \
    }

#endif
