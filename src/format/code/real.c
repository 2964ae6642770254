/* Binary floats: ranges, and conversion of the small ones. Every code and every tie is tested against ml_dtypes.
 *
 * A finite pattern p of a format with M mantissa bits and bias B has exponent field e = p >> M, mantissa
 * m = p & (2^M - 1) and the value
 *     2^(e - B) * (1 + m / 2^M)     e > 0           normal
 *     2^(1 - B) * (m / 2^M)         e = 0           subnormal, zero
 * Patterns of positive values are in the order of their values, so that a mantissa that rounds up into the next binade
 * carries into the exponent by itself. e8m0 has neither mantissa nor subnormals: its pattern 0 is 2^-B. */
#include <math.h>

#include "format/code.h"
#include "format/half.h"

/* max_code 0: more than 16 bits, or (e8m0) filled in by hand. */
const struct ht_real ht_real_f64 = {
    .sign_bits = 1, .exponent_bits = 11, .mantissa_bits = 52, .bias = 1023, .max = 0x1.fffffffffffffp1023,
    .min_normal = 0x1p-1022, .min_subnormal = 0x1p-1074, .eps = 0x1p-52, .has_inf = true, .has_nan = true,
    .has_zero = true,
};
const struct ht_real ht_real_f32 = {
    .sign_bits = 1, .exponent_bits = 8, .mantissa_bits = 23, .bias = 127, .max = 0x1.fffffep127,
    .min_normal = 0x1p-126, .min_subnormal = 0x1p-149, .eps = 0x1p-23, .has_inf = true, .has_nan = true,
    .has_zero = true,
};
const struct ht_real ht_real_tf32 = {
    .sign_bits = 1, .exponent_bits = 8, .mantissa_bits = 10, .bias = 127, .max = 0x1.ffcp127,
    .min_normal = 0x1p-126, .min_subnormal = 0x1p-136, .eps = 0x1p-10, .has_inf = true, .has_nan = true,
    .has_zero = true,
};
const struct ht_real ht_real_f16 = {
    .sign_bits = 1, .exponent_bits = 5, .mantissa_bits = 10, .bias = 15, .max_code = 0x7bff, .max = 65504,
    .min_normal = 0x1p-14, .min_subnormal = 0x1p-24, .eps = 0x1p-10, .has_inf = true, .has_nan = true,
    .has_zero = true,
};
const struct ht_real ht_real_bf16 = {
    .sign_bits = 1, .exponent_bits = 8, .mantissa_bits = 7, .bias = 127, .max_code = 0x7f7f, .max = 0x1.fep127,
    .min_normal = 0x1p-126, .min_subnormal = 0x1p-133, .eps = 0x1p-7, .has_inf = true, .has_nan = true,
    .has_zero = true,
};
/* OCP 8-bit Floating Point Specification 1.0: E4M3 has no Inf and one NaN per sign; E5M2 is like IEEE 754. */
const struct ht_real ht_real_e4m3 = {
    .sign_bits = 1, .exponent_bits = 4, .mantissa_bits = 3, .bias = 7, .max_code = 0x7e, .max = 448,
    .min_normal = 0x1p-6, .min_subnormal = 0x1p-9, .eps = 0x1p-3, .has_nan = true, .has_zero = true,
};
const struct ht_real ht_real_e5m2 = {
    .sign_bits = 1, .exponent_bits = 5, .mantissa_bits = 2, .bias = 15, .max_code = 0x7b, .max = 57344,
    .min_normal = 0x1p-14, .min_subnormal = 0x1p-16, .eps = 0x1p-2, .has_inf = true, .has_nan = true,
    .has_zero = true,
};
/* OCP Microscaling Formats (MX) Specification 1.0: the small ones have neither Inf nor NaN. */
const struct ht_real ht_real_e2m3 = {
    .sign_bits = 1, .exponent_bits = 2, .mantissa_bits = 3, .bias = 1, .max_code = 0x1f, .max = 7.5,
    .min_normal = 1, .min_subnormal = 0x1p-3, .eps = 0x1p-3, .has_zero = true,
};
const struct ht_real ht_real_e3m2 = {
    .sign_bits = 1, .exponent_bits = 3, .mantissa_bits = 2, .bias = 3, .max_code = 0x1f, .max = 28,
    .min_normal = 0x1p-2, .min_subnormal = 0x1p-4, .eps = 0x1p-2, .has_zero = true,
};
const struct ht_real ht_real_e2m1 = {
    .sign_bits = 1, .exponent_bits = 2, .mantissa_bits = 1, .bias = 1, .max_code = 0x7, .max = 6, .min_normal = 1,
    .min_subnormal = 0.5, .eps = 0.5, .has_zero = true,
};
const struct ht_real ht_real_e8m0 = {
    .sign_bits = 0, .exponent_bits = 8, .mantissa_bits = 0, .bias = 127, .max_code = 0xfe, .max = 0x1p127,
    .min_normal = 0x1p-127, .min_subnormal = 0x1p-127, .eps = 1, .has_nan = true,
};

