/* Half-quadratic: minimizes sum |x - s (q - z)|^p, p < 1, which cares for most values and lets few be far off.
 * With e standing in for the error,
 *
 *     min over z, e of  sum |e|^p + beta / 2 * sum (x / s - (q - z) - e)^2        in units of the scale s
 *     e <- shrink(r, beta) = sign(r) * max(|r| - |r|^(p - 1) / beta, 0),   r = x / s - (q - z)
 *     z <- mean(q - (x / s - e)),   beta <- kappa * beta
 *
 * q are the nearest codes under the present z. The scale stays that of minmax, as published; symmetric grids, which
 * have no zero, fit the scale in its place: s <- sum (x - s e) q / sum q^2.
 * Source: H. Badri and A. Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023. There, the
 * shrinkage works on values as they are, so that it depends on their unit; here on errors in steps of the grid. The
 * best of all iterations by the sum above is kept; it ends when that no longer falls. */
#include <math.h>

#include "quant/range/range_impl.h"

/* One iteration: moves *r. */
static void iterate(const struct ht_range_points *p, const struct ht_range_grid *grid, double norm, double beta,
                    struct ht_range *r) {
    float inverse = ht_range_inverse(r->scale);
    double sum = 0, mass = 0, sq = 0;
    for (size_t i = 0; i < p->n; i++) {
        double v = (double)p->x[i] * inverse, m = p->mass != NULL ? p->mass[i] : 1;
        double q = ht_range_round(grid, (float)(v + r->zero));
        double error = v - (q - r->zero), size = fabs(error);
        double kept = size > 0 ? size - pow(size, norm - 1) / beta : 0;
        double e = kept > 0 ? (error < 0 ? -kept : kept) : 0;
        if (grid->symmetric) {
            sum += m * (v - e) * q;
            sq += m * q * q;
        } else {
            sum += m * (q - (v - e));
        }
        mass += m;
    }
    if (grid->symmetric) {
        r->scale = sq > 0 && sum > 0 ? (float)(r->scale * (sum / sq)) : r->scale;
    } else {
        r->zero = (float)(sum / mass);
    }
}

ht_status ht_range_fit_halfquad(const struct ht_range_input *in, const struct ht_range_grid *grid,
                                const double *options, struct ht_range *out, ht_err *err) {
    double norm = options[0], beta = options[1], kappa = options[2];
    struct ht_range_points p;
    ht_status status = ht_range_points_search(&p, in, false, grid, norm, err);
    if (status != HT_OK) {
        return status; /* nothing is owned yet */
    }
    struct ht_range best = ht_range_bounds(grid, p.min, p.max);
    double least = ht_range_loss(&p, grid, &best, norm);
    if (best.scale > 0 && p.min < p.max) {
        struct ht_range r = best;
        for (int i = 0; i < (int)options[3]; i++, beta *= kappa) {
            iterate(&p, grid, norm, beta, &r);
            struct ht_range stored = r;
            if (grid->integer_zero) { /* r goes on with its real zero */
                stored.zero = fminf(fmaxf(rintf(r.zero), (float)grid->lo), (float)grid->hi);
            }
            double loss = ht_range_loss(&p, grid, &stored, norm);
            if (loss < least) {
                least = loss;
                best = stored;
            } else if (!grid->integer_zero) {
                break;
            }
        }
    }
    *out = best;
    ht_range_points_deinit(&p);
    return HT_OK;
}
