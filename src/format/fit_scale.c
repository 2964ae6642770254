/* Fit for grids without a minimum: y = scale * level(q).
 *
 * With w the weights of the metric (search.c) and codes q fixed, the best scale of a sub-block is
 * sum(w x q) / sum(w q q), and the error there is known from the residuals r of any other scale s0:
 *     scale = s0 + sum(w r q) / sum(w q q),      err = err(s0) - sum(w r q)^2 / sum(w q q)
 * Steps:
 *   1. per sub-block: try scales that put the largest element near either end of the range, refit each
 *   2. sub-scales: one step d for which the sub-blocks' scales lie best on d * (lo..hi), errors weighted by
 *      their curvature sum(w q q)
 *   3. with d rounded to f16: per sub-block try the stored multiples around the best with the exact error.
 *      Going round again with d refitted, or with other d, gains nothing measurable (docs/measurements/encoders.md)
 * A grid with a single scale ends with a search over scales close by that f16 can hold. */
#include "format/fit.h"

#include <math.h>

static const float lanes[HT_LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static int evaluate(const struct ht_grid_spec *spec, const float *x, const float *w, enum ht_search_by by,
                    struct ht_trials *t) {
    if (spec->levels) {
        return ht_search_levels(x, w, spec->sub_len, spec->levels, by, t);
    }
    return ht_search_ints(x, w, spec->sub_len, spec->lo, spec->hi, by, t);
}

/* Step 1 for one sub-block. */
static void first_fit(const struct ht_grid_spec *spec, const float *x, const float *w, float *scale, float *curve) {
    struct ht_trials t;
    float best = INFINITY;
    t.scale0 = t.up = t.down = 0.0f;
    t.scale1 = ht_search_extreme(x, spec->sub_len);
    *scale = *curve = 0.0f;
    for (int k = 0; k < spec->n_first; k += HT_LANES) {
        t.scale_table = spec->first + k;
        int l = evaluate(spec, x, w, HT_BY_REFIT, &t);
        if (t.score[l] < best) {
            best = t.score[l];
            *scale = t.scale[l] + (t.wqq[l] > 0.0f ? t.wrq[l] / t.wqq[l] : 0.0f);
            *curve = t.wqq[l];
        }
    }
}

static float fit_single(const struct ht_grid_spec *spec, const struct ht_work *work, struct ht_grid *grid) {
    static const float spread[HT_LANES] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    struct ht_trials t;
    float scale, curve;
    first_fit(spec, work->x, work->w, &scale, &curve);
    t.scale0 = scale;
    t.scale1 = scale * (0.25f / (float)(spec->hi - spec->lo + 1));
    t.scale_table = spread;
    t.up = work->up;
    t.down = work->down;
    int l = evaluate(spec, work->x, work->w, HT_BY_ERROR, &t);
    grid->d = ht_fit_f16(t.scale[l] * work->up);
    return t.err[l];
}

/* Step 3 for one sub-block: the best multiple of d; returns its error. */
static float fit_multiple(const struct ht_grid_spec *spec, const float *x, const float *w, float d, float scale,
                          int8_t *q) {
    struct ht_trials t;
    int from = ht_fit_nearest(scale, d, spec->q_scale_lo, spec->q_scale_hi) - HT_LANES / 2;
    from = from > spec->q_scale_lo ? from : spec->q_scale_lo;
    from = from < spec->q_scale_hi - (HT_LANES - 1) ? from : spec->q_scale_hi - (HT_LANES - 1);
    t.up = t.down = 0.0f;
    t.scale0 = d * (float)from;
    t.scale1 = d;
    t.scale_table = lanes;
    int l = evaluate(spec, x, w, HT_BY_ERROR, &t);
    *q = (int8_t)(from + l);
    return t.err[l];
}

static float fit_subs(const struct ht_grid_spec *spec, const struct ht_work *work, struct ht_grid *grid) {
    float scale[HT_GRID_MAX_SUB], curve[HT_GRID_MAX_SUB], err = 0.0f;
    int len = spec->sub_len;
    for (int s = 0; s < spec->n_sub; s++) {
        first_fit(spec, work->x + s * len, work->w + s * len, &scale[s], &curve[s]);
    }
    float d = ht_fit_step(scale, curve, spec->n_sub, spec->q_scale_lo, spec->q_scale_hi);
    d = ht_fit_storable(work, d, &grid->d);
    for (int s = 0; s < spec->n_sub; s++) {
        err += fit_multiple(spec, work->x + s * len, work->w + s * len, d, scale[s], &grid->q_scale[s]);
    }
    return err;
}

void ht_fit_scale(const struct ht_grid_spec *spec, const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    int n = spec->n_sub * spec->sub_len;
    ht_grid_shape(spec, grid);
    ht_search_load(&work, x, weight, n, spec, ht_fit_limit(spec));
    memset(grid->q_min, 0, sizeof grid->q_min);
    memset(grid->q_scale, spec->q_scale_lo == 1, sizeof grid->q_scale);
    grid->d = grid->dmin = 0;
    if (work.amax > 0.0f) {
        float err;
        if (spec->n_sub > 1) {
            err = fit_subs(spec, &work, grid);
        } else {
            err = fit_single(spec, &work, grid);
        }
        ht_fit_or_zero(&work, n, err, grid);
    }
    ht_grid_restore(grid);
}
