/* What leaves the grid: which weights are kept, that codes and sidecar together are the values that rounding
 * promised, and that each part loses less than none. */
#include <math.h>

#include "quant/outlier/outlier.h"
#include "round_inputs.h"

#define ROWS 40
#define COLS 160
#define TOKENS 400

struct fixture {
    struct ht_pool *pool;
    float *h, *w, *values;
    uint8_t *keep;
    struct ht_scheme scheme;
    struct ht_qtensor q;
    struct ht_round_report report;
};

static void setup(struct fixture *f, const char *scheme) {
    ht_err err = {0};
    *f = (struct fixture){.pool = pool_of(2)};
    f->h = make_hessian(f->pool, TOKENS, COLS);
    f->w = make_weights(ROWS * COLS, 3);
    f->values = ht_mem_alloc_aligned(ROWS * COLS, sizeof *f->values);
    f->keep = ht_mem_calloc(ROWS, COLS);
    ASSERT_OK(ht_scheme_parse(scheme, &f->scheme, &err), &err);
}

static void teardown(struct fixture *f) {
    ht_mem_free_aligned(f->h);
    ht_mem_free_aligned(f->w);
    ht_mem_free_aligned(f->values);
    ht_mem_free(f->keep);
    ht_pool_free(f->pool);
}

/* Rounds with what is marked; the loss is that of the values told, and these are what codes and sidecar make. */
static double solve(struct fixture *f, enum ht_round_order order, bool dynamic, uint32_t descents) {
    struct ht_round_options o;
    struct ht_sidecar side = {0};
    ht_err err = {0};
    ht_round_defaults(&o);
    o.order = order;
    o.dynamic = dynamic;
    o.descents = descents;
    o.keep = f->keep;
    o.values = f->values;
    ASSERT_OK(ht_round_qtensor(f->pool, &f->scheme, f->w, ROWS, COLS, f->h, &o, &f->q, &f->report, &err), &err);
    double loss = loss_between(f->w, f->values, f->h, 0, ROWS, COLS);
    assert_true(fabs(f->report.loss - loss) <= 2e-3 * loss);
    ASSERT_OK(ht_outlier_store(&f->q, f->keep, f->values, 0, &side, &err), &err);
    ASSERT_OK(ht_sidecar_check(&side, "test", "test", &err), &err);
    float row[COLS], scratch[COLS];
    for (uint64_t i = 0; i < ROWS; i++) {
        ht_sidecar_dense(&f->q, side.leaves != 0 ? &side : NULL, i, 1, row, scratch);
        assert_memory_equal(row, f->values + i * COLS, sizeof row);
    }
    ht_sidecar_deinit(&side);
    ht_qtensor_deinit(&f->q);
    return loss;
}

static double solve_all_ways(struct fixture *f) {
    double first = solve(f, HT_ORDER_FALLING, false, 4);
    solve(f, HT_ORDER_NATURAL, true, 0);
    solve(f, HT_ORDER_GROUPS, true, 2);
    return first;
}

/* ---- columns -------------------------------------------------------------------------------------------------- */

static void the_dearest_columns_stay(void **state) {
    (void)state;
    static const char *const schemes[] = {"int3:g32", "int3:channel", "int4:g32:offset", "nf4:g64"};
    for (size_t s = 0; s < sizeof schemes / sizeof schemes[0]; s++) {
        struct fixture f;
        struct ht_columns_options o = {.fraction = 0.02};
        ht_err err = {0};
        uint64_t n = 0;
        setup(&f, schemes[s]);
        for (uint64_t j = 0; j < COLS; j++) { /* input 37 is ten times as large: a direction of outliers */
            f.h[37 * COLS + j] *= 10.0f;
            f.h[j * COLS + 37] *= 10.0f;
        }
        double plain = solve(&f, HT_ORDER_FALLING, false, 4);
        ASSERT_OK(ht_keep_columns(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &o, f.keep, &n, &err), &err);
        assert_int_equal(n, 4); /* ceil(0.02 * 160) */
        for (uint64_t i = 0; i < ROWS; i++) {
            assert_int_equal(f.keep[i * COLS + 37], HT_KEEP_VALUE);
        }
        double kept = solve_all_ways(&f);
        print_message("# %s: %.3e, four columns kept %.3e\n", schemes[s], plain, kept);
        assert_true(kept < 0.9 * plain);
        memset(f.keep, 0, ROWS * COLS);
        o = (struct ht_columns_options){.bits = 0.11}; /* a column costs (16 * 40 + 32) / (40 * 160) = 0.105 bits */
        ASSERT_OK(ht_keep_columns(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &o, f.keep, &n, &err), &err);
        assert_int_equal(n, 1);
        assert_int_equal(f.keep[37], HT_KEEP_VALUE);
        teardown(&f);
    }
}

