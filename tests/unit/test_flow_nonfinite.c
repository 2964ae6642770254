/* ht-suite: long */
/* NaN and Inf weights in every way of quantizing: refused before any work, under the name that the source has for the
 * tensor; or 0, which gives the bytes of a model whose weights are 0 there. */
#include "test.h"

#include "flow_test.h"
#include "tiny_model.h"

#define UP "model.layers.1.mlp.up_proj.weight"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

static uint16_t put; /* bits of the damaged weights */

static void one_weight(const char *name, uint16_t *w, size_t n) {
    if (strcmp(name, UP) == 0) {
        assert_true(n > 100);
        w[100] = put;
    }
}

static void many_weights(const char *name, uint16_t *w, size_t n) {
    one_weight(name, w, n);
    static const char *const more[] = {"model.embed_tokens.weight", "model.layers.2.post_attention_layernorm.weight",
                                       "model.layers.0.self_attn.q_proj.weight"};
    for (size_t i = 0; i < 3; i++) {
        w[7] = strcmp(name, more[i]) == 0 ? put : w[7];
    }
}

/* Folders with NaN, and with zeros in their place. */
static void damage(const struct fixture *f, void (*change)(const char *, uint16_t *, size_t)) {
    static const char *const names[] = {"bad", "zeros"};
    for (size_t i = 0; i < 2; i++) {
        const char *folder = in_dir(f, names[i]);
        mkdir(folder, 0755);
        put = i == 0 ? 0x7fff : 0; /* NaN in bf16 and f16 */
        tiny_copy(folder, change);
    }
}

struct way {
    const char *method, *format;
    bool calib;
};

static ht_status quantize(const struct fixture *f, const struct way *way, const char *input, const char *output,
                          bool allow, char **json, ht_err *err) {
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = in_dir(f, input);
    o.output = in_dir(f, output);
    o.method = way->method;
    o.format = way->format;
    o.allow_nonfinite = allow;
    o.calib = TEXT;
    if (way->calib) {
        o.n_calib = 1;
        o.calib_tokens = 64;
        o.ctx = 64;
    }
    return ht_quantize(f->ctx, &o, json, err);
}

static void same_values(const char *a_path, const char *b_path) {
    struct ht_source *a = open_source(a_path), *b = open_source(b_path);
    size_t n = 0, m = 0;
    const struct ht_tensor *x = ht_source_stored(a, &n), *y = ht_source_stored(b, &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(x[i].name, y[i].name);
        if (memcmp(x[i].data, y[i].data, x[i].bytes) != 0) {
            fail_msg("%s: not the bytes of a model with zeros", x[i].name);
        }
    }
    ht_source_close(a);
    ht_source_close(b);
}

static void one_way(const struct fixture *f, const struct way *way, size_t count) {
    ht_err err = {0};
    char *json = NULL;
    if (quantize(f, way, "bad", "out", false, NULL, &err) != HT_NUMERIC) {
        fail_msg("%s: %s: %s", way->method, err.what, err.msg);
    }
    assert_string_equal(err.what, count == 1 ? UP : "model.embed_tokens.weight");
    assert_non_null(strstr(err.msg, "--allow-nonfinite"));
    assert_false(ht_path_exists(in_dir(f, "out")));
    assert_false(ht_path_exists(in_dir(f, "out.work")));
    ht_err_clear(&err);
    ASSERT_OK(quantize(f, way, "bad", "out", true, &json, &err), &err);
    json_t *record = parse(json);
    assert_int_equal(json_integer_value(json_object_get(record, "nonfinite_zeroed")), count);
    char *warnings = json_dumps(json_object_get(record, "warnings"), 0);
    assert_non_null(strstr(warnings, "NaN or Inf weights became 0"));
    ht_mem_free(warnings);
    json_t *t;
    size_t i, in_rows = 0;
    json_array_foreach(json_object_get(record, "tensors"), i, t) {
        in_rows += (size_t)json_integer_value(json_object_get(t, "nonfinite_zeroed"));
    }
    assert_int_equal(in_rows, count);
    json_decref(record);
    ASSERT_OK(quantize(f, way, "zeros", "clean", false, NULL, &err), &err);
    same_values(in_dir(f, "out"), in_dir(f, "clean"));
    remove_tree(in_dir(f, "out"));
    unlink(in_dir(f, "out"));
    remove_tree(in_dir(f, "clean"));
    unlink(in_dir(f, "clean"));
}

