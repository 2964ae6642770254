/* Pieces that the vector loops share; each becomes part of the function it stands in, at that one's level. */
#ifndef HT_FORMAT_LANES_H
#define HT_FORMAT_LANES_H

#include "format/format_impl.h"

#define HT_LANES 16
#define HT_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding and subtracting it rounds |v| < 2^22 to nearest even */

/* Bits of the largest magnitude: those of floats without sign are in the order of the floats. */
HT_INLINE int32_t ht_lane_largest_bits(const float *x, int n) {
    int32_t best = 0;
    for (int i = 0; i < n; i++) {
        int32_t a = (int32_t)(ht_f32_bits(x[i]) & 0x7fffffffu);
        best = a > best ? a : best;
    }
    return best;
}

#define HT_F32_INF_BITS 0x7f800000

/* The power of two that brings the float with these bits into [1, 2), as far as it and its inverse are normal. */
HT_INLINE float ht_lane_normalizer(int32_t bits) {
    int32_t e = 254 - (bits >> 23);
    e = e < 253 ? e : 253;
    e = e > 1 ? e : 1;
    return ht_f32_from_bits((uint32_t)e << 23);
}

/* The element of largest magnitude, with its sign. As an integer with the sign in the last bit it is the largest. */
HT_INLINE float ht_lane_extreme(const float *x, int n) {
    uint32_t best = 0;
    for (int i = 0; i < n; i++) {
        uint32_t u = ht_f32_bits(x[i]), key = u << 1 | u >> 31;
        best = key > best ? key : best;
    }
    return ht_f32_from_bits(best >> 1 | best << 31);
}

/* A value that f16 holds, next to v (ties may go either way). Veltkamp's splitting keeps 11 bits; below 2^-14 the
 * unit is 2^-24 throughout, which adding 1.5 * 2^-1 brings to the last place. */
HT_INLINE float ht_lane_to_f16(float v) {
    float c = v * 8193.0f, normal = c - (c - v), small = (v + 0.75f) - 0.75f;
    float r = v < 0x1p-14f && v > -0x1p-14f ? small : normal;
    r = r > -65504.0f ? r : -65504.0f;
    return r < 65504.0f ? r : 65504.0f;
}

/* The first lane of lowest score. Scores below 0 (rounding) count as 0: as integers, the bits of floats that
 * are not negative are in the order of the floats; NaN comes last. */
HT_INLINE int ht_lane_lowest(const float *score) {
    int32_t best = INT32_MAX, at = HT_LANES - 1;
    int32_t key[HT_LANES];
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        float s = score[l] < 0.0f ? 0.0f : score[l];
        key[l] = (int32_t)(ht_f32_bits(s) & 0x7fffffffu);
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        best = key[l] < best ? key[l] : best;
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        int32_t here = key[l] == best ? l : HT_LANES - 1;
        at = here < at ? here : at;
    }
    return at;
}

#endif
