/* Speed of the matrix product per format and level.
 *
 *     bench_kernel [FORMAT|all|syrk] [LEVEL|all|best] [THREADS] [COLS]
 *
 * For each: 1 token (bytes of weights per second, against a plain read of the same memory; the same from
 * 256 KiB of weights in L2), then 4, 16, 64 and 512
 * tokens (GFLOP/s = 2 R K T / s). The weights of the 1-token run are larger than the caches; each figure is
 * the best of several runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "kernel/slots.h"

#define WEIGHT_BYTES (192u << 20)
#define WINDOW_BYTES (4u << 20)
#define MAX_TOKENS 512

struct bench {
    struct ht_pool *pool;
    uint8_t *weights; /* WEIGHT_BYTES */
    float *x, *y;
    size_t cols;
    int threads;
};

struct read_job {
    const uint64_t *p;
    size_t n_per_task;
    uint64_t sum[64];
};

static void read_task(void *ctx, size_t task, int thread) {
    struct read_job *j = ctx;
    const uint64_t *p = j->p + task * j->n_per_task;
    uint64_t s[8] = {0};
    for (size_t i = 0; i + 8 <= j->n_per_task; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            s[k] += p[i + k];
        }
    }
    for (size_t k = 0; k < 8; k++) {
        j->sum[thread & 63] += s[k];
    }
}

static double read_gb_s(struct bench *b) {
    double best = 0;
    struct read_job j = {.n_per_task = 16384};
    for (int run = 0; run < 5; run++) {
        for (size_t at = 0; at < WEIGHT_BYTES; at += WINDOW_BYTES) {
            j.p = (const uint64_t *)(const void *)(b->weights + at);
            double start = ht_sys_now();
            ht_pool_run(b->pool, WINDOW_BYTES / 8 / j.n_per_task, read_task, &j);
            double gb_s = WINDOW_BYTES / (ht_sys_now() - start) / 1e9;
            best = gb_s > best && run > 0 ? gb_s : best;
        }
    }
    return best;
}

/* One encoded row, repeated. */
static void fill(struct bench *b, const struct ht_format *f) {
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    size_t row = ht_format_row_bytes(f, b->cols);
    for (size_t i = 0; i < b->cols; i++) {
        b->y[i] = 0.05f * (float)ht_rng_normal(&rng);
    }
    f->encode(b->y, NULL, b->weights, b->cols);
    for (size_t r = 1; r < WEIGHT_BYTES / row; r++) {
        memcpy(b->weights + r * row, b->weights, row);
    }
}

static double seconds(struct bench *b, const struct ht_kernel_table *t, const struct ht_mat *w,
                      size_t n_tokens, enum ht_math math) {
    size_t bytes = ht_matmul_scratch_bytes(w, n_tokens, b->threads);
    void *scratch = ht_mem_alloc_aligned(bytes, 1);
    double best = 1e30, total = 0;
    for (int run = 0; scratch != NULL && (run < 3 || total < 0.15) && run < 200; run++) {
        double start = ht_sys_now();
        ht_matmul_with(t, b->pool, w, b->x, n_tokens, b->y, w->rows, math, scratch);
        double s = ht_sys_now() - start;
        total += s;
        best = s < best ? s : best;
    }
    ht_mem_free_aligned(scratch);
    return best;
}

/* 1 token over one window of the weights after the other: windows are short, so that the best one is a
 * stretch the machine left to us, and by the time a window comes round again the others have driven it out of
 * the caches. */
static double window_gb_s(struct bench *b, const struct ht_kernel_table *t, const struct ht_format *f,
                          enum ht_math math, size_t window_bytes) {
    size_t row = ht_format_row_bytes(f, b->cols), rows = window_bytes / row, n = WEIGHT_BYTES / (rows * row);
    struct ht_mat w = {f, b->weights, rows, b->cols, row};
    void *scratch = ht_mem_alloc_aligned(ht_matmul_scratch_bytes(&w, 1, b->threads), 1);
    double best = 0;
    for (size_t run = 0; scratch != NULL && run < 3 * n; run++) {
        w.data = b->weights + run % n * rows * row;
        double start = ht_sys_now();
        ht_matmul_with(t, b->pool, &w, b->x, 1, b->y, rows, math, scratch);
        double gb_s = (double)(rows * row) / (ht_sys_now() - start) / 1e9;
        best = gb_s > best && run >= n ? gb_s : best;
    }
    ht_mem_free_aligned(scratch);
    return best;
}

