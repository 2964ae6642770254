/* Error feedback on schemes: against GPTQ by numpy, against all codes there are in tiny rows, and what every scheme
 * must keep to. */
#include <math.h>

#include "quant/round/round.h"
#include "round_inputs.h"

#define TOKENS 400
#define ROWS 20
#define COLS 224 /* no multiple of 64: the last group is shorter */

static struct ht_scheme scheme_of(const char *text) {
    struct ht_scheme s;
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(text, &s, &err), &err);
    return s;
}

static float *decoded(const struct ht_qtensor *q) {
    float *v = ht_mem_alloc_aligned(q->rows * q->cols, sizeof *v);
    ht_qtensor_decode(q, 0, q->rows, v);
    return v;
}

static void solve(struct ht_pool *pool, const char *text, const float *w, const float *h, uint64_t rows, uint64_t cols,
                  const struct ht_round_options *o, struct ht_qtensor *q, struct ht_round_report *report) {
    struct ht_scheme s = scheme_of(text);
    ht_err err = {0};
    ASSERT_OK(ht_round_qtensor(pool, &s, w, rows, cols, h, o, q, report, &err), &err);
}

static void same_bytes(const struct ht_qtensor *a, const struct ht_qtensor *b) {
    struct ht_qtensor x = *a, y = *b;
    struct ht_qpart p, q;
    for (size_t i = 0; ht_qtensor_part(&x, i, &p); i++) {
        assert_true(ht_qtensor_part(&y, i, &q));
        assert_memory_equal(*p.slot, *q.slot, p.bytes);
    }
}

/* ---- every scheme ------------------------------------------------------------------------------------------- */

static const char *const schemes[] = {
    "int2:g32", "int3:g64", "int4:g64", "int4:g64:asym", "int4:g64:offset", "int4:channel", "int4:channel:offset",
    "int4:tensor", "int5:g64:narrow", "int8:channel", "uint8:g64", "uint8:g32:offset", "nf4:g64", "nf4:g64:nested",
    "fp4:g64", "fp4_e2m1:g32:scale=e8m0", "fp8_e4m3:channel", "fp8_e5m2:g64", "apot4:g64", "kmeans4:g64", "ternary:g64",
    "binary:g64",
};

static void every_scheme_loses_less_than_nearest(void **state) {
    (void)state;
    struct ht_pool *pools[] = {pool_of(2), pool_of(1), pool_of(7)};
    float *h = make_hessian(pools[0], TOKENS, COLS), *w = make_weights(ROWS * COLS, 5);
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        struct ht_round_options o;
        struct ht_round_report plain, full, other;
        struct ht_qtensor q, again;
        ht_round_defaults(&o);
        o.descents = 0;
        solve(pools[0], schemes[i], w, h, ROWS, COLS, &o, &q, &plain);
        ht_qtensor_deinit(&q);
        ht_round_defaults(&o);
        solve(pools[0], schemes[i], w, h, ROWS, COLS, &o, &q, &full);
        float *v = decoded(&q);
        double want = loss_between(w, v, h, 0, ROWS, COLS);
        print_message("# %-24s nearest %.3e, feedback x %.3f, polished x %.3f\n", schemes[i], plain.loss_nearest,
                      plain.loss / plain.loss_nearest, full.loss / full.loss_nearest);
        assert_true(fabs(full.loss - want) <= 1e-3 * want);
        assert_true(plain.loss < 0.9 * plain.loss_nearest);
        assert_true(full.loss <= plain.loss * 1.0001);
        assert_int_equal(full.kept_nearest, 0);
        for (int t = 1; t < 3; t++) {
            solve(pools[t], schemes[i], w, h, ROWS, COLS, &o, &again, &other);
            same_bytes(&q, &again);
            ht_qtensor_deinit(&again);
        }
        ht_mem_free_aligned(v);
        ht_qtensor_deinit(&q);
    }
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    for (int t = 0; t < 3; t++) {
        ht_pool_free(pools[t]);
    }
}

