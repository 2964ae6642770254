/* The driver of products with a qtensor: rounds the activations if asked to, cuts the rows into tiles of fixed size (so
 * that results do not depend on the number of threads) and hands them to the slots. The plan is that of matmul.c.
 *
 *     FAST, where the tensor has the compute form     q_rows_q8, for many tokens q_panel_q8 and gemm_q8
 *     FAST, integer levels of another form            EXACT on q * d, the rounded activations
 *     EXACT, BF16                                     q_decode, then rows_f32 of f32 or gemm_f32
 *
 * Codes times codes are intmul.c's. */
#include "kernel/qmatmul.h"

#include "format/half.h"
#include "kernel/qform.h"

#define TILE_BYTES (128u << 10)
#define TILE_MIN_COUNT 32
#define TILE_ROWS 16

/* docs/measurements/kernels.md, as in matmul.c */
#define GEMM_F32_MIN_TOKENS 5
#define GEMM_Q8_MIN_TOKENS 9
#define PANEL_F32_ROWS 48
#define PANEL_F32_COLS 480 /* whole bytes in every format */
#define PANEL_F32_STRIDE (PANEL_F32_COLS + 16)

/* scratch:  | q | d | sum16 | chunks | corrections | packed |  (shared)   then per thread | panel or row | grids .. |,
 * every part 64-byte aligned. */
struct layout {
    size_t q, d, sum16, chunks, corrections, packed;
    size_t threads, q_scratch, thread_bytes, total;
};

static size_t take(size_t *at, size_t bytes) {
    size_t start = *at;
    *at = (start + bytes + 63) & ~(size_t)63;
    return start;
}

static size_t padded(uint64_t cols) {
    return ((size_t)cols + 255) & ~(size_t)255;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

size_t ht_q_scratch_bytes(const struct ht_qtensor *w) {
    size_t rows = 2 * padded(w->cols) / 16, panel = 2 * 16 * HT_PANEL_COLS / 16;
    return ht_qgrids_bytes(w->groups) + (larger(rows, panel) + 16) * sizeof(float);
}

static struct layout layout_of(const struct ht_qtensor *w, size_t n_tokens, int threads) {
    struct layout l = {0};
    size_t at = 0, kp = padded(w->cols);
    size_t tiles = (n_tokens + HT_GEMM_TOKENS - 1) / HT_GEMM_TOKENS;
    l.q = take(&at, n_tokens * kp);
    l.d = take(&at, n_tokens * (kp / 32) * sizeof(float));
    l.sum16 = take(&at, n_tokens * (kp / 16) * sizeof(int32_t));
    l.chunks = take(&at, n_tokens * (kp / 256) * sizeof(struct ht_chunk_acts));
    l.corrections = take(&at, n_tokens * (kp / 16) * sizeof(int32_t));
    l.packed = at;
    if (n_tokens < GEMM_F32_MIN_TOKENS) { /* rounded inputs as they are */
        take(&at, n_tokens * kp * sizeof(float));
    } else {
        take(&at, tiles * HT_GEMM_TOKENS * kp * sizeof(float));
    }
    l.threads = at;
    size_t panel_f32 = PANEL_F32_ROWS * PANEL_F32_STRIDE * sizeof(float);
    size_t row = ((size_t)w->cols + HT_DECODE_ELEMS) * sizeof(float);
    take(&l.thread_bytes, larger(larger(panel_f32, row), sizeof(struct ht_panel_q8)));
    l.q_scratch = take(&l.thread_bytes, ht_q_scratch_bytes(w));
    l.total = l.threads + (size_t)threads * l.thread_bytes;
    return l;
}

size_t ht_qmatmul_scratch_bytes(const struct ht_qtensor *w, size_t max_tokens, int threads) {
    return layout_of(w, max_tokens, threads).total;
}

struct job {
    const struct ht_kernel_table *table;
    const struct ht_qtensor *w;
    struct ht_qform form;
    const float *x;
    size_t n_tokens;
    float *y;
    size_t y_stride;
    size_t tile_rows;
    struct ht_acts acts;
    bool panels;   /* gemm_q8 rather than q_rows_q8 */
    bool bytes;    /* activations go to q_rows_q8 or gemm_q8 */
    bool round_q8; /* activations are rounded to q * d, then multiplied in f32 */
    bool round_bf16;
    float *packed;
    size_t f32_slot;
    char *thread_scratch;
    size_t thread_bytes, q_scratch;
};

static void *scratch_of(const struct job *j, int thread) {
    return j->thread_scratch + (size_t)thread * j->thread_bytes;
}

static void *q_scratch_of(const struct job *j, int thread) {
    return (char *)scratch_of(j, thread) + j->q_scratch;
}

static size_t rows_per_tile(const struct ht_qtensor *w) {
    size_t rows = (size_t)(TILE_BYTES / w->row_bytes), most = (size_t)w->rows / TILE_MIN_COUNT;
    rows = rows < most ? rows : most;
    return rows < TILE_ROWS ? TILE_ROWS : rows / TILE_ROWS * TILE_ROWS;
}

static size_t rows_of_task(const struct job *j, size_t row0, size_t most) {
    size_t left = (size_t)j->w->rows - row0;
    return left < most ? left : most;
}

/* ---- f32 ---------------------------------------------------------------------------------------------------- */

static void grids_of(const struct job *j, uint64_t row, size_t col0, size_t n, struct ht_qgrids *g) {
    uint64_t first = col0 / j->w->run, last = (col0 + n - 1) / j->w->run;
    ht_qgrids_row(&j->form, row, first, last - first + 1, g);
}

static void rows_f32_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    size_t K = (size_t)j->w->cols, row0 = task * j->tile_rows, n = rows_of_task(j, row0, j->tile_rows);
    float *row = scratch_of(j, thread), *decoded = row + K;
    struct ht_mat mat = {ht_format_at(j->f32_slot), row, 1, K, K * sizeof(float)};
    struct ht_qgrids g;
    ht_qgrids_place(&g, j->w->groups, q_scratch_of(j, thread));
    for (size_t r = row0; r < row0 + n; r++) {
        grids_of(j, r, 0, K, &g);
        j->table->q_decode(&j->form, &g, r, 0, K, row);
        j->table->rows_f32[j->f32_slot](&mat, 0, 1, j->x, j->n_tokens, j->y + r, j->y_stride,
                                        j->table->decode[j->f32_slot], decoded);
    }
}

