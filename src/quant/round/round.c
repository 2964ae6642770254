#include "quant/round/round.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "quant/round/dense.h"
#include "quant/round/round_impl.h"

#define CHUNK_ROWS 1024u /* rows in work at once: bounds memory, results do not depend on it */

void ht_round_defaults(struct ht_round_options *options) {
    *options = (struct ht_round_options){.damping = 0.01, .descents = 4};
}

/* ---- visiting order and factor: once for all rows --------------------------------------------------------- */

struct factor {
    float *h;        /* [n, n] damped */
    float *diagonal; /* [n] undamped */
    float *mt;       /* [n, n] by turn */
    float *cond;     /* [n] by turn */
    uint32_t *order; /* [n] */
    uint64_t n;
};

struct ranked {
    float key;
    uint32_t col;
};

static int by_falling_key(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->key != y->key) {
        return x->key > y->key ? -1 : 1;
    }
    return x->col < y->col ? -1 : 1;
}

/* Columns by falling diag(H); those of one vector stay together, by the mean of theirs. */
static ht_status choose_order(struct factor *f, uint64_t vector, bool natural, ht_err *err) {
    uint64_t n = f->n / vector;
    struct ranked *rank = ht_mem_alloc_array(n, sizeof *rank);
    if (rank == NULL) {
        return ht_fail_nomem(err, n * sizeof *rank);
    }
    for (uint64_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint64_t j = 0; j < vector; j++) {
            sum += (double)f->diagonal[i * vector + j];
        }
        rank[i] = (struct ranked){natural ? 0.0f : (float)sum, (uint32_t)(i * vector)};
    }
    qsort(rank, n, sizeof *rank, by_falling_key);
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t j = 0; j < vector; j++) {
            f->order[i * vector + j] = rank[i].col + (uint32_t)j;
        }
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

static void fit_task(void *ctx, size_t task, int thread) {
    (void)thread;
    struct ht_rounding *r = ctx;
    uint64_t row = task / r->n_grids, col = task % r->n_grids * r->format->block_elems;
    struct ht_grid *grid = &r->grids[task];
    r->format->fit(r->w + row * r->cols + col, r->diagonal + col, grid);
    r->format->snap(grid);
}

void ht_rounding_fit(struct ht_rounding *r) {
    ht_pool_run(r->pool, r->rows * r->n_grids, fit_task, r);
}

static void nearest_task(void *ctx, size_t task, int thread) {
    (void)thread;
    struct ht_rounding *r = ctx;
    uint64_t n = r->format->block_elems, at = task / r->n_grids * r->cols + task % r->n_grids * n;
    r->format->round(r->w + at, r->diagonal + task % r->n_grids * n, &r->grids[task], r->codes + at);
    ht_rounding_values(r->format, &r->grids[task], r->codes + at, 0, n, r->v + at);
}

void ht_rounding_nearest(struct ht_rounding *r) {
    ht_pool_run(r->pool, r->rows * r->n_grids, nearest_task, r);
}

static void error_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounding *r = ctx;
    for (uint64_t j = row * r->cols; j < (row + 1) * r->cols; j++) {
        r->y[j] = r->w[j] - r->v[j];
    }
}

double ht_rounding_loss(struct ht_rounding *r) {
    ht_pool_run(r->pool, r->rows, error_task, r);
    ht_dense_product(r->pool, r->y, r->rows, r->cols, r->h, r->cols, r->cols, r->g, r->scratch);
    double sum = 0;
    for (uint64_t i = 0; i < r->rows * r->cols; i++) {
        sum += (double)r->y[i] * (double)r->g[i];
    }
    return sum;
}

static void pack_row(const struct ht_rounding *r, uint64_t row, unsigned char *dst) {
    for (uint64_t b = 0; b < r->n_grids; b++) {
        r->format->pack(&r->grids[row * r->n_grids + b], r->codes + row * r->cols + b * r->format->block_elems,
                        dst + (row * r->n_grids + b) * r->format->block_bytes);
    }
}

void ht_rounding_pack(const struct ht_rounding *r, unsigned char *dst) {
    for (uint64_t row = 0; row < r->rows; row++) {
        pack_row(r, row, dst);
    }
}

static void solve_chunk(struct ht_rounding *r, const struct ht_round_options *o, unsigned char *dst,
                        struct ht_round_report *report) {
    ht_rounding_fit(r);
    ht_rounding_nearest(r);
    double nearest = ht_rounding_loss(r);
    report->loss_nearest += nearest;
    if (r->format->vector == r->format->block_elems) { /* a trellis: nothing can be handed on within a block */
        report->loss += nearest;
        report->kept_nearest += r->rows;
        ht_rounding_pack(r, dst);
        return;
    }
    ht_rounding_feedback(r);
    double loss = ht_rounding_loss(r);
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
        ht_rounding_fit(r);
        ht_rounding_nearest(r);
        report->kept_nearest += r->rows;
        loss = nearest;
    }
    report->loss += loss;
    ht_rounding_pack(r, dst);
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

