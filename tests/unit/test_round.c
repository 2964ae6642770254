/* Rounding with the inputs in view: the dense algebra against plain double loops, error feedback against the
 * published form of GPTQ written out in double, and what every grid format must keep to. */
#include <math.h>

#include "quant/round/round.h"
#include "round_inputs.h"

#define COLS 256
#define ROWS 24
#define TOKENS 400

/* ---- dense algebra ----------------------------------------------------------------------------------------- */

static void gram_is_the_sum_of_products(void **state) {
    (void)state;
    static const uint64_t sizes[][2] = {{1, 1}, {3, 33}, {70, 257}, {513, 300}};
    struct ht_pool *pool = pool_of(2);
    ht_err err;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t n = sizes[s][0], cols = sizes[s][1];
        float *x = ht_mem_alloc_aligned(n * cols, sizeof *x), *h = ht_mem_alloc_aligned(cols * cols, sizeof *h);
        make_inputs(x, n, cols, s);
        for (uint64_t i = 0; i < cols * cols; i++) {
            h[i] = 0.5f;
        }
        ASSERT_OK(ht_dense_gram(pool, x, n, cols, h, &err), &err);
        for (uint64_t i = 0; i < cols; i++) {
            for (uint64_t j = 0; j < cols; j++) {
                double want = 0.5, size = 0.5;
                for (uint64_t t = 0; t < n; t++) {
                    double p = (double)x[t * cols + i] * (double)x[t * cols + j];
                    want += p;
                    size += fabs(p);
                }
                assert_true(fabs((double)h[i * cols + j] - want) <= 2e-5 * size);
                assert_true(h[i * cols + j] == h[j * cols + i]);
            }
        }
        ht_mem_free_aligned(x);
        ht_mem_free_aligned(h);
    }
    ht_pool_free(pool);
}

static void cholesky_gives_the_matrix_back(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 63, 64, 65, 200, 391};
    struct ht_pool *pool = pool_of(2);
    ht_err err;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        uint64_t n = sizes[s], pivot;
        float *h = make_hessian(pool, 2 * n + 5, n), *a = ht_mem_alloc_aligned(n * n, sizeof *a);
        memcpy(a, h, n * n * sizeof *a);
        ASSERT_OK(ht_dense_cholesky(pool, a, n, &pivot, &err), &err);
        assert_int_equal(pivot, n);
        for (uint64_t i = 0; i < n; i++) {
            for (uint64_t j = 0; j <= i; j++) {
                double sum = 0;
                for (uint64_t k = 0; k <= j; k++) {
                    sum += (double)a[i * n + k] * (double)a[j * n + k];
                }
                double size = sqrt((double)h[i * n + i] * (double)h[j * n + j]);
                assert_true(fabs(sum - (double)h[i * n + j]) <= 1e-5 * size);
            }
        }
        ht_mem_free_aligned(a);
        ht_mem_free_aligned(h);
    }
    /* not positive definite: the row is named */
    float bad[9] = {4, 0, 0, 2, 1, 0, 0, 0, 1};
    uint64_t pivot;
    ASSERT_OK(ht_dense_cholesky(pool, bad, 3, &pivot, &err), &err);
    assert_int_equal(pivot, 1);
    ht_pool_free(pool);
}

/* ---- losses ------------------------------------------------------------------------------------------------ */

static double loss_of(const struct ht_format *f, const float *w, const unsigned char *bytes, const float *h,
                      double damping, uint64_t rows, uint64_t cols) {
    float *v = ht_mem_alloc_array(rows * cols, sizeof *v);
    for (uint64_t r = 0; r < rows; r++) {
        f->decode(bytes + r * ht_format_row_bytes(f, cols), v + r * cols, cols);
    }
    double loss = loss_between(w, v, h, damping, rows, cols);
    ht_mem_free(v);
    return loss;
}