/* ---- single weights --- */

static void the_dearest_weights_keep_their_rest(void **state) {
    (void)state;
    static const char *const schemes[] = {"int3:g16", "int3:g32:asym", "fp4:g32", "int4:tensor", "nf4:g32:nested"};
    for (size_t s = 0; s < sizeof schemes / sizeof schemes[0]; s++) {
        struct fixture f;
        struct ht_sparse_options o = {.fraction = 0.01, .damping = 0.01};
        ht_err err = {0};
        uint64_t n = 0, seen = 0;
        setup(&f, schemes[s]);
        f.w[5 * COLS + 11] = 1.5f;
        f.w[17 * COLS + 90] = -2.0f;
        double plain = solve(&f, HT_ORDER_FALLING, false, 4);
        ASSERT_OK(ht_keep_sparse(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &o, f.keep, &n, &err), &err);
        assert_int_equal(n, ROWS * COLS / 100);
        for (uint64_t i = 0; i < ROWS * COLS; i++) {
            seen += f.keep[i] == HT_KEEP_REST;
        }
        assert_int_equal(seen, n);
        double kept = f.scheme.nested || f.scheme.granularity == HT_PER_TENSOR ? solve(&f, HT_ORDER_FALLING, false, 4)
                                                                               : solve_all_ways(&f);
        print_message("# %s: %.3e, one percent kept %.3e\n", schemes[s], plain, kept);
        assert_true(kept < 0.97 * plain);
        memset(f.keep, 0, ROWS * COLS);
        o = (struct ht_sparse_options){.tau = 1e30, .damping = 0.01};
        ASSERT_OK(ht_keep_sparse(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &o, f.keep, &n, &err), &err);
        assert_int_equal(n, 0);
        o.tau = 1e-30;
        ASSERT_OK(ht_keep_sparse(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &o, f.keep, &n, &err), &err);
        assert_true(n > ROWS * COLS / 2);
        teardown(&f);
    }
}

static void inverse_diagonal_is_that_of_the_inverse(void **state) {
    (void)state;
    enum { N = 30 };
    struct ht_pool *pool = pool_of(1);
    float *h = make_hessian(pool, 200, N), got[N];
    static double a[N][2 * N];
    double mean = 0;
    ht_err err = {0};
    ASSERT_OK(ht_outlier_inverse_diagonal(pool, h, N, 0.02, got, &err), &err);
    for (int i = 0; i < N; i++) {
        mean += (double)h[i * N + i] / N;
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)h[i * N + j] + (i == j ? 0.02 * mean : 0);
            a[i][N + j] = i == j;
        }
    }
    for (int p = 0; p < N; p++) {
        double c = a[p][p];
        for (int j = 0; j < 2 * N; j++) {
            a[p][j] /= c;
        }
        for (int i = 0; i < N; i++) {
            double d = a[i][p];
            for (int j = 0; i != p && j < 2 * N; j++) {
                a[i][j] -= d * a[p][j];
            }
        }
    }
    for (int j = 0; j < N; j++) {
        assert_true(fabs((double)got[j] - a[j][N + j]) <= 1e-4 * a[j][N + j]);
    }
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- zeros --- */

static void pruned_weights_are_zero_and_made_up_for(void **state) {
    (void)state;
    static const char *const names[] = {"magnitude", "activation", "hessian"};
    for (int m = 0; m <= 4; m += 4) {
        double loss[3];
        for (int score = 0; score < 3; score++) {
            struct fixture f;
            struct ht_prune_options o = {.score = (enum ht_prune_score)score, .n = 2, .m = (uint32_t)m,
                                         .fraction = 0.5, .damping = 0.01};
            ht_err err = {0};
            uint64_t n = 0;
            setup(&f, "int4:g32");
            ASSERT_OK(ht_keep_pruned(f.pool, f.w, ROWS, COLS, f.h, &o, f.keep, &n, &err), &err);
            assert_int_equal(n, ROWS * COLS / 2);
            loss[score] = solve_all_ways(&f);
            for (uint64_t i = 0; i < ROWS * COLS; i += 4) {
                int zeros = 0;
                for (uint64_t j = i; j < i + 4; j++) {
                    assert_true(f.keep[j] != HT_KEEP_ZERO || f.values[j] == 0.0f);
                    zeros += f.values[j] == 0.0f;
                }
                assert_true(m == 0 || zeros >= 2);
            }
            print_message("# %s %s: rounded %.3e, made up for %.3e\n", m ? "2:4" : "half", names[score],
                          f.report.loss_nearest, loss[score]);
            assert_true(f.report.loss < 0.6 * f.report.loss_nearest);
            teardown(&f);
        }
        assert_true(loss[HT_PRUNE_HESSIAN] < loss[HT_PRUNE_MAGNITUDE]);
        assert_true(loss[HT_PRUNE_ACTIVATION] < loss[HT_PRUNE_MAGNITUDE]);
    }
}

