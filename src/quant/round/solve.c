/* What both kinds of grids go through: order, factor, and each chunk of rows from start to stored codes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "quant/round/dense.h"
#include "quant/round/round_impl.h"

/* ---- visiting order and factor: once for all rows --------------------------------------------------------- */

struct factor {
    float *h;        /* [n, n] damped */
    double added;    /* to its diagonal */
    float *diagonal; /* [n] undamped */
    float *mt;       /* [n, n] by turn */
    float *cond;     /* [n] by turn */
    uint32_t *order; /* [n] */
    uint32_t *turn;  /* [n] of each column */
    bool *last;      /* [n] kept in every row */
    uint64_t n;
};

struct ranked {
    bool last;
    float group, key; /* falling */
    uint32_t group_at, col;
};

static int by_falling_key(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->last != y->last) {
        return x->last ? 1 : -1;
    }
    if (x->group != y->group) {
        return x->group > y->group ? -1 : 1;
    }
    if (x->group_at != y->group_at) {
        return x->group_at < y->group_at ? -1 : 1;
    }
    if (x->key != y->key) {
        return x->key > y->key ? -1 : 1;
    }
    return x->col < y->col ? -1 : 1;
}

static float sum_of(const float *x, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        sum += (double)x[i];
    }
    return (float)sum;
}

/* Columns of one vector stay together, by the sum of theirs; so do, with HT_ORDER_GROUPS, those of one unit. */
static ht_status choose_order(struct factor *f, uint64_t vector, uint64_t unit, enum ht_round_order order,
                              ht_err *err) {
    uint64_t n = f->n / vector;
    struct ranked *rank = ht_mem_calloc(n, sizeof *rank);
    if (rank == NULL) {
        return ht_fail_nomem(err, n * sizeof *rank);
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t col = i * vector, first = col / unit * unit;
        rank[i].col = (uint32_t)col;
        rank[i].last = f->last[col];
        if (order != HT_ORDER_NATURAL) {
            rank[i].key = sum_of(f->diagonal + col, vector);
        }
        if (order == HT_ORDER_GROUPS) {
            rank[i].group_at = (uint32_t)first;
            rank[i].group = sum_of(f->diagonal + first, f->n - first < unit ? f->n - first : unit);
        }
    }
    qsort(rank, n, sizeof *rank, by_falling_key);
    for (uint64_t i = 0; i < f->n; i++) {
        f->order[i] = rank[i / vector].col + (uint32_t)(i % vector);
        f->turn[f->order[i]] = (uint32_t)i;
    }
    ht_mem_free(rank);
    return HT_OK;
}

/* h in reverse order of turns: its lower Cholesky factor, read backwards, is the upper R with H = R R^T. */
static void reversed(struct factor *f) {
    uint64_t n = f->n;
    for (uint64_t i = 0; i < n; i++) {
        const float *row = f->h + (uint64_t)f->order[n - 1 - i] * n;
        for (uint64_t j = 0; j <= i; j++) {
            f->mt[i * n + j] = row[f->order[n - 1 - j]];
        }
    }
}

/* From L in mt to mt[j][i] = R_ij / R_jj, i < j, where R_ij = L[n-1-i][n-1-j]. */
static void unit_columns(struct factor *f) {
    uint64_t n = f->n;
    float *a = f->mt;
    for (uint64_t j = 0; j < n; j++) {
        float pivot = a[(n - 1 - j) * n + n - 1 - j];
        f->cond[j] = pivot * pivot;
    }
    /* L[p][q], q < p, belongs at [n-1-q][n-1-p]: a reflection at the other diagonal, which swaps pairs within the
     * lower triangle. */
    for (uint64_t p = 0; p < n; p++) {
        for (uint64_t q = 0; q < p; q++) {
            uint64_t to = n - 1 - q, at = n - 1 - p;
            if (to * n + at > p * n + q) {
                float swap = a[p * n + q];
                a[p * n + q] = a[to * n + at];
                a[to * n + at] = swap;
            }
        }
    }
    for (uint64_t j = 0; j < n; j++) {
        float inverse = 1.0f / sqrtf(f->cond[j]);
        for (uint64_t i = 0; i < j; i++) {
            a[j * n + i] *= inverse;
        }
    }
}

