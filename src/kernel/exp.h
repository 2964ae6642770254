/* exp in f32 without the C library, so that every machine gives the same bits at the reference level and the
 * vector levels can use the same polynomial.
 *
 *     exp(x) = 2^n * exp(r),   n = round(x / ln 2),   r = x - n ln 2,   |r| <= 0.347
 *
 * ln 2 is split in two so that n * LN2_HI is exact. The polynomial is the degree 6 minimax fit of Cephes expf
 * (S. Moshier, "Methods and Programs for Mathematical Functions", 1989); relative error below 2e-7. */
#ifndef HT_KERNEL_EXP_H
#define HT_KERNEL_EXP_H

#include "base/compiler.h"
#include "format/half.h"

#define HT_EXP_MAX 88.72283f    /* above: Inf */
#define HT_EXP_MIN (-87.33654f) /* below: 0 (2^-126, no subnormal results) */
#define HT_EXP_LOG2E 1.44269504f
#define HT_EXP_LN2_HI 0.693359375f
#define HT_EXP_LN2_LO (-2.12194440e-4f)
#define HT_EXP_C0 1.9875691500e-4f
#define HT_EXP_C1 1.3981999507e-3f
#define HT_EXP_C2 8.3334519073e-3f
#define HT_EXP_C3 4.1665795894e-2f
#define HT_EXP_C4 1.6666665459e-1f
#define HT_EXP_C5 5.0000001201e-1f
#define HT_EXP_ROUND 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, to nearest even */

/* exp(r), and *n, of a finite x. */
HT_INLINE float ht_exp_reduced(float x, float *n) {
    *n = (x * HT_EXP_LOG2E + HT_EXP_ROUND) - HT_EXP_ROUND;
    float r = x - *n * HT_EXP_LN2_HI - *n * HT_EXP_LN2_LO;
    float p = HT_EXP_C0;
    p = p * r + HT_EXP_C1;
    p = p * r + HT_EXP_C2;
    p = p * r + HT_EXP_C3;
    p = p * r + HT_EXP_C4;
    p = p * r + HT_EXP_C5;
    return p * (r * r) + r + 1.0f;
}

static inline float ht_exp_f32(float x) {
    if (!(x >= HT_EXP_MIN)) {
        return x != x ? x : 0;
    }
    if (x > HT_EXP_MAX) {
        return ht_f32_from_bits(0x7f800000u);
    }
    float n, p = ht_exp_reduced(x, &n);
    /* 2^128 is no float: scale in two steps. */
    int e = (int)n, h = e / 2;
    return p * ht_f32_from_bits((uint32_t)(h + 127) << 23) * ht_f32_from_bits((uint32_t)(e - h + 127) << 23);
}

#endif
