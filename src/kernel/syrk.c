/* The driver of H += X^T X: tokens in blocks, columns in panels of 32 that are packed once per block, tiles of 32 x 32
 * sums. Every element of H is written by one task, block after block, so the result depends on nothing but X. */
#include "kernel/slots.h"

#define BLOCK_TOKENS 256 /* two panels of a block: 64 KiB, in L2 */
#define TASK_TILES 8

enum { W = HT_SYRK_COLS };

struct job {
    const struct ht_kernel_table *table;
    const float *x;
    size_t x_stride, n_tokens, cols; /* of this block */
    float *h;
    size_t h_stride;
    float *packed; /* [panels, n_tokens, W] */
};

static size_t panels_of(size_t cols) {
    return (cols + W - 1) / W;
}

static void pack_task(void *ctx, size_t panel, int thread) {
    (void)thread;
    struct job *j = ctx;
    size_t n = j->cols - panel * W < W ? j->cols - panel * W : W;
    float *out = j->packed + panel * j->n_tokens * W;
    for (size_t t = 0; t < j->n_tokens; t++, out += W) {
        memcpy(out, j->x + t * j->x_stride + panel * W, n * sizeof *out);
        memset(out + n, 0, (W - n) * sizeof *out);
    }
}

/* Adds the tile at panels (row, col) to the lower triangle. */
static void add_tile(const struct job *j, size_t row, size_t col) {
    HT_ALIGNED(64) float sum[W * W];
    size_t step = j->n_tokens * W, n = j->cols - row * W < W ? j->cols - row * W : W;
    j->table->syrk_f32(j->packed + row * step, j->packed + col * step, j->n_tokens, sum);
    for (size_t i = 0; i < n; i++) {
        float *h = j->h + (row * W + i) * j->h_stride + col * W;
        size_t m = row == col ? i + 1 : W;
        for (size_t k = 0; k < m; k++) {
            h[k] += sum[i * W + k];
        }
    }
}

/* Tasks of row 0, then of row 1, ... */
static size_t tasks_of_row(size_t row) {
    return row / TASK_TILES + 1;
}

static void tiles_task(void *ctx, size_t task, int thread) {
    (void)thread;
    struct job *j = ctx;
    size_t row = 0;
    for (; task >= tasks_of_row(row); row++) {
        task -= tasks_of_row(row);
    }
    for (size_t col = task * TASK_TILES; col <= row && col < (task + 1) * TASK_TILES; col++) {
        add_tile(j, row, col);
    }
}

size_t ht_syrk_scratch_bytes(size_t n_tokens, size_t cols) {
    size_t block = n_tokens < BLOCK_TOKENS ? n_tokens : BLOCK_TOKENS;
    return panels_of(cols) * block * W * sizeof(float);
}

void ht_syrk_with(const struct ht_kernel_table *table, struct ht_pool *pool, const float *x, size_t x_stride,
                  size_t n_tokens, size_t cols, float *h, size_t h_stride, void *scratch) {
    size_t panels = panels_of(cols), tasks = 0;
    for (size_t row = 0; row < panels; row++) {
        tasks += tasks_of_row(row);
    }
    struct job j = {
        .table = table, .x = x, .x_stride = x_stride, .cols = cols, .h = h, .h_stride = h_stride, .packed = scratch};
    for (size_t t = 0; t < n_tokens; t += BLOCK_TOKENS) {
        j.x = x + t * x_stride;
        j.n_tokens = n_tokens - t < BLOCK_TOKENS ? n_tokens - t : BLOCK_TOKENS;
        ht_pool_run(pool, panels, pack_task, &j);
        ht_pool_run(pool, tasks, tiles_task, &j);
    }
}

void ht_syrk(struct ht_pool *pool, const float *x, size_t x_stride, size_t n_tokens, size_t cols, float *h,
             size_t h_stride, void *scratch) {
    ht_syrk_with(ht_kernel_table(), pool, x, x_stride, n_tokens, cols, h, h_stride, scratch);
}
