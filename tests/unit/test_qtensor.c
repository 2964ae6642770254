/* Qtensors: every code format in every granularity, tails, streams, threads, rounding rules, hard values. */
#include "test.h"

#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "tensor/qtensor.h"

static struct ht_scheme scheme(const char *text) {
    struct ht_scheme s;
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(text, &s, &err), &err);
    return s;
}

static struct ht_qtensor make(const char *text, uint64_t rows, uint64_t cols) {
    struct ht_scheme s = scheme(text);
    struct ht_qtensor q;
    ht_err err = {0};
    ASSERT_OK(ht_qtensor_init(&q, &s, rows, cols, "w", &err), &err);
    return q;
}

static void fill(float *x, size_t n, uint64_t seed) {
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(0.05 * ht_rng_normal(&rng));
    }
}

static bool same_bytes(struct ht_qtensor *a, struct ht_qtensor *b) {
    struct ht_qpart p, r;
    size_t i = 0;
    for (; ht_qtensor_part(a, i, &p); i++) {
        assert_true(ht_qtensor_part(b, i, &r) && p.bytes == r.bytes);
        if (memcmp(*p.slot, *r.slot, (size_t)p.bytes) != 0) {
            return false;
        }
    }
    assert_true(i > 0 && !ht_qtensor_part(b, i, &r));
    return true;
}

/* Everything is counted: codes, scales, zero points, second level. */
static void sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t rows, cols;
        double bits;
    } cases[] = {
        {"int4:g128", 64, 4096, 4 + 16 / 128.0},
        {"uint4:g128", 64, 4096, 4 + 20 / 128.0},
        {"uint4:g64:offset", 64, 4096, 4 + 32 / 64.0},
        {"int8:channel", 64, 4096, 8 + 32 / 4096.0},
        {"int3:tensor", 64, 4096, 3 + 32 / (64 * 4096.0)},
        {"ternary_b3:channel", 1, 1000, 1.6 + 0.032},
        {"ternary:channel", 1, 1000, 2.032},
        {"nf4:g64:scale=f32", 64, 4096, 4.5},
        {"nf4:g64:nested", 64, 4096, 4 + 8 / 64.0 + 32 / 64.0 / 256 + 257 * 32 / (64 * 4096.0)},
        {"kmeans4:channel", 64, 4096, 4 + 32 / 4096.0 + 16 * 32 / (64 * 4096.0)},
        {"int4:g64", 2, 65, (33 * 2 + 2 * 2 * 2) * 8 / 130.0}, /* rows start on bytes, tails have scales */
        {"uint3:g10", 3, 25, (10 * 3 + 3 * 3 * 2 + 3 * 2) * 8 / 75.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_qtensor q = make(cases[i].text, cases[i].rows, cases[i].cols);
        if (fabs(ht_qtensor_bits(&q) - cases[i].bits) > 1e-9) {
            fail_msg("%s: %.6f bits per weight, expected %.6f", cases[i].text, ht_qtensor_bits(&q), cases[i].bits);
        }
        ht_qtensor_deinit(&q);
    }
    struct ht_scheme s = scheme("int4:g64");
    struct ht_qtensor q;
    static const uint64_t bad[][2] = {{0, 1}, {1, 0}, {UINT64_MAX, 2}, {UINT64_C(1) << 40, UINT64_C(1) << 20}};
    for (size_t i = 0; i < 4; i++) {
        ht_err err = {0};
        assert_int_equal(ht_qtensor_shape(&q, &s, bad[i][0], bad[i][1], "blk.0.w", &err), HT_INVAL);
        assert_string_equal(err.what, "blk.0.w");
    }
}

/* Codes are the nearest to the grids as stored, values are the grids', counts are what they say. */
static void check_encoded(const struct ht_qtensor *q, const float *x, const float *exact) {
    float *y = malloc((size_t)(q->rows * q->cols) * sizeof *y);
    int32_t *codes = malloc((size_t)q->cols * sizeof *codes);
    assert_true(y && codes);
    ht_qtensor_decode(q, 0, q->rows, y);
    for (uint64_t r = 0; r < q->rows; r++) {
        ht_qtensor_codes(q, r, codes);
        for (uint64_t k = 0; k < q->cols; k++) {
            struct ht_affine a = ht_qtensor_grid(q, r, k / q->run);
            float v = x[r * q->cols + k];
            assert_true(ht_scheme_value(&q->scheme, q->levels, &a, codes[k]) == y[r * q->cols + k]);
            if (exact == NULL) {
                int32_t want = ht_scheme_nearest(&q->scheme, q->levels, &a, v);
                assert_int_equal(codes[k], want);
            }
            assert_true(codes[k] >= ht_scheme_lo(&q->scheme) && codes[k] <= ht_scheme_hi(&q->scheme));
        }
    }
    free(y);
    free(codes);
}

