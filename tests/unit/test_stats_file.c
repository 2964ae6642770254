/* Statistics as a file: what a pass saw comes back; merged files are one pass over both texts; quantizing with a file
 * gives the bytes of a pass; other models, lacking statistics and damaged files are refused in words. */
#include "test.h"

#include <math.h>

#include "calib/calib.h"
#include "calib/stats_file.h"
#include "flow_test.h"
#include "io/bytes.h"
#include "quant/method.h"

static const char *const ONE[] = {HT_MODEL_DIR "/text/persuasion.txt"};
static const char *const BOTH[] = {HT_TEST_DIR "/golden/token/edge.jsonl", HT_TEST_DIR "/golden/token/special.jsonl"};

static const char *collect(const struct fixture *f, const char *name, const char *const *texts, size_t n,
                           uint64_t tokens) {
    const char *path = in_dir(f, name);
    ht_stats_options o;
    ht_err err = {0};
    ht_stats_options_defaults(&o);
    o.model = TINY;
    o.output = path;
    o.calib = texts;
    o.n_calib = n;
    o.tokens = tokens;
    o.ctx = 64;
    o.gram = true;
    o.force = true;
    ASSERT_OK(ht_stats_collect(f->ctx, &o, NULL, &err), &err);
    return path;
}

static struct ht_stats_file *open_file(const char *path) {
    struct ht_stats_file *s;
    ht_err err = {0};
    ASSERT_OK(ht_stats_file_open(path, &s, &err), &err);
    return s;
}

static struct ht_stats_values load(const struct ht_stats_file *s, size_t group) {
    struct ht_stats_values v;
    ht_err err = {0};
    ASSERT_OK(ht_stats_file_load(s, &s->groups[group], HT_STATS_KEPT, &v, &err), &err);
    return v;
}

static uint64_t elems_of(const struct ht_stats *s, size_t kind) {
    return kind == 6 ? s->cols * s->cols : kind == 7 ? s->n_sample * s->cols : s->cols;
}

static void test_what_a_pass_saw(void **state) {
    struct fixture *f = *state;
    ht_err err = {0};
    struct ht_stats_file *s = open_file(collect(f, "a.st", ONE, 1, 256));
    struct ht_model *m;
    struct ht_calib_windows w;
    struct ht_calib_layers *l;
    const struct ht_calib_layers_options o = {.needs = HT_STATS_KEPT, .math = HT_MATH_EXACT};
    ASSERT_OK(ht_model_load(TINY, &m, &err), &err);
    ASSERT_OK(ht_calib_windows(m, ONE, 1, 256, 64, &w, &err), &err);
    ASSERT_OK(ht_calib_layers_new_with(f->ctx, m, &w, &o, &l, &err), &err);
    assert_int_equal(s->n, 4 * m->hp.n_layers);
    assert_int_equal(s->has, HT_STATS_KEPT);
    assert_null(ht_stats_file_find(s, "output.weight"));
    for (int32_t layer = 0; layer < 2; layer++) {
        ASSERT_OK(ht_calib_layers_collect(l, layer, &err), &err);
        for (int role = 0; role < HT_ROLES; role++) {
            const struct ht_linear *linear = m->layers[layer].linears[role];
            const struct ht_stats *seen = linear != NULL ? ht_calib_layers_stats(l, linear) : NULL;
            if (seen == NULL) {
                continue;
            }
            const struct ht_stats_group *g = ht_stats_file_find(s, linear->name);
            assert_non_null(g);
            struct ht_stats_values v = load(s, (size_t)(g - s->groups));
            assert_true(v.stats.tokens == seen->tokens && v.stats.n_sample == seen->n_sample);
            assert_memory_equal(v.stats.gram, seen->gram, seen->cols * seen->cols * sizeof(float));
            assert_memory_equal(v.stats.mean, seen->mean, seen->cols * sizeof(float));
            assert_memory_equal(v.stats.absmax, seen->absmax, seen->cols * sizeof(float));
            assert_memory_equal(v.stats.sample, seen->sample, seen->n_sample * seen->cols * sizeof(float));
            ht_stats_values_deinit(&v);
        }
        ASSERT_OK(ht_calib_layers_advance(l, layer, &err), &err);
    }
    ht_calib_layers_free(l);
    ht_calib_windows_deinit(&w);
    ht_model_unload(m);
    ht_stats_file_close(s);
}

