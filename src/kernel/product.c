/* The driver of f32 products whose sides may lie transposed: rows of B are copied to a panel in tiles of fixed size,
 * as matmul.c decodes weights, and multiplied with A packed 32 rows side by side. */
#include "kernel/slots.h"

#define PANEL_ROWS 48
#define PANEL_COLS 512
#define PANEL_STRIDE (PANEL_COLS + 16) /* rows 2 KiB apart would fall into the same L1 sets */

enum { W = HT_GEMM_TOKENS, PANEL_BYTES = PANEL_ROWS * PANEL_STRIDE * sizeof(float) };

struct job {
    const struct ht_kernel_table *table;
    struct ht_side a, b;
    size_t m, n, k;
    float *y;
    size_t y_stride;
    bool add;
    float *packed; /* [ceil(m / W), k, W] */
    char *panels;  /* [threads] */
};

static size_t tiles_of(size_t m) {
    return (m + W - 1) / W;
}

size_t ht_product_scratch_bytes(size_t m, size_t k, int threads) {
    return tiles_of(m) * W * k * sizeof(float) + (size_t)threads * PANEL_BYTES;
}

static void pack_task(void *ctx, size_t tile, int thread) {
    (void)thread;
    const struct job *j = ctx;
    size_t from = tile * W, n = j->m - from < W ? j->m - from : W;
    float *out = j->packed + tile * W * j->k;
    if (!j->a.transposed) {
        j->table->pack_f32(j->a.data + from * j->a.stride, j->a.stride, n, j->k, out);
        return;
    }
    for (size_t k = 0; k < j->k; k++, out += W) {
        memcpy(out, j->a.data + k * j->a.stride + from, n * sizeof *out);
        memset(out + n, 0, (W - n) * sizeof *out);
    }
}

/* panel [rows, cols] = rows row0 .. of B, columns k0 .. */
static void fill_panel(const struct ht_side *b, size_t row0, size_t rows, size_t k0, size_t cols, float *panel) {
    if (!b->transposed) {
        for (size_t r = 0; r < rows; r++) {
            memcpy(panel + r * PANEL_STRIDE, b->data + (row0 + r) * b->stride + k0, cols * sizeof *panel);
        }
        return;
    }
    for (size_t k = 0; k < cols; k += 16) { /* 16 source rows at a time: whole cache lines on both sides */
        size_t n = cols - k < 16 ? cols - k : 16;
        for (size_t r = 0; r < rows; r++) {
            const float *src = b->data + (k0 + k) * b->stride + row0 + r;
            for (size_t i = 0; i < n; i++) {
                panel[r * PANEL_STRIDE + k + i] = src[i * b->stride];
            }
        }
    }
}

static void panel_task(void *ctx, size_t task, int thread) {
    const struct job *j = ctx;
    float *panel = (float *)(void *)(j->panels + (size_t)thread * PANEL_BYTES);
    size_t row0 = task * PANEL_ROWS, rows = j->n - row0 < PANEL_ROWS ? j->n - row0 : PANEL_ROWS;
    for (size_t k = 0; k < j->k; k += PANEL_COLS) {
        size_t cols = j->k - k < PANEL_COLS ? j->k - k : PANEL_COLS;
        fill_panel(&j->b, row0, rows, k, cols, panel);
        for (size_t t = 0; t < j->m; t += W) {
            size_t n = j->m - t < W ? j->m - t : W;
            j->table->gemm_f32(panel, PANEL_STRIDE, rows, cols, j->packed + t * j->k + k * W, n,
                               j->y + t * j->y_stride + row0, j->y_stride, j->add || k > 0);
        }
    }
}

void ht_product_with(const struct ht_kernel_table *table, struct ht_pool *pool, struct ht_side a, struct ht_side b,
                     size_t m, size_t n, size_t k, float *y, size_t y_stride, bool add, void *scratch) {
    struct job j = {.table = table, .a = a, .b = b, .m = m, .n = n, .k = k, .y = y, .y_stride = y_stride, .add = add,
                    .packed = scratch};
    j.panels = (char *)scratch + tiles_of(m) * W * k * sizeof(float);
    ht_pool_run(pool, tiles_of(m), pack_task, &j);
    ht_pool_run(pool, (n + PANEL_ROWS - 1) / PANEL_ROWS, panel_task, &j);
}

void ht_product(struct ht_pool *pool, struct ht_side a, struct ht_side b, size_t m, size_t n, size_t k, float *y,
                size_t y_stride, bool add, void *scratch) {
    ht_product_with(ht_kernel_table(), pool, a, b, m, n, k, y, y_stride, add, scratch);
}
