/* What several NEON files share: loads and stores of the end of a row, f16, exp. */
#ifndef HT_KERNEL_ARM_SIMD_NEON_H
#define HT_KERNEL_ARM_SIMD_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "base/compiler.h"
#include "kernel/exp.h"

/* The first n of 4 floats at p; the rest is 0. Full vectors cost one load. */
HT_INLINE float32x4_t ht_load4(const float *p, size_t n) {
    if (n >= 4) {
        return vld1q_f32(p);
    }
    float v[4] = {0};
    memcpy(v, p, n * sizeof *v);
    return vld1q_f32(v);
}

/* Likewise of 4 halves. */
HT_INLINE float32x4_t ht_load4_f16(const uint16_t *p, size_t n) {
    if (n >= 4) {
        return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
    }
    uint16_t v[4] = {0};
    memcpy(v, p, n * sizeof *v);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(v)));
}

HT_INLINE void ht_store4(float *p, float32x4_t x, size_t n) {
    if (n >= 4) {
        vst1q_f32(p, x);
        return;
    }
    float v[4];
    vst1q_f32(v, x);
    memcpy(p, v, n * sizeof *v);
}

/* The polynomial of kernel/exp.h with fused steps; the same ranges. */
HT_INLINE float32x4_t ht_exp_neon(float32x4_t x) {
    uint32x4_t zero = vcltq_f32(x, vdupq_n_f32(HT_EXP_MIN));
    uint32x4_t inf = vcgtq_f32(x, vdupq_n_f32(HT_EXP_MAX));
    float32x4_t n = vrndnq_f32(vmulq_n_f32(x, HT_EXP_LOG2E));
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(HT_EXP_LN2_HI));
    r = vfmsq_f32(r, n, vdupq_n_f32(HT_EXP_LN2_LO));
    float32x4_t p = vdupq_n_f32(HT_EXP_C0);
    p = vfmaq_f32(vdupq_n_f32(HT_EXP_C1), p, r);
    p = vfmaq_f32(vdupq_n_f32(HT_EXP_C2), p, r);
    p = vfmaq_f32(vdupq_n_f32(HT_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(HT_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(HT_EXP_C5), p, r);
    p = vaddq_f32(vfmaq_f32(r, p, vmulq_f32(r, r)), vdupq_n_f32(1.0f));
    /* 2^128 is no float: scale in two steps. */
    int32x4_t e = vcvtq_s32_f32(n), h = vshrq_n_s32(e, 1), bias = vdupq_n_s32(127);
    float32x4_t a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(h, bias), 23));
    float32x4_t b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(e, h), bias), 23));
    p = vmulq_f32(vmulq_f32(p, a), b);
    p = vbslq_f32(inf, vreinterpretq_f32_u32(vdupq_n_u32(0x7f800000u)), p);
    return vbslq_f32(zero, vdupq_n_f32(0), p);
}

/* Bits of an f16 in memory, at any address. */
HT_INLINE float ht_f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

#endif
