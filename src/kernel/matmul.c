/* The driver of the matrix product: rounds the activations if asked to, cuts the rows into tiles of fixed
 * size (so that results do not depend on the number of threads) and hands them to the slots. */
#include "format/half.h"
#include "kernel/chunk.h"

/* Dot products for few tokens: a tile is long enough for the prefetch to run ahead in it, and there are
 * enough of them to keep 8 threads busy to the end. Depends on the matrix only. */
#define TILE_BYTES (128u << 10)
#define TILE_MIN_COUNT 32
#define TILE_ROWS 16 /* smallest tile, and what every tile is a multiple of */

static size_t rows_per_tile(const struct ht_mat *w) {
    size_t rows = TILE_BYTES / (size_t)w->row_bytes, most = (size_t)w->rows / TILE_MIN_COUNT;
    rows = rows < most ? rows : most;
    return rows < TILE_ROWS ? TILE_ROWS : rows / TILE_ROWS * TILE_ROWS;
}

/* From this many tokens on, decoding a panel of rows and multiplying it with all tokens at once wins over
 * one dot product per row and token (docs/measurements/kernels.md). */
#define GEMM_F32_MIN_TOKENS 5
#define PANEL_F32_ROWS 48
#define PANEL_F32_COLS 512                     /* 48 x 512 f32 = 96 KiB: stays in L2 beside the tokens */
#define PANEL_F32_STRIDE (PANEL_F32_COLS + 16) /* rows 2 KiB apart would fall into the same L1 sets */

#define GEMM_Q8_MIN_TOKENS 9 /* likewise for the integer panels */

/* scratch:  | q | d | sum16 | chunks | corrections |  or  | packed |  (shared)   then per thread | rows or
 * panel | every part 64-byte aligned; EXACT and FAST use the same memory. */
struct layout {
    size_t q, d, sum16, chunks, corrections, packed;
    size_t threads, thread_bytes, total;
};

static size_t take(size_t *at, size_t bytes) {
    size_t start = *at;
    *at = (start + bytes + 63) & ~(size_t)63;
    return start;
}

static size_t padded(size_t cols) {
    return (cols + 255) & ~(size_t)255;
}

static struct layout layout_of(const struct ht_mat *w, size_t n_tokens, int threads) {
    struct layout l = {0};
    size_t at = 0, kp = padded(w->cols);
    if (w->format->unpack != NULL) {
        l.q = take(&at, n_tokens * kp);
        l.d = take(&at, n_tokens * (kp / 32) * sizeof(float));
        l.sum16 = take(&at, n_tokens * (kp / 16) * sizeof(int32_t));
        l.chunks = take(&at, n_tokens * (kp / 256) * sizeof(struct ht_chunk_acts));
        l.corrections = take(&at, n_tokens * (kp / 16) * sizeof(int32_t));
    }
    size_t exact = 0;
    size_t tiles = (n_tokens + HT_GEMM_TOKENS - 1) / HT_GEMM_TOKENS;
    l.packed = take(&exact, tiles * HT_GEMM_TOKENS * w->cols * sizeof(float));
    l.threads = at > exact ? at : exact;
    size_t panel_f32 = PANEL_F32_ROWS * PANEL_F32_STRIDE * sizeof(float),
           panel_q8 = sizeof(struct ht_panel_q8);
    take(&l.thread_bytes, panel_f32 > panel_q8 ? panel_f32 : panel_q8);
    l.total = l.threads + (size_t)threads * l.thread_bytes;
    return l;
}

size_t ht_matmul_scratch_bytes(const struct ht_mat *w, size_t max_tokens, int threads) {
    return layout_of(w, max_tokens, threads).total;
}

struct job {
    const struct ht_kernel_table *table;
    const struct ht_mat *w;
    const float *x;
    size_t n_tokens;
    float *y;
    size_t y_stride;
    size_t tile_rows; /* of rows_f32 and rows_q8 */
    struct ht_acts acts;
    ht_rows_f32_fn *rows_f32;
    ht_rows_q8_fn *rows_q8;
    const struct ht_chunk_shape *shape;
    ht_panel_q8_fn *panel_q8; /* NULL: rows_q8 does it */
    ht_decode_fn *decode;
    float *packed; /* [token tiles, K, HT_GEMM_TOKENS]; few tokens: x rounded to bf16 [T, K] */
    bool bf16;     /* round x */
    char *thread_scratch;
    size_t thread_bytes;
};

