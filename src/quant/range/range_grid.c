/* The grid itself: from bounds to scale and zero, and what rounding to it costs. */
#include <float.h>
#include <math.h>

#include "base/compiler.h"
#include "quant/range/range_impl.h"

/* Scale of a symmetric grid: each bound needs the level on its own side. A side without levels (unsigned codes)
 * is out of reach whatever the scale. */
static float symmetric_scale(float first, float last, float low, float high) {
    double s = 0;
    if (last > 0 && high > 0) {
        s = (double)high / last;
    }
    if (first < 0 && low < 0) {
        s = fmax(s, (double)low / first);
    }
    return (float)fmin(s, FLT_MAX);
}

struct ht_range ht_range_bounds(const struct ht_range_grid *grid, float low, float high) {
    float first = ht_range_level(grid, grid->lo), last = ht_range_level(grid, grid->hi);
    struct ht_range r = {0, 0};
    if (grid->symmetric) {
        r.scale = symmetric_scale(first, last, low, high);
        return r;
    }
    if (grid->integer_zero) {
        low = low < 0 ? low : 0;
        high = high > 0 ? high : 0;
    }
    double span = (double)high - low;
    if (span > 0) {
        r.scale = (float)fmin(span / ((double)last - first), FLT_MAX);
        double zero = r.scale > 0 ? first - (double)low / r.scale : 0;
        r.zero = (float)(grid->integer_zero ? fmin(fmax(rint(zero), grid->lo), grid->hi) : zero);
    } else if (low != 0) { /* a constant: the first level stands for it */
        r.scale = fabsf(low);
        r.zero = low > 0 ? first - 1 : first + 1;
    } else if (grid->integer_zero) {
        r.zero = (float)(grid->lo > 0 ? grid->lo : grid->hi < 0 ? grid->hi : 0);
    }
    return r;
}

void ht_range_reach(const struct ht_range_grid *grid, const struct ht_range *range, float *low, float *high) {
    *low = range->scale * (ht_range_level(grid, grid->lo) - range->zero);
    *high = range->scale * (ht_range_level(grid, grid->hi) - range->zero);
}

static float round_table(const struct ht_range_grid *grid, float r) {
    int lo = 0, hi = grid->hi - grid->lo; /* the answer lies in lo..hi */
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (r < 0.5f * (grid->levels[mid] + grid->levels[mid + 1])) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return grid->levels[lo];
}

float ht_range_round(const struct ht_range_grid *grid, float r) {
    if (grid->levels != NULL) {
        return round_table(grid, r);
    }
    float q = rintf(r);
    return q < (float)grid->lo ? (float)grid->lo : q > (float)grid->hi ? (float)grid->hi : q;
}

float ht_range_nearest(const struct ht_range_grid *grid, const struct ht_range *range, float x) {
    float q = ht_range_round(grid, x * ht_range_inverse(range->scale) + range->zero);
    return range->scale * (q - range->zero);
}

/* The sums run in four lanes, so that they can become vector code; the order is fixed. */
HT_CLONES
static double squares(const float *x, const float *mass, size_t n, float inverse, float scale, float zero, float lo,
                      float hi) {
    double sum[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < n; i++) {
        float r = x[i] * inverse + zero;
        float q = rintf(r);
        q = q < lo ? lo : q;
        q = q > hi ? hi : q;
        double e = (double)x[i] - (double)(scale * (q - zero));
        sum[i & 3] += e * e * (mass != NULL ? mass[i] : 1);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double ht_range_loss(const struct ht_range_points *p, const struct ht_range_grid *grid,
                     const struct ht_range *range, double norm) {
    float inverse = ht_range_inverse(range->scale);
    if (norm == 2 && p->sum != NULL) {
        struct ht_range_sums u;
        double s = range->scale, z = range->zero;
        ht_range_moments(p, grid, range, z, &u);
        return fmax(0, u.xx - 2 * s * u.xq + s * s * u.qq);
    }
    if (norm == 2 && grid->levels == NULL) {
        return squares(p->x, p->mass, p->n, inverse, range->scale, range->zero, (float)grid->lo, (float)grid->hi);
    }
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) {
        float q = ht_range_round(grid, p->x[i] * inverse + range->zero);
        double e = fabs((double)p->x[i] - (double)(range->scale * (q - range->zero)));
        double m = p->mass != NULL ? p->mass[i] : 1;
        sum += m * (norm == 2 ? e * e : norm == 1 ? e : pow(e, norm));
    }
    return sum;
}