static void one_nan(void **state) {
    const struct fixture *f = *state;
    static const struct way ways[] = {{"rtn", "int4:g64", false}, {"nf4", NULL, false}, {"imatrix", "q4_0", true},
                                      {"gptq", "q4_0", true}, {"smoothquant", NULL, true}};
    damage(f, one_weight);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        one_way(f, &ways[i], 1);
    }
}

/* In the embedding, a norm and a matrix of the first layer too. */
static void many_nan(void **state) {
    const struct fixture *f = *state;
    static const struct way gptq = {"gptq", "int4:g64", true};
    damage(f, many_weights);
    one_way(f, &gptq, 4);
}

static void last_norm(const char *name, uint16_t *w, size_t n) {
    w[n - 1] = strcmp(name, "model.norm.weight") == 0 ? put : w[n - 1];
}

/* A norm that a transform takes out of the plan before anything is read. */
static void nan_in_a_folded_norm(void **state) {
    const struct fixture *f = *state;
    static const struct way quarot = {"quarot", NULL, true};
    ht_err err = {0};
    damage(f, last_norm);
    assert_int_equal(quantize(f, &quarot, "bad", "out", false, NULL, &err), HT_NUMERIC);
    assert_string_equal(err.what, "model.norm.weight");
    ht_err_clear(&err);
    ASSERT_OK(quantize(f, &quarot, "bad", "out", true, NULL, &err), &err);
    ASSERT_OK(quantize(f, &quarot, "zeros", "clean", false, NULL, &err), &err);
    same_values(in_dir(f, "out"), in_dir(f, "clean"));
    remove_tree(in_dir(f, "out"));
    remove_tree(in_dir(f, "clean"));
}

static ht_status collect_matrix(const struct fixture *f, const char *model, const char *output, bool allow,
                                char **json, ht_err *err) {
    ht_imatrix_options o;
    ht_imatrix_options_defaults(&o);
    o.model = in_dir(f, model);
    o.output = in_dir(f, output);
    o.texts = TEXT;
    o.n_texts = 1;
    o.tokens = o.ctx = 64;
    o.allow_nonfinite = allow;
    return ht_imatrix_collect(f->ctx, &o, json, err);
}

static ht_status collect_stats(const struct fixture *f, const char *model, const char *output, bool allow, char **json,
                               ht_err *err) {
    ht_stats_options o;
    ht_stats_options_defaults(&o);
    o.model = in_dir(f, model);
    o.output = in_dir(f, output);
    o.calib = TEXT;
    o.n_calib = 1;
    o.tokens = o.ctx = 64;
    o.allow_nonfinite = allow;
    return ht_stats_collect(f->ctx, &o, json, err);
}

/* Collecting: refused before the pass, in the source's words, or the file of a model with zeros. */
static void collecting(void **state) {
    const struct fixture *f = *state;
    static ht_status (*const ways[])(const struct fixture *, const char *, const char *, bool, char **, ht_err *) = {
        collect_matrix, collect_stats};
    static const char *const names[][2] = {{"bad.gguf", "zeros.gguf"}, {"bad.safetensors", "zeros.safetensors"}};
    damage(f, many_weights);
    for (size_t i = 0; i < 2; i++) {
        ht_err err = {0};
        char *json = NULL;
        assert_int_equal(ways[i](f, "bad", names[i][0], false, NULL, &err), HT_NUMERIC);
        assert_string_equal(err.what, "model.embed_tokens.weight");
        assert_non_null(strstr(err.msg, "--allow-nonfinite"));
        assert_false(ht_path_exists(in_dir(f, names[i][0])));
        ht_err_clear(&err);
        ASSERT_OK(ways[i](f, "bad", names[i][0], true, &json, &err), &err);
        json_t *record = parse(json), *warnings = json_object_get(record, "warnings");
        assert_int_equal(json_array_size(warnings), 1);
        assert_string_equal(json_string_value(json_array_get(warnings, 0)), "4 NaN or Inf weights became 0");
        json_decref(record);
        ASSERT_OK(ways[i](f, "zeros", names[i][1], false, NULL, &err), &err);
        same_values(in_dir(f, names[i][0]), in_dir(f, names[i][1]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(collecting, setup, teardown),
        cmocka_unit_test_setup_teardown(one_nan, setup, teardown),
        cmocka_unit_test_setup_teardown(many_nan, setup, teardown),
        cmocka_unit_test_setup_teardown(nan_in_a_folded_norm, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
