/* Rotations against dense matrices. */
#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/transform/rotation.h"

/* Q as a dense matrix: columns are the images of unit vectors. */
static float *dense(const struct ht_rotation *q) {
    ht_err err = {0};
    float *d = ht_mem_calloc(q->n * q->n, sizeof *d); /* row i: Q e_i, the i-th column of Q */
    for (uint64_t i = 0; i < q->n; i++) {
        d[i * q->n + i] = 1;
    }
    ASSERT_OK(ht_rotation_rows(q, NULL, d, q->n, q->n, &err), &err);
    return d;
}

static void check(uint64_t n, uint64_t core, bool hadamard) {
    struct ht_rotation q;
    ht_err err = {0};
    ASSERT_OK(ht_rotation_init(&q, n, 5, &err), &err);
    assert_int_equal(q.core, core);
    assert_int_equal(q.block * q.core, n);
    assert_int_equal(q.hadamard, hadamard);
    float *d = dense(&q);
    double worst = 0;
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t j = 0; j < n; j++) {
            double dot = 0;
            for (uint64_t k = 0; k < n; k++) {
                dot += (double)d[i * n + k] * d[j * n + k];
            }
            worst = fmax(worst, fabs(dot - (i == j)));
            if (hadamard) { /* flat: an outlier goes everywhere in equal parts */
                assert_float_equal(fabsf(d[i * n + j]), 1 / sqrt((double)n), 1e-5);
            }
        }
    }
    assert_true(worst < 1e-5);
    ht_mem_free(d);
    ht_rotation_deinit(&q);
}

static void test_orthogonal(void **state) {
    (void)state;
    check(1, 1, true);
    check(2, 1, true);
    check(64, 1, true);
    check(12, 12, true);
    check(20, 20, true);
    check(24, 12, true);
    check(28, 28, true); /* 2 (13 + 1) */
    check(36, 36, true); /* 2 (17 + 1) */
    check(76, 76, true); /* 2 (37 + 1) */
    check(96, 12, true);
    check(576, 36, true);
    check(104, 104, true); /* 52 has neither; 103 is prime */
    check(9, 9, false);
    check(6, 3, false);
    check(52, 13, false);
}

static void test_cores_of_models(void **state) {
    (void)state;
    static const struct {
        uint64_t n, core;
    } rows[] = {{576, 36},    {1536, 12},  {896, 28},    {4864, 76},  {8960, 140}, {2560, 20},  {5120, 20},
                {14336, 28},  {18944, 148}, {13824, 108}, {27648, 108}, {17408, 68}, {4096, 1},  {3072, 12},
                {11008, 0},   {1, 1},      {7, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(ht_rotation_core(rows[i].n), rows[i].core);
    }
}

/* Q from its parts, in double: signs, Sylvester's (-1)^popcount(i & j), the core. */
static void test_against_parts(void **state) {
    (void)state;
    struct ht_rotation q;
    ht_err err = {0};
    ASSERT_OK(ht_rotation_init(&q, 96, 9, &err), &err);
    float *d = dense(&q);
    for (uint64_t i = 0; i < 96; i++) {
        for (uint64_t j = 0; j < 96; j++) {
            double h = __builtin_popcountll((i % 8) & (j % 8)) % 2 != 0 ? -1 : 1;
            double want = (double)q.c[i / 8 * 12 + j / 8] * h / sqrt(8) * (double)q.sign[j];
            assert_float_equal(d[j * 96 + i], want, 1e-6);
        }
    }
    ht_mem_free(d);
    ht_rotation_deinit(&q);
}

static void test_outputs_and_seed(void **state) {
    (void)state;
    struct ht_rotation q, same, other;
    ht_err err = {0};
    struct ht_rng rng;
    struct ht_pool *pool;
    enum { N = 24, COLS = 37 };
    float w[N * COLS], got[N * COLS];
    ht_rng_init(&rng, 1);
    for (int i = 0; i < N * COLS; i++) {
        got[i] = w[i] = (float)ht_rng_normal(&rng);
    }
    ASSERT_OK(ht_rotation_init(&q, N, 9, &err), &err);
    ASSERT_OK(ht_rotation_init(&same, N, 9, &err), &err);
    ASSERT_OK(ht_rotation_init(&other, N, 10, &err), &err);
    assert_memory_equal(q.sign, same.sign, N * sizeof *q.sign);
    assert_memory_not_equal(q.sign, other.sign, N * sizeof *q.sign);
    ASSERT_OK(ht_pool_new(3, &pool, &err), &err);
    ASSERT_OK(ht_rotation_outputs(&q, pool, got, COLS, &err), &err);
    float *d = dense(&q);
    for (int i = 0; i < N; i++) {
        for (int c = 0; c < COLS; c++) {
            double want = 0;
            for (int k = 0; k < N; k++) {
                want += (double)d[k * N + i] * w[k * COLS + c];
            }
            assert_float_equal(got[i * COLS + c], want, 1e-5);
        }
    }
    ht_mem_free(d);
    ht_rotation_deinit(&q);
    ht_rotation_deinit(&same);
    ht_rotation_deinit(&other);
    ht_pool_free(pool);
}

static void test_refused(void **state) {
    (void)state;
    struct ht_rotation q;
    ht_err err = {0};
    assert_int_equal(ht_rotation_init(&q, 0, 1, &err), HT_UNSUPPORTED);
    err = (ht_err){0};
    assert_int_equal(ht_rotation_init(&q, 2 * 2053, 1, &err), HT_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "2053"));
    ht_rotation_deinit(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orthogonal),       cmocka_unit_test(test_cores_of_models),
        cmocka_unit_test(test_against_parts),    cmocka_unit_test(test_outputs_and_seed),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