static ht_status factorize(struct ht_pool *pool, struct factor *f, const float *hessian,
                           const struct ht_round_options *o, struct ht_round_report *report, ht_err *err) {
    uint64_t n = f->n, pivot = 0;
    double mean = 0;
    for (uint64_t i = 0; i < n; i++) {
        f->diagonal[i] = hessian[i * n + i];
        mean += (double)f->diagonal[i] / (double)n;
        report->dead += f->diagonal[i] == 0.0f;
    }
    if (!isfinite(mean)) {
        return ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "the inputs of this layer are not finite");
    }
    report->damping = o->damping;
    for (int attempt = 0; pivot < n; attempt++) {
        if (attempt > 0) {
            report->damping = report->damping > 0 ? report->damping * 10 : 1e-4;
            report->dampings++;
        }
        if (attempt > 12) {
            return ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "it is not positive definite even when damped by "
                           "%g times its mean diagonal", report->damping);
        }
        float add = mean > 0 ? (float)(report->damping * mean) : 1.0f;
        f->added = (double)add;
        memcpy(f->h, hessian, n * n * sizeof *f->h);
        for (uint64_t i = 0; i < n; i++) {
            f->h[i * n + i] += add;
        }
        reversed(f);
        HT_TRY(ht_dense_cholesky(pool, f->mt, n, &pivot, err));
    }
    unit_columns(f);
    return HT_OK;
}

/* ---- a chunk of rows --------------------------------------------------------------------------------------- */

static void start_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounder *r = ctx;
    r->ops->start(r, row);
    for (uint64_t unit = 0; unit < r->n_units; unit++) {
        r->ops->nearest(r, row, unit);
    }
}

void ht_rounding_start(struct ht_rounder *r) {
    ht_pool_run(r->pool, r->rows, start_task, r);
}

static void error_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounder *r = ctx;
    for (uint64_t j = row * r->cols; j < (row + 1) * r->cols; j++) {
        r->y[j] = r->w[j] - r->v[j];
    }
}

double ht_rounding_loss(struct ht_rounder *r) {
    ht_pool_run(r->pool, r->rows, error_task, r);
    ht_dense_product(r->pool, r->y, r->rows, r->cols, r->h, r->cols, r->cols, r->g, r->scratch);
    double sum = 0; /* without the damping, which is no error of any output */
    for (uint64_t i = 0; i < r->rows * r->cols; i++) {
        sum += (double)r->y[i] * ((double)r->g[i] - r->added * (double)r->y[i]);
    }
    return sum > 0 ? sum : 0;
}

static void pack_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounder *r = ctx;
    r->ops->pack(r, row);
}

