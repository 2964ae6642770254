#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "eval/eval.h"
#include "eval/tally.h"

/* scipy's BCa intervals of the same blocks: tests/oracle/bootstrap.py. */
static void test_intervals_against_scipy(void **state) {
    (void)state;
    FILE *f = fopen(HT_TEST_DIR "/golden/bootstrap.txt", "r");
    assert_non_null(f);
    char name[32];
    int n, cases = 0;
    double mean, low, high, tol_low, tol_high, sums[64], counts[64];
    while (fscanf(f, "%31s %d %lf %lf %lf %lf %lf", name, &n, &mean, &low, &high, &tol_low, &tol_high) == 7) {
        assert_in_range(n, 2, 64);
        for (int i = 0; i < n; i++) {
            assert_int_equal(fscanf(f, "%lf %lf", &sums[i], &counts[i]), 2);
        }
        struct ht_bootstrap b = ht_bootstrap_mean(sums, counts, (size_t)n, 20000, 7);
        if (!(fabs(b.mean - mean) <= 1e-12 * mean && fabs(b.low - low) <= tol_low && fabs(b.high - high) <= tol_high)) {
            fail_msg("%s: %.9g [%.9g, %.9g], scipy %.9g [%.9g, %.9g]", name, b.mean, b.low, b.high, mean, low, high);
        }
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 4);
}

enum shape { NORMAL, GAMMA4, LOGNORMAL };

static double draw(struct ht_rng *rng, enum shape shape) {
    switch (shape) {
    case NORMAL:
        return 1.0 + 0.3 * ht_rng_normal(rng);
    case GAMMA4: { /* sum of four exponentials, mean 1 */
        double x = 0.0;
        for (int i = 0; i < 4; i++) {
            x -= 0.25 * log(1.0 - ht_rng_uniform(rng));
        }
        return x;
    }
    default:
        return exp(0.7 * ht_rng_normal(rng) - 0.245); /* mean 1 */
    }
}

/* Share of simulated evaluations whose interval contains the truth, in percent. */
static double coverage(enum shape shape, size_t n, int trials) {
    double sums[128], counts[128];
    struct ht_rng rng;
    ht_rng_init(&rng, 1000 + n * 10 + (size_t)shape);
    int inside = 0;
    for (int t = 0; t < trials; t++) {
        for (size_t i = 0; i < n; i++) {
            sums[i] = 255.0 * draw(&rng, shape);
            counts[i] = 255.0;
        }
        struct ht_bootstrap b = ht_bootstrap_mean(sums, counts, n, 999, (uint64_t)t);
        inside += b.low <= 1.0 && 1.0 <= b.high;
    }
    return 100.0 * inside / trials;
}

/* With 2,000 trials the standard error of a share of 95 % is 0.5 %. The log-normal blocks (skewness 2.9) are far
 * more skewed than windows of text are; they show how the interval gives way. */
static void test_coverage(void **state) {
    (void)state;
    static const struct {
        enum shape shape;
        size_t n;
        double low, high;
    } cases[] = {
        {NORMAL, 12, 93, 97}, {NORMAL, 24, 93, 97}, {NORMAL, 100, 93, 97},    {GAMMA4, 24, 93, 97},
        {GAMMA4, 100, 93, 97}, {LOGNORMAL, 100, 91.5, 97}, {LOGNORMAL, 24, 91, 97}, {NORMAL, 8, 91.5, 97},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double c = coverage(cases[i].shape, cases[i].n, 2000);
        print_message("# coverage: shape %d, %zu blocks: %.2f %%\n", (int)cases[i].shape, cases[i].n, c);
        if (c < cases[i].low || c > cases[i].high) {
            fail_msg("shape %d, %zu blocks: coverage %.2f %%", (int)cases[i].shape, cases[i].n, c);
        }
    }
}

static void test_degenerate_blocks(void **state) {
    (void)state;
    double sums[] = {3, 3, 3}, counts[] = {2, 2, 2};
    struct ht_bootstrap b = ht_bootstrap_mean(sums, counts, 3, 500, 1);
    assert_true(b.mean == 1.5 && b.low == 1.5 && b.high == 1.5);
    b = ht_bootstrap_mean(sums, counts, 1, 500, 1);
    assert_true(b.mean == 1.5 && isinf(b.low) && isinf(b.high));
    double zeros[] = {0, 0, 0, 0};
    double ones[] = {1, 1, 1, 1};
    b = ht_bootstrap_mean(zeros, ones, 4, 500, 1); /* a model compared with itself */
    assert_true(b.mean == 0.0 && b.low == 0.0 && b.high == 0.0);
}

static void test_seed_and_interval_order(void **state) {
    (void)state;
    double sums[30], counts[30];
    struct ht_rng rng;
    ht_rng_init(&rng, 5);
    for (int i = 0; i < 30; i++) {
        sums[i] = 100.0 * draw(&rng, LOGNORMAL);
        counts[i] = 100.0;
    }
    struct ht_bootstrap a = ht_bootstrap_mean(sums, counts, 30, 2000, 1);
    struct ht_bootstrap b = ht_bootstrap_mean(sums, counts, 30, 2000, 1);
    struct ht_bootstrap c = ht_bootstrap_mean(sums, counts, 30, 2000, 2);
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(a.low != c.low && a.low < a.mean && a.mean < a.high);
    assert_true(fabs(a.low - c.low) < 0.05 && fabs(a.high - c.high) < 0.1);
}

