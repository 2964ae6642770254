/* Error sums against definitions written out, the model of even cells where it must hold and where it must not, and
 * limits against published values. */
#include "test.h"

#include <math.h>

#include "base/rng.h"
#include "quant/error.h"
#include "quant/error_model.h"
#include "quant/range.h"

static struct ht_density_table *table_of(const char *name) {
    struct ht_density_table *t = NULL;
    ht_err err = {0};
    ASSERT_OK(ht_density_table_new(ht_density_find(name), &t, &err), &err);
    return t;
}

static double lloyd(const struct ht_density_table *t, int n) {
    double mse = -1;
    ht_err err = {0};
    ASSERT_OK(ht_density_lloyd_max(t, n, &mse, &err), &err);
    return mse;
}

#define CLOSE(a, b, rel)                                                        \
    do {                                                                        \
        double a_ = (a), b_ = (b);                                              \
        if (!(fabs(a_ - b_) <= (rel) * fabs(b_))) {                             \
            fail_msg("%s is %.9g, expected %.9g", #a, a_, b_);                  \
        }                                                                       \
    } while (0)

/* Max 1960, tables I and II (mean squared error of 2 to 36 levels); Jayant and Noll 1984, table 4.7 (Laplace, in dB). */
static void test_scalar_quantizers_as_published(void **state) {
    (void)state;
    struct ht_density_table *g = table_of("gaussian"), *l = table_of("laplace");
    double step;
    CLOSE(lloyd(g, 2), 1 - 2 / 3.14159265358979, 1e-6);
    CLOSE(lloyd(g, 3), 0.1902, 1e-3);
    CLOSE(lloyd(g, 4), 0.1175, 1e-3);
    CLOSE(lloyd(g, 8), 0.03454, 1e-3);
    CLOSE(lloyd(g, 16), 0.009497, 1e-3);
    CLOSE(lloyd(g, 32), 0.002499, 3e-3);
    CLOSE(ht_density_uniform(g, 2, &step), 0.3634, 1e-3);
    CLOSE(step, 1.596, 1e-3);
    CLOSE(ht_density_uniform(g, 4, &step), 0.1188, 1e-3);
    CLOSE(step, 0.9957, 1e-3);
    CLOSE(ht_density_uniform(g, 8, &step), 0.03744, 1e-3);
    CLOSE(step, 0.5860, 1e-3);
    CLOSE(ht_density_uniform(g, 16, &step), 0.01154, 1e-3);
    CLOSE(step, 0.3352, 1e-3);
    CLOSE(ht_density_uniform(g, 32, &step), 0.003495, 1e-3);
    static const double laplace_db[] = {3.01, 7.54, 12.64, 18.13, 23.87};
    for (int b = 1; b <= 5; b++) {
        assert_true(fabs(-ht_db(lloyd(l, 1 << b)) - laplace_db[b - 1]) < 0.006);
    }
    CLOSE(ht_density_panter_dite(g), sqrt(3) * 3.14159265358979 / 2, 1e-4);
    CLOSE(ht_density_panter_dite(l), 4.5, 1e-4);
    ht_density_table_free(g);
    ht_density_table_free(l);
}

static void test_limits(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_density_count(); i++) {
        const struct ht_density *d = ht_density_at(i);
        struct ht_density_table *t = table_of(d->name);
        struct ht_rng rng;
        double sum = 0, squares = 0, power = ht_density_power(t), step;
        enum { N = 200000 };
        int inside = 0;
        ht_rng_init(&rng, 1);
        for (int k = 0; k < N; k++) {
            double x = d->draw(&rng);
            sum += x;
            squares += x * x;
            inside += x > 0 && x < 0.5;
        }
        CLOSE(squares / N, 1, 0.03); /* the draws belong to the density */
        assert_true(fabs(sum / N) < 0.01);
        double mass = 0;
        for (int k = 0; k < 1000; k++) {
            mass += d->at((k + 0.5) / 2000) / 2000;
        }
        CLOSE((double)inside / N, mass, 0.02);
        assert_true(power <= 1 + 1e-6);
        for (int b = 1; b <= 8; b++) { /* the order that theory gives */
            double bound = power * pow(4, -b), best = lloyd(t, 1 << b), even = ht_density_uniform(t, 1 << b, &step);
            assert_true(bound < best && best <= even * (1 + 1e-6));
            if (b >= 6) {
                CLOSE(best * pow(4, b), ht_density_panter_dite(t), 0.1);
            }
        }
        ht_density_table_free(t);
    }
    struct ht_density_table *g = table_of("gaussian"), *l = table_of("laplace"), *s = table_of("student-t");
    CLOSE(ht_density_power(g), 1, 1e-6);
    CLOSE(ht_density_power(l), exp(1) / 3.14159265358979, 1e-6);
    CLOSE(ht_density_power(s), 0.910558, 1e-5); /* 1.372090 nats: 3 (psi(3) - psi(5/2)) + ln(B(5/2, 1/2) sqrt 3) */
    ht_density_table_free(g);
    ht_density_table_free(l);
    ht_density_table_free(s);
    assert_null(ht_density_find("cauchy"));
    CLOSE(ht_gap_bits(2, 0.0625), 0 + 1e-12, 1e9);
    assert_true(fabs(ht_gap_bits(2, 0.0625)) < 1e-12 && fabs(ht_gap_bits(4.5, 0.00499) - 0.6765) < 1e-3);
}