static void round_bf16(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = ht_bf16_to_f32(ht_bf16_from_f32(x[i]));
    }
}

/* Few tokens: one token's inputs, rounded, to its row of packed. */
static void round_task(void *ctx, size_t t, int thread) {
    (void)thread;
    struct job *j = ctx;
    size_t K = (size_t)j->w->cols, kp = j->acts.cols_padded;
    float *out = j->packed + t * K;
    if (j->round_bf16) {
        memcpy(out, j->x + t * K, K * sizeof *out);
        round_bf16(out, K);
        return;
    }
    for (size_t k = 0; k < K; k++) {
        out[k] = (float)j->acts.q[t * kp + k] * j->acts.d[t * (kp / 32) + k / 32];
    }
}

static void pack_task(void *ctx, size_t task, int thread) {
    (void)thread;
    struct job *j = ctx;
    size_t K = (size_t)j->w->cols, kp = j->acts.cols_padded, t0 = task * HT_GEMM_TOKENS;
    size_t n = j->n_tokens - t0 < HT_GEMM_TOKENS ? j->n_tokens - t0 : HT_GEMM_TOKENS;
    float *out = j->packed + t0 * K;
    if (!j->round_q8) {
        j->table->pack_f32(j->x + t0 * K, K, n, K, out);
        if (j->round_bf16) {
            round_bf16(out, HT_GEMM_TOKENS * K);
        }
        return;
    }
    memset(out, 0, HT_GEMM_TOKENS * K * sizeof *out);
    for (size_t t = 0; t < n; t++) {
        const int8_t *q = j->acts.q + (t0 + t) * kp;
        const float *d = j->acts.d + (t0 + t) * (kp / 32);
        for (size_t k = 0; k < K; k++) {
            out[k * HT_GEMM_TOKENS + t] = (float)q[k] * d[k / 32];
        }
    }
}