static void every_grid_loses_less_than_nearest(void **state) {
    (void)state;
    struct ht_pool *pool = pool_of(2), *one = pool_of(1), *seven = pool_of(7);
    float *h = make_hessian(pool, TOKENS, COLS), *w = make_weights(ROWS * COLS, 5);
    ht_err err;
    int seen = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->fit == NULL || COLS % f->block_elems != 0) {
            continue;
        }
        size_t bytes = ROWS * ht_format_row_bytes(f, COLS);
        unsigned char *a = ht_mem_calloc(bytes, 1), *b = ht_mem_calloc(bytes, 1);
        struct ht_round_options o;
        struct ht_round_report plain, full, other;
        ht_round_defaults(&o);
        o.descents = 0;
        ASSERT_OK(ht_round_feedback(pool, f, w, ROWS, COLS, h, &o, a, &plain, &err), &err);
        ht_round_defaults(&o);
        ASSERT_OK(ht_round_feedback(pool, f, w, ROWS, COLS, h, &o, a, &full, &err), &err);
        if (f->vector == f->block_elems) { /* nothing to hand on within a block: nearest, and it is told */
            assert_int_equal(full.kept_nearest, ROWS);
            assert_true(full.loss == full.loss_nearest);
            ht_mem_free(a);
            ht_mem_free(b);
            continue;
        }
        assert_int_equal(full.kept_nearest, 0);
        double want = loss_of(f, w, a, h, 0, ROWS, COLS);
        print_message("# %-8s nearest %.3e, feedback x %.3f, polished x %.3f\n", f->name, plain.loss_nearest,
                      plain.loss / plain.loss_nearest, full.loss / full.loss_nearest);
        assert_true(fabs(full.loss - want) <= 1e-3 * want);
        assert_true(plain.loss < 0.95 * plain.loss_nearest);
        assert_true(full.loss <= plain.loss * 1.0001);
        ASSERT_OK(ht_round_feedback(one, f, w, ROWS, COLS, h, &o, b, &other, &err), &err);
        assert_memory_equal(a, b, bytes);
        ASSERT_OK(ht_round_feedback(seven, f, w, ROWS, COLS, h, &o, b, &other, &err), &err);
        assert_memory_equal(a, b, bytes);
        ht_mem_free(a);
        ht_mem_free(b);
        seen++;
    }
    assert_true(seen >= 12);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(seven);
    ht_pool_free(one);
    ht_pool_free(pool);
}

/* ---- the published form ------------------------------------------------------------------------------------ */

/* GPTQ as in the paper, in double, natural order: e = (w_i - q_i) / U_ii, w_j -= e U_ij, with U the upper Cholesky
 * factor of the inverse of the damped H. Inverse by Gauss-Jordan. */
static void published(const struct ht_format *f, const float *w, const float *h, double damping, uint64_t cols,
                      int8_t *codes) {
    uint64_t n = cols;
    double *a = ht_mem_calloc(n * n, sizeof *a), *inv = ht_mem_calloc(n * n, sizeof *inv), mean = 0;
    double *u = ht_mem_calloc(n * n, sizeof *u), *t = ht_mem_calloc(n, sizeof *t);
    for (uint64_t j = 0; j < n; j++) {
        mean += (double)h[j * n + j] / (double)n;
    }
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t j = 0; j < n; j++) {
            a[i * n + j] = (double)h[i * n + j] + (i == j ? damping * mean : 0.0);
        }
        inv[i * n + i] = 1.0;
        t[i] = (double)w[i];
    }
    for (uint64_t p = 0; p < n; p++) {
        double d = 1.0 / a[p * n + p];
        for (uint64_t j = 0; j < n; j++) {
            a[p * n + j] *= d;
            inv[p * n + j] *= d;
        }
        for (uint64_t i = 0; i < n; i++) {
            double c = a[i * n + p];
            for (uint64_t j = 0; i != p && c != 0.0 && j < n; j++) {
                a[i * n + j] -= c * a[p * n + j];
                inv[i * n + j] -= c * inv[p * n + j];
            }
        }
    }
    for (uint64_t i = 0; i < n; i++) { /* inv = U^T U */
        for (uint64_t j = i; j < n; j++) {
            double sum = inv[i * n + j];
            for (uint64_t k = 0; k < i; k++) {
                sum -= u[k * n + i] * u[k * n + j];
            }
            u[i * n + j] = i == j ? sqrt(sum) : sum / u[i * n + i];
        }
    }
    float diagonal[COLS];
    for (uint64_t j = 0; j < n; j++) {
        diagonal[j] = h[j * n + j];
    }
    struct ht_grid grid;
    for (uint64_t i = 0; i < n; i++) {
        if (i % f->block_elems == 0) {
            f->fit(w + i, diagonal + i, &grid);
            f->snap(&grid);
        }
        int s = (int)(i % f->block_elems) / grid.sub_len;
        codes[i] = (int8_t)ht_grid_nearest(&grid, s, (float)t[i]);
        double e = (t[i] - (double)ht_grid_value(&grid, s, codes[i])) / u[i * n + i];
        for (uint64_t j = i + 1; j < n; j++) {
            t[j] -= e * u[i * n + j];
        }
    }
    ht_mem_free(a);
    ht_mem_free(inv);
    ht_mem_free(u);
    ht_mem_free(t);
}

