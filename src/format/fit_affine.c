/* Fit for grids with a minimum: y = scale * q - min, 0 <= q <= hi.
 *
 * With codes fixed, the residuals r of a trial (s0, m0) give the best pair: minimizing
 * sum w (r - ds * q + dm)^2 is a 2x2 system,
 *     | sum wqq  -sum wq | | ds |   |  sum wrq |
 *     | -sum wq   sum w  | | dm | = | -sum wr  |
 * Steps:
 *   1. per sub-block: try ranges [lowest + a, highest - b] for a table of a and b, refit each
 *   2. sub-scales, sub-mins: steps d and dmin as in fit_scale.c
 *   3. with d, dmin rounded to f16: per sub-block try the stored pairs around the best with the exact error,
 *      refit (d, dmin) with codes and multiples fixed, and again; the best state seen is kept
 * Sub-mins have one sign, that of dmin. Usually min >= 0 (rows hold both signs); a block whose values are
 * mostly positive takes a negative dmin. */
#include "format/fit.h"

#include <math.h>

#define ROUNDS 3

struct pair {
    float scale, min;
};

struct first {
    float scale[HT_GRID_MAX_SUB], min[HT_GRID_MAX_SUB];
    float scale_curve[HT_GRID_MAX_SUB], min_curve[HT_GRID_MAX_SUB];
};

/* A square of 4 x 4 candidates: multiples, and close to a pair of scale and min. */
static const float by_4[HT_LANES] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
static const float in_4[HT_LANES] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
static const float near_scale[HT_LANES] = {-1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2};
static const float near_min[HT_LANES] = {-0.11f, -0.08f, -0.05f, -0.02f, -0.03f, 0.0f, 0.03f, 0.06f,
                                         0.05f, 0.08f, 0.11f, 0.14f, 0.13f, 0.16f, 0.19f, 0.22f};

/* Ranges tried in step 1, in units of a code: what is cut off below, and what is cut off on both sides. */
#define LOW(b) -0.3f, 0.1f, 0.5f, 0.9f
#define BOTH(b) (b) - 0.3f, (b) + 0.1f, (b) + 0.5f, (b) + 0.9f
static const float shrink_low[2][HT_LANES] = {{LOW(0), LOW(0), LOW(0), LOW(0)}, {LOW(0), LOW(0), LOW(0), LOW(0)}};
static const float shrink_both[2][HT_LANES] = {{BOTH(-0.3f), BOTH(-0.1f), BOTH(0.1f), BOTH(0.3f)},
                                               {BOTH(0.5f), BOTH(0.7f), BOTH(0.9f), BOTH(1.1f)}};

/* Solves the 2x2 system for lane l; a min of the wrong sign becomes 0. */
static void refit(const struct ht_trials *t, int l, float sum_w, float sign, struct pair *move) {
    float det = t->wqq[l] * sum_w - t->wq[l] * t->wq[l];
    move->scale = move->min = 0.0f;
    if (det > 1e-6f * t->wqq[l] * sum_w) {
        move->scale = (t->wrq[l] * sum_w - t->wr[l] * t->wq[l]) / det;
        move->min = (t->wrq[l] * t->wq[l] - t->wr[l] * t->wqq[l]) / det;
    }
    if ((t->min[l] + move->min) * sign < 0.0f) {
        move->min = -t->min[l];
        move->scale = t->wqq[l] > 0.0f ? (t->wrq[l] - t->min[l] * t->wq[l]) / t->wqq[l] : 0.0f;
    }
}

static float sum_of(const float *w, int n) {
    float sum = 0.0f;
    for (int i = 0; i < n; i++) {
        sum += w[i];
    }
    return sum;
}

/* Step 1. sign: 1 or -1: min has this sign or is 0; 0: min is free. */
static void first_fit(const struct ht_grid_spec *spec, const float *x, const float *w, float sign, struct first *first,
                      int s) {
    struct ht_trials t;
    int n = spec->sub_len;
    float low = x[0], high = x[0], sum_w = sum_of(w, n), best = INFINITY;
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (sign * low > 0.0f) {
        low = 0.0f;
        high = high > low ? high : low;
    }
    float step = (high - low) / (float)spec->hi;
    first->scale[s] = first->scale_curve[s] = 0.0f;
    first->min[s] = -low;
    first->min_curve[s] = sum_w;
    t.up = t.down = 0.0f;
    t.scale0 = step;
    t.scale1 = -step / (float)spec->hi;
    t.min0 = -low;
    t.min1 = -step;
    for (int k = 0; k < 2; k++) {
        t.scale_table = shrink_both[k];
        t.min_table = shrink_low[k];
        int l = ht_search_affine(x, w, n, spec->hi, sum_w, sign, HT_BY_REFIT, &t);
        if (t.score[l] < best) {
            struct pair move;
            best = t.score[l];
            refit(&t, l, sum_w, sign, &move);
            first->scale[s] = t.scale[l] + move.scale;
            first->min[s] = t.min[l] + move.min;
            first->scale_curve[s] = t.wqq[l];
        }
    }
}

static float fit_single(const struct ht_grid_spec *spec, const struct ht_work *work, struct ht_grid *grid) {
    struct ht_trials t;
    struct first first;
    float sum_w = sum_of(work->w, spec->sub_len), best = INFINITY;
    first_fit(spec, work->x, work->w, 0.0f, &first, 0);
    struct pair at = {first.scale[0], first.min[0]};
    t.up = work->up;
    t.down = work->down;
    t.scale_table = near_scale;
    t.min_table = near_min;
    for (int round = 0; round < ROUNDS; round++) {
        t.scale0 = at.scale;
        t.scale1 = at.scale * 0.06f / (float)spec->hi;
        t.min0 = at.min;
        t.min1 = at.scale;
        int l = ht_search_affine(work->x, work->w, spec->sub_len, spec->hi, sum_w, 0.0f, HT_BY_SUMS, &t);
        if (!(t.err[l] < best)) {
            break;
        }
        best = t.err[l];
        grid->d = ht_fit_f16(t.scale[l] * work->up);
        grid->dmin = ht_fit_f16(t.min[l] * work->up);
        struct pair move;
        refit(&t, l, sum_w, 0.0f, &move);
        at.scale = t.scale[l] + move.scale;
        at.min = t.min[l] + move.min;
    }
    return best;
}

