#include <math.h>

#include "kernel/arm/levels.h"
#include "kernel/arm/simd_neon.h"

HT_INLINE float sum4x4(const float32x4_t s[4]) {
    return vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
}

float ht_dot_f32_neon(const float *a, const float *b, size_t n) {
    float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 4; j++) {
            s[j] = vfmaq_f32(s[j], vld1q_f32(a + i + 4 * j), vld1q_f32(b + i + 4 * j));
        }
    }
    for (size_t j = 0; i < n; i += 4, j++) {
        s[j] = vfmaq_f32(s[j], ht_load4(a + i, n - i), ht_load4(b + i, n - i));
    }
    return sum4x4(s);
}

float ht_dot_f32_f16_neon(const float *a, const uint16_t *b, size_t n) {
    float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 4; j++) {
            s[j] = vfmaq_f32(s[j], vld1q_f32(a + i + 4 * j), ht_load4_f16(b + i + 4 * j, 4));
        }
    }
    for (size_t j = 0; i < n; i += 4, j++) {
        s[j] = vfmaq_f32(s[j], ht_load4(a + i, n - i), ht_load4_f16(b + i, n - i));
    }
    return sum4x4(s);
}

static void axpy_f32(float s, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        ht_store4(y + i, vfmaq_n_f32(ht_load4(y + i, n - i), ht_load4(x + i, n - i), s), n - i);
    }
}

static void axpy_f16(float s, const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        ht_store4(y + i, vfmaq_n_f32(ht_load4(y + i, n - i), ht_load4_f16(x + i, n - i), s), n - i);
    }
}

static void f16_from_f32(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        uint16_t v[4];
        vst1_u16(v, vreinterpret_u16_f16(vcvt_f16_f32(ht_load4(x + i, n - i))));
        memcpy(y + i, v, (n - i < 4 ? n - i : 4) * sizeof *v);
    }
}

static void f32_from_f16(const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 4) {
        ht_store4(y + i, ht_load4_f16(x + i, n - i), n - i);
    }
}

static void rms_norm(const float *x, const float *w, float eps, float *y, size_t n) {
    float64x2_t s0 = vdupq_n_f64(0), s1 = vdupq_n_f64(0);
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t v = ht_load4(x + i, n - i);
        float64x2_t lo = vcvt_f64_f32(vget_low_f32(v)), hi = vcvt_high_f64_f32(v);
        s0 = vfmaq_f64(s0, lo, lo);
        s1 = vfmaq_f64(s1, hi, hi);
    }
    float r = (float)(1.0 / sqrt(vaddvq_f64(vaddq_f64(s0, s1)) / (double)n + eps));
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t v = vmulq_n_f32(ht_load4(x + i, n - i), r);
        if (w != NULL) {
            v = vmulq_f32(v, ht_load4(w + i, n - i));
        }
        ht_store4(y + i, v, n - i);
    }
}

static float max_of(const float *x, size_t n) {
    float m = x[0];
    size_t i = 0;
    if (n >= 4) {
        float32x4_t v = vld1q_f32(x);
        for (i = 4; i + 4 <= n; i += 4) {
            float32x4_t next = vld1q_f32(x + i);
            v = vbslq_f32(vcgtq_f32(next, v), next, v); /* as the reference: NaN is never larger */
        }
        float lanes[4];
        vst1q_f32(lanes, v);
        for (int j = 0; j < 4; j++) {
            m = lanes[j] > m ? lanes[j] : m;
        }
    }
    for (; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    return m;
}

void ht_softmax_neon(float *x, size_t n) {
    float32x4_t max = vdupq_n_f32(max_of(x, n));
    float64x2_t s0 = vdupq_n_f64(0), s1 = vdupq_n_f64(0);
    double rest = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t e = ht_exp_neon(vsubq_f32(vld1q_f32(x + i), max));
        vst1q_f32(x + i, e);
        s0 = vaddq_f64(s0, vcvt_f64_f32(vget_low_f32(e)));
        s1 = vaddq_f64(s1, vcvt_high_f64_f32(e));
    }
    for (; i < n; i++) {
        x[i] = ht_exp_f32(x[i] - vgetq_lane_f32(max, 0));
        rest += (double)x[i];
    }
    float r = (float)(1.0 / (rest + vaddvq_f64(vaddq_f64(s0, s1))));
    for (i = 0; i < n; i += 4) {
        ht_store4(x + i, vmulq_n_f32(ht_load4(x + i, n - i), r), n - i);
    }
}

static void silu_mul(const float *gate, const float *up, float *y, size_t n) {
    const float32x4_t one = vdupq_n_f32(1.0f);
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t g = ht_load4(gate + i, n - i), u = ht_load4(up + i, n - i);
        float32x4_t e = ht_exp_neon(vnegq_f32(g));
        ht_store4(y + i, vmulq_f32(vdivq_f32(g, vaddq_f32(one, e)), u), n - i);
    }
}

