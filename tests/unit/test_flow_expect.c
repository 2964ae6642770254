/* What quantize says beforehand: the size of its output for every method, with and without biases; what learning and
 * all of a text cost; and models with NaN. */
#include "small_model.h"

#include "quant/job.h"
#include "quant/method.h"
#include "quant/recipe.h"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

#ifdef HT_SANITIZED
enum { STEP = 5 }; /* a few of the methods */
#else
enum { STEP = 1 };
#endif

struct way {
    const char *method, *recipe;
};

static json_t *quantize(const struct fixture *f, const struct way *way, bool dry, bool calib) {
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    ht_err err = {0};
    char *json = NULL, text[1024];
    o.input = in_dir(f, "model");
    o.output = in_dir(f, "out");
    o.method = way->method;
    if (way->recipe != NULL) {
        snprintf(text, sizeof text, "name: test\nsummary: \"test\"\n%s\n", way->recipe);
        ASSERT_OK(ht_write_file(in_dir(f, "recipe.yaml"), text, strlen(text), true, &err), &err);
        o.recipe = in_dir(f, "recipe.yaml");
    }
    o.calib = TEXT;
    o.n_calib = calib ? 1 : 0;
    o.calib_tokens = calib ? 128 : o.calib_tokens;
    o.ctx = calib ? 32 : 0;
    o.dry_run = dry;
    ASSERT_OK(ht_quantize(f->ctx, &o, &json, &err), &err);
    return parse(json);
}

static json_int_t number(const json_t *d, const char *key) {
    return json_integer_value(json_object_get(d, key));
}

/* Bytes of the tensors' file. */
static uint64_t written(const struct fixture *f) {
    const char *out = in_dir(f, "out");
    char file[300];
    snprintf(file, sizeof file, "%s/model.safetensors", out);
    return ht_path_exists(file) ? file_size(file) : file_size(out);
}

static void remove_output(const struct fixture *f) {
    unlink(in_dir(f, "out"));
    remove_tree(in_dir(f, "out"));
}

/* The plan, then the run: the same bytes in all, and tensor by tensor; or no more, or no less. expected: which of
 * these the plan says. */
static void check_way(const struct fixture *f, const char *name, const char *expected, const struct way *way,
                      bool calib) {
    json_t *dry = quantize(f, way, true, calib), *run = quantize(f, way, false, calib), *row;
    const char *are = json_string_value(json_object_get(json_object_get(dry, "predicted"), "bytes_are"));
    uint64_t bytes = written(f), told = (uint64_t)number(dry, "bytes");
    size_t i;
    assert_int_equal(bytes, number(run, "bytes"));
    assert_string_equal(are, expected);
    bool exact = strcmp(are, "exact") == 0;
    bool holds = exact                          ? told == bytes
                 : strcmp(are, "at most") == 0  ? told >= bytes && told < bytes + bytes / 10
                 : strcmp(are, "at least") == 0 ? told <= bytes
                                                : strcmp(are, "about") == 0;
    if (!holds) {
        fail_msg("%s: %s %llu bytes were predicted, %llu written", name, are, (unsigned long long)told,
                 (unsigned long long)bytes);
    }
    json_array_foreach(json_object_get(run, "tensors"), i, row) {
        const json_t *planned = json_array_get(json_object_get(dry, "tensors"), i);
        const char *tensor = json_string_value(json_object_get(row, "name"));
        assert_string_equal(tensor, json_string_value(json_object_get(planned, "name")));
        if (exact && number(planned, "bytes") != number(row, "bytes")) {
            fail_msg("%s: %s: %lld bytes were predicted, %lld written", name, tensor, (long long)number(planned, "bytes"),
                     (long long)number(row, "bytes"));
        }
    }
    json_decref(dry);
    json_decref(run);
    remove_output(f);
}

/* Data decides of os+ which inputs are moved, of rptq how many clusters are not empty. */
static bool is_open(const char *method) {
    return strcmp(method, "os+") == 0 || strcmp(method, "rptq") == 0;
}