static void *scratch_of(const struct job *j, int thread) {
    return j->thread_scratch + (size_t)thread * j->thread_bytes;
}

static size_t tile_rows(const struct job *j, size_t row0) {
    size_t left = j->w->rows - row0;
    return left < j->tile_rows ? left : j->tile_rows;
}

static void rows_f32_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    size_t row0 = task * j->tile_rows;
    j->rows_f32(j->w, row0, tile_rows(j, row0), j->x, j->n_tokens, j->y + row0, j->y_stride,
                j->decode, scratch_of(j, thread));
}

static void round_bf16(const float *x, size_t n, float *y) {
    for (size_t i = 0; i < n; i++) {
        y[i] = ht_bf16_to_f32(ht_bf16_from_f32(x[i]));
    }
}

static void round_task(void *ctx, size_t t, int thread) {
    (void)thread;
    struct job *j = ctx;
    size_t K = j->w->cols;
    round_bf16(j->x + t * K, K, j->packed + t * K);
}

static void pack_task(void *ctx, size_t task, int thread) {
    (void)thread;
    struct job *j = ctx;
    size_t K = j->w->cols, t0 = task * HT_GEMM_TOKENS;
    size_t n = j->n_tokens - t0 < HT_GEMM_TOKENS ? j->n_tokens - t0 : HT_GEMM_TOKENS;
    j->table->pack_f32(j->x + t0 * K, K, n, K, j->packed + t0 * K);
    if (j->bf16) {
        round_bf16(j->packed + t0 * K, HT_GEMM_TOKENS * K, j->packed + t0 * K);
    }
}

static void gemm_f32_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    const struct ht_mat *w = j->w;
    float *panel = scratch_of(j, thread);
    size_t K = w->cols, row0 = task * PANEL_F32_ROWS;
    size_t n_rows = w->rows - row0 < PANEL_F32_ROWS ? w->rows - row0 : PANEL_F32_ROWS;
    for (size_t k = 0; k < K; k += PANEL_F32_COLS) {
        size_t cols = K - k < PANEL_F32_COLS ? K - k : PANEL_F32_COLS;
        for (size_t r = 0; r < n_rows; r++) {
            const char *src = (const char *)w->data + (row0 + r) * w->row_bytes;
            j->decode(src + ht_format_row_bytes(w->format, k), panel + r * PANEL_F32_STRIDE, cols);
        }
        for (size_t t = 0; t < j->n_tokens; t += HT_GEMM_TOKENS) {
            size_t n = j->n_tokens - t < HT_GEMM_TOKENS ? j->n_tokens - t : HT_GEMM_TOKENS;
            j->table->gemm_f32(panel, PANEL_F32_STRIDE, n_rows, cols, j->packed + t * K + k * HT_GEMM_TOKENS,
                               n, j->y + t * j->y_stride + row0, j->y_stride, k > 0);
        }
    }
}

/* Tokens t0 .. t0 + n - 1 of acts. */
static struct ht_acts acts_slice(const struct ht_acts *a, size_t t0, size_t n) {
    struct ht_acts s = *a;
    s.n_tokens = n;
    s.q += t0 * a->cols_padded;
    s.d += t0 * (a->cols_padded / 32);
    s.sum16 += t0 * (a->cols_padded / 16);
    s.chunks = a->chunks != NULL ? (struct ht_chunk_acts *)a->chunks + t0 * (a->cols_padded / 256) : NULL;
    return s;
}

static void rows_q8_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    size_t row0 = task * j->tile_rows, step = j->shape != NULL ? HT_ROWS_Q8_TOKENS : j->n_tokens;
    for (size_t t = 0; t < j->n_tokens; t += step) {
        size_t n = j->n_tokens - t < step ? j->n_tokens - t : step;
        struct ht_acts acts = acts_slice(&j->acts, t, n);
        j->rows_q8(j->w, row0, tile_rows(j, row0), &acts, j->y + t * j->y_stride + row0, j->y_stride,
                   scratch_of(j, thread));
    }
}

static void gemm_q8_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    const struct ht_mat *w = j->w;
    struct ht_panel_q8 *panel = scratch_of(j, thread);
    size_t row0 = task * HT_PANEL_ROWS;
    size_t n_rows = w->rows - row0 < HT_PANEL_ROWS ? w->rows - row0 : HT_PANEL_ROWS;
    for (size_t k = 0; k < w->cols; k += HT_PANEL_COLS) {
        size_t cols = w->cols - k < HT_PANEL_COLS ? w->cols - k : HT_PANEL_COLS;
        j->panel_q8(w, row0, n_rows, k, cols, panel);
        j->table->gemm_q8(panel, j->shape, n_rows, &j->acts, k, cols, j->y + row0, j->y_stride, k > 0);
    }
}

