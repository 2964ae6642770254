/* Products of f32 matrices with either side transposed: every level, odd shapes and strides, against sums in double;
 * guard pages; the same bits for 1, 2 and 7 threads. */
#include "test.h"

#include "kernel_cases.h"

struct shape {
    size_t m, n, k, pad;
};

static const struct shape shapes[] = {{1, 1, 1, 0},   {5, 3, 7, 2},     {31, 49, 33, 0},
                                      {33, 48, 513, 1}, {64, 100, 64, 0}, {2, 17, 1030, 3}};

/* A side of rows x k behind each other, the last row ending at the guard page. */
static struct guarded side_new(struct ht_rng *rng, size_t rows, size_t k, size_t pad, bool transposed,
                               struct ht_side *side) {
    size_t wide = transposed ? rows : k, high = transposed ? k : rows, n = (high - 1) * (wide + pad) + wide;
    struct guarded g = guarded_new(n * sizeof(float));
    fill_normal(rng, g.p, n, 1);
    *side = (struct ht_side){g.p, wide + pad, transposed};
    return g;
}

static double at(const struct ht_side *s, size_t i, size_t k) {
    return (double)s->data[s->transposed ? k * s->stride + i : i * s->stride + k];
}

static void check(const char *level, const struct shape *s, const struct ht_side *a, const struct ht_side *b,
                  const float *y, size_t stride, double before) {
    for (size_t i = 0; i < s->m; i++) {
        for (size_t j = 0; j < s->n; j++) {
            double want = before, bound = before;
            for (size_t k = 0; k < s->k; k++) {
                want += at(a, i, k) * at(b, j, k);
                bound += fabs(at(a, i, k) * at(b, j, k));
            }
            if (!(fabs((double)y[i * stride + j] - want) <= 1e-5 * bound)) {
                fail_msg("level %s, %zu x %zu x %zu, transposed %d %d, element %zu %zu: expected %.9g, found %.9g",
                         level, s->m, s->n, s->k, a->transposed, b->transposed, i, j, want,
                         (double)y[i * stride + j]);
            }
        }
    }
}

static void one(const struct ht_kernel_table *table, const char *level, struct ht_rng *rng, const struct shape *s,
                unsigned flags) {
    struct ht_side a, b;
    bool add = (flags & 4) != 0;
    struct guarded ga = side_new(rng, s->m, s->k, s->pad, (flags & 1) != 0, &a);
    struct guarded gb = side_new(rng, s->n, s->k, s->pad, (flags & 2) != 0, &b);
    size_t stride = s->n + s->pad, elems = (s->m - 1) * stride + s->n;
    struct guarded gy = guarded_new(elems * sizeof(float));
    struct guarded scratch = guarded_new(ht_product_scratch_bytes(s->m, s->k, 1));
    float *y = gy.p;
    for (size_t i = 0; i < elems; i++) {
        y[i] = 2;
    }
    ht_product_with(table, NULL, a, b, s->m, s->n, s->k, y, stride, add, scratch.p);
    check(level, s, &a, &b, y, stride, add ? 2 : 0);
    for (size_t i = 0; i + 1 < s->m; i++) {
        for (size_t p = s->n; p < stride; p++) {
            assert_int_equal(ht_f32_bits(y[i * stride + p]), ht_f32_bits(2.0f));
        }
    }
    guarded_free(ga);
    guarded_free(gb);
    guarded_free(gy);
    guarded_free(scratch);
}

static void products(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 21);
    FOR_LEVELS(level, table) {
        for (size_t c = 0; c < COUNT(shapes); c++) {
            for (unsigned flags = 0; flags < 8; flags++) {
                one(table, ht_cpu_level_name((enum ht_cpu_level)level), &rng, &shapes[c], flags);
            }
        }
    }
}

static void threads(void **state) {
    (void)state;
    enum { M = 70, N = 250, K = 600 };
    static const int counts[] = {1, 2, 7};
    struct ht_rng rng;
    struct ht_side a, b;
    ht_rng_init(&rng, 22);
    struct guarded ga = side_new(&rng, M, K, 0, true, &a), gb = side_new(&rng, N, K, 0, true, &b);
    float *y[2] = {ht_mem_alloc_array(M * N, sizeof(float)), ht_mem_alloc_array(M * N, sizeof(float))};
    assert_non_null(y[0]);
    assert_non_null(y[1]);
    for (size_t c = 0; c < COUNT(counts); c++) {
        struct ht_pool *pool;
        ht_err err = {0};
        ASSERT_OK(ht_pool_new(counts[c], &pool, &err), &err);
        struct guarded scratch = guarded_new(ht_product_scratch_bytes(M, K, counts[c]));
        ht_product(pool, a, b, M, N, K, y[c > 0], N, false, scratch.p);
        assert_memory_equal(y[0], y[c > 0], M * N * sizeof(float));
        guarded_free(scratch);
        ht_pool_free(pool);
    }
    guarded_free(ga);
    guarded_free(gb);
    ht_mem_free(y[0]);
    ht_mem_free(y[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH_SIDES(products),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