/* ---- low rank --- */

static void orthogonal(double *a, int k, int n, struct ht_rng *rng) {
    for (int i = 0; i < k; i++) {
        double size = 0;
        for (int j = 0; j < n; j++) {
            a[i * n + j] = ht_rng_normal(rng);
        }
        for (int p = 0; p < i; p++) {
            double c = 0;
            for (int j = 0; j < n; j++) {
                c += a[i * n + j] * a[p * n + j];
            }
            for (int j = 0; j < n; j++) {
                a[i * n + j] -= c * a[p * n + j];
            }
        }
        for (int j = 0; j < n; j++) {
            size += a[i * n + j] * a[i * n + j];
        }
        for (int j = 0; j < n; j++) {
            a[i * n + j] /= sqrt(size);
        }
    }
}

/* E = U diag(s) V^T D^-1 and H = D^2: the best of rank r leaves the sum of the squares of the other s. */
static void low_rank_leaves_the_small_singular_values(void **state) {
    (void)state;
    enum { M = 24, N = 40, K = 20 };
    static double u[K * M], v[K * N];
    static float w[M * N], zero[M * N], h[N * N];
    struct ht_pool *pool = pool_of(2);
    struct ht_rng rng;
    ht_rng_init(&rng, 4);
    orthogonal(u, K, M, &rng);
    orthogonal(v, K, N, &rng);
    for (int j = 0; j < N; j++) {
        double d = 0.2 + 0.1 * j;
        h[j * N + j] = (float)(d * d);
        for (int i = 0; i < M; i++) {
            double sum = 0;
            for (int k = 0; k < K; k++) {
                sum += u[k * M + i] * v[k * N + j] * pow(0.7, k);
            }
            w[i * N + j] = (float)(sum / d);
        }
    }
    float diagonal[N];
    for (int j = 0; j < N; j++) {
        diagonal[j] = h[j * N + j];
    }
    for (int full = 0; full < 2; full++) {
        for (uint32_t rank = 1; rank <= 16; rank += 5) {
            struct ht_sidecar side = {.rows = M, .cols = N, .leaves = HT_LEAVES_LOWRANK, .rank = rank};
            double before, after, all = 0, left = 0;
            ht_err err = {0};
            ASSERT_OK(ht_sidecar_init(&side, NULL, &err), &err);
            ASSERT_OK(ht_outlier_lowrank(pool, w, zero, M, N, full == 0 ? diagonal : h, full == 0, &side, &before, &after,
                                         &err),
                      &err);
            for (int k = 0; k < K; k++) {
                all += pow(0.49, k);
                left += (uint32_t)k >= rank ? pow(0.49, k) : 0;
            }
            assert_true(fabs(before - all) <= 1e-4 * all);
            assert_true(after >= left * 0.999 && after <= left * 1.01 + 3e-7 * all);
            ht_sidecar_deinit(&side);
        }
    }
    ht_pool_free(pool);
}

static void low_rank_makes_up_for_rounding(void **state) {
    (void)state;
    struct fixture f;
    struct ht_sidecar side = {0};
    struct ht_round_options o;
    ht_err err = {0};
    double before = 0, with_diagonal = 0, with_all = 0, after = 0;
    setup(&f, "int3:g32");
    ht_round_defaults(&o);
    o.values = f.values;
    ASSERT_OK(ht_round_qtensor(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &o, &f.q, &f.report, &err), &err);
    float diagonal[COLS];
    for (int j = 0; j < COLS; j++) {
        diagonal[j] = f.h[j * COLS + j];
    }
    for (int full = 0; full < 2; full++) {
        side = (struct ht_sidecar){0};
        ASSERT_OK(ht_outlier_store(&f.q, NULL, f.values, 8, &side, &err), &err);
        ASSERT_OK(ht_outlier_lowrank(f.pool, f.w, f.values, ROWS, COLS, full == 0 ? diagonal : f.h, full == 0, &side,
                                     &before, &after, &err),
                  &err);
        static float made[ROWS * COLS];
        float scratch[COLS];
        ht_sidecar_dense(&f.q, &side, 0, ROWS, made, scratch);
        double loss = loss_between(f.w, made, f.h, 0, ROWS, COLS);
        if (full == 0) {
            with_diagonal = loss;
        } else {
            with_all = loss;
            assert_true(fabs(loss - after) <= 2e-3 * loss);
        }
        ht_sidecar_deinit(&side);
    }
    print_message("# loss %.3e, rank 8 by diag(H) %.3e, by H %.3e\n", before, with_diagonal, with_all);
    assert_true(with_all < 0.8 * before && with_all < with_diagonal);
    side = (struct ht_sidecar){.rows = ROWS, .cols = COLS, .leaves = HT_LEAVES_LOWRANK, .rank = ROWS + 1};
    assert_int_equal(ht_outlier_lowrank(f.pool, f.w, f.values, ROWS, COLS, diagonal, true, &side, &before, &after, &err),
                     HT_INVAL);
    ht_qtensor_deinit(&f.q);
    teardown(&f);
}

