/* H += X^T X: every level, odd shapes and strides, against sums in double; guard pages; the same bits for 1, 2 and 7
 * threads; nothing above the diagonal is touched. */
#include "test.h"

#include "kernel_cases.h"

struct shape {
    size_t tokens, cols, pad;
};

static const struct shape shapes[] = {{1, 1, 0},    {7, 5, 3},     {3, 31, 0},  {64, 32, 1},
                                      {255, 33, 0}, {300, 100, 7}, {257, 64, 0}, {600, 17, 2}};

/* [row, column] of the product, and of the magnitudes. */
static void want_syrk(const float *x, const struct shape *s, size_t i, size_t j, double *want, double *bound) {
    *want = *bound = 0;
    for (size_t t = 0; t < s->tokens; t++) {
        double p = (double)x[t * (s->cols + s->pad) + i] * (double)x[t * (s->cols + s->pad) + j];
        *want += p;
        *bound += fabs(p);
    }
}

/* Rows behind each other at a guard page; h starts as 1 everywhere. */
static struct guarded product(const struct ht_kernel_table *table, struct ht_pool *pool, const float *x,
                              const struct shape *s) {
    size_t x_stride = s->cols + s->pad, h_stride = s->cols + s->pad;
    size_t x_elems = (s->tokens - 1) * x_stride + s->cols, h_elems = (s->cols - 1) * h_stride + s->cols;
    struct guarded gx = guarded_new(x_elems * 4), gh = guarded_new(h_elems * 4);
    struct guarded scratch = guarded_new(ht_syrk_scratch_bytes(s->tokens, s->cols));
    float *h = gh.p;
    memcpy(gx.p, x, x_elems * 4);
    for (size_t i = 0; i < h_elems; i++) {
        h[i] = 1;
    }
    ht_syrk_with(table, pool, gx.p, x_stride, s->tokens, s->cols, h, h_stride, scratch.p);
    guarded_free(gx);
    guarded_free(scratch);
    return gh;
}

static void products(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 11);
    for (size_t c = 0; c < COUNT(shapes); c++) {
        const struct shape *s = &shapes[c];
        size_t stride = s->cols + s->pad;
        float *x = ht_mem_alloc_array(s->tokens * stride, sizeof *x);
        assert_non_null(x);
        fill_normal(&rng, x, s->tokens * stride, 1);
        x[s->cols - 1] = 1e4f;
        FOR_LEVELS(level, table) {
            struct guarded g = product(table, NULL, x, s);
            const float *h = g.p;
            for (size_t i = 0; i < s->cols; i++) {
                for (size_t j = 0; j < s->cols; j++) {
                    double want, bound;
                    want_syrk(x, s, i, j, &want, &bound);
                    if (j > i) {
                        assert_int_equal(ht_f32_bits(h[i * stride + j]), ht_f32_bits(1.0f));
                    } else if (!(fabs((double)h[i * stride + j] - want - 1) <= 1e-5 * (bound + 1))) {
                        fail_msg("level %s, %zu tokens, %zu columns, element %zu %zu: expected %.9g, found %.9g",
                                 ht_cpu_level_name((enum ht_cpu_level)level), s->tokens, s->cols, i, j, want + 1,
                                 (double)h[i * stride + j]);
                    }
                }
            }
            guarded_free(g);
        }
        ht_mem_free(x);
    }
}

static void threads(void **state) {
    (void)state;
    static const struct shape s = {300, 323, 0};
    static const int counts[] = {2, 7};
    struct ht_rng rng;
    ht_rng_init(&rng, 12);
    float *x = ht_mem_alloc_array(s.tokens * s.cols, sizeof *x);
    assert_non_null(x);
    fill_normal(&rng, x, s.tokens * s.cols, 1);
    FOR_LEVELS(level, table) {
        struct guarded one = product(table, NULL, x, &s);
        for (size_t c = 0; c < COUNT(counts); c++) {
            struct ht_pool *pool;
            ht_err err = {0};
            ASSERT_OK(ht_pool_new(counts[c], &pool, &err), &err);
            struct guarded many = product(table, pool, x, &s);
            assert_memory_equal(one.p, many.p, s.cols * s.cols * 4);
            guarded_free(many);
            ht_pool_free(pool);
        }
        guarded_free(one);
    }
    ht_mem_free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