struct state {
    float d, dmin; /* normalized, storable */
    uint16_t d_bits, dmin_bits;
    int8_t q_scale[HT_GRID_MAX_SUB];
    uint8_t q_min[HT_GRID_MAX_SUB];
};

static int window(int center, int hi) {
    int from = center - 1;
    from = from > 0 ? from : 0;
    return from < hi - 3 ? from : hi - 3;
}

/* Step 3 for one (d, dmin): the best multiples; returns the error, *move the refit of d and dmin. */
static float fit_multiples(const struct ht_grid_spec *spec, const struct ht_work *work, const struct first *first,
                           struct state *st, struct pair *move) {
    struct ht_trials t;
    t.up = t.down = 0.0f;
    t.scale1 = st->d;
    t.min1 = st->dmin;
    t.scale_table = by_4;
    t.min_table = in_4;
    float err = 0.0f, a11 = 0.0f, a12 = 0.0f, a22 = 0.0f, b1 = 0.0f, b2 = 0.0f;
    for (int s = 0; s < spec->n_sub; s++) {
        int cs = ht_fit_nearest(first->scale[s], st->d, 0, spec->q_scale_hi);
        int cm = ht_fit_nearest(first->min[s], st->dmin, 0, spec->q_min_hi);
        int from_s = window(cs, spec->q_scale_hi), from_m = window(cm, spec->q_min_hi);
        t.scale0 = st->d * (float)from_s;
        t.min0 = st->dmin * (float)from_m;
        int best = ht_search_affine(work->x + s * spec->sub_len, work->w + s * spec->sub_len, spec->sub_len, spec->hi,
                                    0.0f, 0.0f, HT_BY_SUMS, &t);
        int qs = from_s + best % 4, qm = from_m + best / 4;
        st->q_scale[s] = (int8_t)qs;
        st->q_min[s] = (uint8_t)qm;
        err += t.err[best];
        a11 += (float)(qs * qs) * t.wqq[best];
        a12 += (float)(qs * qm) * t.wq[best];
        a22 += (float)(qm * qm) * first->min_curve[s];
        b1 += (float)qs * t.wrq[best];
        b2 += (float)qm * t.wr[best];
    }
    float det = a11 * a22 - a12 * a12;
    move->scale = move->min = 0.0f;
    if (det > 1e-6f * a11 * a22) {
        move->scale = (b1 * a22 - b2 * a12) / det;
        move->min = (b1 * a12 - b2 * a11) / det;
    } else if (a11 > 0.0f) {
        move->scale = b1 / a11;
    }
    return err;
}

static float fit_subs(const struct ht_grid_spec *spec, const struct ht_work *work, struct ht_grid *grid) {
    struct first first;
    struct state st;
    float sum = 0.0f, best = INFINITY;
    for (int s = 0; s < spec->n_sub; s++) {
        float low = work->x[s * spec->sub_len];
        for (int i = 1; i < spec->sub_len; i++) {
            float v = work->x[s * spec->sub_len + i];
            low = v < low ? v : low;
        }
        sum += low;
    }
    float sign = sum > 0.0f ? -1.0f : 1.0f, mins[HT_GRID_MAX_SUB];
    for (int s = 0; s < spec->n_sub; s++) {
        first_fit(spec, work->x + s * spec->sub_len, work->w + s * spec->sub_len, sign, &first, s);
        mins[s] = first.min[s] * sign;
    }
    float d = ht_fit_step(first.scale, first.scale_curve, spec->n_sub, 0, spec->q_scale_hi);
    float dmin = sign * ht_fit_step(mins, first.min_curve, spec->n_sub, 0, spec->q_min_hi);
    for (int round = 0; round < ROUNDS; round++) {
        struct pair move;
        st.d = ht_fit_storable(work, d, &st.d_bits);
        st.dmin = ht_fit_storable(work, dmin, &st.dmin_bits);
        float err = fit_multiples(spec, work, &first, &st, &move);
        if (err < best) {
            best = err;
            grid->d = st.d_bits;
            grid->dmin = st.dmin_bits;
            memcpy(grid->q_scale, st.q_scale, (size_t)spec->n_sub);
            memcpy(grid->q_min, st.q_min, (size_t)spec->n_sub);
        }
        d = st.d + move.scale;
        dmin = st.dmin + move.min;
    }
    return best;
}

void ht_fit_affine(const struct ht_grid_spec *spec, const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    int n = spec->n_sub * spec->sub_len;
    ht_grid_shape(spec, grid);
    ht_search_load(&work, x, weight, n, spec, ht_fit_limit(spec));
    memset(grid->q_scale, spec->q_scale_lo == 1, sizeof grid->q_scale);
    memset(grid->q_min, spec->q_min_hi == 1, sizeof grid->q_min);
    grid->d = grid->dmin = 0;
    if (work.amax > 0.0f) {
        float err;
        if (spec->n_sub == 1) {
            err = fit_single(spec, &work, grid);
        } else {
            err = fit_subs(spec, &work, grid);
        }
        ht_fit_or_zero(&work, n, err, grid);
    }
    ht_grid_restore(grid);
}