static void test_merged_is_one_pass(void **state) {
    struct fixture *f = *state;
    ht_err err = {0};
    char *json = NULL;
    const char *parts[2] = {collect(f, "m0.st", BOTH, 1, 0), collect(f, "m1.st", BOTH + 1, 1, 0)};
    const char *merged = in_dir(f, "merged.st");
    ASSERT_OK(ht_stats_merge(f->ctx, parts, 2, merged, false, &json, &err), &err);
    json_t *record = parse(json);
    assert_int_equal(json_array_size(json_object_get(record, "runs")), 2);
    assert_int_equal(json_array_size(json_object_get(record, "warnings")), 0);
    json_decref(record);
    struct ht_stats_file *a = open_file(merged), *b = open_file(collect(f, "both.st", BOTH, 2, 0));
    assert_true(a->n == b->n && a->has == b->has && a->groups[0].tokens == b->groups[0].tokens);
    for (size_t g = 0; g < a->n; g++) {
        struct ht_stats_values x = load(a, g), y = load(b, g);
        for (size_t k = 0; k < 7; k++) { /* samples are spread otherwise */
            double scale = 0;
            for (uint64_t i = 0; i < elems_of(&x.stats, k); i++) {
                scale = fmax(scale, fabs((double)y.room[k][i]));
            }
            for (uint64_t i = 0; i < elems_of(&x.stats, k); i++) {
                assert_true(fabs((double)x.room[k][i] - y.room[k][i]) <= 1e-6 * scale);
            }
        }
        assert_true(x.stats.n_sample > 64 && x.stats.n_sample <= HT_STATS_SAMPLE);
        ht_stats_values_deinit(&x);
        ht_stats_values_deinit(&y);
    }
    ht_stats_file_close(a);
    ht_stats_file_close(b);
    /* The same text twice is told. */
    const char *twice[2] = {parts[0], parts[0]};
    ASSERT_OK(ht_stats_merge(f->ctx, twice, 2, merged, true, &json, &err), &err);
    record = parse(json);
    assert_int_equal(json_array_size(json_object_get(record, "warnings")), 1);
    json_decref(record);
}

/* ---- quantize --stats ------------------------------------------------------------------------------------------ */

static const char RECIPE[] = "name: apart\nweights: {transform: [%s], range: %s, format: \"%s\", round: %s}\n"
                             "rules: [{roles: [ffn_gate, ffn_up, ffn_down], format: keep}]\n"
                             "calibration: {tokens: 256, window: 64, sequential: %s}\n";

static const char *recipe(const struct fixture *f, const char *transform, const char *range, const char *format,
                          const char *round, const char *sequential) {
    char text[512];
    const char *path = in_dir(f, "recipe.yaml");
    int n = snprintf(text, sizeof text, RECIPE, transform, range, format, round, sequential);
    ht_err err = {0};
    ASSERT_OK(ht_write_file(path, text, (size_t)n, true, &err), &err);
    return path;
}

static ht_status quantize(const struct fixture *f, const char *rec, const char *method, const char *stats,
                          const char *output, char **json, ht_err *err) {
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = in_dir(f, output);
    o.recipe = rec;
    o.method = method;
    
    o.embd = "f32"; /* a pass sees the embedding as the file will hold it, statistics as it was */
    o.force = true;
    o.stats = stats;
    if (stats == NULL) {
        o.calib = ONE;
        o.n_calib = 1;
    }
    return ht_quantize(f->ctx, &o, json, err);
}


static void test_same_bytes_as_a_pass(void **state) {
    struct fixture *f = *state;
    ht_err err = {0};
    char *json = NULL;
    const char *stats = collect(f, "a.st", ONE, 1, 256);
    const char *rec = recipe(f, "none", "weighted", "q4_0", "feedback:descents=0", "false");
    ASSERT_OK(quantize(f, rec, NULL, NULL, "pass.gguf", NULL, &err), &err);
    ASSERT_OK(quantize(f, rec, NULL, stats, "file.gguf", &json, &err), &err);
    struct ht_source *a = open_source(in_dir(f, "pass.gguf")), *b = open_source(in_dir(f, "file.gguf"));
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        assert_memory_equal(a->tensors[i].data, b->tensors[i].data, a->tensors[i].bytes);
    }
    ht_source_close(a);
    ht_source_close(b);
    json_t *record = parse(json), *c = json_object_get(record, "calibration");
    assert_int_equal(json_integer_value(json_object_get(c, "tokens")), 256);
    assert_string_equal(json_string_value(json_object_get(c, "stats")), "a.st");
    json_decref(record);
    /* A method's row is taken without its sequence, and the record says so. */
    ASSERT_OK(quantize(f, NULL, "percentile", stats, "row", &json, &err), &err);
    record = parse(json);
    c = json_object_get(record, "calibration");
    assert_true(json_is_false(json_object_get(c, "sequential")));
    assert_non_null(strstr(json_string_value(json_object_get(record, "recipe")), "sequential: false"));
    json_decref(record);
}