/* ---- bias --- */

static void bias_brings_back_the_mean_output(void **state) {
    (void)state;
    static float x[TOKENS * COLS], mean[COLS], values[ROWS * COLS], bias[ROWS];
    float *w = make_weights(ROWS * COLS, 8);
    make_inputs(x, TOKENS, COLS, 2);
    for (int t = 0; t < TOKENS; t++) {
        for (int j = 0; j < COLS; j++) {
            x[t * COLS + j] += 0.5f;
            mean[j] += x[t * COLS + j] / TOKENS;
        }
    }
    for (int i = 0; i < ROWS * COLS; i++) {
        values[i] = 0.05f * rintf(w[i] / 0.05f);
    }
    ht_outlier_bias(w, values, ROWS, COLS, mean, bias);
    double worst = 0, without = 0;
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        for (int t = 0; t < TOKENS; t++) {
            for (int j = 0; j < COLS; j++) {
                sum += ((double)values[i * COLS + j] - (double)w[i * COLS + j]) * (double)x[t * COLS + j] / TOKENS;
            }
        }
        without = fmax(without, fabs(sum));
        worst = fmax(worst, fabs(sum + (double)bias[i]));
    }
    assert_true(without > 0.01 && worst < 1e-4 * without);
    ht_mem_free_aligned(w);
}

static void bad_options_are_told(void **state) {
    (void)state;
    struct fixture f;
    ht_err err = {0};
    uint64_t n;
    double before, after;
    setup(&f, "int4:g32");
    struct ht_columns_options columns = {.fraction = 1.5};
    assert_int_equal(ht_keep_columns(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &columns, f.keep, &n, &err), HT_INVAL);
    struct ht_sparse_options sparse = {.fraction = -1};
    assert_int_equal(ht_keep_sparse(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &sparse, f.keep, &n, &err), HT_INVAL);
    struct ht_prune_options prune = {.n = 5, .m = 4};
    assert_int_equal(ht_keep_pruned(f.pool, f.w, ROWS, COLS, f.h, &prune, f.keep, &n, &err), HT_INVAL);
    f.h[3 * COLS + 3] = NAN;
    sparse.fraction = 0.1;
    assert_int_equal(ht_keep_sparse(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &sparse, f.keep, &n, &err), HT_NUMERIC);
    f.h[3 * COLS + 3] = 1.0f;
    for (uint64_t k = 1; k < 40; k++) { /* every allocation fails once */
        struct ht_sidecar side = {.rows = ROWS, .cols = COLS, .leaves = HT_LEAVES_LOWRANK, .rank = 2};
        memset(f.keep, 0, ROWS * COLS);
        ASSERT_OK(ht_sidecar_init(&side, NULL, &err), &err);
        ht_mem_fail_at(k, 0);
        ht_status a = ht_keep_sparse(f.pool, &f.scheme, f.w, ROWS, COLS, f.h, &sparse, f.keep, &n, &err);
        ht_mem_fail_at(k, 0);
        ht_status b = ht_outlier_lowrank(f.pool, f.w, f.w, ROWS, COLS, f.h, false, &side, &before, &after, &err);
        ht_mem_fail_at(0, 0);
        assert_true((a == HT_OK || a == HT_NOMEM) && (b == HT_OK || b == HT_NOMEM));
        ht_sidecar_deinit(&side);
    }
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dearest_columns_stay),
        cmocka_unit_test(the_dearest_weights_keep_their_rest),
        cmocka_unit_test(inverse_diagonal_is_that_of_the_inverse),
        cmocka_unit_test(pruned_weights_are_zero_and_made_up_for),
        cmocka_unit_test(low_rank_leaves_the_small_singular_values),
        cmocka_unit_test(low_rank_makes_up_for_rounding),
        cmocka_unit_test(bias_brings_back_the_mean_output),
        cmocka_unit_test(bad_options_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
