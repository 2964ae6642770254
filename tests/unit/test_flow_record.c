/* What stands in the record beside an output is what was done: each transform at each site, against the output itself. */
#include "turn_test.h"

static json_t *record_of(const struct fixture *f, const char *output, const char *recipe) {
    ht_context *ctx = make_context(2, NULL, NULL);
    char *path = ht_path_join(f->dir, "recipe.yaml"), text[1024], *json;
    ht_quantize_options o;
    ht_err err = {0};
    snprintf(text, sizeof text, "name: test\nsummary: \"test\"\n%s\n", recipe);
    ASSERT_OK(ht_write_file(path, text, strlen(text), true, &err), &err);
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = output;
    o.recipe = path;
    o.calib = TEXT;
    o.n_calib = 1;
    o.calib_tokens = 128;
    o.ctx = 64;
    ASSERT_OK(ht_quantize(ctx, &o, &json, &err), &err);
    ht_context_free(ctx);
    ht_mem_free(path);
    return parse(json);
}

static double number(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) {
        fail_msg("%s: not a number", key);
    }
    return json_number_value(v);
}

/* ---- transforms -------------------------------------------------------------------------------------------- */

static struct ht_model *load(const char *path) {
    struct ht_model_options options = {.tokenizer_optional = true};
    struct ht_model *m;
    ht_err err = {0};
    ASSERT_OK(ht_model_load_with(path, &options, &m, &err), &err);
    return m;
}

static const struct ht_sidecar *side_at(const struct ht_model *m, const json_t *fold) {
    const struct ht_foldsite *site = m->arch->folds;
    while (site->name != NULL && strcmp(site->name, json_string_value(json_object_get(fold, "site"))) != 0) {
        site++;
    }
    assert_non_null(site->name);
    return m->layers[(size_t)number(fold, "layer")].linears[site->consumers[0]]->side;
}

/* Shifts and thresholds: which way each site took, what either lost, and what the output is left with. */
static void test_shift(void **state) {
    const struct fixture *f = *state;
    char *out = ht_path_join(f->dir, "out");
    json_t *record = record_of(f, out, "weights: {transform: [\"shift:grid=4,rows=64\"], range: absmax, format: "
                               "\"int8:channel\"}\nactivations: {format: \"int8:token\"}"), *fold;
    struct ht_model *m = load(out);
    size_t i, moved = 0;
    json_t *folds = json_object_get(record, "folds");
    assert_int_equal(json_array_size(folds), 4 * m->hp.n_layers);
    json_array_foreach(folds, i, fold) {
        const struct ht_sidecar *side = side_at(m, fold);
        bool shifted = json_is_true(json_object_get(fold, "shifted"));
        double loss = number(fold, "loss"), threshold = number(fold, "threshold");
        assert_string_equal(json_string_value(json_object_get(fold, "part")), "shift");
        assert_true(number(fold, "trials") == 8);
        assert_true(loss > 0 && loss <= number(fold, "loss_before"));
        assert_true(loss <= number(fold, shifted ? "loss_unshifted" : "loss_shifted"));
        assert_true(threshold == 0.25 || threshold == 0.5 || threshold == 0.75 || threshold == 1);
        assert_true(number(fold, "least_factor") >= 1 && (threshold == 1) == (number(fold, "largest_factor") == 1));
        /* No linear of this model has a bias: every shift stays. */
        assert_true(shifted == (side != NULL && (side->leaves & HT_LEAVES_IN_SHIFT) != 0));
        if (shifted) {
            assert_true(json_is_true(json_object_get(fold, "at_run_time")));
            assert_true(number(fold, "least_shift") < number(fold, "largest_shift"));
        }
        moved += shifted;
    }
    assert_true(moved > 0 && moved < json_array_size(folds));
    ht_model_unload(m);
    json_decref(record);
    ht_mem_free(out);
}

