#include <math.h>

#include "kernel/exp.h"
#include "kernel/slots.h"

/* Sums run in eight lanes, as the vector levels do: closer to them and to the true sum than one chain. */
#define LANES 8

static float sum_lanes(const float *s) {
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

float ht_dot_f32_ref(const float *a, const float *b, size_t n) {
    float s[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        s[i % LANES] += a[i] * b[i];
    }
    return sum_lanes(s);
}

float ht_dot_f32_f16_ref(const float *a, const uint16_t *b, size_t n) {
    float s[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        s[i % LANES] += a[i] * ht_f16_to_f32(b[i]);
    }
    return sum_lanes(s);
}

void ht_axpy_f32_ref(float s, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] += s * x[i];
    }
}

void ht_axpy_f16_ref(float s, const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] += s * ht_f16_to_f32(x[i]);
    }
}

void ht_f16_from_f32_ref(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] = ht_f16_from_f32(x[i]);
    }
}

void ht_f32_from_f16_ref(const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] = ht_f16_to_f32(x[i]);
    }
}

/* Root mean square norm (Zhang and Sennrich, arXiv 1910.07467). The mean is taken in double: a long row of
 * equal squares would lose digits in one f32 chain. */
void ht_rms_norm_ref(const float *x, const float *w, float eps, float *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * x[i];
    }
    float r = (float)(1.0 / sqrt(sum / (double)n + eps));
    for (size_t i = 0; i < n; i++) {
        y[i] = w != NULL ? x[i] * r * w[i] : x[i] * r;
    }
}

static float max_of(const float *x, size_t n) {
    float m = x[0];
    for (size_t i = 1; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    return m;
}

void ht_softmax_ref(float *x, size_t n) {
    float max = max_of(x, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = ht_exp_f32(x[i] - max);
        sum += x[i];
    }
    float r = (float)(1.0 / sum);
    for (size_t i = 0; i < n; i++) {
        x[i] *= r;
    }
}

void ht_silu_mul_ref(const float *gate, const float *up, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] = gate[i] / (1.0f + ht_exp_f32(-gate[i])) * up[i];
    }
}

double ht_log_sum_exp_ref(const float *x, size_t n, float *max) {
    float m = max_of(x, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)x[i] - m);
    }
    if (max != NULL) {
        *max = m;
    }
    return (double)m + log(sum);
}
