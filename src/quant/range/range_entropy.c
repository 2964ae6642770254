/* Entropy calibration: of all thresholds T, the one whose quantized histogram loses the least information.
 *
 *     P   the histogram of |x| up to T, all mass beyond T added to its last bin
 *     Q   the histogram up to T without that mass; its bins are merged into as many cells as the grid has levels,
 *         and each cell's mass is spread evenly over those of its bins that are not empty
 *     Q'  (1 - e) Q + e / bins, so that log Q' exists where P has clipped mass in an empty bin
 *     T   minimizes KL(P || Q') = sum P log(P / Q')
 *
 * Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017. There, 2048 bins and 128 levels; the divergence of
 * clipped mass in an empty bin is left open. Cells here are cut evenly, not by whole numbers of bins.
 *
 * A candidate costs one logarithm per cell: the bins of a cell share one value of Q, and sum P log P comes from
 * prefix sums. */
#include <math.h>

#include "base/mem.h"
#include "quant/range/range_impl.h"

struct entropy {
    size_t n_bins;
    double width;    /* of a bin */
    double *mass;    /* [n_bins + 1] prefix sums: mass[i] is that of the first i bins */
    double *plogp;   /* [n_bins + 1] prefix sums of c log c */
    size_t *filled;  /* [n_bins + 1] prefix counts of bins that are not empty */
    double *border;  /* [n_cells + 1] borders of the cells as shares of T */
    size_t n_cells;
    double smooth;
};

static double xlogx(double x) {
    return x > 0 ? x * log(x) : 0;
}

/* Divergence of the threshold at the upper edge of bin i - 1, without normalization of P's logarithm. */
static double divergence(const struct entropy *e, size_t i) {
    double total = e->mass[e->n_bins], inside = e->mass[i], last = e->mass[i] - e->mass[i - 1];
    double folded = last + (total - inside);
    /* sum P log P = (1 / total) sum c log c - log total */
    double sum_p = (e->plogp[i - 1] + xlogx(folded)) / total - log(total);
    if (inside <= 0) {
        return sum_p - log(1.0 / (double)i); /* Q' is even */
    }
    double sum_pq = 0, floor_q = e->smooth / (double)i;
    for (size_t k = 0, from = 0; k < e->n_cells; k++) {
        size_t to = k + 1 == e->n_cells ? i : (size_t)ceil(e->border[k + 1] * (double)i - 0.5);
        to = to > i ? i : to < from ? from : to;
        double mass = e->mass[to] - e->mass[from];
        size_t filled = e->filled[to] - e->filled[from];
        if (filled > 0) {
            double q = (1 - e->smooth) * mass / (inside * (double)filled) + floor_q;
            double p = mass;
            if (to == i && last > 0) {
                p += total - inside;
            }
            sum_pq += p / total * log(q);
        }
        from = to;
    }
    if (last <= 0 && folded > 0) {
        sum_pq += folded / total * log(floor_q);
    }
    return sum_p - sum_pq;
}

/* A bin belongs to the cell that its middle lies in. */
static ht_status make_cells(struct entropy *e, const struct ht_range_grid *grid, bool one_sign, ht_err *err) {
    size_t levels = (size_t)(grid->hi - grid->lo) + 1, half = (levels + 1) / 2;
    size_t n = one_sign && !grid->symmetric ? levels : half;
    if (grid->symmetric) {
        n = 0;
        for (int c = grid->lo; c <= grid->hi; c++) {
            n += ht_range_level(grid, c) >= 0;
        }
        n = n < 2 ? half : n;
    }
    e->n_cells = n;
    e->border = ht_mem_alloc_array(n + 1, sizeof *e->border);
    if (e->border == NULL) {
        return ht_fail_nomem(err, (n + 1) * sizeof *e->border);
    }
    int first = grid->hi - (int)n + 1; /* the upper n levels; borders lie between them */
    float base = grid->symmetric ? 0 : ht_range_level(grid, first), top = ht_range_level(grid, grid->hi);
    for (size_t k = 0; k <= n; k++) {
        e->border[k] = (double)k / (double)n;
        if (grid->levels != NULL && k > 0 && k < n) {
            float a = ht_range_level(grid, first + (int)k - 1), b = ht_range_level(grid, first + (int)k);
            e->border[k] = (0.5 * ((double)a + b) - base) / ((double)top - base);
        }
    }
    return HT_OK;
}