static uint32_t nan_pattern(const struct ht_real *r) {
    uint32_t quiet = r->mantissa_bits > 0 ? 1u << (r->mantissa_bits - 1) : 0;
    return !r->has_nan ? 0 : r->has_inf ? r->max_code + 1 + quiet : r->max_code + 1;
}

/* e8m0: one value per binade. Ties (3/2) go up, as in ml_dtypes and torch. */
static uint32_t round_power(const struct ht_real *r, float x) {
    int e;
    float f = frexpf(x, &e); /* x = f * 2^e, f in [1/2, 1) */
    return x <= (float)r->min_normal ? 0 : (uint32_t)(e - 1 + r->bias + (f >= 0.75f));
}

/* |x| (bits a, finite) rounded to the patterns of positive values, beyond max_code where it overflows. */
static uint32_t round_magnitude(const struct ht_real *r, uint32_t a) {
    int M = r->mantissa_bits, drop = 23 - M;
    if (a < (uint32_t)(128 - r->bias) << 23) {
        /* Subnormal: a sum whose unit in the last place is the quantum does the rounding. */
        uint32_t anchor = (uint32_t)(151 - r->bias - M) << 23;
        return ht_f32_bits(ht_f32_from_bits(a) + ht_f32_from_bits(anchor)) - anchor;
    }
    a += (1u << (drop - 1)) - 1 + (a >> drop & 1u);
    return (a >> drop) - ((uint32_t)(127 - r->bias) << M);
}

uint32_t ht_real_from_f32(const struct ht_real *r, float x, bool saturate) {
    uint32_t sign_bit = (uint32_t)r->sign_bits << (r->exponent_bits + r->mantissa_bits);
    uint32_t sign = signbit(x) ? sign_bit : 0;
    if (x != x) {
        return r->has_nan ? sign | nan_pattern(r) : 0;
    }
    if (!r->has_zero && x <= 0) {
        return 0;
    }
    uint32_t a = ht_f32_bits(x) & 0x7fffffffu, p = r->max_code + 1;
    if (a < 0x7f800000u) {
        p = r->has_zero ? round_magnitude(r, a) : round_power(r, x);
    }
    if (p <= r->max_code) {
        return sign | p;
    }
    if (saturate || (!r->has_inf && !r->has_nan)) {
        return sign | r->max_code;
    }
    return sign | (r->has_inf ? r->max_code + 1 : nan_pattern(r));
}

float ht_real_to_f32(const struct ht_real *r, uint32_t pattern) {
    uint32_t sign_bit = (uint32_t)r->sign_bits << (r->exponent_bits + r->mantissa_bits);
    uint32_t p = sign_bit != 0 ? pattern & (sign_bit - 1) : pattern;
    float sign = (pattern & sign_bit) != 0 ? -1.0f : 1.0f;
    if (p > r->max_code && (r->has_inf || r->has_nan)) {
        return r->has_inf && p == r->max_code + 1 ? sign * INFINITY : NAN;
    }
    int e = (int)(p >> r->mantissa_bits), m = (int)(p & ((1u << r->mantissa_bits) - 1));
    if (!r->has_zero) {
        return (float)ldexp(1.0, e - r->bias);
    }
    double v = e > 0 ? ldexp(m + (1 << r->mantissa_bits), e - r->bias - r->mantissa_bits)
                     : ldexp(m, 1 - r->bias - r->mantissa_bits);
    return sign * (float)v;
}

float ht_tf32_round(float x) {
    uint32_t u = ht_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
        return ht_f32_from_bits((u | 0x00400000u) & 0xffffe000u);
    }
    return ht_f32_from_bits((u + 0xfffu + ((u >> 13) & 1u)) & 0xffffe000u);
}

void ht_real_count(const struct ht_real *r, const float *x, size_t n, struct ht_real_counts *counts) {
    /* Halfway between the largest finite value and the next pattern's: from there on values overflow. */
    double overflow = r->mantissa_bits > 0 || r->has_inf
                          ? r->max + 0.5 * r->eps * exp2(floor(log2(r->max)))
                          : 1.5 * r->max;
    /* Up to half the smallest value (a tie, to even) becomes 0. */
    double underflow = r->has_zero ? 0.5 * r->min_subnormal : r->min_subnormal;
    counts->n += n;
    for (size_t i = 0; i < n; i++) {
        double a = fabs((double)x[i]);
        if (a != a) {
            counts->nan++;
        } else if (a > 0x1.fffffep127) {
            counts->inf++;
        } else if (a >= overflow) {
            counts->overflow++;
        } else if (a > 0 && (r->has_zero ? a <= underflow : a < underflow)) {
            counts->underflow++;
        } else if (a > 0 && a < r->min_normal && r->has_zero) {
            counts->subnormal += a < r->min_normal - 0.5 * r->min_subnormal;
        }
    }
}