/* Folds divide inputs: the statistics follow to what a second pass would see. */
static void test_folds_are_followed(void **state) {
    struct fixture *f = *state;
    ht_err err = {0};
    char *json[2] = {NULL, NULL};
    const char *rec = recipe(f, "\"migrate:all=1\"", "weighted", "int4:g64", "feedback:descents=0", "false");
    const char *stats = collect(f, "a.st", ONE, 1, 256);
    ASSERT_OK(quantize(f, rec, NULL, NULL, "pass", &json[0], &err), &err);
    ASSERT_OK(quantize(f, rec, NULL, stats, "file", &json[1], &err), &err);
    json_t *a = parse(json[0]), *b = parse(json[1]), *row;
    size_t i, n = 0;
    json_array_foreach(json_object_get(a, "tensors"), i, row) {
        const json_t *other = json_object_get(json_array_get(json_object_get(b, "tensors"), i), "round");
        const json_t *own = json_object_get(row, "round");
        if (own != NULL) {
            double x = json_number_value(json_object_get(own, "loss"));
            double y = json_number_value(json_object_get(other, "loss"));
            assert_true(x > 0 && fabs(x - y) < 0.02 * x);
            x = json_number_value(json_object_get(own, "loss_nearest"));
            y = json_number_value(json_object_get(other, "loss_nearest"));
            bool kept = strcmp(json_string_value(json_object_get(row, "format")), "int4:g64") != 0;
            assert_true((kept ? x == 0 : x > 0) && fabs(x - y) <= 0.01 * x); /* their own type: nothing lost before */
            n++;
        }
    }
    assert_true(n >= 4);
    json_decref(a);
    json_decref(b);
}


static void test_refusals(void **state) {
    struct fixture *f = *state;
    ht_err err = {0};
    const char *stats = collect(f, "a.st", ONE, 1, 256);
    const char *rec = recipe(f, "none", "weighted", "q4_0", "feedback", "true");
    assert_int_equal(quantize(f, rec, NULL, stats, "x.gguf", NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "sequential: false"));
    /* The file lacks what the method needs. */
    const char *few = in_dir(f, "few.st"), *methods[] = {"smoothquant"};
    ht_stats_options so;
    ht_stats_options_defaults(&so);
    so.model = TINY;
    so.output = few;
    so.calib = ONE;
    so.n_calib = 1;
    so.tokens = so.ctx = 64;
    so.methods = methods;
    so.n_methods = 1;
    ht_err_clear(&err);
    ASSERT_OK(ht_stats_collect(f->ctx, &so, NULL, &err), &err);
    assert_int_equal(quantize(f, NULL, "gptq", few, "x", NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "gram"));
    /* Nothing in common: a second file of other statistics only. */
    methods[0] = "imatrix";
    so.output = in_dir(f, "square.st");
    ht_err_clear(&err);
    ASSERT_OK(ht_stats_collect(f->ctx, &so, NULL, &err), &err);
    const char *apart[] = {few, so.output};
    assert_int_equal(ht_stats_merge(f->ctx, apart, 2, in_dir(f, "x.st"), false, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "in common"));
    /* A method that needs nothing; an unknown one; both ways at once. */
    methods[0] = "rtn";
    so.force = true;
    assert_int_equal(ht_stats_collect(f->ctx, &so, NULL, &err), HT_INVAL);
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = in_dir(f, "x.gguf");
    o.stats = stats;
    o.calib = ONE;
    o.n_calib = 1;
    assert_int_equal(ht_quantize(f->ctx, &o, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "one of"));
}

static int at_once(void *user, const ht_progress *p) {
    (void)user;
    (void)p;
    return 1;
}

/* Each method: collecting for it is refused in words, or quantizing with what was collected is not: all that can be
 * refused is refused before work starts, so a run that is stopped at its first sign of work was accepted. */
