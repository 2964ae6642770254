/* Speed of products with qtensors beside a block format.
 *
 *     bench_qmatmul [LEVEL|best] [THREADS] [SCHEME...]
 *
 * For each: 1 token, GB/s of codes and scales read from memory; 128 tokens, GFLOP/s. Rounds take turns, each figure is
 * the best of them. The first line is q4_0 through ht_matmul. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "kernel/qmatmul.h"
#include "kernel/slots.h"

enum { ROWS = 16384, COLS = 1536, TOKENS = 128, PANEL_ROWS = 1024, ROUNDS = 12, MOST = 24 };

struct entry {
    const char *name;
    struct ht_qtensor q; /* codes NULL: the block format */
    struct ht_mat mat;
    void *scratch;
    enum ht_math math;
    double gb_s, gflop_s;
};

static float x[TOKENS * COLS];

static double one(const struct ht_kernel_table *t, struct ht_pool *pool, struct entry *e, size_t rows, size_t tokens,
                  float *y) {
    double start = ht_sys_now();
    if (e->q.codes == NULL) {
        struct ht_mat m = e->mat;
        m.rows = rows;
        ht_matmul_with(t, pool, &m, x, tokens, y, rows, e->math, e->scratch);
    } else {
        struct ht_qtensor q = e->q;
        q.rows = rows;
        ht_qmatmul_with(t, pool, &q, x, tokens, y, rows, e->math, e->scratch);
    }
    return ht_sys_now() - start;
}

static bool make(struct entry *e, const char *name, const float *w, int threads) {
    struct ht_scheme s;
    ht_err err = {0};
    e->math = HT_MATH_FAST;
    e->name = name;
    if (strcmp(name, "q4_0") == 0) {
        const struct ht_format *f = ht_format_find(name);
        size_t row = (size_t)ht_format_row_bytes(f, COLS);
        uint8_t *data = ht_mem_alloc_aligned(row * ROWS, 1);
        for (size_t r = 0; data != NULL && r < ROWS; r++) {
            f->encode(w + r % 256 * COLS, NULL, data + r * row, COLS);
        }
        e->mat = (struct ht_mat){f, data, ROWS, COLS, row};
        e->scratch = ht_mem_alloc_aligned(ht_matmul_scratch_bytes(&e->mat, TOKENS, threads), 1);
        return data != NULL && e->scratch != NULL;
    }
    if (ht_scheme_parse(name, &s, &err) != HT_OK || ht_qtensor_init(&e->q, &s, ROWS, COLS, name, &err) != HT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return false;
    }
    for (uint64_t r = 0; r < ROWS; r += 256) {
        if (ht_qtensor_fit_rows(&e->q, r, 256, w, NULL, NULL, &err) != HT_OK) {
            return false;
        }
    }
    if (ht_qtensor_fit_end(&e->q, NULL, NULL, &err) != HT_OK) {
        return false;
    }
    for (uint64_t r = 0; r < ROWS; r += 256) {
        if (ht_qtensor_round_rows(&e->q, r, 256, w, NULL, NULL, &err) != HT_OK) {
            return false;
        }
    }
    e->scratch = ht_mem_alloc_aligned(ht_qmatmul_scratch_bytes(&e->q, TOKENS, threads), 1);
    return e->scratch != NULL;
}

int main(int argc, char **argv) {
    static const char *const usual[] = {"q4_0", "int4:g64", "int4:g128", "uint4:g64", "int2:g64", "int3:g64",
                                        "int6:g64", "int8:channel", "nf4:g64", "fp8_e4m3:channel"};
    static struct entry entries[MOST];
    const char *level = argc > 1 ? argv[1] : "best";
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    size_t n = argc > 3 ? (size_t)argc - 3 : sizeof usual / sizeof usual[0];
    const struct ht_kernel_table *t = ht_kernel_table();
    for (int l = 0; l < HT_CPU_LEVELS; l++) {
        t = strcmp(level, ht_cpu_level_name((enum ht_cpu_level)l)) == 0 ? ht_kernel_table_at((enum ht_cpu_level)l) : t;
    }
    struct ht_pool *pool = NULL;
    ht_err err = {0};
    struct ht_rng rng;
    float *w = ht_mem_alloc_array(256 * COLS, sizeof *w), *y = ht_mem_alloc_array(TOKENS * ROWS, sizeof *y);
    if (t == NULL || n > MOST || w == NULL || y == NULL || ht_pool_new(threads, &pool, &err) != HT_OK) {
        return 1;
    }
    ht_rng_init(&rng, 1);
    for (size_t i = 0; i < 256 * COLS; i++) {
        w[i] = 0.05f * (float)ht_rng_normal(&rng);
    }
    for (size_t i = 0; i < TOKENS * COLS; i++) {
        x[i] = (float)ht_rng_normal(&rng);
    }
    for (size_t i = 0; i < n; i++) {
        if (!make(&entries[i], argc > 3 ? argv[3 + i] : usual[i], w, threads)) {
            return 1;
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (struct entry *e = entries; e < entries + n; e++) {
            double bytes = e->q.codes == NULL ? (double)(e->mat.row_bytes * ROWS) : (double)ht_qtensor_bytes(&e->q);
            double gb_s = bytes / one(t, pool, e, ROWS, 1, y) / 1e9;
            double gflop_s = 2.0 * PANEL_ROWS * COLS * TOKENS / one(t, pool, e, PANEL_ROWS, TOKENS, y) / 1e9;
            e->gb_s = gb_s > e->gb_s ? gb_s : e->gb_s;
            e->gflop_s = gflop_s > e->gflop_s ? gflop_s : e->gflop_s;
        }
    }
    for (struct entry *e = entries; e < entries + n; e++) {
        printf("%-20s %7.2f GB/s  %8.1f GFLOP/s\n", e->name, e->gb_s, e->gflop_s);
    }
    return 0;
}
