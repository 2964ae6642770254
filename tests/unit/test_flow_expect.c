/* What quantize says beforehand of the size of its output: every method, on a model with and without biases. */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recipes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
