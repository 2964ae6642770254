/* The range with the smallest error: sum of mass * |x - x'|^norm.
 *
 * Bounds are moved from minmax by a factor t towards 0 (towards the middle where the values lie on one side of 0):
 *     1. t over a row from 1.1 to 2^-12, the same for both bounds
 *     2. golden section around the row's three deepest valleys
 *     3. asymmetric grids: the same for each bound alone, the other held, in turns while that helps
 *     norm 2: each candidate's codes choose their own scale (and real zero) by least squares, and are judged by that;
 *     at the end codes and scale in turns while that helps
 * The error has many local minima, one between any two values of t at which a code changes: rows find the valley,
 * golden section or least squares its floor. */
#include <math.h>

#include "base/compiler.h"
#include "quant/range/range_impl.h"

#define WIDEST 1.1              /* importance can ask for a larger scale than the largest value needs */
#define SMALLEST_SHRINK (-12.0) /* log2; an outlier 4,000 times as large as the rest can still be left outside */
#define MAX_GRID 1024
#define VALLEYS 3
#define GOLDEN 0.6180339887498949
#define GOLDEN_STEPS 12 /* the bracket shrinks to 1 / 320 */
#define REFITS 20

struct search {
    const struct ht_range_points *points;
    const struct ht_range_grid *grid;
    double norm;
    int n_grid;
    double low, high, center; /* of minmax; what bounds shrink to */
    double t_low, t_high;     /* factors of the best */
    double loss;
    struct ht_range best;
};

enum side { BOTH, LOW, HIGH };

/* Integers; four lanes each, summed in a fixed order. */
HT_CLONES
static void add_integers(const float *x, const float *mass, size_t n, float inverse, float zero, float from, float lo,
                         float hi, struct ht_range_sums *u) {
    double m[4] = {0}, q[4] = {0}, qq[4] = {0}, sx[4] = {0}, xq[4] = {0}, xx[4] = {0};
    for (size_t i = 0; i < n; i++) {
        float c = rintf(x[i] * inverse + zero);
        c = c < lo ? lo : c;
        c = c > hi ? hi : c;
        double w = mass != NULL ? mass[i] : 1, v = x[i], code = (double)c - (double)from;
        m[i & 3] += w;
        q[i & 3] += w * code;
        qq[i & 3] += w * code * code;
        sx[i & 3] += w * v;
        xq[i & 3] += w * v * code;
        xx[i & 3] += w * v * v;
    }
    *u = (struct ht_range_sums){
        m[0] + m[1] + m[2] + m[3],     q[0] + q[1] + q[2] + q[3],     qq[0] + qq[1] + qq[2] + qq[3],
        sx[0] + sx[1] + sx[2] + sx[3], xq[0] + xq[1] + xq[2] + xq[3], xx[0] + xx[1] + xx[2] + xx[3]};
}

/* q counts from `from`. */
static void add_sums(const struct ht_range_points *p, const struct ht_range_grid *g, const struct ht_range *r,
                     float from, struct ht_range_sums *u) {
    float inverse = ht_range_inverse(r->scale);
    if (p->sum != NULL) {
        ht_range_moments(p, g, r, (double)from, u);
        return;
    }
    if (g->levels == NULL) {
        add_integers(p->x, p->mass, p->n, inverse, r->zero, from, (float)g->lo, (float)g->hi, u);
        return;
    }
    for (size_t i = 0; i < p->n; i++) {
        double w = p->mass != NULL ? p->mass[i] : 1, v = p->x[i];
        double q = (double)ht_range_round(g, p->x[i] * inverse + r->zero) - (double)from;
        u->m += w;
        u->q += w * q;
        u->qq += w * q * q;
        u->x += w * v;
        u->xq += w * v * q;
        u->xx += w * v * v;
    }
}

static struct ht_range range_at(const struct search *s, double t_low, double t_high) {
    double low = s->center + (s->low - s->center) * t_low, high = s->center + (s->high - s->center) * t_high;
    return ht_range_bounds(s->grid, (float)low, (float)fmax(high, low));
}

/* Least squares with the codes that `in` gives: x ~ scale * level - scale * zero. False: nothing to fit.
 * *loss: with those codes, an upper bound of what nearest codes give. */
static bool refit(const struct search *s, const struct ht_range *in, struct ht_range *out, double *loss) {
    const struct ht_range_grid *g = s->grid;
    bool affine = !g->symmetric && !g->integer_zero;
    struct ht_range_sums u = {0};
    add_sums(s->points, g, in, affine ? 0 : in->zero, &u);
    if (!affine) {
        if (!(u.xq > 0)) {
            return false;
        }
        *out = (struct ht_range){(float)(u.xq / u.qq), in->zero};
        *loss = fmax(0, u.xx - u.xq * u.xq / u.qq);
        return out->scale > 0;
    }
    double mean_x = u.x / u.m, mean_q = u.q / u.m;
    double var_q = u.qq - u.q * mean_q, cov = u.xq - u.q * mean_x, var_x = u.xx - u.x * mean_x;
    if (!(var_q > 0 && cov > 0)) {
        return false;
    }
    double scale = cov / var_q;
    *out = (struct ht_range){(float)scale, (float)(mean_q - mean_x / scale)};
    *loss = fmax(0, var_x - cov * scale);
    return out->scale > 0 && isfinite(out->zero);
}

