/* CPU time per weight of decode and encode, and the relative squared error, for every format of the table.
 *     cmake --build build/release --target bench_format && build/release/bench/bench_format [FORMAT ...] */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "format/format.h"

#define N ((size_t)1 << 16)
#define MIN_SECONDS 0.2

static double cpu_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static double rel_error(const float *x, const float *y, const float *w) {
    double err = 0.0, all = 0.0;
    for (size_t i = 0; i < N; i++) {
        double e = (double)x[i] - (double)y[i], h = w ? (double)w[i] : 1.0;
        err += h * e * e;
        all += h * (double)x[i] * (double)x[i];
    }
    return err / all;
}

static double time_encode(const struct ht_format *f, const float *x, const float *w, uint8_t *dst) {
    size_t rounds = 0;
    double start = cpu_seconds(), t;
    do {
        f->encode(x, w, dst, N);
        rounds++;
        t = cpu_seconds() - start;
    } while (t < MIN_SECONDS);
    return t / (double)rounds / (double)N * 1e9;
}

static double time_decode(const struct ht_format *f, const uint8_t *src, float *y) {
    size_t rounds = 0;
    double start = cpu_seconds(), t;
    do {
        f->decode(src, y, N);
        rounds++;
        t = cpu_seconds() - start;
    } while (t < MIN_SECONDS);
    return t / (double)rounds / (double)N * 1e9;
}

static void bench(const struct ht_format *f, const float *x, const float *w, uint8_t *bytes, float *y) {
    double plain = time_encode(f, x, NULL, bytes);
    double decode = time_decode(f, bytes, y), plain_err = rel_error(x, y, NULL);
    double weighted = time_encode(f, x, w, bytes);
    f->decode(bytes, y, N);
    printf("%-8s %8.3f %9.2f %9.2f %9.2f %12.3e %12.3e\n", f->name, ht_format_bits(f), decode, plain, weighted, plain_err,
           rel_error(x, y, w));
}

int main(int argc, char **argv) {
    float *x = ht_mem_alloc_array(N, sizeof *x), *w = ht_mem_alloc_array(N, sizeof *w);
    float *y = ht_mem_alloc_array(N, sizeof *y);
    uint8_t *bytes = ht_mem_alloc_array(N, 8);
    if (!x || !w || !y || !bytes) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)(0.02 * ht_rng_normal(&rng));
        w[i] = (float)exp(ht_rng_normal(&rng));
    }
    printf("Gaussian weights; encode w: with log-normal importance\n");
    printf("%-8s %8s %9s %9s %9s %12s %12s\n", "format", "bits", "decode ns", "encode ns", "encode w", "rel. error", "with w");
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->kind == HT_KIND_INT || f->kind == HT_KIND_CODE) {
            continue;
        }
        if (argc < 2) {
            bench(f, x, w, bytes, y);
        }
        for (int a = 1; a < argc; a++) {
            if (ht_format_find(argv[a]) == f) {
                bench(f, x, w, bytes, y);
            }
        }
    }
    ht_mem_free(x);
    ht_mem_free(w);
    ht_mem_free(y);
    ht_mem_free(bytes);
    return 0;
}