static void gemm_f32_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    float *panel = scratch_of(j, thread);
    size_t K = (size_t)j->w->cols, row0 = task * PANEL_F32_ROWS, n_rows = rows_of_task(j, row0, PANEL_F32_ROWS);
    struct ht_qgrids g;
    ht_qgrids_place(&g, j->w->groups, q_scratch_of(j, thread));
    for (size_t k = 0; k < K; k += PANEL_F32_COLS) {
        size_t cols = K - k < PANEL_F32_COLS ? K - k : PANEL_F32_COLS;
        for (size_t r = 0; r < n_rows; r++) {
            grids_of(j, row0 + r, k, cols, &g);
            j->table->q_decode(&j->form, &g, row0 + r, k, cols, panel + r * PANEL_F32_STRIDE);
        }
        for (size_t t = 0; t < j->n_tokens; t += HT_GEMM_TOKENS) {
            size_t n = j->n_tokens - t < HT_GEMM_TOKENS ? j->n_tokens - t : HT_GEMM_TOKENS;
            j->table->gemm_f32(panel, PANEL_F32_STRIDE, n_rows, cols, j->packed + t * K + k * HT_GEMM_TOKENS, n,
                               j->y + t * j->y_stride + row0, j->y_stride, k > 0);
        }
    }
}

static void multiply_f32(struct ht_pool *pool, struct job *j) {
    size_t T = j->n_tokens, rows = (size_t)j->w->rows;
    if (T >= GEMM_F32_MIN_TOKENS) {
        ht_pool_run(pool, (T + HT_GEMM_TOKENS - 1) / HT_GEMM_TOKENS, pack_task, j);
        ht_pool_run(pool, (rows + PANEL_F32_ROWS - 1) / PANEL_F32_ROWS, gemm_f32_task, j);
        return;
    }
    if (j->round_q8 || j->round_bf16) {
        ht_pool_run(pool, T, round_task, j);
        j->x = j->packed;
    }
    ht_pool_run(pool, (rows + j->tile_rows - 1) / j->tile_rows, rows_f32_task, j);
}

/* ---- 8 bits ------------------------------------------------------------------------------------------------- */

/* The last columns of a row that 32 does not divide are rounded with zeros behind them. */
static void quantize_row(const struct job *j, size_t t, int8_t *q, float *d, int32_t *sum16) {
    const struct ht_acts *a = &j->acts;
    size_t K = a->cols, kp = a->cols_padded, whole = K / 32 * 32;
    const float *x = j->x + t * K;
    j->table->quantize_q8(x, whole, q, d, sum16);
    if (whole < K) {
        float rest[32] = {0};
        memcpy(rest, x + whole, (K - whole) * sizeof *rest);
        j->table->quantize_q8(rest, 32, q + whole, d + whole / 32, sum16 + whole / 16);
        whole += 32;
    }
    memset(q + whole, 0, kp - whole);
    memset(d + whole / 32, 0, (kp - whole) / 32 * sizeof *d);
    memset(sum16 + whole / 16, 0, (kp - whole) / 16 * sizeof *sum16);
}

/* What the kernels want beside q, d and sum16 of token t. */
static void finish_token(struct job *j, size_t t) {
    struct ht_acts *a = &j->acts;
    size_t kp = a->cols_padded;
    if (j->panels) {
        ht_corrections_fill(&j->form.shape, a, t, a->corrections + t * (kp / (size_t)j->form.shape.group));
    } else if (j->bytes) {
        ht_chunk_acts_fill(&j->form.shape, a, t, (struct ht_chunk_acts *)a->chunks + t * (kp / 256));
    }
}

static void quantize_task(void *ctx, size_t t, int thread) {
    (void)thread;
    struct job *j = ctx;
    struct ht_acts *a = &j->acts;
    size_t kp = a->cols_padded;
    quantize_row(j, t, a->q + t * kp, a->d + t * (kp / 32), a->sum16 + t * (kp / 16));
    finish_token(j, t);
}

/* Leaves the first n tokens out. */
static void acts_skip(struct ht_acts *a, size_t n) {
    size_t kp = a->cols_padded;
    a->q += n * kp;
    a->d += n * (kp / 32);
    a->sum16 += n * (kp / 16);
    a->chunks = (struct ht_chunk_acts *)a->chunks + n * (kp / 256);
}

static void rows_q8_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    size_t row0 = task * j->tile_rows, n_rows = rows_of_task(j, row0, j->tile_rows);
    for (size_t t = 0; t < j->n_tokens; t += HT_ROWS_Q8_TOKENS) {
        struct ht_acts acts = j->acts;
        acts.n_tokens = j->n_tokens - t < HT_ROWS_Q8_TOKENS ? j->n_tokens - t : HT_ROWS_Q8_TOKENS;
        acts_skip(&acts, t);
        j->table->q_rows_q8(&j->form, row0, n_rows, &acts, j->y + t * j->y_stride + row0, j->y_stride,
                            q_scratch_of(j, thread));
    }
}

