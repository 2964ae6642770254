/* chunk_avx512.h for the lattice formats: two groups of chunk_lattice_avx2.h to a vector. */
#ifndef HT_KERNEL_X86_CHUNK_LATTICE_AVX512_H
#define HT_KERNEL_X86_CHUNK_LATTICE_AVX512_H

#include "kernel/x86/chunk/chunk_lattice_avx2.h"
#include "kernel/x86/chunk/chunk_low_avx512.h"

HT_INLINE void ht_chunk_join(ht_codes_fn *codes, ht_scales_fn *scales, int group, const uint8_t *p,
                             struct ht_chunk *out) {
    struct ht_scales s;
    for (int i = 0; i < 4; i++) {
        out->c[i] = ht_join256(codes(p, 2 * i), codes(p, 2 * i + 1));
    }
    scales(p, 8, &s);
    out->s = out->m = _mm512_insertf32x8(_mm512_castps256_ps512(s.s[0]), s.s[group == 16], 1);
}

#define HT_CHUNK_JOIN(name, group)                                                                           \
    HT_INLINE void ht_chunk_##name(const uint8_t *p, struct ht_chunk *out) {                                 \
        ht_chunk_join(ht_codes_##name, ht_scales_##name, group, p, out);                                     \
    }
HT_CHUNK_JOIN(iq1_s, 32)
HT_CHUNK_JOIN(iq1_m, 16)
HT_CHUNK_JOIN(iq2_xxs, 32)
HT_CHUNK_JOIN(iq2_xs, 16)
HT_CHUNK_JOIN(iq2_s, 16)
HT_CHUNK_JOIN(iq3_xxs, 32)
HT_CHUNK_JOIN(iq3_s, 32)

#endif
