/* Bounds that are read off the values: absmax, minmax, percentile, moving average. */
#include <math.h>

#include "quant/range/range_impl.h"

ht_status ht_range_fit_absmax(const struct ht_range_input *in, const struct ht_range_grid *grid,
                              const double *options, struct ht_range *out, ht_err *err) {
    (void)options;
    struct ht_range_points p;
    HT_TRY(ht_range_points_init(&p, in, false, err));
    float amax = fmaxf(fabsf(p.min), fabsf(p.max));
    *out = ht_range_bounds(grid, -amax, amax);
    ht_range_points_deinit(&p);
    return HT_OK;
}

ht_status ht_range_fit_minmax(const struct ht_range_input *in, const struct ht_range_grid *grid,
                              const double *options, struct ht_range *out, ht_err *err) {
    (void)options;
    struct ht_range_points p;
    HT_TRY(ht_range_points_init(&p, in, false, err));
    *out = ht_range_bounds(grid, p.min, p.max);
    ht_range_points_deinit(&p);
    return HT_OK;
}

/* One tail: p percent of the magnitudes stay inside. Two tails: (100 - p) / 2 percent are cut at either end. */
ht_status ht_range_fit_percentile(const struct ht_range_input *in, const struct ht_range_grid *grid,
                                  const double *options, struct ht_range *out, ht_err *err) {
    double share = options[0] / 100;
    int tails = options[1] != 0 ? (int)options[1] : grid->symmetric ? 1 : 2;
    struct ht_range_points p;
    HT_TRY(ht_range_points_init(&p, in, false, err));
    float low, high;
    if (tails == 1) {
        float t = ht_range_quantile(&p, share, true);
        low = fmaxf(p.min, -t);
        high = fminf(p.max, t);
        if (grid->symmetric) {
            low = -t;
            high = t;
        }
    } else {
        high = ht_range_quantile(&p, 0.5 + 0.5 * share, false);
        low = ht_range_quantile(&p, 0.5 - 0.5 * share, false);
    }
    if (low > high) { /* one tail, all values of one sign and beyond t: t itself */
        low = high = p.min > 0 ? high : low;
    }
    *out = ht_range_bounds(grid, low, high);
    ht_range_points_deinit(&p);
    return HT_OK;
}

ht_status ht_range_fit_average(const struct ht_range_input *in, const struct ht_range_grid *grid,
                               const double *options, struct ht_range *out, ht_err *err) {
    const struct ht_range_state *s = in->state;
    if (in->x != NULL) { /* one batch is its own average */
        return ht_range_fit_minmax(in, grid, options, out, err);
    }
    *out = ht_range_bounds(grid, (float)(s->sum_min / s->sum_weight), (float)(s->sum_max / s->sum_weight));
    return HT_OK;
}