static void feedback_is_the_published_gptq(void **state) {
    (void)state;
    static const char *const names[] = {"q4_0", "iq4_nl", "q4_k", "q2_k", "q8_0"};
    struct ht_pool *pool = pool_of(2);
    float *h = make_hessian(pool, TOKENS, COLS), *w = make_weights(ROWS * COLS, 6);
    struct ht_round_options o = {.damping = 0.01, .order = HT_ORDER_NATURAL};
    ht_err err;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct ht_format *f = ht_format_find(names[i]);
        struct ht_round_report report;
        size_t row_bytes = ht_format_row_bytes(f, COLS), differ = 0;
        unsigned char *a = ht_mem_calloc(ROWS, row_bytes);
        int8_t want[COLS], got[COLS];
        ASSERT_OK(ht_round_feedback(pool, f, w, ROWS, COLS, h, &o, a, &report, &err), &err);
        for (uint64_t r = 0; r < ROWS; r++) {
            struct ht_grid grid;
            published(f, w + r * COLS, h, o.damping, COLS, want);
            for (uint64_t b = 0; b < COLS / f->block_elems; b++) {
                f->unpack(a + r * row_bytes + b * f->block_bytes, &grid, got + b * f->block_elems);
            }
            differ += memcmp(want, got, COLS) != 0;
        }
        print_message("# %s: %zu of %d rows differ\n", names[i], differ, ROWS);
        assert_true(differ <= ROWS / 4); /* a tie decided otherwise in f32 changes all that follows in its row */
        ht_mem_free(a);
    }
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- edges ------------------------------------------------------------------------------------------------- */

static void independent_inputs_need_no_feedback(void **state) {
    (void)state;
    struct ht_pool *pool = pool_of(2);
    const struct ht_format *f = ht_format_find("q4_0");
    float *h = ht_mem_calloc(COLS * COLS, sizeof *h), *w = make_weights(ROWS * COLS, 7);
    float ones[COLS];
    for (uint64_t j = 0; j < COLS; j++) {
        h[j * COLS + j] = ones[j] = 1.0f;
    }
    size_t row_bytes = ht_format_row_bytes(f, COLS);
    unsigned char *a = ht_mem_calloc(ROWS, row_bytes), *b = ht_mem_calloc(ROWS, row_bytes);
    struct ht_round_options o = {.damping = 0.01};
    struct ht_round_report report;
    ht_err err;
    ASSERT_OK(ht_round_feedback(pool, f, w, ROWS, COLS, h, &o, a, &report, &err), &err);
    for (uint64_t r = 0; r < ROWS; r++) {
        f->encode(w + r * COLS, ones, b + r * row_bytes, COLS);
    }
    assert_memory_equal(a, b, ROWS * row_bytes);
    assert_true(report.loss == report.loss_nearest);
    ht_mem_free(a);
    ht_mem_free(b);
    ht_mem_free_aligned(w);
    ht_mem_free(h);
    ht_pool_free(pool);
}

static void strange_inputs_are_told(void **state) {
    (void)state;
    struct ht_pool *pool = pool_of(2);
    const struct ht_format *f = ht_format_find("q4_0");
    float *h = make_hessian(pool, TOKENS, 64), *w = make_weights(8 * 64, 8);
    unsigned char *a = ht_mem_calloc(8, ht_format_row_bytes(f, 64));
    struct ht_round_options o;
    struct ht_round_report report;
    ht_err err;
    ht_round_defaults(&o);
    for (int j = 0; j < 64; j++) { /* input 5 is always 0 */
        h[5 * 64 + j] = h[j * 64 + 5] = 0.0f;
    }
    ASSERT_OK(ht_round_feedback(pool, f, w, 8, 64, h, &o, a, &report, &err), &err);
    assert_int_equal(report.dead, 1);
    assert_int_equal(report.dampings, 0);
    h[3 * 64 + 9] = h[9 * 64 + 3] = 100.0f * h[3 * 64 + 3]; /* no longer positive definite */
    ASSERT_OK(ht_round_feedback(pool, f, w, 8, 64, h, &o, a, &report, &err), &err);
    assert_true(report.dampings > 0 && report.damping > 0.01);
    memset(h, 0, 64 * 64 * sizeof *h); /* no token reached it */
    ASSERT_OK(ht_round_feedback(pool, f, w, 8, 64, h, &o, a, &report, &err), &err);
    assert_int_equal(report.dead, 64);
    h[7 * 64 + 7] = NAN;
    assert_int_equal(ht_round_feedback(pool, f, w, 8, 64, h, &o, a, &report, &err), HT_NUMERIC);
    for (uint64_t n = 1; n < 40; n++) { /* every allocation fails once */
        h[7 * 64 + 7] = 1.0f;
        ht_mem_fail_at(n, 0);
        ht_status status = ht_round_feedback(pool, f, w, 8, 64, h, &o, a, &report, &err);
        ht_mem_fail_at(0, 0);
        assert_true(status == HT_OK || status == HT_NOMEM);
    }
    ht_mem_free(a);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gram_is_the_sum_of_products),
        cmocka_unit_test(cholesky_gives_the_matrix_back),
        cmocka_unit_test(every_grid_loses_less_than_nearest),
        cmocka_unit_test(feedback_is_the_published_gptq),
        cmocka_unit_test(independent_inputs_need_no_feedback),
        cmocka_unit_test(strange_inputs_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