static void test_cluster(void **state) {
    const struct fixture *f = *state;
    char *out = ht_path_join(f->dir, "out");
    json_t *record = record_of(f, out, "weights: {transform: [\"cluster:k=4\"], range: absmax, format: \"int8:channel\"}\n"
                               "activations: {range: minmax, format: \"uint8:tensor\"}"), *fold;
    struct ht_model *m = load(out);
    size_t i;
    json_t *folds = json_object_get(record, "folds");
    assert_int_equal(json_array_size(folds), 4 * m->hp.n_layers);
    json_array_foreach(folds, i, fold) {
        const struct ht_sidecar *side = side_at(m, fold);
        assert_string_equal(json_string_value(json_object_get(fold, "part")), "cluster");
        assert_true(number(fold, "clusters") == side->n_clusters && side->n_clusters > 1);
        assert_true(number(fold, "channels") == (double)side->cols);
        assert_true(json_is_true(json_object_get(fold, "at_run_time")) == ((side->leaves & HT_LEAVES_PERM) != 0));
    }
    ht_model_unload(m);
    json_decref(record);
    ht_mem_free(out);
}

/* ---- before and after -------------------------------------------------------------------------------------- */

#define FORMAT "format: \"int4:g64\""

/* Layer 0 sees the same inputs whatever the recipe: rounding to nearest loses the same at each of its linears, and so do
 * outputs have the same size, in units of the model's own, whatever transforms have multiplied and turned. */
static const struct {
    const char *weights;
    double left;  /* share of nearest's loss, at most, at each linear of layer 0 */
    bool same;    /* inputs are not shifted: the signal is the same */
} ways[] = {
    {"weights: {range: weighted, " FORMAT ", round: feedback}", 0.5, true},
    {"weights: {transform: [search], range: own, " FORMAT "}", 1.1, true},
    {"weights: {transform: [clip], range: own, " FORMAT "}", 1.1, true},
    {"weights: {transform: [{part: migrate, all: 1}], range: own, " FORMAT ", round: feedback}", 0.5, true},
    {"weights: {transform: [rotate, {part: rotate-inputs, output: 1}], range: own, " FORMAT ", round: feedback}", 0.5, true},
    {"weights: {transform: [rotate, equalize, search, rotate-inputs], range: own, " FORMAT ", round: feedback}", 0.5, true},
    {"weights: {transform: [\"shift:grid=2,rows=64,always=1\", rotate-inputs, \"cluster:k=4\"], range: own, " FORMAT
     ", round: feedback}\nactivations: {range: minmax, format: \"uint8:tensor\"}", 0.5, false},
};
enum { WAYS = sizeof ways / sizeof ways[0], LINEARS = 7 };

#ifdef HT_SANITIZED
enum { STEP = 2 };
#else
enum { STEP = 1 };
#endif

static void test_before(void **state) {
    const struct fixture *f = *state;
    double nearest[LINEARS] = {0}, signal[LINEARS] = {0};
    char *out = ht_path_join(f->dir, "out");
    for (size_t k = 0; k < WAYS; k += STEP) {
        char recipe[512]; /* the other layers stay as they are, for speed */
        snprintf(recipe, sizeof recipe, "%s\nrules:\n  - {layers: 1-4, format: keep}", ways[k].weights);
        json_t *record = record_of(f, out, recipe), *t;
        size_t i, n = 0;
        json_array_foreach(json_object_get(record, "tensors"), i, t) {
            const json_t *r = json_object_get(t, "round");
            if (r == NULL || json_integer_value(json_object_get(t, "layer")) != 0) {
                continue;
            }
            double before = number(r, "loss_nearest"), loss = number(r, "loss");
            double all = loss / pow(10, number(r, "output_error_db") / 10);
            assert_true(n < LINEARS);
            nearest[n] = k == 0 ? before : nearest[n];
            signal[n] = k == 0 ? all : signal[n];
            if (fabs(before - nearest[n]) > 1e-3 * nearest[n] || !(loss <= ways[k].left * before) ||
                (ways[k].same && fabs(all - signal[n]) > 1e-3 * signal[n])) {
                fail_msg("%s, %s: nearest %g, %g before; loss %g; outputs %g, %g before", ways[k].weights,
                         json_string_value(json_object_get(t, "name")), before, nearest[n], loss, all, signal[n]);
            }
            n++;
        }
        assert_int_equal(n, LINEARS);
        json_decref(record);
        remove_tree(out);
    }
    ht_mem_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shift, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cluster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_before, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