/* The laws, by quantizing what they speak of: b-bit even cells over the whole range. */
static void test_laws(void **state) {
    (void)state;
    enum { N = 300000 };
    CLOSE(ht_law_constant(sqrt(2)), 1.7609, 1e-4);
    assert_true(fabs(ht_law_constant(sqrt(3))) < 1e-12);
    CLOSE(ht_law_constant(4), -7.2700, 1e-4);
    for (int b = 4; b <= 10; b += 3) {
        for (int kind = 0; kind < 3; kind++) {
            double peak = kind == 0 ? sqrt(2) : kind == 1 ? sqrt(3) : 4, cells = pow(2, b), ee = 0, xx = 0;
            struct ht_rng rng;
            ht_rng_init(&rng, 9);
            for (int i = 0; i < N; i++) {
                double x = kind == 0   ? peak * sin(6.283185307179586 * ht_rng_uniform(&rng))
                           : kind == 1 ? peak * (2 * ht_rng_uniform(&rng) - 1)
                                       : ht_rng_normal(&rng);
                if (fabs(x) >= peak) { /* overload is not part of the law */
                    continue;
                }
                double step = 2 * peak / cells, y = (floor(x / step) + 0.5) * step;
                ee += (y - x) * (y - x);
                xx += x * x;
            }
            double law = HT_DB_PER_BIT * b + ht_law_constant(peak), snr = ht_db(xx / ee);
            double slack = kind != 0 ? 0.1 : b < 7 ? 0.6 : 0.25; /* a sine is steepest where it is densest: at its peaks */
            if (!(fabs(snr - law) < slack)) {
                fail_msg("%d bits, source %d: %.3f dB, the law says %.3f", b, kind, snr, law);
            }
        }
    }
}

static void test_sums(void **state) {
    (void)state;
    const float x[6] = {1, -2, 3, 0.5f, 10, -10}, y[6] = {1.5f, -2, 2.75f, 0.25f, 8, -8};
    const float cell[6] = {1, 1, 1, 0, -1, -1};
    struct ht_error_sums s = {0}, a = {0}, b = {0};
    struct ht_error_figures f;
    ht_error_add(&s, x, y, cell, 6);
    ht_error_figures(&s, &f);
    double ee = 0.25 + 0 + 0.0625 + 0.0625 + 4 + 4, xx = 1 + 4 + 9 + 0.25 + 200;
    CLOSE(f.mse, ee / 6, 1e-12);
    CLOSE(f.relative, ee / xx, 1e-12);
    CLOSE(f.snr_db, 10 * log10(xx / ee), 1e-12);
    CLOSE(f.max_error, 2, 1e-12);
    CLOSE(f.max_sigmas, 2 / sqrt(xx / 6), 1e-12);
    CLOSE(f.clipped_share, 0.4, 1e-12);
    CLOSE(f.clipped_error, 8 / ee, 1e-12);
    CLOSE(f.model_ratio, (0.25 + 0.0625) / (3.0 / 12), 1e-12);
    double xy = 1.5 + 4 + 8.25 + 0.125 + 160, yy = 2.25 + 4 + 7.5625 + 0.0625 + 128;
    CLOSE(f.cosine, xy / sqrt(xx * yy), 1e-9);
    ht_error_add(&a, x, y, cell, 2);
    ht_error_add(&b, x + 2, y + 2, cell + 2, 4);
    ht_error_merge(&a, &b);
    a.lag = s.lag; /* not across rows */
    assert_memory_equal(&a, &s, sizeof a);
    ht_error_figures(&(struct ht_error_sums){0}, &f);
    assert_true(isnan(f.mse) && isnan(f.snr_db));
}