static void test_methods(void **state) {
    const struct fixture *f = *state;
    small_model(in_dir(f, "model"), false, NULL);
    for (size_t i = 0; i < ht_method_count(); i += STEP) {
        const struct ht_method *m = ht_method_at(i);
        struct ht_recipe recipe;
        ht_err err = {0};
        ASSERT_OK(ht_method_recipe(m, &recipe, &err), &err);
        const struct way way = {m->name, NULL};
        check_way(f, m->name, is_open(m->name) ? "at most" : "exact", &way,
                  ht_recipe_needs(&recipe) != HT_NEEDS_NOTHING);
    }
}

/* What methods leave out: shares instead of counts, thresholds, biases, rules that leave inputs or weights alone. */
static const struct {
    const char *are, *recipe;
    bool biases;
} recipes[] = {
    {"exact", "weights: {format: \"int4:g32\", outlier: \"columns:fraction=0.1\"}", false},
    {"exact", "weights: {format: \"int4:g32\", outlier: \"lowrank-moments:rank=100\"}\n"
              "activations: {format: \"int8:tensor\"}\n"
              "rules:\n  - {roles: [ffn_up], activations: keep}\n  - {layers: 1, format: keep}", false},
    {"at least", "weights: {format: \"int4:g32\", outlier: \"sparse:tau=0.000001\"}", false},
    {"exact", "weights: {transform: [center], format: \"int3:g32\"}", true},
    {"exact", "weights: {transform: [center-biases], format: q4_0}", true},
    {"exact", "weights: {transform: [\"shift:always=true,grid=2\"], format: \"int8:channel\"}\n"
              "activations: {format: \"int8:tensor\"}\nrules:\n  - {layers: 0, format: keep}", true},
    {"exact", "weights: {transform: [\"rotate-inputs:output=true\"], range: weighted, format: \"int4:channel\"}\n"
              "rules:\n  - {layers: 1, format: keep}", true},
    {"at most", "weights: {transform: [rotate-inputs, \"cluster:k=5\"], format: \"int8:channel\"}\n"
                "activations: {format: \"uint8:tensor\"}", true},
};

static void test_recipes(void **state) {
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i += STEP) {
        small_model(in_dir(f, "model"), recipes[i].biases, NULL);
        const struct way way = {NULL, recipes[i].recipe};
        check_way(f, recipes[i].recipe, recipes[i].are, &way, true);
    }
}

/* ---- seconds, tokens ---- */

static double predicted(const json_t *dry, const char *key) {
    return json_number_value(json_object_get(json_object_get(dry, "predicted"), key));
}

/* Learning counts by its steps: so many take far longer than rounding, on any machine. */
static void test_learning(void **state) {
    const struct fixture *f = *state;
    small_model(in_dir(f, "model"), false, NULL);
    static const char *const ways[] = {"sign", "adam"};
    const struct way plain = {NULL, "weights: {range: weighted, format: \"int4:g32\"}"};
    json_t *dry = quantize(f, &plain, true, true);
    double nearest = predicted(dry, "seconds");
    json_decref(dry);
    for (size_t i = 0; i < 2; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "weights: {range: weighted, format: \"int4:g32\", round: \"learn:by=%s,steps=100000\"}", ways[i]);
        const struct way way = {NULL, text};
        dry = quantize(f, &way, true, true);
        assert_int_equal(json_array_size(json_object_get(dry, "warnings")), 0);
        if (!(predicted(dry, "seconds") > 10 * nearest && predicted(dry, "seconds") < 1e6 * nearest)) {
            fail_msg("%s: %g s, to nearest %g s", ways[i], predicted(dry, "seconds"), nearest);
        }
        json_decref(dry);
    }
}

static json_t *plan_of_text(const struct fixture *f, const char *text, uint64_t tokens, bool dry) {
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    ht_err err = {0};
    char *json = NULL;
    o.input = in_dir(f, "model");
    o.output = in_dir(f, "out");
    o.method = "smoothquant";
    o.calib = &text;
    o.n_calib = 1;
    o.calib_tokens = tokens;
    o.ctx = 128;
    o.dry_run = dry;
    ASSERT_OK(ht_quantize(f->ctx, &o, &json, &err), &err);
    return parse(json);
}

static json_int_t tokens_of(const json_t *d) {
    return number(json_object_get(d, "calibration"), "tokens");
}