static void quantize_task(void *ctx, size_t t, int thread) {
    (void)thread;
    struct job *j = ctx;
    struct ht_acts *a = &j->acts;
    size_t K = a->cols, kp = a->cols_padded;
    int8_t *q = a->q + t * kp;
    float *d = a->d + t * (kp / 32);
    int32_t *sum16 = a->sum16 + t * (kp / 16);
    j->table->quantize_q8(j->x + t * K, K, q, d, sum16);
    memset(q + K, 0, kp - K);
    memset(d + K / 32, 0, (kp - K) / 32 * sizeof *d);
    memset(sum16 + K / 16, 0, (kp - K) / 16 * sizeof *sum16);
    if (j->panel_q8 != NULL) {
        ht_corrections_fill(j->shape, a, t, a->corrections + t * (kp / (size_t)j->shape->group));
    } else if (j->shape != NULL) {
        ht_chunk_acts_fill(j->shape, a, t, (struct ht_chunk_acts *)a->chunks + t * (kp / 256));
    }
}

void ht_matmul_with(const struct ht_kernel_table *table, struct ht_pool *pool, const struct ht_mat *w,
                    const float *x, size_t n_tokens, float *y, size_t y_stride, enum ht_math math,
                    void *scratch) {
    struct layout l = layout_of(w, n_tokens, ht_pool_threads(pool));
    char *base = scratch;
    size_t slot = ht_format_slot(w->format);
    struct job j = {
        .table = table,
        .w = w,
        .x = x,
        .n_tokens = n_tokens,
        .y = y,
        .y_stride = y_stride,
        .tile_rows = rows_per_tile(w),
        .rows_f32 = table->rows_f32[slot],
        .decode = table->decode[slot],
        .rows_q8 = table->rows_q8[slot],
        .shape = table->shape[slot],
        .thread_scratch = base + l.threads,
        .thread_bytes = l.thread_bytes,
    };
    size_t n_tiles = (w->rows + j.tile_rows - 1) / j.tile_rows;
    if (math != HT_MATH_FAST || j.rows_q8 == NULL) {
        j.packed = (float *)(void *)(base + l.packed);
        j.bf16 = math == HT_MATH_BF16;
        if (n_tokens < GEMM_F32_MIN_TOKENS) {
            if (j.bf16) {
                ht_pool_run(pool, n_tokens, round_task, &j);
                j.x = j.packed;
            }
            ht_pool_run(pool, n_tiles, rows_f32_task, &j);
            return;
        }
        ht_pool_run(pool, (n_tokens + HT_GEMM_TOKENS - 1) / HT_GEMM_TOKENS, pack_task, &j);
        ht_pool_run(pool, (w->rows + PANEL_F32_ROWS - 1) / PANEL_F32_ROWS, gemm_f32_task, &j);
        return;
    }
    j.acts = (struct ht_acts){
        .n_tokens = n_tokens,
        .cols = w->cols,
        .cols_padded = padded(w->cols),
        .q = (int8_t *)(base + l.q),
        .d = (float *)(void *)(base + l.d),
        .sum16 = (int32_t *)(void *)(base + l.sum16),
        .chunks = base + l.chunks,
        .corrections = (int32_t *)(void *)(base + l.corrections),
    };
    if (n_tokens >= GEMM_Q8_MIN_TOKENS && table->gemm_q8 != NULL) {
        j.panel_q8 = table->panel_q8[slot];
        j.shape = j.panel_q8 != NULL && table->panel_shape[slot] != NULL ? table->panel_shape[slot] : j.shape;
    }
    ht_pool_run(pool, n_tokens, quantize_task, &j);
    if (j.panel_q8 != NULL) {
        ht_pool_run(pool, (w->rows + HT_PANEL_ROWS - 1) / HT_PANEL_ROWS, gemm_q8_task, &j);
    } else {
        ht_pool_run(pool, n_tiles, rows_q8_task, &j);
    }
}

void ht_matmul(struct ht_pool *pool, const struct ht_mat *w, const float *x, size_t n_tokens, float *y,
               size_t y_stride, enum ht_math math, void *scratch) {
    ht_matmul_with(ht_kernel_table(), pool, w, x, n_tokens, y, y_stride, math, scratch);
}
