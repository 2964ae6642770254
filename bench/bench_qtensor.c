/* Code formats: bits per weight, error on normal and on heavy-tailed weights, time of encoding and decoding.
 *   bench_qtensor [SCHEME...]
 * Error: sum (x - value)^2 / sum x^2. One thread, CPU time. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "tensor/qtensor.h"

enum { ROWS = 256, COLS = 4096, N = ROWS * COLS };

static const char *const schemes[] = {
    "int8:tensor",   "int8:channel",    "int8:g64",        "uint8:channel",        "int4:tensor",       "int4:channel",
    "int4:g128",     "int4:g64",        "int4:g32",        "int4:g64:narrow",      "uint4:g128",        "uint4:g64",
    "uint4:g64:offset", "int3:g64",     "uint3:g64",       "uint2:g16",            "fp8_e4m3:tensor",   "fp8_e4m3:channel",
    "fp8_e5m2:channel", "fp6_e2m3:g32:scale=e8m0", "fp6_e3m2:g32:scale=e8m0", "fp4_e2m1:g32:scale=e8m0", "fp4_e2m1:g64",
    "nf4:g64",       "nf4:g64:scale=f32", "nf4:g64:nested", "fp4:g64",             "kmeans4:g64",       "kmeans4:channel",
    "log4:channel",  "pow4:channel",    "log4:g64",        "pow4:g64",             "pot4:g64",          "apot4:g64",
    "kmeans3:g64",   "kmeans2:g64",     "binary:channel",  "binary:g64",           "ternary:channel",   "ternary_b3:g64",
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill(float *normal, float *heavy) {
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    for (size_t i = 0; i < N; i++) {
        double chi2 = 0;
        normal[i] = (float)(0.02 * ht_rng_normal(&rng));
        for (int k = 0; k < 5; k++) {
            double v = ht_rng_normal(&rng);
            chi2 += v * v;
        }
        heavy[i] = (float)(0.02 * ht_rng_normal(&rng) / sqrt(chi2 / 5)); /* Student's t, 5 degrees of freedom */
    }
}

static void bench(const char *text, const float *normal, const float *heavy, float *y) {
    struct ht_scheme s;
    struct ht_qtensor q;
    struct ht_qtensor_counts a = {0}, b = {0};
    ht_err err = {0};
    double times[3];
    times[0] = seconds();
    if (ht_scheme_parse(text, &s, &err) != HT_OK || ht_qtensor_init(&q, &s, ROWS, COLS, text, &err) != HT_OK ||
        ht_qtensor_encode(&q, normal, NULL, &a, &err) != HT_OK) {
        printf("%s: %s\n", text, err.msg);
        return;
    }
    times[1] = seconds();
    ht_qtensor_decode(&q, 0, ROWS, y);
    times[2] = seconds();
    ht_qtensor_encode(&q, heavy, NULL, &b, &err);
    printf("%-26s %8.4f %11.6f %11.6f %10.2f %10.2f\n", text, ht_qtensor_bits(&q), a.error / a.power, b.error / b.power,
           1e9 * (times[1] - times[0]) / N, 1e9 * (times[2] - times[1]) / N);
    ht_qtensor_deinit(&q);
}

int main(int argc, char **argv) {
    float *normal = ht_mem_alloc_array(N, 4), *heavy = ht_mem_alloc_array(N, 4), *y = ht_mem_alloc_array(N, 4);
    if (normal == NULL || heavy == NULL || y == NULL) {
        return 1;
    }
    fill(normal, heavy);
    printf("%-26s %8s %11s %11s %10s %10s\n", "scheme", "bits", "err normal", "err t5", "encode ns", "decode ns");
    if (argc > 1) {
        for (int i = 1; i < argc; i++) {
            bench(argv[i], normal, heavy, y);
        }
    } else {
        for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
            bench(schemes[i], normal, heavy, y);
        }
    }
    ht_mem_free(normal);
    ht_mem_free(heavy);
    ht_mem_free(y);
    return 0;
}