static ht_status solve_chunk(struct ht_rounder *r, bool whole, const struct ht_round_options *o,
                             struct ht_round_report *report, ht_err *err) {
    ht_rounding_start(r);
    double nearest = ht_rounding_loss(r), loss = nearest;
    report->loss_nearest += nearest;
    if (!whole) {
        HT_TRY(o->greedy ? ht_rounding_greedy(r, err) : ht_rounding_feedback(r, err));
        loss = ht_rounding_loss(r);
        for (uint32_t i = 0; i < o->descents; i++) {
            if (i > 0) {
                ht_rounding_refit(r);
            }
            ht_rounding_descend(r);
        }
        if (o->descents > 0) {
            loss = ht_rounding_loss(r);
        }
        if (!(loss <= nearest)) {
            ht_rounding_start(r);
        }
    }
    if (whole || !(loss <= nearest)) {
        report->kept_nearest += r->rows;
        loss = nearest;
    }
    report->loss += loss;
    ht_pool_run(r->pool, r->rows, pack_task, r);
    return HT_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

/* Columns of one step: whole units where these are narrow. */
uint64_t ht_rounding_step(uint64_t unit, uint64_t cols) {
    uint64_t step = unit > 128 && unit <= HT_ROUND_BLOCK ? unit : unit <= 128 ? 128 / unit * unit : 128;
    return step < cols ? step : cols;
}

static uint64_t lanes_of(uint64_t rows) {
    return (rows + HT_ROUND_LANES - 1) / HT_ROUND_LANES * HT_ROUND_LANES;
}

static size_t scratch_bytes(const struct ht_rounder *r, uint64_t rows, int threads) {
    size_t scratch = ht_dense_scratch_bytes(rows, r->cols, r->cols, threads);
    size_t other = ht_dense_scratch_bytes(rows, r->step, r->cols, threads);
    return scratch > other ? scratch : other;
}

static uint64_t wide_elems(const struct ht_rounder *r, uint64_t rows) {
    return r->unit > HT_ROUND_BLOCK ? rows * r->unit : 0;
}

uint64_t ht_rounding_memory(const struct ht_rounder *r, uint64_t rows, int threads) {
    uint64_t n = rows < HT_ROUND_ROWS ? rows : HT_ROUND_ROWS, cols = r->cols;
    return (2 * cols * cols + 7 * cols + 3 * n * cols + (n + r->step) * r->step + 3 * r->cells.n * lanes_of(n) +
            wide_elems(r, n) + 2 * (uint64_t)threads * r->unit) * sizeof(float) +
           n * cols + scratch_bytes(r, n, threads);
}

static ht_status allocate(struct ht_rounder *r, struct factor *f, ht_err *err) {
    uint64_t n = r->cols, rows = r->rows, elems = rows * n, cells = r->cells.n * lanes_of(rows);
    uint64_t threads = (uint64_t)ht_pool_threads(r->pool);
    const struct {
        void **p;
        uint64_t count, size;
    } all[] = {
        {(void **)&f->h, n * n, 4},          {(void **)&f->mt, n * n, 4},
        {(void **)&f->diagonal, n, 4},       {(void **)&f->cond, n, 4},
        {(void **)&f->order, n, 4},          {(void **)&f->turn, n, 4},
        {(void **)&f->last, n, sizeof(bool)},
        {(void **)&r->cells.scale, cells, 4}, {(void **)&r->cells.min, cells, 4},
        {(void **)&r->cells.zero, cells, 4}, {(void **)&r->codes, elems, 1},
        {(void **)&r->v, elems, 4},          {(void **)&r->g, elems, 4},
        {(void **)&r->y, elems, 4},          {(void **)&r->e, rows * r->step, 4},
        {(void **)&r->m, r->step * r->step, 4}, {(void **)&r->p, wide_elems(r, rows), 4},
        {(void **)&r->hq, n, 4},
        {(void **)&r->room, threads * 2 * r->unit, 4}, {(void **)&r->errs, threads, sizeof(ht_err)},
        {&r->scratch, scratch_bytes(r, rows, (int)threads), 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        *all[i].p = ht_mem_alloc_aligned(all[i].count, all[i].size);
        if (*all[i].p == NULL) {
            return ht_fail_nomem(err, ht_rounding_memory(r, rows, (int)threads));
        }
    }
    for (uint64_t i = 0; i < cells; i++) { /* lanes without a row compute with these, too */
        r->cells.scale[i] = r->cells.min[i] = r->cells.zero[i] = 0.0f;
    }
    for (uint64_t i = 0; i < threads; i++) {
        r->errs[i] = (ht_err){0};
    }
    r->h = f->h;
    r->mt = f->mt;
    r->diagonal = f->diagonal;
    r->cond = f->cond;
    r->order = f->order;
    r->turn = f->turn;
    r->last = f->last;
    return HT_OK;
}

static void release(struct ht_rounder *r, struct factor *f) {
    void *all[] = {f->h, f->mt, f->diagonal, f->cond, f->order, f->turn, f->last, r->cells.scale,
                   r->cells.min, r->cells.zero, r->codes, r->v, r->g, r->y, r->e, r->m, r->p, r->hq,
                   r->room, r->errs, r->scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ht_mem_free_aligned(all[i]);
    }
}

static ht_status check_options(const struct ht_rounder *r, const struct ht_round_options *o, ht_err *err) {
    if (!(o->damping >= 0.0)) {
        return ht_fail(err, HT_INVAL, "damping", HT_NO_POS, "expected 0 or more, found %g", o->damping);
    }
    if (o->dynamic && o->order == HT_ORDER_FALLING && r->n_units > 1) {
        return ht_fail(err, HT_INVAL, "order", HT_NO_POS, "dynamic grids are fitted where their group begins; falling "
                       "order mixes groups: use the natural or the group-aware order, or static grids");
    }
    const char *beyond = !o->greedy         ? NULL
                         : r->vector != 0   ? "formats that store vectors of weights"
                         : o->dynamic       ? "grids that are fitted on the way"
                         : o->keep != NULL  ? "weights that are kept apart"
                                            : NULL;
    if (beyond != NULL) {
        return ht_fail(err, HT_INVAL, "greedy", HT_NO_POS, "rounding the cheapest weight next does not serve %s; error "
                       "feedback does", beyond);
    }
    if (o->greedy && r->cols > HT_ROUND_GREEDY_COLS) {
        return ht_fail(err, HT_INVAL, "greedy", HT_NO_POS, "rounding the cheapest weight next takes the cube of the "
                       "columns per row: at most %u columns, found %llu; error feedback serves all",
                       HT_ROUND_GREEDY_COLS, (unsigned long long)r->cols);
    }
    return HT_OK;
}

/* Columns whose value is kept in every row. */
static void find_last(struct factor *f, const uint8_t *keep, uint64_t rows) {
    for (uint64_t j = 0; j < f->n; j++) {
        f->last[j] = keep != NULL;
        for (uint64_t i = 0; f->last[j] && i < rows; i++) {
            f->last[j] = keep[i * f->n + j] == HT_KEEP_VALUE;
        }
    }
}

ht_status ht_rounding_solve(struct ht_rounder *r, bool whole, const float *w, uint64_t rows, const float *hessian,
                            const struct ht_round_options *o, struct ht_round_report *report, ht_err *err) {
    struct factor f = {.n = r->cols};
    *report = (struct ht_round_report){0};
    r->rows = rows < HT_ROUND_ROWS ? rows : HT_ROUND_ROWS;
    r->cells.stride = lanes_of(r->rows);
    r->dynamic = o->dynamic;
    ht_status status = HT_OK;
    HT_TRY(check_options(r, o, err));
    HT_TRY_DONE(allocate(r, &f, err));
    for (uint64_t i = 0; i < r->cols; i++) {
        f.diagonal[i] = hessian[i * r->cols + i];
    }
    find_last(&f, o->keep, rows);
    HT_TRY_DONE(choose_order(&f, r->vector ? r->vector : 1, r->unit, o->order, err));
    HT_TRY_DONE(factorize(r->pool, &f, hessian, o, report, err));
    r->added = f.added;
    for (r->row0 = 0; r->row0 < rows; r->row0 += r->rows) {
        r->rows = rows - r->row0 < HT_ROUND_ROWS ? rows - r->row0 : HT_ROUND_ROWS;
        r->w = w + r->row0 * r->cols;
        r->keep = o->keep != NULL ? o->keep + r->row0 * r->cols : NULL;
        r->values = o->values != NULL ? o->values + r->row0 * r->cols : NULL;
        HT_TRY_DONE(solve_chunk(r, whole, o, report, err));
    }
done:
    release(r, &f);
    return status;
}