static double error_of(const struct ht_qtensor *q, const float *x) {
    size_t n = (size_t)(q->rows * q->cols);
    float *y = malloc(n * sizeof *y);
    double e = 0;
    assert_non_null(y);
    ht_qtensor_decode(q, 0, q->rows, y);
    for (size_t i = 0; i < n; i++) {
        e += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    }
    free(y);
    return e;
}

static void every_format(void **state) {
    (void)state;
    static const char *const parts[] = {":tensor", ":channel", ":token:scale=f16", ":g7", ":g32", ":g64:scale=e8m0", ":g1",
                                        ":g16:nested", ":g32:asym", ":g32:offset", ":channel:narrow"};
    static const uint64_t shapes[][2] = {{1, 1}, {3, 7}, {17, 100}, {2, 483}, {40, 33}};
    static float x[17 * 100 + 483 * 2 + 40 * 33];
    fill(x, sizeof x / sizeof x[0], 1);
    x[5] = 3; /* an outlier */
    size_t tried = 0;
    for (size_t f = 0; f < ht_format_count(); f++) {
        const struct ht_format *format = ht_format_at(f);
        for (size_t p = 0; format->code != NULL && p < sizeof parts / sizeof parts[0]; p++) {
            char text[64];
            struct ht_scheme s;
            snprintf(text, sizeof text, "%s%s", format->name, parts[p]);
            if (ht_scheme_parse(text, &s, NULL) != HT_OK) {
                continue; /* which go together: test_scheme */
            }
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
                struct ht_qtensor q = make(text, shapes[i][0], shapes[i][1]);
                struct ht_qtensor_counts counts = {0};
                ht_err err = {0};
                ASSERT_OK(ht_qtensor_encode(&q, x, NULL, &counts, &err), &err);
                check_encoded(&q, x, NULL);
                double e = error_of(&q, x);
                assert_int_equal(counts.elems, q.rows * q.cols);
                assert_true(fabs(counts.error - e) <= 1e-9 * counts.power);
                /* no worse than writing zeros, but for one bit per element with its one scale */
                assert_true(e <= counts.power * 1.0001 || strcmp(parts[p], ":g16:nested") == 0 || s.zero != HT_ZERO_NONE);
                ht_qtensor_deinit(&q);
                tried++;
            }
        }
    }
    assert_true(tried > 1500);
}

/* Finer granularity, more bits and better-fitting levels lower the error of normal rows with outliers. */
static void ladder(void **state) {
    (void)state;
    enum { ROWS = 32, COLS = 512 };
    static const char *const better[][2] = {
        {"int4:channel", "int4:tensor"}, {"int4:g128", "int4:channel"}, {"int4:g32", "int4:g128"},
        {"int5:g64", "int4:g64"},        {"int8:channel", "int7:channel"}, {"int16:channel", "int9:channel"},
        {"nf4:g64", "fp4:g64"},          {"kmeans4:g64", "nf4:g64"},     {"uint4:g32", "uint3:g32"},
        {"log4:channel", "int4:channel"}, {"pow4:channel", "int4:channel"}, {"kmeans3:channel", "log3:channel"},
        {"ternary:g64", "binary:g64"},   {"fp8_e4m3:channel", "fp8_e5m2:channel"}, {"apot4:g64", "pot4:g64"},
        {"int4:g64", "int4:g64:narrow"},
    };
    static float x[ROWS * COLS];
    fill(x, ROWS * COLS, 2);
    for (size_t i = 0; i < ROWS * COLS; i += 379) {
        x[i] *= 6;
    }
    for (size_t i = 0; i < sizeof better / sizeof better[0]; i++) {
        double e[2];
        for (int k = 0; k < 2; k++) {
            struct ht_qtensor q = make(better[i][k], ROWS, COLS);
            ht_err err = {0};
            ASSERT_OK(ht_qtensor_encode(&q, x, NULL, NULL, &err), &err);
            e[k] = error_of(&q, x);
            ht_qtensor_deinit(&q);
        }
        if (!(e[0] < e[1])) {
            fail_msg("%s: %.6g, %s: %.6g", better[i][0], e[0], better[i][1], e[1]);
        }
    }
}