static void test_every_method(void **state) {
    struct fixture *f = *state;
    ht_context *impatient = make_context(2, at_once, NULL);
    size_t served = 0, refused = 0;
    for (size_t i = 0; i < ht_method_count(); i++) {
        const char *name = ht_method_at(i)->name;
        ht_err err = {0};
        ht_stats_options so;
        ht_stats_options_defaults(&so);
        so.model = TINY;
        so.output = in_dir(f, "method.st");
        so.calib = ONE;
        so.n_calib = 1;
        so.tokens = so.ctx = 16;
        so.methods = &name;
        so.n_methods = 1;
        so.force = true;
        ht_status status = ht_stats_collect(f->ctx, &so, NULL, &err);
        if (status != HT_OK) {
            bool said = strstr(err.msg, "needs no statistics") != NULL || strstr(err.msg, "--calib TEXT") != NULL;
            if (!said || (status != HT_UNSUPPORTED && status != HT_INVAL)) {
                fail_msg("%s: %s: %s", name, err.what, err.msg);
            }
            refused++;
            continue;
        }
        ht_quantize_options o;
        ht_quantize_options_defaults(&o);
        o.input = TINY;
        o.output = in_dir(f, "planned");
        o.method = name;
        o.stats = so.output;
        if (ht_quantize(impatient, &o, NULL, &err) != HT_CANCELLED) {
            fail_msg("%s: collected for, and then: %s: %s", name, err.what, err.msg);
        }
        served++;
    }
    ht_context_free(impatient);
    assert_in_range(served, 12, ht_method_count());
    assert_in_range(refused, 9, ht_method_count());
}

/* The same for a recipe file that wants its layers one after the other; and what no file holds. */
static void test_collect_for_files(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *transform, *round, *sequential, *says;
    } rows[] = {
        {"none", "feedback", "false", NULL},
        {"none", "feedback", "true", "sequential: false"},
        {"rotate", "feedback", "false", "transform rotate changes inputs"},
        {"none", "learn", "false", "gradients"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ht_err err = {0};
        const char *name = recipe(f, rows[i].transform, "weighted", "q4_0", rows[i].round, rows[i].sequential);
        ht_stats_options so;
        ht_stats_options_defaults(&so);
        so.model = TINY;
        so.output = in_dir(f, "file.st");
        so.calib = ONE;
        so.n_calib = 1;
        so.tokens = so.ctx = 16;
        so.methods = &name;
        so.n_methods = 1;
        so.force = true;
        ht_status status = ht_stats_collect(f->ctx, &so, NULL, &err);
        assert_int_equal(status == HT_OK, rows[i].says == NULL);
        assert_int_equal(ht_path_exists(so.output), status == HT_OK);
        if (rows[i].says != NULL) {
            assert_non_null(strstr(err.msg, rows[i].says));
        } else {
            ASSERT_OK(quantize(f, name, NULL, so.output, "file.gguf", NULL, &err), &err);
            unlink(so.output);
        }
    }
}

/* ---- damaged files --------------------------------------------------------------------------------------------- */

/* A file of one group of two inputs, put together by hand. */
static size_t build(char *file, const char *doc, const char *tensors, const float *x, size_t n) {
    char header[4096], escaped[2048];
    size_t k = 0;
    for (const char *p = doc; *p != '\0'; p++) {
        if (*p == '"') {
            escaped[k++] = '\\';
        }
        escaped[k++] = *p;
    }
    escaped[k] = '\0';
    int len = snprintf(header, sizeof header, "{\"__metadata__\":{\"" HT_STATS_KEY "\":\"%s\"}%s%s}", escaped,
                       tensors[0] != '\0' ? "," : "", tensors);
    ht_le_store(file, (uint64_t)len, 8);
    memcpy(file + 8, header, (size_t)len);
    memcpy(file + 8 + len, x, n * sizeof *x);
    return 8 + (size_t)len + n * sizeof *x;
}

