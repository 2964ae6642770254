#include "model/rope.h"

#include <math.h>

#define TAU 6.283185307179586

/* base^(-2i / d): radians per position of pair i before any scaling. */
static double raw_frequency(const struct ht_hparams *hp, size_t i) {
    return pow((double)hp->rope_base, -2.0 * (double)i / (double)hp->rope_dim);
}

/* Llama 3.1: let w = 2 pi / f be the wavelength of pair i, C the original context, l and h the low and high
 * frequency factors.
 *     w < C / h    short waves turn as before:    divisor 1
 *     w > C / l    long waves are stretched:      divisor factor
 *     else         blended: f' = f ((1 - s) / factor + s),  s = (C / w - l) / (h - l)                       */
static double llama3_divisor(double frequency, double factor, double low, double high, double context) {
    double wavelength = TAU / frequency;
    if (wavelength < context / high) {
        return 1;
    }
    if (wavelength > context / low) {
        return factor;
    }
    double s = (context / wavelength - low) / (high - low);
    return 1 / ((1 - s) / factor + s);
}

void ht_rope_llama3_divisors(const struct ht_hparams *hp, float *divisors) {
    for (size_t i = 0; i < hp->rope_dim / 2; i++) {
        divisors[i] =
            (float)llama3_divisor(raw_frequency(hp, i), (double)hp->rope_factor, (double)hp->rope_low_freq,
                                  (double)hp->rope_high_freq, (double)hp->rope_original_context);
    }
}

static bool explains(const struct ht_hparams *hp, const float *divisors) {
    for (size_t i = 0; i < hp->rope_dim / 2; i++) {
        double d = llama3_divisor(raw_frequency(hp, i), (double)hp->rope_factor, (double)hp->rope_low_freq,
                                  (double)hp->rope_high_freq, (double)hp->rope_original_context);
        if (fabs(d - (double)divisors[i]) > 1e-5 * d) {
            return false;
        }
    }
    return true;
}

/* In the blended zone s = C / (2 pi (h - l)) f - l / (h - l) is a line over f with slope a and intercept -b.
 * With l = 1: h = 1 + 1 / b and C = 2 pi a / b. Two blended pairs fix the line; with fewer, any line that
 * separates the zones gives the same divisors. */
bool ht_rope_llama3_fit(const float *divisors, struct ht_hparams *hp) {
    size_t half = hp->rope_dim / 2, first = half, last = half;
    double factor = (double)divisors[half - 1];
    if (factor <= 1 || (double)divisors[0] != 1) {
        return false;
    }
    for (size_t i = 0; i < half; i++) {
        double d = (double)divisors[i];
        if (d > 1 && d < factor * (1 - 1e-6)) {
            first = first == half ? i : first;
            last = i;
        }
    }
    if (first == last) {
        return false;
    }
    /* The two ends of the zone: farthest apart, so least disturbed by the rounding to f32. */
    double f0 = raw_frequency(hp, first), f1 = raw_frequency(hp, last);
    double s0 = (1 / (double)divisors[first] - 1 / factor) / (1 - 1 / factor);
    double s1 = (1 / (double)divisors[last] - 1 / factor) / (1 - 1 / factor);
    double a = (s0 - s1) / (f0 - f1), b = a * f0 - s0;
    if (!(a > 0 && b > 0)) {
        return false;
    }
    double context = TAU * a / b, high = 1 + 1 / b;
    if (!(context >= 1 && context < UINT32_MAX && high < 1e6)) {
        return false;
    }
    struct ht_hparams fitted = *hp;
    fitted.rope_scaling = HT_ROPE_SCALING_LLAMA3;
    fitted.rope_factor = (float)factor;
    fitted.rope_low_freq = 1;
    fitted.rope_high_freq = (float)(round(high * 1000) / 1000);
    fitted.rope_original_context = (uint32_t)lround(context);
    if (!explains(&fitted, divisors)) {
        return false;
    }
    *hp = fitted;
    return true;
}

void ht_rope_frequencies(const struct ht_hparams *hp, const float *divisors, double *inv_freq) {
    double factor = hp->rope_scaling == HT_ROPE_SCALING_LINEAR ? (double)hp->rope_factor : 1;
    for (size_t i = 0; i < hp->rope_dim / 2; i++) {
        inv_freq[i] = raw_frequency(hp, i) / factor / (divisors != NULL ? (double)divisors[i] : 1);
    }
}

void ht_rope_angles(const double *inv_freq, size_t half, uint32_t first, size_t n, float *cs) {
    for (size_t t = 0; t < n; t++) {
        for (size_t i = 0; i < half; i++) {
            double angle = (double)(first + t) * inv_freq[i];
            cs[(t * half + i) * 2] = (float)cos(angle);
            cs[(t * half + i) * 2 + 1] = (float)sin(angle);
        }
    }
}

uint64_t ht_rope_row(enum ht_rope_style to, uint64_t r, uint64_t d) {
    uint64_t head = r / d, i = r % d;
    return head * d + (to == HT_ROPE_PAIRS ? i % 2 * (d / 2) + i / 2 : i % (d / 2) * 2 + i / (d / 2));
}

void ht_rope_turn(enum ht_rope_style style, const float *cs, size_t rope_dim, size_t head_dim, size_t n_heads,
                  float *x) {
    size_t half = rope_dim / 2;
    size_t step = style == HT_ROPE_PAIRS ? 2 : 1, other = style == HT_ROPE_PAIRS ? 1 : half;
    for (size_t h = 0; h < n_heads; h++, x += head_dim) {
        for (size_t i = 0; i < half; i++) {
            float c = cs[2 * i], s = cs[2 * i + 1];
            float a = x[i * step], b = x[i * step + other];
            x[i * step] = a * c - b * s;
            x[i * step + other] = a * s + b * c;
        }
    }
}