/* Grids fitted on the way, in both orders that allow it; columns of one group stay together. */
static void dynamic_grids_serve_schemes_and_formats(void **state) {
    (void)state;
    static const enum ht_round_order orders[] = {HT_ORDER_NATURAL, HT_ORDER_GROUPS};
    static const char *const formats[] = {"q4_0", "q4_k", "iq4_xs", "iq3_s"};
    struct ht_pool *pool = pool_of(2);
    float *h = make_hessian(pool, TOKENS, 256), *w = make_weights(ROWS * 256, 6);
    ht_err err = {0};
    for (int k = 0; k < 2; k++) {
        struct ht_round_options o = {.damping = 0.01, .order = orders[k], .dynamic = true};
        struct ht_round_report report;
        static const char *const some[] = {"int3:g64", "int4:g128:asym", "int4:g96", "nf4:g64", "int4:channel"};
        for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
            struct ht_qtensor q;
            solve(pool, some[i], w, h, ROWS, 256, &o, &q, &report);
            float *v = decoded(&q);
            double want = loss_between(w, v, h, 0, ROWS, 256);
            assert_true(fabs(report.loss - want) <= 1e-3 * want);
            assert_true(report.loss < 0.6 * report.loss_nearest);
            ht_mem_free_aligned(v);
            ht_qtensor_deinit(&q);
        }
        for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
            const struct ht_format *f = ht_format_find(formats[i]);
            unsigned char *bytes = ht_mem_calloc(ROWS, ht_format_row_bytes(f, 256));
            ASSERT_OK(ht_round_feedback(pool, f, w, ROWS, 256, h, &o, bytes, &report, &err), &err);
            assert_true(report.loss < 0.6 * report.loss_nearest);
            assert_int_equal(report.kept_nearest, 0);
            ht_mem_free(bytes);
        }
    }
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- numpy's GPTQ ------------------------------------------------------------------------------------------- */

#define G_ROWS 6
#define G_COLS 96
#define G_TOKENS 160

static uint64_t next(uint64_t *x) {
    *x = *x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *x >> 33;
}

/* The whole numbers of tests/oracle/make_gptq.py. */
static void golden_data(uint64_t seed, float *w, float *h) {
    static double x[G_TOKENS][G_COLS];
    for (int t = 0; t < G_TOKENS; t++) {
        double walk = 0;
        for (int j = 0; j < G_COLS; j++) {
            walk = floor(walk / 2) + (double)(next(&seed) % 41) - 20;
            x[t][j] = walk * (1 + j * 7919 % 5);
        }
    }
    for (int i = 0; i < G_ROWS * G_COLS; i++) {
        w[i] = (float)(((double)(next(&seed) % 4001) - 2000) / 4096);
    }
    for (int i = 0; i < G_COLS; i++) {
        for (int j = 0; j < G_COLS; j++) {
            double sum = 0;
            for (int t = 0; t < G_TOKENS; t++) {
                sum += x[t][i] * x[t][j];
            }
            h[i * G_COLS + j] = (float)(sum / 4096);
        }
    }
}

static void read_row(FILE *in, const struct ht_qtensor *q, uint64_t row) {
    int32_t codes[G_COLS];
    ht_qtensor_codes(q, row, codes);
    for (int j = 0; j < G_COLS; j++) {
        int want;
        assert_int_equal(fscanf(in, "%d", &want), 1);
        assert_int_equal(codes[j], want);
    }
    for (uint64_t g = 0; g < q->groups; g++) {
        float want;
        assert_int_equal(fscanf(in, "%f", &want), 1);
        assert_true(ht_qtensor_grid(q, row, g).scale == want);
    }
}

