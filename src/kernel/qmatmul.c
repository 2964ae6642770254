/* The driver of products with a qtensor: cuts the rows into tiles of fixed size (so that results do not depend on the
 * number of threads) and hands them to the slots. */
#include "kernel/qmatmul.h"

#include "kernel/slots.h"

#define TILE_ROWS 32

struct job {
    const struct ht_qtensor *w, *xq;
    const float *x;
    size_t n_tokens;
    float *y;
    size_t y_stride;
    enum ht_math math;
    char *thread_scratch;
    size_t thread_bytes;
};

static size_t aligned(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static size_t tiles_of(const struct ht_qtensor *w) {
    return (size_t)((w->rows + TILE_ROWS - 1) / TILE_ROWS);
}

static uint64_t rows_of_tile(const struct ht_qtensor *w, uint64_t row0) {
    return w->rows - row0 < TILE_ROWS ? w->rows - row0 : TILE_ROWS;
}

static void ref_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    uint64_t row0 = (uint64_t)task * TILE_ROWS;
    ht_qmatmul_ref(j->w, row0, rows_of_tile(j->w, row0), j->x, j->n_tokens, j->y + row0, j->y_stride, j->math,
                   j->thread_scratch + (size_t)thread * j->thread_bytes);
}

size_t ht_qmatmul_scratch_bytes(const struct ht_qtensor *w, size_t max_tokens, int threads) {
    return (size_t)threads * aligned(ht_qmatmul_ref_scratch_bytes(w, max_tokens));
}

void ht_qmatmul(struct ht_pool *pool, const struct ht_qtensor *w, const float *x, size_t n_tokens, float *y,
                size_t y_stride, enum ht_math math, void *scratch) {
    struct job j = {.w = w, .x = x, .n_tokens = n_tokens, .y = y, .y_stride = y_stride, .math = math};
    j.thread_scratch = scratch;
    j.thread_bytes = aligned(ht_qmatmul_ref_scratch_bytes(w, n_tokens));
    ht_pool_run(pool, tiles_of(w), ref_task, &j);
}

/* ---- both sides quantized --------------------------------------------------------------------------------------- */

static void int_ref_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    uint64_t row0 = (uint64_t)task * TILE_ROWS;
    ht_qmatmul_int_ref(j->w, row0, rows_of_tile(j->w, row0), j->xq, j->y + row0, j->y_stride,
                       j->thread_scratch + (size_t)thread * j->thread_bytes);
}

size_t ht_qmatmul_int_scratch_bytes(const struct ht_qtensor *w, size_t max_tokens, int threads) {
    (void)max_tokens;
    return (size_t)threads * aligned(ht_qmatmul_int_ref_scratch_bytes(w->cols));
}

void ht_qmatmul_int(struct ht_pool *pool, const struct ht_qtensor *w, const struct ht_qtensor *x, float *y,
                    size_t y_stride, void *scratch) {
    struct job j = {.w = w, .xq = x, .y = y, .y_stride = y_stride, .thread_scratch = scratch};
    j.thread_bytes = aligned(ht_qmatmul_int_ref_scratch_bytes(w->cols));
    ht_pool_run(pool, tiles_of(w), int_ref_task, &j);
}