static void one(struct bench *b, const struct ht_format *f, int level, enum ht_math math) {
    static const size_t tokens[] = {4, 16, 64, 512};
    const struct ht_kernel_table *t = ht_kernel_table_at((enum ht_cpu_level)level);
    size_t row = ht_format_row_bytes(f, b->cols);
    struct ht_mat w = {f, b->weights, (256u << 10) / row, b->cols, row};
    printf("%-8s %-5s %-10s %7.2f GB/s", f->name, math == HT_MATH_FAST ? "fast" : "exact",
           ht_cpu_level_name((enum ht_cpu_level)level), window_gb_s(b, t, f, math, WINDOW_BYTES));
    double s = seconds(b, t, &w, 1, math);
    printf("  L2 %7.2f", (double)(w.rows * row) / s / 1e9);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        w.rows = level == HT_CPU_REF ? 64 : tokens[i] > 64 ? 256 : 1536; /* short runs: the best is undisturbed */
        s = seconds(b, t, &w, tokens[i], math);
        printf("  T%-3zu %7.1f", tokens[i],
               2.0 * (double)w.rows * (double)b->cols * (double)tokens[i] / s / 1e9);
    }
    printf("\n");
    fflush(stdout);
}

/* H += X^T X of 512 tokens: GFLOP/s = T K (K + 1) / s. */
static void syrk(struct bench *b, int level) {
    const struct ht_kernel_table *t = ht_kernel_table_at((enum ht_cpu_level)level);
    size_t K = b->cols;
    void *scratch = ht_mem_alloc_aligned(ht_syrk_scratch_bytes(MAX_TOKENS, K), 1);
    float *h = ht_mem_calloc(K * K, sizeof *h);
    double best = 1e30;
    for (int run = 0; run < 50 && scratch != NULL && h != NULL; run++) {
        double start = ht_sys_now();
        ht_syrk_with(t, b->pool, b->x, K, MAX_TOKENS, K, h, K, scratch);
        double s = ht_sys_now() - start;
        best = s < best ? s : best;
    }
    printf("%-8s %-10s %7.1f GFLOP/s\n", "syrk", ht_cpu_level_name((enum ht_cpu_level)level),
           (double)MAX_TOKENS * (double)K * (double)(K + 1) / best / 1e9);
    ht_mem_free_aligned(scratch);
    ht_mem_free(h);
}

/* LEVEL names this level: its own name, all, or best. */
static bool level_wanted(const char *level, int l) {
    const char *name = ht_cpu_level_name((enum ht_cpu_level)l);
    return ht_kernel_table_at((enum ht_cpu_level)l) != NULL &&
           (strcmp(level, "best") == 0 ? l == (int)ht_cpu_best()
                                       : strcmp(level, "all") == 0 || strcmp(level, name) == 0);
}

int main(int argc, char **argv) {
    const char *format = argc > 1 ? argv[1] : "all", *level = argc > 2 ? argv[2] : "best";
    struct bench b = {.threads = argc > 3 ? atoi(argv[3]) : 1,
                      .cols = argc > 4 ? (size_t)atoi(argv[4]) : 1536};
    ht_err err = {0};
    if (ht_pool_new(b.threads, &b.pool, &err) != HT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    b.weights = ht_mem_alloc_aligned(WEIGHT_BYTES, 1);
    size_t y_elems = WEIGHT_BYTES / 64 > MAX_TOKENS * 1536u ? WEIGHT_BYTES / 64 : MAX_TOKENS * 1536u;
    b.x = ht_mem_alloc_array(MAX_TOKENS * b.cols, sizeof(float));
    b.y = ht_mem_alloc_array(y_elems, sizeof(float));
    if (b.weights == NULL || b.x == NULL || b.y == NULL) {
        fprintf(stderr, "out of memory\n");
        return 1;
    }
    struct ht_rng rng;
    ht_rng_init(&rng, 2);
    for (size_t i = 0; i < MAX_TOKENS * b.cols; i++) {
        b.x[i] = (float)ht_rng_normal(&rng);
    }
    memset(b.weights, 1, WEIGHT_BYTES);
    char cpu[128];
    printf("%s, %d threads, rows of %zu; plain read %.1f GB/s; T: GFLOP/s at that many tokens\n",
           ht_cpu_model(cpu, sizeof cpu), b.threads, b.cols, read_gb_s(&b));
    for (int l = 0; l < HT_CPU_LEVELS && strcmp(format, "syrk") == 0; l++) {
        if (level_wanted(level, l)) {
            syrk(&b, l);
        }
    }
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->kind == HT_KIND_INT || f->kind == HT_KIND_CODE || b.cols % f->block_elems != 0 ||
            (strcmp(format, "all") != 0 && strcmp(format, f->name) != 0)) {
            continue;
        }
        fill(&b, f);
        for (int l = 0; l < HT_CPU_LEVELS; l++) {
            if (!level_wanted(level, l)) {
                continue;
            }
            one(&b, f, l, HT_MATH_EXACT);
            if (f->unpack != NULL) {
                one(&b, f, l, HT_MATH_FAST);
            }
        }
    }
    ht_mem_free_aligned(b.weights);
    ht_mem_free(b.x);
    ht_mem_free(b.y);
    ht_pool_free(b.pool);
    return 0;
}
