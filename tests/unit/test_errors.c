/* inspect --errors and list --curve: figures against the same matrices taken apart by other code, any number of
 * threads, samples, refusals. */
#include "test.h"

#include <math.h>

#include "base/rng.h"
#include "flow/errors.h"
#include "flow_test.h"
#include "io/container.h"
#include "tensor/qtensor.h"

static ht_errors_options options_of(const char *path) {
    ht_errors_options o;
    ht_errors_options_defaults(&o);
    o.path = path;
    return o;
}

static json_t *run(ht_context *ctx, const ht_errors_options *o) {
    ht_err err;
    char *json = NULL;
    json_t *d = NULL;
    ASSERT_OK(ht_errors(ctx, o, &json, &err), &err);
    ASSERT_OK(ht_json_parse(json, strlen(json), 0, "errors", &d, &err), &err);
    ht_string_free(json);
    return d;
}

static const json_t *of_tensor(const json_t *d, const char *name) {
    size_t i;
    json_t *t;
    json_array_foreach(json_object_get(d, "tensors"), i, t) {
        if (strcmp(json_string_value(json_object_get(t, "name")), name) == 0) {
            return json_object_get(t, "errors");
        }
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static double number(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

#define NAME "model.layers.1.mlp.down_proj.weight"

/* The squared error of one matrix through a whole qtensor: other code, other order. */
static double by_qtensor(const char *scheme, const float *x, uint64_t rows, uint64_t cols, double *power) {
    struct ht_scheme s;
    struct ht_qtensor q;
    struct ht_qtensor_counts counts = {0};
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(scheme, &s, &err), &err);
    ASSERT_OK(ht_qtensor_init(&q, &s, rows, cols, NULL, &err), &err);
    struct ht_qtensor_options o = {0};
    o.range = ht_range_minmax;
    ASSERT_OK(ht_qtensor_encode(&q, x, &o, &counts, &err), &err);
    float *y = ht_mem_alloc_array(rows * cols, sizeof *y);
    double sum = 0;
    ht_qtensor_decode(&q, 0, rows, y);
    *power = 0;
    for (uint64_t i = 0; i < rows * cols; i++) {
        sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        *power += (double)x[i] * x[i];
    }
    ht_mem_free(y);
    ht_qtensor_deinit(&q);
    return sum;
}

static void test_figures_against_whole_matrices(void **state) {
    struct fixture *f = *state;
    static const char *const formats[] = {"int4:g64",       "uint4:g32",         "int8:channel", "int8:tensor", "nf4:g64",
                                          "uint5:g128:offset", "fp8_e4m3:channel", "int4:channel:narrow", "q4_0", "q5_1"};
    static const char *const ranges[] = {"minmax"};
    enum { N = sizeof formats / sizeof formats[0] };
    ht_err err = {0};
    struct ht_source *source = NULL;
    ASSERT_OK(ht_source_open(TINY, &source, &err), &err);
    const struct ht_tensor *t = ht_source_find(source, NAME);
    assert_non_null(t);
    uint64_t cols = t->ne[0], rows = ht_tensor_rows(t);
    float *x = ht_mem_alloc_array(rows * cols, sizeof *x), *y = ht_mem_alloc_array(cols, sizeof *y);
    unsigned char *bytes = ht_mem_alloc(cols * 8);
    t->format->decode(t->data, x, rows * cols);
    ht_errors_options o = options_of(TINY);
    o.formats = formats;
    o.n_formats = N;
    o.ranges = ranges;
    o.n_ranges = 1;
    o.rows = 0;
    json_t *d = run(f->ctx, &o);
    const json_t *errors = of_tensor(d, NAME);
    assert_int_equal(json_array_size(errors), N);
    for (size_t i = 0; i < N; i++) {
        const json_t *e = json_array_get(errors, i);
        double want = 0, power = 0;
        if (strchr(formats[i], ':') != NULL) {
            want = by_qtensor(formats[i], x, rows, cols, &power) / power;
        } else {
            const struct ht_format *format = ht_format_find(formats[i]);
            for (uint64_t r = 0; r < rows; r++) {
                format->encode(x + r * cols, NULL, bytes, cols);
                format->decode(bytes, y, cols);
                for (uint64_t k = 0; k < cols; k++) {
                    double v = x[r * cols + k];
                    want += (v - y[k]) * (v - y[k]);
                    power += v * v;
                }
            }
            want /= power;
        }
        if (!(fabs(number(e, "relative_error") - want) < 1e-6 * want)) {
            fail_msg("%s: error %.9g, the whole matrix has %.9g", formats[i], number(e, "relative_error"), want);
        }
        assert_true(fabs(number(e, "snr_db") + 10 * log10(want)) < 1e-4);
        assert_true(fabs(number(e, "gap_bits") - (number(e, "bits_per_weight") + 0.5 * log2(want))) < 1e-6);
        assert_true(number(e, "clipped_share") < 0.02); /* minmax clips what rounding its scale pushes out */
    }
    assert_true(fabs(number(json_array_get(errors, 0), "bits_per_weight") - (4 + 16.0 / 64)) < 1e-9);
    json_decref(d);
    ht_mem_free(x);
    ht_mem_free(y);
    ht_mem_free(bytes);
    ht_source_close(source);
}

/* On every matrix: the searched range is at least as good as the others, minmax clips nothing to speak of. */
static void test_ranges_compared(void **state) {
    struct fixture *f = *state;
    static const char *const formats[] = {"int4:g64", "int8:tensor"};
    static const char *const ranges[] = {"mse", "minmax", "percentile:99", "entropy"};
    ht_errors_options o = options_of(TINY);
    o.formats = formats;
    o.n_formats = 2;
    o.ranges = ranges;
    o.n_ranges = 4;
    o.rows = 48;
    json_t *d = run(f->ctx, &o), *t;
    size_t i;
    json_array_foreach(json_object_get(d, "tensors"), i, t) {
        const json_t *errors = json_object_get(t, "errors");
        assert_int_equal(json_array_size(errors), 8);
        for (size_t k = 0; k < 8; k++) {
            const json_t *e = json_array_get(errors, k), *best = json_array_get(errors, k / 4 * 4);
            bool stored = json_is_true(json_object_get(e, "stored"));
            assert_int_equal(stored, k != 3); /* 64 values are too few for a histogram */
            assert_true(!stored || number(best, "relative_error") <= number(e, "relative_error") * 1.0001);
        }
        assert_true(number(json_array_get(errors, 6), "clipped_share") > 0.005); /* one in a hundred is cut */
        assert_int_equal(json_integer_value(json_object_get(t, "rows_measured")), 48);
    }
    const json_t *total = json_array_get(json_object_get(d, "formats"), 3);
    assert_int_equal(json_integer_value(json_object_get(total, "tensors_skipped")),
                     json_array_size(json_object_get(d, "tensors")));
    json_decref(d);
}

static void test_same_for_any_threads(void **state) {
    (void)state;
    char *text[2];
    static const char *const formats[] = {"q4_k", "int4:g128", "int8:tensor", "kmeans3:g64"};
    for (int k = 0; k < 2; k++) {
        ht_context *ctx = make_context(k == 0 ? 1 : 3, NULL, NULL);
        ht_err err;
        ht_errors_options o = options_of(TINY);
        o.formats = formats;
        o.n_formats = 4;
        o.rows = 40;
        ASSERT_OK(ht_errors(ctx, &o, &text[k], &err), &err);
        ht_context_free(ctx);
    }
    assert_string_equal(text[0], text[1]);
    ht_string_free(text[0]);
    ht_string_free(text[1]);
}

static void test_totals_are_means(void **state) {
    struct fixture *f = *state;
    static const char *const formats[] = {"q4_k"};
    ht_errors_options o = options_of(TINY);
    o.formats = formats;
    o.n_formats = 1;
    o.rows = 64;
    json_t *d = run(f->ctx, &o), *t;
    double sum = 0, weights = 0;
    size_t i;
    json_array_foreach(json_object_get(d, "tensors"), i, t) {
        const json_t *e = json_array_get(json_object_get(t, "errors"), 0);
        double n = number(t, "rows") * number(t, "cols");
        sum += n * number(e, "relative_error");
        weights += n;
    }
    const json_t *total = json_array_get(json_object_get(d, "formats"), 0);
    assert_true(fabs(number(total, "mean_relative_error") - sum / weights) < 1e-9);
    assert_true(fabs(number(d, "weights") - weights) < 0.5);
    assert_true(json_array_size(json_object_get(total, "roles")) == 8);
    json_decref(d);
}

static void expect(struct fixture *f, const ht_errors_options *o, ht_status want, const char *words) {
    ht_err err;
    char *json = NULL;
    ht_status got = ht_errors(f->ctx, o, &json, &err);
    if (got != want || strstr(err.msg, words) == NULL) {
        fail_msg("status %d, expected %d; '%s' should say '%s'", got, want, err.msg, words);
    }
    assert_null(json);
}

static void test_refused(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *format, *range, *output, *words;
        ht_status status;
    } rows[] = {
        {"q4_9", NULL, NULL, "did you mean", HT_INVAL},     {"int4", NULL, NULL, "int4:g64", HT_INVAL},
        {"i8", NULL, NULL, "not stored", HT_INVAL},         {"int4:z9", NULL, NULL, "z9", HT_INVAL},
        {"int4:g64", "maxmin", NULL, "maxmin", HT_INVAL},   {"int4:g64", "wmse", NULL, "not for weights", HT_INVAL},
        {"int4:g64", "moving-average", NULL, "not for weights", HT_INVAL},
        {"q4_0", NULL, "x.png", ".svg", HT_INVAL},          {"q4_0", NULL, "/no/such/folder/x.svg", "folder", HT_NOTFOUND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ht_errors_options o = options_of(TINY);
        o.formats = &rows[i].format;
        o.n_formats = 1;
        o.ranges = &rows[i].range;
        o.n_ranges = rows[i].range != NULL;
        o.output = rows[i].output;
        expect(f, &o, rows[i].status, rows[i].words);
    }
    ht_errors_options o = options_of("/no/such/model");
    expect(f, &o, HT_NOTFOUND, "");
}

static int stop(void *user, const ht_progress *p) {
    (void)user;
    return p->done > 0;
}

static void test_cancelled(void **state) {
    (void)state;
    ht_context *ctx = make_context(2, stop, NULL);
    ht_err err;
    char *json = NULL;
    ht_errors_options o = options_of(TINY);
    assert_int_equal(ht_errors(ctx, &o, &json, &err), HT_CANCELLED);
    assert_null(json);
    ht_context_free(ctx);
}

/* What the definition of each format says: a float of m mantissa bits errs by at most 2^-(m + 1) of a value down to its
 * subnormals, an integer by half a step whatever the size. */
static void test_precision_against_size(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double db, down_to; /* least precision, kept to this many dB below the largest value */
    } floats[] = {{"f16", 66.2, 178}, {"bf16", 48.1, 150}, {"fp8_e4m3", 24.0, 86}, {"fp8_e5m2", 18.0, 170}};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        const struct ht_format *f = ht_format_find(floats[i].name);
        double least = INFINITY;
        for (double x = 0; x <= floats[i].down_to; x += 1.5) {
            least = fmin(least, ht_precision_db(f, x));
        }
        assert_true(least >= floats[i].db && least < floats[i].db + 1.3);
    }
    const struct ht_format *int8 = ht_format_find("int8"), *int4 = ht_format_find("int4");
    double fall = ht_precision_db(int8, 0) - ht_precision_db(int8, 40 * log10(2));
    assert_true(fabs(fall - 40 * log10(2)) < 1.5);
    assert_true(fabs(ht_precision_db(int8, 0) - ht_precision_db(int4, 0) - 25.2) < 0.3);
    assert_true(ht_precision_db(int8, 50) <= 0); /* all become 0 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_against_whole_matrices), cmocka_unit_test(test_ranges_compared),
        cmocka_unit_test(test_same_for_any_threads),           cmocka_unit_test(test_totals_are_means),
        cmocka_unit_test(test_refused),                        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_precision_against_size),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
