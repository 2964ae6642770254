/* What error feedback costs as matrices grow: a square linear of Gaussian weights whose inputs are correlated, one
 * thread, CPU seconds without and with the descents, the least of 3 runs; and the exponents between the sizes.
 *   bench_feedback [SCHEME [LARGEST]]
 * SCHEME: int4:g64; widths double from 256 to LARGEST, 2048. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "quant/round/round.h"

enum { RUNS = 3 };

/* Weights of variance 1; second moments falling with the distance of columns, each with a size of its own. */
static void fill(float *w, float *h, uint64_t n) {
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    for (uint64_t i = 0; i < n * n; i++) {
        w[i] = (float)ht_rng_normal(&rng);
    }
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t j = 0; j < n; j++) {
            double sizes = (1.0 + (double)(i % 7)) * (1.0 + (double)(j % 7));
            h[i * n + j] = (float)(sizes * pow(0.8, fabs((double)i - (double)j)));
        }
    }
}

static ht_status measure(struct ht_pool *pool, const struct ht_scheme *scheme, uint64_t n, uint32_t descents,
                         double *seconds, ht_err *err) {
    float *w = ht_mem_alloc_aligned(n * n, sizeof *w), *h = ht_mem_alloc_aligned(n * n, sizeof *h);
    struct ht_round_options options;
    ht_status status = w == NULL || h == NULL ? ht_fail_nomem(err, 2 * n * n * sizeof *w) : HT_OK;
    if (status != HT_OK) {
        goto done;
    }
    fill(w, h, n);
    ht_round_defaults(&options);
    options.descents = descents;
    *seconds = INFINITY;
    for (int run = 0; run < RUNS; run++) {
        struct ht_qtensor q = {0};
        struct ht_round_report report = {0};
        double start = ht_sys_cpu_seconds();
        status = ht_round_qtensor(pool, scheme, w, n, n, h, &options, &q, &report, err);
        *seconds = fmin(*seconds, ht_sys_cpu_seconds() - start);
        ht_qtensor_deinit(&q);
        HT_TRY_DONE(status);
    }
done:
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    return status;
}

int main(int argc, char **argv) {
    ht_err err = {0};
    ht_status status = HT_OK;
    struct ht_pool *pool = NULL;
    struct ht_scheme scheme;
    uint64_t largest = argc > 2 ? strtoull(argv[2], NULL, 10) : 2048;
    double before[2] = {0};
    HT_TRY_DONE(ht_scheme_parse(argc > 1 ? argv[1] : "int4:g64", &scheme, &err));
    HT_TRY_DONE(ht_pool_new(1, &pool, &err));
    printf("width  feedback, CPU s  exponent  with descents  exponent\n");
    for (uint64_t n = 256; n <= largest; n *= 2) {
        double now[2];
        HT_TRY_DONE(measure(pool, &scheme, n, 0, &now[0], &err));
        HT_TRY_DONE(measure(pool, &scheme, n, 4, &now[1], &err));
        printf("%5llu", (unsigned long long)n);
        for (int i = 0; i < 2; i++) {
            printf(i == 0 ? "  %15.4f" : "  %13.4f", now[i]);
            if (before[i] > 0) {
                printf("  %8.2f", log2(now[i] / before[i]));
            } else {
                printf("  %8s", "");
            }
            before[i] = now[i];
        }
        printf("\n");
        fflush(stdout);
    }
done:
    if (status != HT_OK) {
        fprintf(stderr, "%s: %s\n", ht_status_text(status), err.msg);
    }
    ht_pool_free(pool);
    return status == HT_OK ? 0 : 1;
}
