/* Optimal Brain Quantization: in each row, the weight that costs least is rounded next, and all that are left make up
 * for it, in closed form. With A the inverse of H over the columns not yet rounded,
 *
 *     j = argmin (q(w_j) - w_j)^2 / A_jj,    w_k <- w_k - (w_j - q(w_j)) / A_jj * A_jk,
 *     A  <- A - A_:j A_j: / A_jj             (row and column j leave)
 *
 * Making up for others may drive a weight beyond the grid's end by more than half a step. Such a one is rounded at
 * once, the dearest first: later it would only cost more. Source: Frantar and Alistarh 2022, arXiv 2208.11580,
 * section 5. n^3 per row: for layers of at most HT_ROUND_GREEDY_COLS columns. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/round/round_impl.h"

struct greedy {
    struct ht_rounder *r;
    const double *inverse; /* [n, n] of the damped H */
    double *room;          /* [threads, n, n + 1]: A of the row in work, and its weights */
};

/* a [n, n] positive definite becomes its inverse: Gauss-Jordan, pivots in their order. False: a pivot is not
 * positive. */
static bool invert(double *a, uint64_t n) {
    for (uint64_t p = 0; p < n; p++) {
        double *row = a + p * n, pivot = row[p];
        if (!(pivot > 0.0)) {
            return false;
        }
        row[p] = 1.0;
        for (uint64_t j = 0; j < n; j++) {
            row[j] /= pivot;
        }
        for (uint64_t i = 0; i < n; i++) {
            double c = a[i * n + p];
            if (i == p || c == 0.0) {
                continue;
            }
            a[i * n + p] = 0.0;
            for (uint64_t j = 0; j < n; j++) {
                a[i * n + j] -= c * row[j];
            }
        }
    }
    return true;
}

static void round_column(struct ht_rounder *r, uint64_t row, double *w, double *a, uint64_t j) {
    uint64_t n = r->cols, cell = j / r->cells.run * r->cells.stride + row;
    int code = ht_cell_nearest(&r->cells, cell, (float)w[j]);
    float value = ht_cell_value(&r->cells, cell, code);
    double error = (w[j] - (double)value) / a[j * n + j], inverse = 1.0 / a[j * n + j];
    r->codes[row * n + j] = (int8_t)code;
    r->v[row * n + j] = value;
    const double *aj = a + j * n;
    for (uint64_t k = 0; k < n; k++) {
        w[k] -= error * aj[k];
    }
    for (uint64_t i = 0; i < n; i++) {
        double c = aj[i] * inverse;
        if (i == j || c == 0.0) {
            continue;
        }
        for (uint64_t k = 0; k < n; k++) {
            a[i * n + k] -= c * aj[k];
        }
        a[i * n + j] = 0.0;
    }
    memset(a + j * n, 0, n * sizeof *a);
}

/* More than half a step outside: how far its nearest value may be from a weight within the grid. */
static bool beyond(const struct ht_cells *c, uint64_t at, double x) {
    double lo = (double)ht_cell_value(c, at, c->lo), hi = (double)ht_cell_value(c, at, c->hi);
    double low_step = (double)ht_cell_value(c, at, c->lo + 1) - lo;
    double high_step = hi - (double)ht_cell_value(c, at, c->hi - 1);
    bool falling = hi < lo; /* a negative scale */
    double first = lo - 0.5 * low_step, last = hi + 0.5 * high_step;
    return falling ? x > first || x < last : x < first || x > last;
}

/* The column to round next; cols: none. */
static uint64_t choose(const struct ht_rounder *r, uint64_t row, const double *w, const double *a) {
    uint64_t n = r->cols, best = n, out = n;
    double least = INFINITY, most = 0;
    for (uint64_t j = 0; j < n; j++) {
        double ajj = a[j * n + j]; /* 0: rounded already */
        if (!(ajj > 0.0)) {
            continue;
        }
        uint64_t cell = j / r->cells.run * r->cells.stride + row;
        int code = ht_cell_nearest(&r->cells, cell, (float)w[j]);
        double e = w[j] - (double)ht_cell_value(&r->cells, cell, code), cost = e * e / ajj;
        if (best == n || cost < least) {
            least = cost;
            best = j;
        }
        if (cost > most && beyond(&r->cells, cell, w[j])) {
            most = cost;
            out = j;
        }
    }
    return out < n ? out : best;
}

static void row_task(void *ctx, size_t row, int thread) {
    const struct greedy *g = ctx;
    struct ht_rounder *r = g->r;
    uint64_t n = r->cols;
    double *a = g->room + (uint64_t)thread * n * (n + 1), *w = a + n * n;
    memcpy(a, g->inverse, n * n * sizeof *a);
    for (uint64_t j = 0; j < n; j++) {
        w[j] = (double)r->w[row * n + j];
    }
    for (uint64_t left = n; left > 0; left--) {
        uint64_t next = choose(r, row, w, a);
        if (next == n) {
            return; /* the inverse of what is left is 0 within the precision: its nearest codes stay */
        }
        round_column(r, row, w, a, next);
    }
}

uint64_t ht_rounding_greedy_memory(uint64_t cols, int threads) {
    return (cols * cols + (uint64_t)threads * cols * (cols + 1)) * sizeof(double);
}

ht_status ht_rounding_greedy(struct ht_rounder *r, ht_err *err) {
    uint64_t n = r->cols, threads = (uint64_t)ht_pool_threads(r->pool);
    double *inverse = ht_mem_alloc_array(n * n, sizeof *inverse);
    struct greedy g = {r, inverse, ht_mem_alloc_array(threads * n * (n + 1), sizeof *g.room)};
    ht_status status = HT_OK;
    if (inverse == NULL || g.room == NULL) {
        status = ht_fail_nomem(err, ht_rounding_greedy_memory(n, (int)threads));
        goto done;
    }
    for (uint64_t i = 0; i < n * n; i++) {
        inverse[i] = (double)r->h[i];
    }
    if (!invert(inverse, n)) {
        status = ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "it has no inverse in double; raise the damping");
        goto done;
    }
    ht_pool_run(r->pool, r->rows, row_task, &g);
done:
    ht_mem_free(g.room);
    ht_mem_free(inverse);
    return status;
}