static void codes_are_those_of_numpy(void **state) {
    (void)state;
    FILE *in = fopen(HT_TEST_DIR "/golden/round/gptq.txt", "r");
    struct ht_pool *pool = pool_of(2);
    float *w = ht_mem_alloc_aligned(G_ROWS * G_COLS, sizeof *w), *h = ht_mem_alloc_aligned(G_COLS * G_COLS, sizeof *h);
    char line[256], scheme[32], order[16], grids[16];
    struct ht_range_choice minmax;
    ht_err err = {0};
    int seen = 0;
    unsigned seed;
    assert_non_null(in);
    ASSERT_OK(ht_range_parse("minmax", &minmax, &err), &err);
    while (fgets(line, sizeof line, in) != NULL) {
        if (sscanf(line, "case %31s %15s %15s %u", scheme, order, grids, &seed) != 4) {
            continue;
        }
        struct ht_round_options o = {.damping = 0.01, .range = &minmax, .dynamic = strcmp(grids, "dynamic") == 0};
        o.order = strcmp(order, "natural") == 0 ? HT_ORDER_NATURAL
                  : strcmp(order, "falling") == 0 ? HT_ORDER_FALLING : HT_ORDER_GROUPS;
        struct ht_qtensor q;
        struct ht_round_report report;
        golden_data(seed, w, h);
        solve(pool, scheme, w, h, G_ROWS, G_COLS, &o, &q, &report);
        for (uint64_t r = 0; r < G_ROWS; r++) {
            read_row(in, &q, r);
        }
        ht_qtensor_deinit(&q);
        seen++;
    }
    assert_int_equal(seen, 12);
    fclose(in);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- the identity -------------------------------------------------------------------------------------------- */

/* Without clipping, the loss of feedback is sum_j D_j r_j^2: D_j the variance of input j given those rounded later,
 * r_j what rounding took from the target, which lies within half a step. From the codes alone, in double, natural
 * order. */
static void loss_is_the_sum_of_conditional_errors(void **state) {
    (void)state;
    enum { N = 96 };
    struct ht_pool *pool = pool_of(1);
    float *h = make_hessian(pool, TOKENS, N), *w = make_weights(ROWS * N, 9);
    struct ht_round_options o = {.damping = 0.01, .order = HT_ORDER_NATURAL};
    struct ht_qtensor q;
    struct ht_round_report report;
    struct ht_range_choice minmax;
    ht_err err = {0};
    ASSERT_OK(ht_range_parse("minmax", &minmax, &err), &err);
    o.range = &minmax;
    solve(pool, "int8:channel", w, h, ROWS, N, &o, &q, &report);
    float *v = decoded(&q);
    static double a[N][N]; /* h = R R^T, R upper: eliminated from the last column on */
    double mean = 0, loss = 0;
    for (int i = 0; i < N; i++) {
        mean += (double)h[i * N + i] / N;
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)h[i * N + j] + (i == j ? 0.01 * mean : 0);
        }
    }
    for (int k = N - 1; k >= 0; k--) { /* a[i][k] becomes R_ik / R_kk, a[k][k] stays D_k */
        for (int i = 0; i < k; i++) {
            a[i][k] /= a[k][k];
        }
        for (int i = 0; i < k; i++) {
            for (int j = 0; j < k; j++) {
                a[i][j] -= a[i][k] * a[j][k] * a[k][k];
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        double step = (double)ht_qtensor_grid(&q, (uint64_t)r, 0).scale;
        for (int j = 0; j < N; j++) {
            double target = (double)w[r * N + j];
            for (int i = 0; i < j; i++) {
                target += ((double)w[r * N + i] - (double)v[r * N + i]) * a[i][j];
            }
            double rest = target - (double)v[r * N + j];
            assert_true(fabs(rest) <= 0.5001 * step);
            double e = (double)w[r * N + j] - (double)v[r * N + j];
            loss += a[j][j] * rest * rest - 0.01 * mean * e * e; /* what is told is without the damping */
        }
    }
    assert_true(fabs(loss - report.loss) <= 1e-3 * loss);
    ht_mem_free_aligned(v);
    ht_qtensor_deinit(&q);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- all codes there are ------------------------------------------------------------------------------------- */

static void tiny_rows_come_close_to_the_best_codes(void **state) {
    (void)state;
    enum { N = 7, TINY = 40 };
    struct ht_pool *pool = pool_of(1);
    float *h = make_hessian(pool, 60, N), *w = make_weights(TINY * N, 11);
    struct ht_round_options o = {.damping = 0.01, .descents = 1}; /* without refit: grids are those of nearest */
    struct ht_qtensor q;
    struct ht_round_report report;
    solve(pool, "int2:channel", w, h, TINY, N, &o, &q, &report);
    double best = 0;
    for (uint64_t r = 0; r < TINY; r++) {
        struct ht_affine a = ht_qtensor_grid(&q, r, 0);
        double least = INFINITY;
        for (int all = 0; all < 1 << (2 * N); all++) {
            float v[N];
            for (int j = 0; j < N; j++) {
                v[j] = a.scale * (float)((all >> (2 * j) & 3) - 2);
            }
            least = fmin(least, loss_between(w + r * N, v, h, 0, 1, N));
        }
        best += least;
    }
    print_message("# nearest %.4e, feedback and descent %.4e, best %.4e\n", report.loss_nearest, report.loss, best);
    assert_true(report.loss >= best * 0.9999);
    assert_true(report.loss <= best + 0.25 * (report.loss_nearest - best));
    ht_qtensor_deinit(&q);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- the greedy order ----------------------------------------------------------------------------------------- */

enum { G = 24 };

/* Optimal Brain Quantization as its paper writes it, in double, the inverse made anew from H over what is left in
 * every step instead of updated. */
static void published_greedy(const struct ht_affine *a, const float *w, const float *h, double damping,
                             int32_t *codes) {
    double x[G], mean = 0;
    bool left[G];
    for (int j = 0; j < G; j++) {
        x[j] = (double)w[j];
        left[j] = true;
        mean += (double)h[j * G + j] / G;
    }
    for (int step = 0; step < G; step++) {
        static double m[G][2 * G];
        for (int i = 0; i < G; i++) { /* columns that have left: the identity */
            for (int j = 0; j < G; j++) {
                double v = (double)h[i * G + j] + (i == j ? damping * mean : 0);
                m[i][j] = left[i] && left[j] ? v : i == j;
                m[i][G + j] = i == j;
            }
        }
        for (int p = 0; p < G; p++) {
            double c = m[p][p];
            for (int j = 0; j < 2 * G; j++) {
                m[p][j] /= c;
            }
            for (int i = 0; i < G; i++) {
                double d = m[i][p];
                for (int j = 0; i != p && j < 2 * G; j++) {
                    m[i][j] -= d * m[p][j];
                }
            }
        }
        int best = -1;
        double least = INFINITY, value = 0, most = 0; /* most: of those beyond the grid, which go first */
        for (int j = 0; j < G; j++) {
            double q = fmin(fmax(rint(x[j] / (double)a->scale), -4), 3);
            double e = x[j] - q * (double)a->scale, score = e * e / m[j][G + j];
            bool out = fabs(e) > 0.5 * (double)a->scale;
            if (left[j] && (out ? score > most : most == 0 && score < least)) {
                *(out ? &most : &least) = score;
                best = j;
                value = q * (double)a->scale;
            }
        }
        double error = (x[best] - value) / m[best][G + best];
        for (int k = 0; k < G; k++) {
            x[k] -= left[k] && k != best ? error * m[best][G + k] : 0;
        }
        codes[best] = (int32_t)rint(value / (double)a->scale);
        left[best] = false;
    }
}

static void greedy_is_the_published_one(void **state) {
    (void)state;
    struct ht_pool *pool = pool_of(2);
    float *h = make_hessian(pool, 80, G), *w = make_weights(ROWS * G, 13);
    struct ht_round_options o = {.damping = 0.01, .greedy = true};
    struct ht_qtensor q;
    struct ht_round_report greedy, feedback;
    int differ = 0;
    solve(pool, "int3:channel", w, h, ROWS, G, &o, &q, &greedy);
    for (uint64_t r = 0; r < ROWS; r++) {
        struct ht_affine a = ht_qtensor_grid(&q, r, 0);
        int32_t want[G], got[G];
        ht_qtensor_codes(&q, r, got);
        published_greedy(&a, w + r * G, h, o.damping, want);
        differ += memcmp(want, got, sizeof want) != 0;
    }
    assert_true(differ <= 1); /* a tie decided otherwise changes all that follows in its row */
    ht_qtensor_deinit(&q);
    o.greedy = false;
    solve(pool, "int3:channel", w, h, ROWS, G, &o, &q, &feedback);
    print_message("# nearest %.4e, feedback %.4e, greedy %.4e\n", greedy.loss_nearest, feedback.loss, greedy.loss);
    assert_true(greedy.loss < 0.5 * greedy.loss_nearest);
    assert_true(feedback.loss < 1.25 * greedy.loss); /* the common order comes close to each row's own */
    ht_qtensor_deinit(&q);
    const struct ht_format *f = ht_format_find("q4_0"); /* blocks, too */
    unsigned char *bytes = ht_mem_calloc(4, ht_format_row_bytes(f, 64));
    float *h64 = make_hessian(pool, 200, 64), *w64 = make_weights(4 * 64, 14);
    ht_err err = {0};
    o.greedy = true;
    ASSERT_OK(ht_round_feedback(pool, f, w64, 4, 64, h64, &o, bytes, &greedy, &err), &err);
    assert_true(greedy.loss < 0.6 * greedy.loss_nearest);
    const struct ht_format *levels = ht_format_find("iq4_nl");
    ASSERT_OK(ht_round_feedback(pool, levels, w64, 4, 64, h64, &o, bytes, &greedy, &err), &err);
    o.dynamic = true;
    o.order = HT_ORDER_NATURAL;
    assert_int_equal(ht_round_feedback(pool, f, w64, 4, 64, h64, &o, bytes, &greedy, &err), HT_INVAL);
    ht_mem_free(bytes);
    ht_mem_free_aligned(h64);
    ht_mem_free_aligned(w64);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

/* ---- edges --------------------------------------------------------------------------------------------------- */

static void what_does_not_go_together_is_told(void **state) {
    (void)state;
    struct ht_pool *pool = pool_of(2);
    float *h = make_hessian(pool, TOKENS, 64), *w = make_weights(4 * 64, 12);
    static const struct {
        const char *scheme;
        enum ht_round_order order;
        bool dynamic;
        double damping;
    } bad[] = {
        {"int4:g32", HT_ORDER_FALLING, true, 0.01},    {"nf4:g32:nested", HT_ORDER_NATURAL, true, 0.01},
        {"kmeans4:g32", HT_ORDER_NATURAL, true, 0.01}, {"int4:tensor", HT_ORDER_GROUPS, true, 0.01},
        {"int12:g32", HT_ORDER_NATURAL, false, 0.01},  {"int4:g32", HT_ORDER_NATURAL, false, -1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ht_scheme s = scheme_of(bad[i].scheme);
        struct ht_round_options o = {.damping = bad[i].damping, .order = bad[i].order, .dynamic = bad[i].dynamic};
        struct ht_round_report report;
        struct ht_qtensor q;
        ht_err err = {0};
        assert_int_equal(ht_round_qtensor(pool, &s, w, 4, 64, h, &o, &q, &report, &err), HT_INVAL);
        assert_true(err.msg[0] != '\0');
    }
    struct ht_scheme s = scheme_of("int4:g32");
    struct ht_round_options o;
    struct ht_round_report report;
    struct ht_qtensor q;
    ht_err err = {0};
    ht_round_defaults(&o);
    for (int j = 0; j < 64; j++) { /* input 5 is always 0 */
        h[5 * 64 + j] = h[j * 64 + 5] = 0.0f;
    }
    solve(pool, "int4:g32", w, h, 4, 64, &o, &q, &report);
    assert_int_equal(report.dead, 1);
    ht_qtensor_deinit(&q);
    for (uint64_t n = 1; n < 60; n++) { /* every allocation fails once */
        ht_mem_fail_at(n, 0);
        ht_status status = ht_round_qtensor(pool, &s, w, 4, 64, h, &o, &q, &report, &err);
        ht_mem_fail_at(0, 0);
        assert_true(status == HT_OK || status == HT_NOMEM);
        ht_qtensor_deinit(&q);
    }
    h[7 * 64 + 7] = NAN;
    assert_int_equal(ht_round_qtensor(pool, &s, w, 4, 64, h, &o, &q, &report, &err), HT_NUMERIC);
    h[7 * 64 + 7] = 1.0f;
    w[3] = INFINITY;
    err = (ht_err){0};
    assert_int_equal(ht_round_qtensor(pool, &s, w, 4, 64, h, &o, &q, &report, &err), HT_NUMERIC);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(h);
    ht_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scheme_loses_less_than_nearest),
        cmocka_unit_test(dynamic_grids_serve_schemes_and_formats),
        cmocka_unit_test(codes_are_those_of_numpy),
        cmocka_unit_test(loss_is_the_sum_of_conditional_errors),
        cmocka_unit_test(tiny_rows_come_close_to_the_best_codes),
        cmocka_unit_test(greedy_is_the_published_one),
        cmocka_unit_test(what_does_not_go_together_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