/* What one scale leaves for the bulk when a few values lie far out: of +-0.5 beside +-10, int8 gives it the codes of
 * -0.5 / (10 / 127) to 0.5 / (10 / 127), 13 of 255; groups of 64 without such a value have them all. */
static void far_values(void **state) {
    (void)state;
    enum { ROWS = 8, COLS = 1024 };
    static float x[ROWS * COLS];
    struct ht_rng rng;
    ht_err err = {0};
    ht_rng_init(&rng, 7);
    for (int i = 0; i < ROWS * COLS; i++) {
        x[i] = i % COLS == 5 ? (i / COLS % 2 == 0 ? 10.0f : -10.0f) : (float)(ht_rng_uniform(&rng) - 0.5);
    }
    static const struct {
        const char *text;
        int codes; /* values that the bulk takes: at least, and for one scale at most */
    } cases[] = {{"int8:tensor", 13}, {"int8:g64", 200}};
    for (int c = 0; c < 2; c++) {
        static float y[ROWS * COLS];
        struct ht_qtensor q = make(cases[c].text, ROWS, COLS);
        ASSERT_OK(ht_qtensor_encode(&q, x, NULL, NULL, &err), &err);
        ht_qtensor_decode(&q, 0, ROWS, y);
        bool seen[256] = {false};
        int distinct = 0;
        float step = c == 0 ? 10.0f / 127 : 0.5f / 127; /* bins of about a step */
        for (int i = 0; i < ROWS * COLS; i++) {
            if (i % COLS < 64) {
                continue; /* the group of the far value */
            }
            int bin = (int)lrintf(y[i] / step) + 128;
            assert_true(bin >= 0 && bin < 256);
            distinct += !seen[bin];
            seen[bin] = true;
        }
        assert_true(distinct >= cases[c].codes && (c == 1 || distinct == cases[c].codes));
        ht_qtensor_deinit(&q);
    }
}

/* Chunks of any size and any number of threads give the same bytes and counts. */
static void streams_and_threads(void **state) {
    (void)state;
    enum { ROWS = 53, COLS = 150 };
    static const char *const list[] = {"int4:g64", "uint3:g32", "int8:tensor", "nf4:g64:nested", "fp8_e4m3:tensor", "uint4:channel:offset"};
    static float x[ROWS * COLS];
    fill(x, ROWS * COLS, 3);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        for (int rounding = HT_ROUND_EVEN; rounding <= HT_ROUND_STOCHASTIC; rounding++) {
            struct ht_qtensor whole = make(list[i], ROWS, COLS);
            struct ht_qtensor_counts counts = {0}, other = {0};
            struct ht_qtensor_options o = {.name = "w", .rounding = (enum ht_rounding)rounding, .seed = 7};
            ht_err err = {0};
            ASSERT_OK(ht_qtensor_encode(&whole, x, &o, &counts, &err), &err);
            struct ht_qtensor parts = make(list[i], ROWS, COLS);
            for (int pass = 0; pass < 2; pass++) {
                for (uint64_t r = 0; r < ROWS; r += 20) {
                    uint64_t n = ROWS - r < 20 ? ROWS - r : 20;
                    ASSERT_OK((pass ? ht_qtensor_round_rows : ht_qtensor_fit_rows)(&parts, r, n, x + r * COLS, &o, &other,
                                                                                &err), &err);
                }
                if (pass == 0) {
                    ASSERT_OK(ht_qtensor_fit_end(&parts, &o, &other, &err), &err);
                }
            }
            assert_true(same_bytes(&whole, &parts));
            assert_int_equal(counts.saturated, other.saturated);
            ht_qtensor_deinit(&parts);
            for (int threads = 2; threads <= 5; threads += 3) {
                struct ht_qtensor_counts threaded = {0};
                struct ht_qtensor many = make(list[i], ROWS, COLS);
                ASSERT_OK(ht_pool_new(threads, &o.pool, &err), &err);
                ASSERT_OK(ht_qtensor_encode(&many, x, &o, &threaded, &err), &err);
                ht_pool_free(o.pool);
                assert_true(same_bytes(&whole, &many));
                assert_memory_equal(&counts, &threaded, sizeof counts);
                ht_qtensor_deinit(&many);
            }
            ht_qtensor_deinit(&whole);
        }
    }
    struct ht_qtensor q = make("binary:tensor", 4, 8);
    ht_err err = {0};
    assert_int_equal(ht_qtensor_fit_rows(&q, 0, 2, x, NULL, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "needs the whole matrix"));
    ht_err_clear(&err);
    assert_int_equal(ht_qtensor_fit_rows(&q, 3, 2, x, NULL, NULL, &err), HT_INVAL);
    ht_qtensor_deinit(&q);
}