/* numpy.quantile(range(1, 101), q) = 1 + 99 q; here as 10 blocks of 10 in scrambled order. */
static void test_quantile(void **state) {
    (void)state;
    double values[100];
    for (int i = 0; i < 100; i++) {
        values[i] = (double)(i * 37 % 100 + 1);
    }
    static const double q[] = {0.99, 0.999, 0.95, 0.5, 1.0, 0.0};
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++) {
        struct ht_bootstrap b = ht_bootstrap_quantile(values, 10, 10, q[i], 200, 3);
        assert_true(fabs(b.mean - (1.0 + 99.0 * q[i])) < 1e-9);
        assert_true(b.low <= b.mean && b.low >= 1.0 && b.high <= 100.0);
    }
    struct ht_bootstrap one = ht_bootstrap_quantile(values, 1, 100, 0.99, 200, 3);
    assert_true(fabs(one.mean - 99.01) < 1e-9 && isinf(one.high));
}

/* The interval of a quantile holds the truth about as often as it says: exponential values, 40 blocks of 50. */
static void test_quantile_coverage(void **state) {
    (void)state;
    double values[2000];
    struct ht_rng rng;
    ht_rng_init(&rng, 77);
    int inside = 0, trials = 400;
    for (int t = 0; t < trials; t++) {
        for (int i = 0; i < 2000; i++) {
            values[i] = -log(1.0 - ht_rng_uniform(&rng));
        }
        struct ht_bootstrap b = ht_bootstrap_quantile(values, 40, 50, 0.99, 500, (uint64_t)t);
        inside += b.low <= 4.605170185988091 && 4.605170185988091 <= b.high;
    }
    double c = 100.0 * inside / trials;
    print_message("# coverage of the 99 %% quantile: %.2f %%\n", c);
    assert_true(c >= 91.0 && c <= 98.5);
}

static void fill(struct ht_tally *tally, uint32_t n_windows, ht_err *err) {
    struct ht_score scores[10];
    for (uint32_t w = 0; w < n_windows; w++) {
        for (uint32_t i = 0; i < tally->per_window; i++) {
            scores[i] = (struct ht_score){.nll = 2.0 + 0.01 * w, .ref_nll = 2.0, .kld = 0.001 * (w * 10 + i),
                                          .same_top = i != 0};
        }
        ASSERT_OK(ht_tally_add(tally, scores, err), err);
    }
}

static void test_tally(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_tally tally;
    ht_tally_init(&tally, 10, true);
    fill(&tally, 20, &err);
    struct ht_summary s;
    ASSERT_OK(ht_tally_summary(&tally, 0, 20, 1000, 1, &s, &err), &err);
    assert_true(s.windows == 20 && s.tokens_scored == 200);
    assert_true(fabs(s.perplexity.mean - exp(2.095)) < 1e-12 && fabs(s.ratio.mean - exp(0.095)) < 1e-12);
    assert_true(s.reference_perplexity.low == s.reference_perplexity.high);
    assert_true(fabs(s.kld.mean - 0.0995) < 1e-12 && fabs(s.kld_median - 0.0995) < 1e-12);
    assert_true(fabs(s.kld_p99.mean - 0.19701) < 1e-12 && fabs(s.kld_p999 - 0.198801) < 1e-12);
    assert_true(s.kld_max == 0.199 && s.max_window == 19 && s.max_position == 9);
    assert_true(fabs(s.same_top.mean - 0.9) < 1e-12);
    /* The second text only. */
    ASSERT_OK(ht_tally_summary(&tally, 15, 5, 1000, 1, &s, &err), &err);
    assert_true(s.windows == 5 && fabs(s.kld.mean - 0.1745) < 1e-12 && s.max_window == 4);
    ht_tally_deinit(&tally);
}

static void test_tally_out_of_memory(void **state) {
    (void)state;
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        struct ht_tally tally;
        struct ht_summary s;
        struct ht_score scores[10] = {{.nll = 1}};
        ht_tally_init(&tally, 10, true);
        ht_err err = {0};
        ht_mem_fail_at(n, 1);
        ht_status status = HT_OK;
        for (int w = 0; w < 4 && status == HT_OK; w++) {
            status = ht_tally_add(&tally, scores, &err);
        }
        if (status == HT_OK) {
            status = ht_tally_summary(&tally, 0, 4, 100, 1, &s, &err);
        }
        ht_mem_fail_at(0, 0);
        ht_tally_deinit(&tally);
        if (status == HT_OK) {
            break;
        }
        assert_int_equal(status, HT_NOMEM);
        assert_in_range(++failures, 1, 100);
    }
    assert_true(failures >= 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intervals_against_scipy), cmocka_unit_test(test_coverage),
        cmocka_unit_test(test_degenerate_blocks),       cmocka_unit_test(test_seed_and_interval_order),
        cmocka_unit_test(test_quantile),                cmocka_unit_test(test_quantile_coverage),
        cmocka_unit_test(test_tally),                   cmocka_unit_test(test_tally_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