static void gemm_q8_task(void *ctx, size_t task, int thread) {
    struct job *j = ctx;
    struct ht_panel_q8 *panel = scratch_of(j, thread);
    size_t K = (size_t)j->w->cols, row0 = task * HT_PANEL_ROWS, n_rows = rows_of_task(j, row0, HT_PANEL_ROWS);
    for (size_t k = 0; k < K; k += HT_PANEL_COLS) {
        size_t cols = K - k < HT_PANEL_COLS ? K - k : HT_PANEL_COLS;
        j->table->q_panel_q8(&j->form, row0, n_rows, k, cols, panel, q_scratch_of(j, thread));
        j->table->gemm_q8(panel, &j->form.shape, n_rows, &j->acts, k, (cols + 31) / 32 * 32, j->y + row0,
                          j->y_stride, k > 0);
    }
}

static void multiply_q8(struct ht_pool *pool, struct job *j) {
    size_t rows = (size_t)j->w->rows;
    if (j->panels) {
        ht_pool_run(pool, (rows + HT_PANEL_ROWS - 1) / HT_PANEL_ROWS, gemm_q8_task, j);
    } else {
        ht_pool_run(pool, (rows + j->tile_rows - 1) / j->tile_rows, rows_q8_task, j);
    }
}

/* Whether the table serves the form, which then is as its kernels want it. */
static bool serve_bytes(const struct ht_kernel_table *table, struct ht_qform *f) {
    if (table->q_rows_q8 == NULL || !f->has_bytes) {
        return false;
    }
    if (f->bits > table->q_unsigned_bits && f->shape.offset == 128) {
        f->shape.offset = HT_CODES_SIGNED;
    }
    return f->bits <= table->q_unsigned_bits || f->shape.offset == HT_CODES_SIGNED;
}

static struct job job_of(const struct ht_kernel_table *table, struct ht_pool *pool, const struct ht_qtensor *w,
                         size_t n_tokens, float *y, size_t y_stride, void *scratch) {
    struct layout l = layout_of(w, n_tokens, ht_pool_threads(pool));
    char *base = scratch;
    struct job j = {.table = table, .w = w, .n_tokens = n_tokens, .y = y, .y_stride = y_stride};
    ht_qform_init(&j.form, w, &table->ops);
    j.tile_rows = rows_per_tile(w);
    j.f32_slot = ht_format_slot(ht_format_find("f32"));
    j.packed = (float *)(void *)(base + l.packed);
    j.thread_scratch = base + l.threads;
    j.thread_bytes = l.thread_bytes;
    j.q_scratch = l.q_scratch;
    j.acts = (struct ht_acts){
        .n_tokens = n_tokens,
        .cols = (size_t)w->cols,
        .cols_padded = padded(w->cols),
        .q = (int8_t *)(base + l.q),
        .d = (float *)(void *)(base + l.d),
        .sum16 = (int32_t *)(void *)(base + l.sum16),
        .chunks = base + l.chunks,
        .corrections = (int32_t *)(void *)(base + l.corrections),
    };
    return j;
}

void ht_qmatmul_with(const struct ht_kernel_table *table, struct ht_pool *pool, const struct ht_qtensor *w,
                     const float *x, size_t n_tokens, float *y, size_t y_stride, enum ht_math math, void *scratch) {
    struct job j = job_of(table, pool, w, n_tokens, y, y_stride, scratch);
    j.x = x;
    j.round_bf16 = math == HT_MATH_BF16;
    if (math == HT_MATH_FAST && j.form.integer) {
        j.bytes = serve_bytes(table, &j.form);
        j.round_q8 = !j.bytes;
        j.panels = j.bytes && n_tokens >= GEMM_Q8_MIN_TOKENS;
        ht_pool_run(pool, n_tokens, quantize_task, &j);
    }
    if (j.bytes) {
        multiply_q8(pool, &j);
    } else {
        multiply_f32(pool, &j);
    }
}

void ht_qmatmul(struct ht_pool *pool, const struct ht_qtensor *w, const float *x, size_t n_tokens, float *y,
                size_t y_stride, enum ht_math math, void *scratch) {
    ht_qmatmul_with(ht_kernel_table(), pool, w, x, n_tokens, y, y_stride, math, scratch);
}