/* Codes of one row of int8 with scale 1 under each rule. */
static void codes_of(const char *text, enum ht_rounding rounding, const float *x, size_t n, float scale, int32_t *codes,
                     uint64_t seed) {
    struct ht_qtensor q = make(text, 1, n);
    struct ht_qtensor_options o = {.rounding = rounding, .seed = seed};
    struct ht_affine a = {scale, 0, 0};
    ht_err err = {0};
    ht_qtensor_set_grid(&q, 0, 0, &a);
    ASSERT_OK(ht_qtensor_round_rows(&q, 0, 1, x, &o, NULL, &err), &err);
    ht_qtensor_codes(&q, 0, codes);
    ht_qtensor_deinit(&q);
}

static void rounding_rules(void **state) {
    (void)state;
    enum { N = 9 };
    const float x[N] = {0.5f, 1.5f, -0.5f, -1.5f, 2.4f, -2.4f, 2.6f, 300.0f, -300.0f};
    const int32_t want[3][N] = {
        {0, 2, 0, -2, 2, -2, 3, 127, -128},
        {1, 2, -1, -2, 2, -2, 3, 127, -128},
        {0, 1, -1, -2, 2, -3, 2, 127, -128},
    };
    int32_t codes[N];
    for (int rule = 0; rule < 3; rule++) {
        codes_of("int8:channel", (enum ht_rounding)rule, x, N, 1, codes, 0);
        assert_memory_equal(codes, want[rule], sizeof codes);
    }
    /* tables: between levels 4 and 6 of e2m1 (codes 6, 7), -2 and -3 (12, 13), 0.5 and 1 (1, 2) */
    const float t[4] = {5, -2.5f, 0.75f, 5.9f};
    const int32_t want_t[3][4] = {{6, 12, 2, 7}, {7, 13, 2, 7}, {6, 13, 1, 6}};
    for (int rule = 0; rule < 3; rule++) {
        codes_of("fp4_e2m1:channel", (enum ht_rounding)rule, t, 4, 1, codes, 0);
        assert_memory_equal(codes, want_t[rule], sizeof want_t[rule]);
    }
    /* stochastic: the mean of the codes is the value; another seed, other codes; the same seed, the same */
    enum { MANY = 20000 };
    static float y[MANY];
    static int32_t a[MANY], b[MANY];
    for (int i = 0; i < MANY; i++) {
        y[i] = 3.3f;
    }
    codes_of("int8:channel", HT_ROUND_STOCHASTIC, y, MANY, 1, a, 1);
    codes_of("int8:channel", HT_ROUND_STOCHASTIC, y, MANY, 1, b, 1);
    assert_memory_equal(a, b, sizeof a);
    codes_of("int8:channel", HT_ROUND_STOCHASTIC, y, MANY, 1, b, 2);
    assert_memory_not_equal(a, b, sizeof a);
    double mean = 0, table_mean = 0;
    codes_of("nf4:channel", HT_ROUND_STOCHASTIC, y, MANY, 6, b, 3);
    for (int i = 0; i < MANY; i++) {
        assert_true(a[i] == 3 || a[i] == 4);
        mean += a[i];
        table_mean += 6 * (double)ht_code_level(ht_format_find("nf4"), b[i]);
    }
    assert_true(fabs(mean / MANY - 3.3) < 5 * 0.46 / sqrt(MANY));
    assert_true(fabs(table_mean / MANY - 3.3) < 5 * 0.7 / sqrt(MANY));
}

static void not_finite(void **state) {
    (void)state;
    enum { N = 64 };
    float x[N], y[N];
    fill(x, N, 4);
    x[3] = NAN;
    x[20] = INFINITY;
    x[40] = -INFINITY;
    x[10] = 0.7f;
    x[45] = -0.9f;
    struct ht_qtensor q = make("int8:g32", 2, 32);
    struct ht_qtensor_counts counts = {0};
    struct ht_qtensor_options o = {.name = "blk.0.attn_q"};
    ht_err err = {0};
    assert_int_equal(ht_qtensor_encode(&q, x, &o, &counts, &err), HT_NUMERIC);
    assert_string_equal(err.what, "blk.0.attn_q");
    assert_non_null(strstr(err.msg, "1 NaN and 1 Inf"));
    o.allow_nonfinite = true;
    ht_err_clear(&err);
    ASSERT_OK(ht_qtensor_encode(&q, x, &o, &counts, &err), &err);
    assert_int_equal(counts.nan, 1);
    assert_int_equal(counts.inf, 2);
    ht_qtensor_decode(&q, 0, 2, y);
    assert_true(y[3] == 0 && fabsf(y[20] - 0.7f) < 0.01f && fabsf(y[40] + 0.9f) < 0.01f);
    assert_true(isfinite(counts.error) && counts.error < 1e-3);
    ht_qtensor_deinit(&q);
}

