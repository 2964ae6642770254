#include "tensor/act.h"

#include <math.h>

#include "base/compiler.h"
#include "format/half.h"

uint64_t ht_act_segments(const struct ht_sidecar *s) {
    return (s->leaves & HT_LEAVES_CLUSTERS) != 0 ? s->n_clusters : ht_scheme_groups(&s->act, s->cols);
}

void ht_act_segment(const struct ht_sidecar *s, uint64_t i, uint64_t *from, uint64_t *to) {
    if ((s->leaves & HT_LEAVES_CLUSTERS) != 0) {
        *from = s->act_idx[i];
        *to = i + 1 < s->n_clusters ? s->act_idx[i + 1] : s->cols;
        return;
    }
    uint64_t run = ht_scheme_run(&s->act, s->cols);
    *from = i * run;
    *to = s->cols - *from < run ? s->cols : *from + run;
}

bool ht_act_is_integer(const struct ht_sidecar *s) {
    if ((s->leaves & HT_LEAVES_ACT) == 0) {
        return false;
    }
    const struct ht_code *c = s->act.format->code;
    return c->levels == NULL && c->bits > 0 && c->bits <= 8;
}

enum { LANES = 16 };

/* Smallest and largest of x [n]; false when one of them is NaN or Inf, whose bits are the largest. */
HT_CLONES
static bool ends_of(const float *x, uint64_t n, float *lo, float *hi) {
    float a[LANES], b[LANES];
    int32_t top[LANES], largest = 0;
    for (int l = 0; l < LANES; l++) {
        a[l] = b[l] = x[0];
        top[l] = 0;
    }
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        HT_LANE_LOOP
        for (int l = 0; l < LANES; l++) {
            float v = x[i + (uint64_t)l];
            int32_t bits = (int32_t)(ht_f32_bits(v) & 0x7fffffffu);
            a[l] = v < a[l] ? v : a[l];
            b[l] = v > b[l] ? v : b[l];
            top[l] = bits > top[l] ? bits : top[l];
        }
    }
    for (int l = 0; i < n; i++, l++) {
        int32_t bits = (int32_t)(ht_f32_bits(x[i]) & 0x7fffffffu);
        a[l] = x[i] < a[l] ? x[i] : a[l];
        b[l] = x[i] > b[l] ? x[i] : b[l];
        top[l] = bits > top[l] ? bits : top[l];
    }
    for (int l = 0; l < LANES; l++) {
        a[0] = a[l] < a[0] ? a[l] : a[0];
        b[0] = b[l] > b[0] ? b[l] : b[0];
        largest = top[l] > largest ? top[l] : largest;
    }
    *lo = a[0];
    *hi = b[0];
    return largest < 0x7f800000;
}

void ht_act_fit(const struct ht_sidecar *s, const float *u, struct ht_affine *grids) {
    uint64_t n = ht_act_segments(s);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t from, to;
        float lo, hi;
        ht_act_segment(s, i, &from, &to);
        bool finite = ends_of(u + from, to - from, &lo, &hi);
        if (!finite) {
            grids[i] = (struct ht_affine){NAN, 0, 0};
        } else if ((s->leaves & HT_LEAVES_ACT_SCALE) != 0) {
            grids[i] = (struct ht_affine){s->act_scale[i], 0, s->act.zero == HT_ZERO_CODE ? s->act_zero[i] : 0};
        } else {
            grids[i] = ht_scheme_cover(&s->act, lo, hi);
        }
    }
}

/* The nearest code to x / scale, half to even, then + zero: ht_scheme_nearest for integers, many at a time. */
HT_CLONES
static void integer_codes(const float *u, uint64_t n, float scale, float zero, float lo, float hi, int16_t *codes) {
    for (uint64_t i = 0; i < n; i++) {
        float v = rintf(u[i] / scale) + zero;
        v = v < lo ? lo : v > hi ? hi : v;
        codes[i] = (int16_t)v;
    }
}

void ht_act_codes(const struct ht_sidecar *s, const float *u, const struct ht_affine *grids, int16_t *codes) {
    uint64_t n = ht_act_segments(s);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t from, to;
        ht_act_segment(s, i, &from, &to);
        if (!(grids[i].scale > 0)) { /* nothing but zeros; or NaN, whose codes do not matter */
            for (uint64_t k = from; k < to; k++) {
                codes[k] = (int16_t)grids[i].zero;
            }
            continue;
        }
        integer_codes(u + from, to - from, grids[i].scale, (float)grids[i].zero, (float)ht_scheme_lo(&s->act),
                      (float)ht_scheme_hi(&s->act), codes + from);
    }
}

void ht_act_values(const struct ht_sidecar *s, float *u, const struct ht_affine *grids) {
    uint64_t n = ht_act_segments(s);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t from, to;
        ht_act_segment(s, i, &from, &to);
        bool nan = !(grids[i].scale >= 0);
        for (uint64_t k = from; k < to; k++) {
            u[k] = nan ? grids[i].scale
                       : ht_scheme_value(&s->act, NULL, &grids[i], ht_scheme_nearest(&s->act, NULL, &grids[i], u[k]));
        }
    }
}