/* Loss with side at t; keeps the best. */
static double try_at(struct search *s, enum side side, double t, double t_low, double t_high) {
    double a = side == HIGH ? t_low : t, b = side == LOW ? t_high : t, loss;
    struct ht_range r = range_at(s, a, b), fitted;
    if (s->norm == 2 && refit(s, &r, &fitted, &loss)) {
        r = fitted;
    } else {
        loss = ht_range_loss(s->points, s->grid, &r, s->norm);
    }
    if (loss < s->loss) {
        s->loss = loss;
        s->best = r;
        s->t_low = a;
        s->t_high = b;
    }
    return loss;
}

/* Golden section between a and b. */
static void golden(struct search *s, enum side side, double a, double b, double t_low, double t_high) {
    double c = b - GOLDEN * (b - a), d = a + GOLDEN * (b - a);
    double at_c = try_at(s, side, c, t_low, t_high), at_d = try_at(s, side, d, t_low, t_high);
    for (int i = 0; i < GOLDEN_STEPS; i++) {
        if (at_c < at_d) {
            b = d;
            d = c;
            at_d = at_c;
            c = b - GOLDEN * (b - a);
            at_c = try_at(s, side, c, t_low, t_high);
        } else {
            a = c;
            c = d;
            at_c = at_d;
            d = a + GOLDEN * (b - a);
            at_d = try_at(s, side, d, t_low, t_high);
        }
    }
}

/* The row's i-th t: n_grid steps down to a quarter, then n_grid ever smaller ones. */
static double row_at(const struct search *s, int i) {
    double from = WIDEST, knee = 0.25;
    if (i <= s->n_grid) {
        return from + (knee - from) * i / s->n_grid;
    }
    return knee * exp2((SMALLEST_SHRINK + 2) * (i - s->n_grid) / s->n_grid);
}

static void line_search(struct search *s, enum side side) {
    double t_low = s->t_low, t_high = s->t_high; /* what is held */
    double loss[2 * MAX_GRID + 1];
    bool low[2 * MAX_GRID + 1];
    int n = 2 * s->n_grid + 1;
    for (int i = 0; i < n; i++) {
        loss[i] = try_at(s, side, row_at(s, i), t_low, t_high);
    }
    for (int i = 0; i < n; i++) {
        low[i] = (i == 0 || loss[i] <= loss[i - 1]) && (i + 1 == n || loss[i] < loss[i + 1]);
    }
    for (int valley = 0; valley < VALLEYS; valley++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            best = low[i] && (best < 0 || loss[i] < loss[best]) ? i : best;
        }
        if (best < 0) {
            return;
        }
        golden(s, side, row_at(s, best + 1), row_at(s, best > 0 ? best - 1 : 0), t_low, t_high);
        low[best] = false;
    }
}

static void polish(struct search *s) {
    struct ht_range r;
    double loss;
    s->loss = ht_range_loss(s->points, s->grid, &s->best, s->norm);
    for (int i = 0; i < REFITS && refit(s, &s->best, &r, &loss); i++) {
        loss = ht_range_loss(s->points, s->grid, &r, s->norm);
        if (!(loss < s->loss)) {
            return;
        }
        s->loss = loss;
        s->best = r;
    }
}

static void search_range(const struct ht_range_points *p, const struct ht_range_grid *grid, const double *options,
                         struct ht_range *out) {
    struct search s = {.points = p, .grid = grid, .norm = options[0], .n_grid = (int)options[1],
                       .low = p->min, .high = p->max, .t_low = 1, .t_high = 1, .loss = INFINITY};
    s.center = grid->symmetric || grid->integer_zero || (s.low <= 0 && s.high >= 0) ? 0 : 0.5 * (s.low + s.high);
    try_at(&s, BOTH, 1, 1, 1);
    if (s.loss > 0) {
        line_search(&s, BOTH);
    }
    double before = INFINITY;
    for (int turn = 0; turn < 4 && !grid->symmetric && p->min < p->max && s.loss < 0.999 * before; turn++) {
        before = s.loss;
        line_search(&s, LOW);
        line_search(&s, HIGH);
    }
    if (s.norm == 2) {
        polish(&s);
    }
    *out = s.best;
}

static ht_status fit(const struct ht_range_input *in, const struct ht_range_grid *grid, const double *options,
                     bool weighted, struct ht_range *out, ht_err *err) {
    struct ht_range_points p;
    ht_status status = ht_range_points_search(&p, in, weighted, grid, options[0], err);
    if (status == HT_OK) {
        search_range(&p, grid, options, out);
    }
    ht_range_points_deinit(&p);
    return status;
}

ht_status ht_range_fit_mse(const struct ht_range_input *in, const struct ht_range_grid *grid, const double *options,
                           struct ht_range *out, ht_err *err) {
    return fit(in, grid, options, false, out, err);
}

ht_status ht_range_fit_weighted(const struct ht_range_input *in, const struct ht_range_grid *grid,
                                const double *options, struct ht_range *out, ht_err *err) {
    return fit(in, grid, options, true, out, err);
}
