/* f16 and bf16: conversion in plain C, round to nearest even, bit-exact for every code.
 * IEEE 754-2019 binary16; bfloat16 is the upper half of binary32. NaN stays NaN and becomes quiet. */
#ifndef HT_FORMAT_HALF_H
#define HT_FORMAT_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ht_f32_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float ht_f32_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float ht_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;
    if (e == 0) { /* zero or subnormal: m * 2^-24 is exact */
        float v = (float)m * 0x1p-24f;
        return ht_f32_from_bits(ht_f32_bits(v) | sign);
    }
    if (e == 31) {
        return ht_f32_from_bits(sign | 0x7f800000u | m << 13 | (m ? 0x00400000u : 0));
    }
    return ht_f32_from_bits(sign | (e + 112u) << 23 | m << 13);
}

static inline uint16_t ht_f16_from_f32(float x) {
    uint32_t u = ht_f32_bits(x), a = u & 0x7fffffffu;
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    if (a >= 0x7f800000u) { /* Inf, NaN (kept, made quiet) */
        return (uint16_t)(sign | 0x7c00u | (a > 0x7f800000u ? 0x200u | ((a >> 13) & 0x3ffu) : 0));
    }
    if (a >= 0x477ff000u) { /* rounds to 2^16 or more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a < 0x38800000u) { /* below 2^-14: adding 0.5 makes the unit in the last place 2^-24 */
        uint32_t v = ht_f32_bits(ht_f32_from_bits(a) + 0.5f);
        return (uint16_t)(sign | (v - 0x3f000000u));
    }
    a += 0xfffu + ((a >> 13) & 1u);
    return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

static inline float ht_bf16_to_f32(uint16_t h) {
    return ht_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t ht_bf16_from_f32(float x) {
    uint32_t u = ht_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(u >> 16 | 0x40u);
    }
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif
