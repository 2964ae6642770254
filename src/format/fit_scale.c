/* Fit for grids without a minimum: y = scale * level(q).
 *
 * With w the weights of the metric (search.c) and codes q fixed, the best scale of a sub-block is
 * sum(w x q) / sum(w q q), and the error there is known from the residuals r of any other scale s0:
 *     scale = s0 + sum(w r q) / sum(w q q),      err = err(s0) - sum(w r q)^2 / sum(w q q)
 * Steps:
 *   1. per sub-block: try scales that put the largest element near either end of the range, refit each
 *   2. sub-scales: one step d for which the sub-blocks' scales lie best on d * (lo..hi), errors weighted by
 *      their curvature sum(w q q)
 *   3. with d rounded to f16: per sub-block try the stored multiples around the best with the exact error,
 *      refit d with codes and multiples fixed, and again; the best state seen is kept
 * A grid with a single scale ends with a search over scales close by that f16 can hold. */
#include "format/fit.h"

#include <math.h>

#define ROUNDS 2

struct first {
    float scale[HT_GRID_MAX_SUB], curve[HT_GRID_MAX_SUB];
};

static void evaluate(const struct ht_grid_spec *spec, const float *x, const float *w, struct ht_trials *t) {
    if (spec->levels) {
        ht_search_levels(x, w, spec->sub_len, spec->levels, spec->hi - spec->lo + 1, t);
    } else {
        ht_search_ints(x, w, spec->sub_len, spec->lo, spec->hi, t);
    }
}

/* Step 1 for one sub-block. */
static void first_fit(const struct ht_grid_spec *spec, const float *x, const float *w, float *scale, float *curve) {
    struct ht_trials t;
    float extreme = 0.0f, best_err = INFINITY;
    float ends[2] = {(float)spec->lo, (float)spec->hi}, unit = 1.0f;
    if (spec->levels) {
        ends[0] = spec->levels[0];
        ends[1] = spec->levels[spec->hi - spec->lo];
        unit = 22.0f;
    }
    for (int i = 0; i < spec->sub_len; i++) {
        extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
    }
    *scale = *curve = 0.0f;
    for (int side = 0; side < 2; side++) {
        float sign = side == 0 ? -1.0f : 1.0f;
        for (int l = 0; l < HT_LANES; l++) {
            t.scale[l] = extreme / (ends[side] + sign * unit * (-1.0f + 0.125f * (float)l));
        }
        evaluate(spec, x, w, &t);
        for (int l = 0; l < HT_LANES; l++) {
            float move = t.wqq[l] > 0.0f ? t.wrq[l] / t.wqq[l] : 0.0f;
            float err = t.err[l] - move * t.wrq[l];
            if (err < best_err) {
                best_err = err;
                *scale = t.scale[l] + move;
                *curve = t.wqq[l];
            }
        }
    }
}

static float fit_single(const struct ht_grid_spec *spec, const struct ht_work *work, struct ht_grid *grid) {
    struct ht_trials t;
    uint16_t bits[HT_LANES];
    float scale, curve, best_err = INFINITY;
    first_fit(spec, work->x, work->w, &scale, &curve);
    for (int round = 0; round < ROUNDS; round++) {
        float spread = (round == 0 ? 2.0f : 0.5f) / (float)(spec->hi - spec->lo + 1);
        for (int l = 0; l < HT_LANES; l++) {
            t.scale[l] = ht_fit_storable(work, scale * (1.0f + spread * 0.125f * (float)(l - 8)), &bits[l]);
        }
        evaluate(spec, work->x, work->w, &t);
        for (int l = 0; l < HT_LANES; l++) {
            if (t.err[l] < best_err) {
                best_err = t.err[l];
                grid->d = bits[l];
                scale = t.scale[l] + (t.wqq[l] > 0.0f ? t.wrq[l] / t.wqq[l] : 0.0f);
            }
        }
    }
    grid->q_scale[0] = 1;
    return best_err;
}

/* Step 3 for one d: the best multiples; returns the error, *move the refit of d. */
static float fit_multiples(const struct ht_grid_spec *spec, const struct ht_work *work, const struct first *first,
                           float d, int8_t *q, float *move) {
    struct ht_trials t;
    float err = 0.0f, num = 0.0f, den = 0.0f;
    for (int s = 0; s < spec->n_sub; s++) {
        int center = ht_fit_nearest(first->scale[s], d, spec->q_scale_lo, spec->q_scale_hi);
        int from = center - 8;
        from = from > spec->q_scale_lo ? from : spec->q_scale_lo;
        from = from < spec->q_scale_hi - (HT_LANES - 1) ? from : spec->q_scale_hi - (HT_LANES - 1);
        for (int l = 0; l < HT_LANES; l++) {
            t.scale[l] = d * (float)(from + l);
        }
        evaluate(spec, work->x + s * spec->sub_len, work->w + s * spec->sub_len, &t);
        int best = center - from;
        for (int l = 0; l < HT_LANES; l++) {
            best = t.err[l] < t.err[best] ? l : best;
        }
        float m = (float)(from + best);
        q[s] = (int8_t)(from + best);
        err += t.err[best];
        num += m * t.wrq[best];
        den += m * m * t.wqq[best];
    }
    *move = den > 0.0f ? num / den : 0.0f;
    return err;
}

static float fit_subs(const struct ht_grid_spec *spec, const struct ht_work *work, struct ht_grid *grid) {
    struct first first;
    for (int s = 0; s < spec->n_sub; s++) {
        first_fit(spec, work->x + s * spec->sub_len, work->w + s * spec->sub_len, &first.scale[s], &first.curve[s]);
    }
    float d = ht_fit_step(first.scale, first.curve, spec->n_sub, spec->q_scale_lo, spec->q_scale_hi);
    float best = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        uint16_t bits;
        int8_t q[HT_GRID_MAX_SUB];
        float move, exact = ht_fit_storable(work, d, &bits);
        float err = fit_multiples(spec, work, &first, exact, q, &move);
        if (err < best) {
            best = err;
            grid->d = bits;
            memcpy(grid->q_scale, q, (size_t)spec->n_sub);
        }
        d = exact + move;
    }
    return best;
}

void ht_fit_scale(const struct ht_grid_spec *spec, const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    int n = spec->n_sub * spec->sub_len;
    ht_grid_shape(spec, grid);
    ht_search_load(&work, x, weight, n, ht_fit_limit(spec));
    memset(grid->q_min, 0, sizeof grid->q_min);
    memset(grid->q_scale, spec->q_scale_lo == 1, sizeof grid->q_scale);
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