/* Zeros, equal values, one side only, subnormals, huge and tiny numbers: finite and sensible. */
static void hard_rows(void **state) {
    (void)state;
    enum { N = 96 };
    static const char *const list[] = {"int4:g32:scale=f32", "uint4:g32:scale=f32", "uint4:g32:offset:scale=f32", "nf4:g32:scale=f32",
                                       "fp8_e4m3:channel", "int8:tensor", "kmeans4:channel", "log4:channel", "ternary_b3:g32:scale=f32",
                                       "binary:channel", "nf4:g16:nested", "fp4_e2m1:g32:scale=e8m0", "int4:g32:narrow:scale=bf16"};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        for (int kind = 0; kind < 9; kind++) {
            float x[N], y[N];
            double power = 0, error = 0;
            fill(x, N, 10 + (uint64_t)kind);
            for (int k = 0; k < N; k++) {
                const float values[] = {0, 3.7f, -0.01f, x[k] * 1e-42f, x[k] * 1e-30f, x[k] * 1e37f,
                                        k == 50 ? -1e30f : x[k], fabsf(x[k]) + 5, k == 7 ? 1.0f : 0.0f};
                x[k] = values[kind];
                power += (double)x[k] * (double)x[k];
            }
            struct ht_qtensor q = make(list[i], 1, N);
            struct ht_qtensor_counts counts = {0};
            ht_err err = {0};
            ASSERT_OK(ht_qtensor_encode(&q, x, NULL, &counts, &err), &err);
            ht_qtensor_decode(&q, 0, 1, y);
            for (int k = 0; k < N; k++) {
                assert_true(isfinite(y[k]));
                error += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
            }
            if (kind == 0) {
                assert_true(error == 0 && counts.zero_groups > 0);
            }
            if ((kind == 1 || kind == 2) && !(error <= 2e-5 * power) && q.scheme.format->real == NULL) {
                fail_msg("%s: equal values, relative error %g", list[i], error / power);
            }
            if (kind != 3 && kind != 8 && !(error <= power * 1.01)) {
                fail_msg("%s, row %d: relative error %g", list[i], kind, error / power);
            }
            ht_qtensor_deinit(&q);
        }
    }
    /* what f16 scales cannot hold is refused, what vanishes in them is counted */
    float x[4] = {1e7f, 1, 2, 3};
    struct ht_qtensor q = make("int4:g4", 1, 4);
    struct ht_qtensor_counts counts = {0};
    ht_err err = {0};
    assert_int_equal(ht_qtensor_encode(&q, x, NULL, NULL, &err), HT_NUMERIC);
    assert_non_null(strstr(err.msg, "scale=f32"));
    ht_err_clear(&err);
    x[0] = 1e-12f;
    x[1] = x[2] = x[3] = 0;
    ASSERT_OK(ht_qtensor_encode(&q, x, NULL, &counts, &err), &err);
    assert_int_equal(counts.flushed, 1);
    assert_true(error_of(&q, x) == (double)x[0] * (double)x[0]);
    ht_qtensor_deinit(&q);
}