/* counts -> prefix sums. */
static void accumulate(struct entropy *e, const double *count) {
    e->mass[0] = e->plogp[0] = 0;
    e->filled[0] = 0;
    for (size_t i = 0; i < e->n_bins; i++) {
        e->mass[i + 1] = e->mass[i] + count[i];
        e->plogp[i + 1] = e->plogp[i] + xlogx(count[i]);
        e->filled[i + 1] = e->filled[i] + (count[i] > 0);
    }
}

static ht_status count_bins(struct entropy *e, const struct ht_range_input *in, float amax, size_t bins, ht_err *err) {
    const struct ht_range_state *s = in->state;
    e->n_bins = bins;
    e->width = (double)amax / (double)bins;
    if (in->x == NULL) {
        e->width = ldexp(1, s->exponent) / HT_RANGE_BINS;
        e->n_bins = (size_t)((double)amax / e->width) + 1;
    }
    double *count = ht_mem_calloc(e->n_bins, sizeof *count);
    e->mass = ht_mem_alloc_array(e->n_bins + 1, sizeof *e->mass);
    e->plogp = ht_mem_alloc_array(e->n_bins + 1, sizeof *e->plogp);
    e->filled = ht_mem_alloc_array(e->n_bins + 1, sizeof *e->filled);
    bool ok = count != NULL && e->mass != NULL && e->plogp != NULL && e->filled != NULL;
    if (ok && in->x == NULL) {
        for (size_t i = 0; i < e->n_bins; i++) {
            count[i] = (double)s->count[0][i] + (double)s->count[1][i];
        }
        count[0] += (double)s->n_zero;
    } else if (ok) {
        for (size_t i = 0; i < in->n; i++) {
            size_t b = (size_t)(fabs((double)in->x[i]) / e->width);
            count[b < bins ? b : bins - 1] += 1;
        }
    }
    if (ok) {
        accumulate(e, count);
    }
    ht_mem_free(count);
    return ok ? HT_OK : ht_fail_nomem(err, 4 * e->n_bins * sizeof *count);
}

ht_status ht_range_fit_entropy(const struct ht_range_input *in, const struct ht_range_grid *grid,
                               const double *options, struct ht_range *out, ht_err *err) {
    struct entropy e = {.smooth = options[1]};
    struct ht_range_points p;
    ht_status status = HT_OK;
    HT_TRY(ht_range_points_init(&p, in, false, err));
    float amax = fmaxf(fabsf(p.min), fabsf(p.max)), low = p.min, high = p.max;
    ht_range_points_deinit(&p);
    if ((double)amax < 1e-37 || low == high) {
        *out = ht_range_bounds(grid, low, high);
        return HT_OK;
    }
    HT_TRY_DONE(count_bins(&e, in, amax, (size_t)options[0], err));
    HT_TRY_DONE(make_cells(&e, grid, low >= 0 || high <= 0, err));
    size_t best = e.n_bins, from = e.n_cells < e.n_bins ? e.n_cells : e.n_bins;
    double least = INFINITY;
    for (size_t i = e.n_bins; i >= from; i--) { /* of equals the widest */
        double d = divergence(&e, i);
        if (d < least) {
            least = d;
            best = i;
        }
    }
    float t = (float)fmin((double)best * e.width, amax);
    low = grid->symmetric ? -t : fminf(fmaxf(low, -t), t);
    high = grid->symmetric ? t : fmaxf(fminf(high, t), -t);
    *out = ht_range_bounds(grid, low, high);
done:
    ht_mem_free(e.mass);
    ht_mem_free(e.plogp);
    ht_mem_free(e.filled);
    ht_mem_free(e.border);
    return status;
}
