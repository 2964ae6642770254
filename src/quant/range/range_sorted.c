/* Searches over many values: instead of every value in every trial,
 *
 *     squared errors, grids of few levels    values sorted, with running sums: a trial takes one binary search per
 *                                            level, and its loss is that of every value
 *     other searches                         KEPT values: the TAIL smallest and largest, and of the rest evenly
 *                                            spaced quantiles, each standing for its neighbours
 *
 * Of more than HT_RANGE_SORTED values, the FAR largest in magnitude, which decide where to cut, and one of each stretch
 * of neighbours at a random place in it, so that columns of a matrix are not seen in step. Bounds are those of all
 * values. */
#include <math.h>
#include <stdlib.h> /* defines: qsort */

#include "base/mem.h"
#include "base/rng.h"
#include "quant/range/range_impl.h"

#define KEPT (1u << 14) /* fewer are searched as they are */
#define TAIL 512u
#define FAR (HT_RANGE_SORTED / 4)
#define MOST_LEVELS 4096

static bool by_moments(const struct ht_range_grid *grid, double norm) {
    return norm == 2 && grid->hi - grid->lo < MOST_LEVELS;
}

size_t ht_range_searched(const struct ht_range_choice *choice, const struct ht_range_grid *grid, size_t n) {
    bool searches = choice->part->fit == ht_range_fit_mse || choice->part->fit == ht_range_fit_halfquad;
    size_t most = by_moments(grid, choice->options[0]) ? HT_RANGE_SORTED : KEPT;
    return !searches || n < most ? n : most;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* At most HT_RANGE_SORTED values into out: those beyond `border` in magnitude, and one of each stretch of neighbours,
 * where that is not beyond. Returns how many; *mass: values that each of the latter stands for. */
static size_t draw(const struct ht_range_points *p, float border, float *out, double *mass) {
    struct ht_rng rng;
    size_t far = 0, near = 0, n = p->n, m = HT_RANGE_SORTED - FAR;
    ht_rng_init(&rng, n);
    for (size_t i = 0; i < n; i++) {
        if (fabsf(p->x[i]) > border) {
            out[far++] = p->x[i];
        }
    }
    for (size_t i = 0; i < m; i++) {
        size_t from = (size_t)((double)i * (double)n / (double)m);
        size_t to = (size_t)((double)(i + 1) * (double)n / (double)m);
        float x = p->x[from + (size_t)ht_rng_below(&rng, to > from ? to - from : 1)];
        if (fabsf(x) <= border) {
            out[far + near++] = x;
        }
    }
    *mass = near > 0 ? (double)(n - far) / (double)near : 1;
    return far + near;
}

/* Sorted x [n] of mass [n] becomes KEPT values. */
static void thin(float *x, float *mass, size_t n) {
    size_t middle = KEPT - 2 * TAIL, at = 0;
    double all = 0, sum = 0;
    for (size_t i = TAIL; i < n - TAIL; i++) {
        all += mass[i];
    }
    for (size_t i = TAIL; i < n - TAIL; i++) { /* the value at the middle of each share of the mass */
        for (sum += mass[i]; at < middle && sum >= ((double)at + 0.5) * all / (double)middle; at++) {
            x[TAIL + at] = x[i]; /* TAIL + at <= i: a share is no less than the mass of one value */
        }
    }
    for (size_t i = 0; i < KEPT; i++) {
        bool low = i < TAIL, high = i >= TAIL + middle;
        x[i] = high ? x[n - (KEPT - i)] : x[i];
        mass[i] = low ? mass[i] : high ? mass[n - (KEPT - i)] : (float)(all / (double)middle);
    }
}

/* Running sums of the points. */
static void add_up(struct ht_range_points *p, double *room) {
    double *count = room, *sum = count + p->n + 1, *square = sum + p->n + 1;
    count[0] = sum[0] = square[0] = 0;
    for (size_t i = 0; i < p->n; i++) {
        double m = p->mass[i], x = p->x[i];
        count[i + 1] = count[i] + m;
        sum[i + 1] = sum[i] + m * x;
        square[i + 1] = square[i] + m * x * x;
    }
    p->count = count;
    p->sum = sum;
    p->square = square;
}

ht_status ht_range_points_search(struct ht_range_points *p, const struct ht_range_input *in, bool weighted,
                                 const struct ht_range_grid *grid, double norm, ht_err *err) {
    HT_TRY(ht_range_points_init(p, in, weighted, err));
    if (in->x == NULL || p->mass != NULL || p->n <= KEPT) {
        return HT_OK;
    }
    size_t n = p->n < HT_RANGE_SORTED ? p->n : HT_RANGE_SORTED;
    uint64_t bytes = 3 * (n + 1) * sizeof(double) + 2 * n * sizeof(float);
    double *room = ht_mem_alloc_aligned(1, bytes), each = 1;
    if (room == NULL) {
        return ht_fail_nomem(err, bytes);
    }
    float *x = (float *)(void *)(room + 3 * (n + 1)), *mass = x + n, border = INFINITY;
    if (n == p->n) {
        memcpy(x, p->x, n * sizeof *x);
    } else {
        border = ht_range_quantile(p, 1 - (double)FAR / (double)p->n, true);
        n = draw(p, border, x, &each);
    }
    qsort(x, n, sizeof *x, ascending);
    for (size_t i = 0; i < n; i++) {
        mass[i] = fabsf(x[i]) <= border ? (float)each : 1;
    }
    p->owned_aligned = room;
    p->x = x;
    p->mass = mass;
    p->n = n;
    if (by_moments(grid, norm)) {
        add_up(p, room);
    } else {
        thin(x, mass, n);
        p->n = KEPT;
    }
    return HT_OK;
}

/* How many of the sorted values, from `from` on, lie below the border. */
static size_t below(const struct ht_range_points *p, size_t from, double border) {
    size_t lo = from, hi = p->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->x[mid] < border) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void ht_range_moments(const struct ht_range_points *p, const struct ht_range_grid *grid, const struct ht_range *r,
                      double from, struct ht_range_sums *u) {
    float inverse = ht_range_inverse(r->scale);
    size_t at = 0;
    *u = (struct ht_range_sums){.m = p->count[p->n], .x = p->sum[p->n], .xx = p->square[p->n]};
    int code = grid->lo;
    if (inverse == 0) { /* all at the level nearest to zero */
        double q = (double)ht_range_round(grid, r->zero) - from;
        u->q = u->m * q;
        u->qq = u->m * q * q;
        u->xq = u->x * q;
        return;
    }
    for (; at < p->n; code++) {
        double level = ht_range_level(grid, code), q = level - from;
        size_t end = p->n;
        if (code < grid->hi) { /* a tie may go either way: its error is the same */
            double middle = 0.5 * (level + (double)ht_range_level(grid, code + 1));
            end = below(p, at, (middle - (double)r->zero) / (double)inverse);
        }
        double n = p->count[end] - p->count[at], x = p->sum[end] - p->sum[at];
        u->q += n * q;
        u->qq += n * q * q;
        u->xq += x * q;
        at = end;
    }
}