/* The min-max quantizer of textbooks, with codes that fit their type, a range that holds 0, and no division by 0. */
static void naive(const float *x, int n, int bits, int32_t *codes, float *scale, int32_t *zero) {
    float lo = 0, hi = 0;
    int32_t last = (1 << bits) - 1;
    for (int i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *scale = (hi - lo) / (float)last;
    *zero = hi > lo ? (int32_t)rintf(-lo / *scale) : 0;
    for (int i = 0; i < n; i++) {
        int32_t q = hi > lo ? (int32_t)rintf(x[i] / *scale) + *zero : 0;
        codes[i] = q < 0 ? 0 : q > last ? last : q;
    }
}

static void textbook(void **state) {
    (void)state;
    enum { N = 500 };
    for (int bits = 2; bits <= 8; bits += 2) {
        for (int kind = 0; kind < 5; kind++) {
            float x[N], scale;
            int32_t want[N], got[N], zero;
            char text[32];
            ht_err err = {0};
            fill(x, N, 20 + (uint64_t)kind);
            for (int i = 0; i < N; i++) { /* centred, positive, negative, equal, zero */
                const float values[] = {x[i], x[i] + 1, x[i] - 2, 0.3f, 0};
                x[i] = values[kind];
            }
            naive(x, N, bits, want, &scale, &zero);
            snprintf(text, sizeof text, "uint%d:tensor", bits);
            struct ht_qtensor q = make(text, 1, N);
            ASSERT_OK(ht_qtensor_encode(&q, x, NULL, NULL, &err), &err);
            struct ht_affine a = ht_qtensor_grid(&q, 0, 0);
            ht_qtensor_codes(&q, 0, got);
            assert_true(fabsf(a.scale - scale) <= 1e-6f * scale && a.zero == zero);
            for (int i = 0; i < N; i++) { /* the scale may differ in its last bit: ties may fall the other way */
                assert_true(abs(got[i] - want[i]) <= (fabsf(x[i] / scale - floorf(x[i] / scale) - 0.5f) < 1e-4f));
            }
            ht_qtensor_deinit(&q);
        }
    }
}

/* Range searches are the caller's; what they clip is counted. */
static ht_status half_range(const void *ctx, const struct ht_scheme *s, const float *x, const float *weight, size_t n,
                            float *lo, float *hi, ht_err *err) {
    assert_string_equal(ctx, "ctx");
    assert_true(weight != NULL && weight[0] > 0);
    HT_TRY(ht_range_minmax(NULL, s, x, weight, n, lo, hi, err));
    *lo *= 0.5f;
    *hi *= 0.5f;
    return HT_OK;
}

static ht_status no_range(const void *ctx, const struct ht_scheme *s, const float *x, const float *weight, size_t n,
                          float *lo, float *hi, ht_err *err) {
    (void)ctx, (void)s, (void)x, (void)weight, (void)n, (void)lo, (void)hi;
    return ht_fail(err, HT_NOMEM, "range", HT_NO_POS, "none");
}

static void ranges(void **state) {
    (void)state;
    enum { N = 64 };
    static const char *const list[] = {"int4:g32", "int4:tensor", "uint8:channel"};
    float x[N], w[N];
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 32 - 16) / 16; /* -1 .. 15/16 */
        w[i] = (float)(1 + i);
    }
    for (int i = 0; i < 3; i++) {
        struct ht_qtensor q = make(list[i], 2, 32);
        struct ht_qtensor_options o = {.weight = w, .range = half_range, .range_ctx = "ctx"};
        struct ht_qtensor_counts counts = {0};
        ht_err err = {0};
        ASSERT_OK(ht_qtensor_encode(&q, x, &o, &counts, &err), &err);
        assert_true(counts.saturated >= 24 && counts.saturated <= 36);
        o.range = no_range;
        assert_int_equal(ht_qtensor_encode(&q, x, &o, &counts, &err), HT_NOMEM);
        ht_qtensor_deinit(&q);
    }
}

/* Memory running out at any allocation is an error, and nothing leaks (the sanitizer looks). */
static void out_of_memory(void **state) {
    (void)state;
    static float x[64 * 40];
    fill(x, 64 * 40, 6);
    static const char *const list[] = {"nf4:g64:nested", "kmeans4:tensor", "ternary:tensor"};
    for (int i = 0; i < 3; i++) {
        struct ht_scheme s = scheme(list[i]);
        for (uint64_t n = 1; n < 30; n++) {
            struct ht_qtensor q;
            ht_err err = {0};
            ht_mem_fail_at(n, 0);
            ht_status status = ht_qtensor_init(&q, &s, 40, 64, "w", &err);
            if (status == HT_OK) {
                status = ht_qtensor_encode(&q, x, NULL, NULL, &err);
                ht_qtensor_deinit(&q);
            }
            ht_mem_fail_at(0, 0);
            assert_true(status == HT_OK || status == HT_NOMEM);
            assert_int_equal(status, err.code);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),       cmocka_unit_test(every_format), cmocka_unit_test(ladder), cmocka_unit_test(far_values),
        cmocka_unit_test(streams_and_threads),
        cmocka_unit_test(textbook), cmocka_unit_test(rounding_rules), cmocka_unit_test(not_finite), cmocka_unit_test(hard_rows), cmocka_unit_test(ranges),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