struct buffers {
    struct factor f;
    struct ht_rounding r;
};

static ht_status allocate(struct buffers *b, int threads, ht_err *err) {
    struct ht_rounding *r = &b->r;
    uint64_t n = r->cols, rows = r->rows, elems = rows * n;
    size_t scratch = ht_dense_scratch_bytes(rows, n, n, threads);
    size_t other = ht_dense_scratch_bytes(rows, r->step, n, threads);
    b->f.n = n;
    b->f.h = ht_mem_alloc_aligned(n * n, sizeof(float));
    b->f.mt = ht_mem_alloc_aligned(n * n, sizeof(float));
    b->f.diagonal = ht_mem_alloc_aligned(n, sizeof(float));
    b->f.cond = ht_mem_alloc_aligned(n, sizeof(float));
    b->f.order = ht_mem_alloc_array(n, sizeof(uint32_t));
    r->grids = ht_mem_alloc_array(rows * r->n_grids, sizeof *r->grids);
    r->codes = ht_mem_alloc_aligned(elems, 1);
    r->v = ht_mem_alloc_aligned(elems, sizeof(float));
    r->g = ht_mem_alloc_aligned(elems, sizeof(float));
    r->y = ht_mem_alloc_aligned(elems, sizeof(float));
    r->e = ht_mem_alloc_aligned(rows * r->step, sizeof(float));
    r->m = ht_mem_alloc_aligned(r->step * r->step, sizeof(float));
    r->scratch = ht_mem_alloc_aligned(scratch > other ? scratch : other, 1);
    if (!b->f.h || !b->f.mt || !b->f.diagonal || !b->f.cond || !b->f.order || !r->grids || !r->codes || !r->v ||
        !r->g || !r->y || !r->e || !r->m || !r->scratch) {
        return ht_fail_nomem(err, ht_round_memory(r->format, rows, n, threads));
    }
    r->h = b->f.h;
    r->mt = b->f.mt;
    r->diagonal = b->f.diagonal;
    r->cond = b->f.cond;
    r->order = b->f.order;
    return HT_OK;
}

static void release(struct buffers *b) {
    struct ht_rounding *r = &b->r;
    ht_mem_free_aligned(b->f.h);
    ht_mem_free_aligned(b->f.mt);
    ht_mem_free_aligned(b->f.diagonal);
    ht_mem_free_aligned(b->f.cond);
    ht_mem_free(b->f.order);
    ht_mem_free(r->grids);
    ht_mem_free_aligned(r->codes);
    ht_mem_free_aligned(r->v);
    ht_mem_free_aligned(r->g);
    ht_mem_free_aligned(r->y);
    ht_mem_free_aligned(r->e);
    ht_mem_free_aligned(r->m);
    ht_mem_free_aligned(r->scratch);
}

static uint64_t step_of(const struct ht_format *format, uint64_t cols) {
    uint64_t step = format->block_elems > 128 ? 256 : 128;
    return step < cols ? step : cols;
}

uint64_t ht_round_memory(const struct ht_format *format, uint64_t rows, uint64_t cols, int threads) {
    uint64_t n = rows < CHUNK_ROWS ? rows : CHUNK_ROWS, step = step_of(format, cols);
    return cols * cols * 2 * sizeof(float) + n * cols * (3 * sizeof(float) + 1) +
           n * (cols / format->block_elems) * sizeof(struct ht_grid) + (n + step) * step * sizeof(float) +
           ht_dense_scratch_bytes(n, cols, cols, threads);
}

ht_status ht_round_feedback(struct ht_pool *pool, const struct ht_format *format, const float *w, uint64_t rows,
                            uint64_t cols, const float *hessian, const struct ht_round_options *options, void *dst,
                            struct ht_round_report *report, ht_err *err) {
    struct buffers b = {.r = {.pool = pool, .format = format, .cols = cols, .step = step_of(format, cols),
                              .n_grids = cols / format->block_elems, .rows = rows < CHUNK_ROWS ? rows : CHUNK_ROWS}};
    struct ht_rounding *r = &b.r;
    uint64_t row_bytes = ht_format_row_bytes(format, cols);
    *report = (struct ht_round_report){0};
    ht_status status = allocate(&b, ht_pool_threads(pool), err);
    if (status == HT_OK) {
        b.f.n = cols;
        uint64_t n = 0;
        for (uint64_t i = 0; i < cols; i++) {
            b.f.diagonal[i] = hessian[i * cols + i];
        }
        status = choose_order(&b.f, format->vector ? format->vector : 1, options->natural, err);
        if (status == HT_OK) {
            status = factorize(pool, &b.f, hessian, options, report, err);
        }
        for (uint64_t row = 0; status == HT_OK && row < rows; row += n) {
            n = rows - row < CHUNK_ROWS ? rows - row : CHUNK_ROWS;
            r->rows = n;
            r->w = w + row * cols;
            solve_chunk(r, options, (unsigned char *)dst + row * row_bytes, report);
        }
    }
    release(&b);
    return status;
}