#define HEAD "{\"version\":1,\"model\":{},\"runs\":[],\"groups\":["
#define GROUP "{\"cols\":2,\"tokens\":3,\"sample\":0,\"linears\":[\"a\",\"b\"]}"
#define SQUARE "\"a.mean_square\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static void test_malformed(void **state) {
    (void)state;
    static const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const struct {
        const char *doc, *tensors;
        size_t n;
        ht_status status;
        const char *says;
    } rows[] = {
        {HEAD GROUP "]}", SQUARE, 2, HT_OK, NULL},
        {"[]", SQUARE, 2, HT_FORMAT, "version"},
        {"{\"version\":2}", SQUARE, 2, HT_UNSUPPORTED, "version 2"},
        {"{\"version\":1}", SQUARE, 2, HT_FORMAT, "groups"},
        {"{", SQUARE, 2, HT_FORMAT, "JSON"},
        {HEAD "]}", SQUARE, 2, HT_FORMAT, "groups"},
        {HEAD "7]}", SQUARE, 2, HT_FORMAT, "no object"},
        {HEAD "{\"cols\":2,\"tokens\":3,\"linears\":[]}]}", SQUARE, 2, HT_FORMAT, "linears"},
        {HEAD "{\"cols\":2,\"tokens\":3,\"linears\":[1]}]}", SQUARE, 2, HT_FORMAT, "no string"},
        {HEAD "{\"cols\":2,\"tokens\":3,\"linears\":[\"a\",\"a\"]}]}", SQUARE, 2, HT_FORMAT, "two groups"},
        {HEAD "{\"cols\":2,\"tokens\":0,\"linears\":[\"a\"]}]}", SQUARE, 2, HT_FORMAT, "above 0"},
        {HEAD "{\"cols\":2,\"tokens\":-1,\"linears\":[\"a\"]}]}", SQUARE, 2, HT_FORMAT, "tokens"},
        {HEAD "{\"cols\":9999999999,\"tokens\":1,\"linears\":[\"a\"]}]}", SQUARE, 2, HT_FORMAT, "cols"},
        {HEAD "{\"cols\":3,\"tokens\":3,\"linears\":[\"a\"]}]}", SQUARE, 2, HT_FORMAT, "expected 3 values"},
        {HEAD GROUP "]}", "", 0, HT_FORMAT, "no statistics"},
        {HEAD GROUP "]}", SQUARE ",\"c.mean\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}", 4, HT_FORMAT,
         "no group"},
        {HEAD GROUP "]}", "\"a.min\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", 2, HT_FORMAT, "not both"},
        {HEAD GROUP "]}", "\"a.mean\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}", 2, HT_FORMAT, "f32"},
        {HEAD GROUP "]}", "\"a.gram\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}", 4, HT_FORMAT,
         "expected 3 values"},
        {HEAD GROUP "]}", "\"a.sample\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", 2, HT_FORMAT,
         "expected 0 values"},
    };
    char file[8192];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ht_err err = {0};
        struct ht_stats_file *s;
        size_t n = build(file, rows[i].doc, rows[i].tensors, x, rows[i].n);
        assert_int_equal(ht_stats_file_parse(file, n, "file", &s, &err), rows[i].status);
        if (rows[i].says != NULL) {
            assert_non_null(strstr(err.msg, rows[i].says));
            assert_null(s);
        }
        for (size_t cut = 0; cut < n; cut++) { /* cut short anywhere */
            struct ht_stats_file *t;
            ht_err why = {0};
            assert_int_not_equal(ht_stats_file_parse(file, cut, "file", &t, &why), HT_OK);
            assert_true(t == NULL && why.msg[0] != '\0');
        }
        ht_stats_file_close(s);
    }
}

static void test_values_that_cannot_be(void **state) {
    (void)state;
    static const float bad[][2] = {{1, NAN}, {INFINITY, 1}, {1, -1}};
    char file[4096];
    for (size_t i = 0; i < 3; i++) {
        ht_err err = {0};
        struct ht_stats_file *s;
        struct ht_stats_values v;
        size_t n = build(file, HEAD GROUP "]}", SQUARE, bad[i], 2);
        ASSERT_OK(ht_stats_file_parse(file, n, "file", &s, &err), &err);
        assert_int_equal(ht_stats_file_load(s, &s->groups[0], HT_STATS_KEPT, &v, &err), HT_NUMERIC);
        assert_non_null(strstr(err.msg, "a.mean_square"));
        ht_stats_file_close(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_pass_saw, setup, teardown),
        cmocka_unit_test_setup_teardown(test_merged_is_one_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_bytes_as_a_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folds_are_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_method, setup, teardown),
        cmocka_unit_test_setup_teardown(test_collect_for_files, setup, teardown),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_values_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