enum { ROW = 4096, ROWS = 16 };

/* Rows rounded to 2^bits even cells that reach the largest magnitude. */
static void measure(int bits, struct ht_error_figures *out) {
    static float x[ROW], y[ROW], cell[ROW];
    struct ht_range_grid grid = {NULL, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, true, false};
    struct ht_range_choice choice;
    struct ht_error_sums s = {0};
    struct ht_rng rng;
    ht_err err = {0};
    ht_rng_init(&rng, 77);
    ASSERT_OK(ht_range_parse("mse", &choice, &err), &err);
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < ROW; i++) {
            x[i] = (float)ht_rng_normal(&rng);
        }
        struct ht_range range;
        ASSERT_OK(ht_range_fit(&choice, &(struct ht_range_input){.x = x, .n = ROW}, &grid, &range, &err), &err);
        float low, high;
        ht_range_reach(&grid, &range, &low, &high);
        for (int i = 0; i < ROW; i++) {
            y[i] = ht_range_nearest(&grid, &range, x[i]);
            cell[i] = ht_error_cell(x[i], y[i], range.scale, y[i] <= low, y[i] >= high);
        }
        ht_error_add(&s, x, y, cell, ROW);
    }
    ht_error_figures(&s, out);
}

/* Fine cells: the model holds, errors are even, white and know nothing of x. Coarse cells: errors go against x, since
 * levels of least error are the means of their cells, and a good part of the error is that of clipped values. */
static void test_where_the_model_holds(void **state) {
    (void)state;
    struct ht_error_figures f;
    for (int bits = 6; bits <= 8; bits++) {
        measure(bits, &f);
        if (!(fabs(f.model_ratio - 1) < 0.025 && f.evenness < 0.01 && fabs(f.correlation) < 0.05 && fabs(f.lag) < 0.01 &&
              f.clipped_share < 0.01)) {
            fail_msg("%d bits: ratio %g, evenness %g, correlation %g, lag %g, clipped %g", bits, f.model_ratio,
                     f.evenness, f.correlation, f.lag, f.clipped_share);
        }
    }
    assert_true(fabs(f.model_db - f.snr_db) < 0.5);
    measure(2, &f);
    assert_true(f.correlation < -0.25 && f.clipped_error > 0.1);
}

/* Every format: figures from its rows agree with those from decoding alone, and no value lies farther than half a
 * cell from its level unless it counts as clipped. */
static void test_cells_of_every_format(void **state) {
    (void)state;
    static float x[2 * HT_BLOCK_MAX], y[2 * HT_BLOCK_MAX], cell[2 * HT_BLOCK_MAX];
    static unsigned char bytes[2 * HT_BLOCK_MAX * 8];
    size_t seen = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->kind == HT_KIND_INT || f->kind == HT_KIND_CODE || !ht_error_knows_cells(f)) {
            continue;
        }
        struct ht_rng rng;
        ht_rng_init(&rng, i);
        for (int k = 0; k < 2 * HT_BLOCK_MAX; k++) {
            x[k] = (float)(ht_rng_normal(&rng) * (k < HT_BLOCK_MAX ? 1 : 1e-3));
        }
        x[5] = 12;
        f->encode(x, NULL, bytes, 2 * HT_BLOCK_MAX);
        f->decode(bytes, y, 2 * HT_BLOCK_MAX);
        ht_error_cells(f, bytes, x, 2 * HT_BLOCK_MAX, cell);
        for (int k = 0; k < 2 * HT_BLOCK_MAX; k++) {
            if (cell[k] > 0 && !(fabsf(x[k] - y[k]) <= 1.01f * cell[k])) {
                fail_msg("%s: %g became %g in a cell of %g", f->name, (double)x[k], (double)y[k], (double)cell[k]);
            }
        }
        seen++;
    }
    assert_true(seen >= 14);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar_quantizers_as_published), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_laws),                           cmocka_unit_test(test_sums),
        cmocka_unit_test(test_where_the_model_holds),
        cmocka_unit_test(test_cells_of_every_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
