#include "quant/round/dense.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static struct ht_mat matrix(const float *b, uint64_t b_stride, uint64_t n, uint64_t k) {
    return (struct ht_mat){.format = ht_format_find("f32"), .data = b, .rows = n, .cols = k,
                           .row_bytes = b_stride * sizeof *b};
}

size_t ht_dense_scratch_bytes(uint64_t m, uint64_t k, uint64_t n, int threads) {
    struct ht_mat b = matrix(NULL, k, n, k);
    return ht_matmul_scratch_bytes(&b, m, threads);
}

void ht_dense_product(struct ht_pool *pool, const float *a, uint64_t m, uint64_t k, const float *b, uint64_t b_stride,
                      uint64_t n, float *y, void *scratch) {
    struct ht_mat mat = matrix(b, b_stride, n, k);
    ht_matmul(pool, &mat, a, m, y, n, HT_MATH_EXACT, scratch);
}

/* ---- x^T x ------------------------------------------------------------------------------------------------ */

#define MIRROR 32u /* squares of this side: whole cache lines of both triangles */

void ht_dense_mirror(float *h, uint64_t n) {
    for (uint64_t row = 0; row < n; row += MIRROR) {
        for (uint64_t col = 0; col <= row; col += MIRROR) {
            for (uint64_t i = row; i < n && i < row + MIRROR; i++) {
                for (uint64_t j = col; j < i && j < col + MIRROR; j++) {
                    h[j * n + i] = h[i * n + j];
                }
            }
        }
    }
}

ht_status ht_dense_gram(struct ht_pool *pool, const float *x, uint64_t n, uint64_t cols, float *h, ht_err *err) {
    uint64_t bytes = ht_syrk_scratch_bytes(n, cols);
    void *scratch = ht_mem_alloc_aligned(1, bytes);
    if (scratch == NULL) {
        return ht_fail_nomem(err, bytes);
    }
    ht_syrk(pool, x, cols, n, cols, h, cols, scratch);
    ht_dense_mirror(h, cols);
    ht_mem_free_aligned(scratch);
    return HT_OK;
}

/* ---- Cholesky --------------------------------------------------------------------------------------------- */

#define BLOCK 64u
#define ROWS 256u /* of the trailing matrix at a time */

struct cholesky {
    float *a;
    uint64_t n, at, width; /* the block of columns in work */
    float *panel, *y;      /* [rows below, width]; [ROWS, rows below] */
    uint64_t below, row, rows;
};

/* The block on the diagonal, in double. Returns the failing row, or n. */
static uint64_t factor_diagonal(const struct cholesky *c) {
    double l[BLOCK][BLOCK];
    for (uint64_t i = 0; i < c->width; i++) {
        float *row = c->a + (c->at + i) * c->n + c->at;
        for (uint64_t j = 0; j <= i; j++) {
            double sum = (double)row[j];
            for (uint64_t k = 0; k < j; k++) {
                sum -= l[i][k] * l[j][k];
            }
            if (i == j && !(sum > 0.0)) {
                return c->at + i;
            }
            l[i][j] = i == j ? sqrt(sum) : sum / l[j][j];
            row[j] = (float)l[i][j];
        }
    }
    return c->n;
}

/* Rows below the block: l_ij = (a_ij - sum_k<j l_ik l_jk) / l_jj. */
static void panel_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct cholesky *c = ctx;
    const float *top = c->a + c->at * c->n + c->at;
    for (uint64_t r = task * 16; r < c->below && r < task * 16 + 16; r++) {
        float *row = c->a + (c->at + c->width + r) * c->n + c->at;
        for (uint64_t j = 0; j < c->width; j++) {
            float sum = row[j];
            for (uint64_t k = 0; k < j; k++) {
                sum -= row[k] * top[j * c->n + k];
            }
            row[j] = sum / top[j * c->n + j];
        }
        memcpy(c->panel + r * c->width, row, c->width * sizeof *row);
    }
}

static void subtract_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct cholesky *c = ctx;
    uint64_t first = c->at + c->width;
    for (uint64_t r = task * 16; r < c->rows && r < task * 16 + 16; r++) {
        uint64_t wide = c->row + c->rows;
        float *row = c->a + (first + c->row + r) * c->n + first;
        for (uint64_t j = 0; j <= c->row + r; j++) {
            row[j] -= c->y[r * wide + j];
        }
    }
}

ht_status ht_dense_cholesky(struct ht_pool *pool, float *a, uint64_t n, uint64_t *pivot, ht_err *err) {
    struct cholesky c = {.a = a, .n = n};
    int threads = ht_pool_threads(pool);
    uint64_t rows = n < ROWS ? n : ROWS;
    void *scratch = ht_mem_alloc_aligned(ht_dense_scratch_bytes(rows, BLOCK, n, threads), 1);
    c.panel = ht_mem_alloc_aligned(n * BLOCK, sizeof *c.panel);
    c.y = ht_mem_alloc_aligned(rows * n, sizeof *c.y);
    ht_status status = HT_OK;
    if (scratch == NULL || c.panel == NULL || c.y == NULL) {
        status = ht_fail_nomem(err, n * (rows + BLOCK) * sizeof *c.y);
        goto done;
    }
    for (c.at = 0; c.at < n; c.at += BLOCK) {
        c.width = n - c.at < BLOCK ? n - c.at : BLOCK;
        c.below = n - c.at - c.width;
        *pivot = factor_diagonal(&c);
        if (*pivot < n) {
            goto done;
        }
        ht_pool_run(pool, (c.below + 15) / 16, panel_task, &c);
        for (c.row = 0; c.row < c.below; c.row += c.rows) {
            c.rows = c.below - c.row < ROWS ? c.below - c.row : ROWS;
            ht_dense_product(pool, c.panel + c.row * c.width, c.rows, c.width, c.panel, c.width, c.row + c.rows, c.y,
                             scratch);
            ht_pool_run(pool, (c.rows + 15) / 16, subtract_task, &c);
        }
    }
    *pivot = n;
done:
    ht_mem_free_aligned(c.y);
    ht_mem_free_aligned(c.panel);
    ht_mem_free_aligned(scratch);
    return status;
}
