/* snap, and what both searches (fit_scale.c, fit_affine.c) share. */
#include "format/fit.h"

#include <math.h>

#define F16_MAX 65504.0f
#define F16_EXPONENT 0x7c00u

uint16_t ht_fit_f16(float v) {
    v = v > -F16_MAX ? v : -F16_MAX;
    return ht_f16_from_f32(v < F16_MAX ? v : F16_MAX);
}

float ht_fit_storable(const struct ht_work *work, float d, uint16_t *bits) {
    *bits = ht_fit_f16(d * work->up);
    return ht_f16_to_f32(*bits) * work->down;
}

void ht_fit_or_zero(const struct ht_work *work, int n, float err, struct ht_grid *grid) {
    if ((grid->d & F16_EXPONENT) != 0 && ((grid->dmin & F16_EXPONENT) != 0 || grid->dmin == 0)) {
        return;
    }
    float zero = 0.0f;
    for (int i = 0; i < n; i++) {
        zero += work->w[i] * work->x[i] * work->x[i];
    }
    if (!(err < zero)) {
        grid->d = grid->dmin = 0;
    }
}

float ht_fit_limit(const struct ht_grid_spec *spec) {
    int reach = spec->q_min_hi ? spec->q_min_hi : -spec->lo * (spec->q_scale_hi > 1 ? -spec->q_scale_lo : 1);
    if (spec->levels) {
        reach = (int)fabsf(spec->levels[0]) * (spec->q_scale_hi > 1 ? -spec->q_scale_lo : 1);
    }
    return F16_MAX * (float)reach;
}

/* 1 / position of the extreme value in units of the largest multiple: 1.02, 1.01 ... 0.87. */
static const float step_table[HT_LANES] = {
    1 / 1.02f, 1 / 1.01f, 1 / 1.00f, 1 / 0.99f, 1 / 0.98f, 1 / 0.97f, 1 / 0.96f, 1 / 0.95f,
    1 / 0.94f, 1 / 0.93f, 1 / 0.92f, 1 / 0.91f, 1 / 0.90f, 1 / 0.89f, 1 / 0.88f, 1 / 0.87f};

float ht_fit_step(const float *v, const float *w, int n, int lo, int hi) {
    struct ht_trials t;
    float extreme = 0.0f, best = INFINITY, step = 0.0f;
    for (int i = 0; i < n; i++) {
        extreme = fabsf(v[i]) > fabsf(extreme) ? v[i] : extreme;
    }
    t.up = t.down = t.scale0 = 0.0f;
    t.scale_table = step_table;
    for (int side = lo < 0 ? 0 : 1; side < 2; side++) {
        t.scale1 = extreme / (float)(side == 0 ? lo : hi);
        int l = ht_search_ints(v, w, n, lo, hi, HT_BY_REFIT, &t);
        if (t.score[l] < best) {
            best = t.score[l];
            step = t.scale[l] + (t.wqq[l] > 0.0f ? t.wrq[l] / t.wqq[l] : 0.0f);
        }
    }
    return step;
}

int ht_fit_nearest(float v, float step, int lo, int hi) {
    float q = step > 0.0f || step < 0.0f ? rintf(v / step) : 0.0f;
    q = q > (float)lo ? q : (float)lo;
    return (int)(q < (float)hi ? q : (float)hi);
}

/* Finds one f16 step for n values and the multiples q of it; returns the step's bits. With lo == 0 all
 * multiples have one sign, that of the larger sum; with lo == hi == 1 the value is the step. */
static uint16_t store(const float *values, int n, int lo, int hi, int *q) {
    float v[HT_GRID_MAX_SUB] = {0}, ones[HT_GRID_MAX_SUB], a = 0.0f, sum = 0.0f;
    for (int s = 0; s < n; s++) {
        float m = fabsf(values[s]);
        a = m > a && m < INFINITY ? m : a;
    }
    for (int s = 0; s < n; s++) { /* normalized, so that the search's sums stay in range */
        v[s] = fabsf(values[s]) < INFINITY && a > 0.0f ? values[s] / a : 0.0f;
        ones[s] = 1.0f;
        sum += v[s];
    }
    float step = v[0];
    if (lo != hi) {
        float sign = lo == 0 && sum < 0.0f ? -1.0f : 1.0f;
        for (int s = 0; s < n; s++) {
            v[s] = lo < 0 || v[s] * sign > 0.0f ? v[s] * sign : 0.0f;
        }
        step = sign * ht_fit_step(v, ones, n, lo, hi);
    }
    uint16_t bits = ht_fit_f16(step * a);
    for (int s = 0; s < n; s++) {
        q[s] = ht_fit_nearest(values[s], ht_f16_to_f32(bits), lo, hi);
    }
    return bits;
}

void ht_fit_snap(const struct ht_grid_spec *spec, struct ht_grid *grid) {
    int q[HT_GRID_MAX_SUB];
    if (ht_grid_is_stored(grid)) {
        return;
    }
    grid->d = store(grid->scale, spec->n_sub, spec->q_scale_lo, spec->q_scale_hi, q);
    for (int s = 0; s < spec->n_sub; s++) {
        grid->q_scale[s] = (int8_t)q[s];
        grid->q_min[s] = 0;
    }
    grid->dmin = 0;
    if (spec->q_min_hi) {
        grid->dmin = store(grid->min, spec->n_sub, spec->q_min_hi == 1, spec->q_min_hi, q);
        for (int s = 0; s < spec->n_sub; s++) {
            grid->q_min[s] = (uint8_t)q[s];
        }
    }
    ht_grid_restore(grid);
}