/* exp of x <= 0 in double: Taylor to degree 13 on |r| <= 0.347, relative error below 1e-16. */
static float64x2_t exp_f64(float64x2_t x) {
    static const double inv_factorial[] = {1.0 / 6227020800,
                                           1.0 / 479001600,
                                           1.0 / 39916800,
                                           1.0 / 3628800,
                                           1.0 / 362880,
                                           1.0 / 40320,
                                           1.0 / 5040,
                                           1.0 / 720,
                                           1.0 / 120,
                                           1.0 / 24,
                                           1.0 / 6,
                                           1.0 / 2,
                                           1.0,
                                           1.0};
    uint64x2_t zero = vcltq_f64(x, vdupq_n_f64(-708.0));
    float64x2_t n = vrndnq_f64(vmulq_n_f64(x, 1.4426950408889634));
    float64x2_t r = vfmsq_f64(x, n, vdupq_n_f64(0x1.62e42fefa3800p-1));
    r = vfmsq_f64(r, n, vdupq_n_f64(0x1.ef35793c76730p-45));
    float64x2_t p = vdupq_n_f64(inv_factorial[0]);
    for (size_t i = 1; i < sizeof inv_factorial / sizeof inv_factorial[0]; i++) {
        p = vfmaq_f64(vdupq_n_f64(inv_factorial[i]), p, r);
    }
    int64x2_t e = vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(n), vdupq_n_s64(1023)), 52);
    return vbslq_f64(zero, vdupq_n_f64(0), vmulq_f64(p, vreinterpretq_f64_s64(e)));
}

static double log_sum_exp(const float *x, size_t n, float *max) {
    float m = max_of(x, n);
    float64x2_t top = vdupq_n_f64((double)m), s0 = vdupq_n_f64(0), s1 = vdupq_n_f64(0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        s0 = vaddq_f64(s0, exp_f64(vsubq_f64(vcvt_f64_f32(vget_low_f32(v)), top)));
        s1 = vaddq_f64(s1, exp_f64(vsubq_f64(vcvt_high_f64_f32(v), top)));
    }
    double sum = vaddvq_f64(vaddq_f64(s0, s1));
    for (; i < n; i++) {
        sum += exp((double)x[i] - (double)m);
    }
    if (max != NULL) {
        *max = m;
    }
    return (double)m + log(sum);
}

/* Same numbers as ht_quantize_q8_ref: the absolute bits order like the values, and put Inf and NaN on top. */
static void quantize_q8(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16) {
    for (size_t g = 0; g < n / 32; g++) {
        float32x4_t v[8];
        uint32x4_t top = vdupq_n_u32(0);
        for (size_t j = 0; j < 8; j++) {
            v[j] = vld1q_f32(x + 32 * g + 4 * j);
            top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(v[j])));
        }
        uint32_t bits = vmaxvq_u32(top);
        float max = ht_f32_from_bits(bits);
        if (bits >= 0x7f800000u || max < 1e-36f) {
            memset(q + 32 * g, 0, 32);
            sum16[2 * g] = sum16[2 * g + 1] = 0;
            d[g] = bits >= 0x7f800000u ? NAN : 0;
            continue;
        }
        float r = 127.0f / max;
        for (size_t h = 0; h < 2; h++) {
            int32x4_t c[4];
            for (size_t j = 0; j < 4; j++) {
                c[j] = vcvtnq_s32_f32(vmulq_n_f32(v[4 * h + j], r));
            }
            sum16[2 * g + h] = vaddvq_s32(vaddq_s32(vaddq_s32(c[0], c[1]), vaddq_s32(c[2], c[3])));
            int16x8_t lo = vcombine_s16(vmovn_s32(c[0]), vmovn_s32(c[1]));
            int16x8_t hi = vcombine_s16(vmovn_s32(c[2]), vmovn_s32(c[3]));
            vst1q_s8(q + 32 * g + 16 * h, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
        }
        d[g] = max / 127.0f;
    }
}

void ht_vector_init_neon(struct ht_kernel_table *t) {
    t->ops.dot_f32 = ht_dot_f32_neon;
    t->ops.dot_f32_f16 = ht_dot_f32_f16_neon;
    t->ops.axpy_f32 = axpy_f32;
    t->ops.axpy_f16 = axpy_f16;
    t->ops.f16_from_f32 = f16_from_f32;
    t->ops.f32_from_f16 = f32_from_f16;
    t->ops.rms_norm = rms_norm;
    t->ops.softmax = ht_softmax_neon;
    t->ops.silu_mul = silu_mul;
    t->ops.log_sum_exp = log_sum_exp;
    t->quantize_q8 = quantize_q8;
}