/* All of the text, and a text that is shorter than what is asked for: what the run will see. A long one is guessed. */
static void test_tokens(void **state) {
    const struct fixture *f = *state;
    ht_err err = {0};
    char *data;
    size_t len;
    struct ht_buf many;
    small_model(in_dir(f, "model"), false, NULL);
    ASSERT_OK(ht_read_file(TEXT[0], 1u << 24, &data, &len, &err), &err);
    const char *part = in_dir(f, "part.txt"), *whole = in_dir(f, "whole.txt");
    ASSERT_OK(ht_write_file(part, data, 20000, true, &err), &err);
    json_t *dry = plan_of_text(f, part, 0, true), *run = plan_of_text(f, part, 0, false);
    assert_true(tokens_of(dry) > 2000 && tokens_of(dry) == tokens_of(run));
    json_t *more = plan_of_text(f, part, 1000000, true);
    assert_int_equal(tokens_of(more), tokens_of(run));
    assert_int_equal(json_array_size(json_object_get(more, "warnings")), 1); /* shorter than asked */
    ht_buf_init(&many, 0);
    while (many.len <= 33u << 20) {
        ht_buf_append(&many, data, len);
    }
    ASSERT_OK(ht_write_file(whole, many.data, many.len, true, &err), &err);
    json_t *guess = plan_of_text(f, whole, 0, true);
    double each = (double)tokens_of(run) / 20000, guessed = (double)tokens_of(guess) / (double)many.len;
    assert_true(json_is_true(json_object_get(json_object_get(guess, "calibration"), "tokens_guessed")));
    assert_int_equal(json_array_size(json_object_get(guess, "warnings")), 1);
    assert_true(guessed > each / 1.5 && guessed < each * 1.5);
    assert_true(predicted(guess, "peak_rss_bytes") > predicted(dry, "peak_rss_bytes") + 1e6);
    json_decref(dry);
    json_decref(run);
    json_decref(more);
    json_decref(guess);
    ht_buf_deinit(&many);
    ht_mem_free(data);
    remove_output(f);
}

/* ---- weights that are NaN ---- */

static ht_status plan_of_nan(const struct fixture *f, const char *method, bool allow, bool dry, char **json,
                             ht_err *err) {
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = in_dir(f, "model");
    o.output = in_dir(f, "out");
    o.method = method;
    o.calib = TEXT;
    o.n_calib = strcmp(method, "nf4") != 0 ? 1 : 0;
    o.calib_tokens = o.n_calib > 0 ? 64 : o.calib_tokens;
    o.ctx = o.n_calib > 0 ? 32 : 0;
    o.dry_run = dry;
    o.allow_nonfinite = allow;
    *err = (ht_err){0};
    return ht_quantize(f->ctx, &o, json, err);
}

/* Where they are allowed the plan is made and counts them; where not, a plan that meets them says what the run says. */
static void test_nonfinite(void **state) {
    const struct fixture *f = *state;
    static const char *const names[] = {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
                                        "model.layers.0.input_layernorm.weight",
                                        "model.layers.1.mlp.down_proj.weight"};
    static const char *const methods[] = {"gptq", "imatrix", "percentile", "nf4", "zeroquant"};
    ht_err err, real;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        small_model(in_dir(f, "model"), false, names[i]);
        for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m += STEP) {
            char *json = NULL;
            ASSERT_OK(plan_of_nan(f, methods[m], true, true, &json, &err), &err);
            json_t *dry = parse(json);
            assert_int_equal(number(dry, "nonfinite_zeroed"), 1);
            json_decref(dry);
            if (plan_of_nan(f, methods[m], false, true, NULL, &err) != HT_OK) {
                assert_int_equal(plan_of_nan(f, methods[m], false, false, NULL, &real), HT_NUMERIC);
                assert_string_equal(err.what, names[i]);
                assert_string_equal(err.msg, real.msg);
            } else {
                bool met = (i == 1 || i == 2) && strcmp(methods[m], "imatrix") != 0 && strcmp(methods[m], "nf4") != 0;
                if (met) {
                    fail_msg("%s plans with a NaN in %s", methods[m], names[i]);
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recipes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_learning, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonfinite, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
