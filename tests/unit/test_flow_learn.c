/* ht-suite: long */
/* Learned rounding through the engine: the layers' errors fall as promised, stops are gone
 * on from to the same bytes, threads and memory change nothing, and what cannot learn is refused before work starts. */
#include "test.h"

#include "flow_test.h"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

static int seen, stop_at; /* calls in stage "round"; 0: never stop */

static int stop(void *user, const ht_progress *p) {
    (void)user;
    return strcmp(p->stage, "round") == 0 && ++seen == stop_at;
}

static ht_status quantize(int threads, const char *output, const char *recipe, uint64_t memory, char **json, ht_err *err) {
    ht_context *ctx = make_context(threads, stop, NULL);
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = output;
    o.recipe = recipe;
    o.memory_bytes = memory;
    o.calib = TEXT;
    o.n_calib = 1;
    o.calib_tokens = 128;
    o.ctx = 64;
    seen = 0;
    ht_status status = ht_quantize(ctx, &o, json, err);
    ht_context_free(ctx);
    return status;
}

#ifdef HT_SANITIZED
#define STRIDE 3 /* the first and the last case */
#else
#define STRIDE 1
#endif
#define LAYERS 3 /* that are quantized: enough for a stop in each */
#define KEEP "rules: [{layers: 3-4, format: keep}]\n"

/* A recipe of the scratch folder. */
static const char *recipe(const struct fixture *f, const char *weights, const char *more) {
    static int next;
    char name[32], text[1024];
    ht_err err = {0};
    snprintf(name, sizeof name, "r%d.yaml", next++);
    snprintf(text, sizeof text, "name: try\nweights: {%s}\n%s", weights, more);
    const char *path = in_dir(f, name);
    ASSERT_OK(ht_write_file(path, text, strlen(text), true, &err), &err);
    return path;
}

static const char *part_of(const char *output, const char *name, char text[512]) {
    snprintf(text, 512, "%s%s", output, name);
    return text;
}

static void same_file(const char *a, const char *b) {
    char *x, *y;
    size_t nx, ny;
    ht_err err = {0};
    ASSERT_OK(ht_read_file(a, 1u << 30, &x, &nx, &err), &err);
    ASSERT_OK(ht_read_file(b, 1u << 30, &y, &ny, &err), &err);
    assert_int_equal(nx, ny);
    assert_memory_equal(x, y, nx);
    ht_mem_free(x);
    ht_mem_free(y);
}

static double number(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}


struct promise {
    const char *weights, *more;
    double at_most; /* sum of the layers' losses, of what learning starts from */
};

/* Every layer learned, none got worse, and together they gained. */
static void layers_gain(void **state) {
    static const struct promise promises[] = {
        {"format: 'int4:g64', round: {part: learn, start: nearest, steps: 12}", KEEP, 0.85},
        {"format: 'uint4:g128', round: {part: learn, start: nearest, steps: 12}", KEEP, 0.85},
        {"format: q4_k, round: {part: learn, start: nearest, by: adam, steps: 12, error: plain}", KEEP, 0.95},
        {"format: 'int3:g64', round: {part: learn, by: adam, start: nearest, lr: 0.05, steps: 12}",
         "activations: {format: 'int8:token'}\n" KEEP, 0.97},
    };
    const struct fixture *f = *state;
    ht_err err = {0};
    stop_at = 0;
    for (size_t i = 0; i < sizeof promises / sizeof promises[0]; i += STRIDE) {
        const struct promise *p = &promises[i];
        char *json, name[16];
        snprintf(name, sizeof name, "gain%zu", i);
        ASSERT_OK(quantize(2, in_dir(f, name), recipe(f, p->weights, p->more), 0, &json, &err), &err);
        json_t *record = parse(json), *row;
        double start = 0, loss = 0;
        size_t k, learned = 0;
        json_array_foreach(json_object_get(record, "tensors"), k, row) {
            const json_t *l = json_object_get(json_object_get(row, "round"), "learned");
            if (l != NULL) {
                assert_true(number(l, "layer_loss") <= number(l, "layer_loss_start"));
                assert_true(number(l, "layer_loss") < number(l, "layer_signal"));
                start += number(l, "layer_loss_start");
                loss += number(l, "layer_loss");
                learned++;
            }
        }
        assert_int_equal(learned, LAYERS * 7);
        if (!(loss <= p->at_most * start)) {
            fail_msg("%s: %.4g of %.4g", p->weights, loss, start);
        }
        json_decref(record);
    }
}

/* The penalty's part: each matrix gains on its own inputs. */
static void matrices_gain(void **state) {
    const struct fixture *f = *state;
    char *json;
    ht_err err = {0};
    stop_at = 0;
    ASSERT_OK(quantize(2, in_dir(f, "relax"), recipe(f, "format: q4_0, range: weighted, round: {part: relax, steps: 60}", KEEP), 0,
                       &json, &err), &err);
    json_t *record = parse(json), *row;
    size_t k, n = 0;
    json_array_foreach(json_object_get(record, "tensors"), k, row) {
        const json_t *r = json_object_get(row, "round");
        if (r != NULL) {
            assert_true(number(r, "loss") < 0.75 * number(r, "loss_nearest"));
            n++;
        }
    }
    assert_int_equal(n, LAYERS * 7);
    json_decref(record);
}

static void stopped_and_gone_on(void **state) {
    static const char *const weights[] = {"format: 'int4:g64', round: {part: learn, steps: 3, checks: 1}",
                                          "format: q4_0, round: {part: learn, start: nearest, by: adam, steps: 3, checks: 1}"};
    static const char *const more[] = {KEEP, KEEP "calibration: {sequential: false}\n"};
    static const char *const parts[] = {"/model.safetensors", ""};
    const struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        const char *how = recipe(f, weights[i], more[i]), *whole = in_dir(f, i == 0 ? "w0" : "w1");
        const char *out = in_dir(f, i == 0 ? "o0" : "o1");
        char a[512], b[512];
        ht_err err = {0};
        int stopped = 0;
        stop_at = 0;
        ASSERT_OK(quantize(2, whole, how, i == 0 ? 0 : 1, NULL, &err), &err);
        for (stop_at = 9;; stop_at += 10, stopped++) { /* inside of learning, too */
            ht_err_clear(&err);
            ht_status status = quantize(1 + stopped % 2 * 2, out, how, 0, NULL, &err);
            if (status == HT_OK) {
                break;
            }
            if (status != HT_CANCELLED) {
                fail_msg("%s: %s", err.what, err.msg);
            }
        }
        assert_true(stopped >= 2);
        same_file(part_of(whole, parts[i], a), part_of(out, parts[i], b));
    }
}

static void refusals(void **state) {
    static const struct {
        const char *weights, *more, *said;
    } cases[] = {
        {"format: iq3_xxs, round: learn", "", "vectors"},
        {"format: iq2_s, round: relax", "", "vectors"},
        {"format: Q2_K_S, round: relax", "rules: [{roles: [ffn_up], format: iq3_s}]\n", "vectors"},
        {"format: 'int4:g64', round: learn", "rules: [{roles: [ffn_up], round: {part: learn, steps: 9}}]\n", "learn together"},
        {"format: 'int4:g64', round: feedback, outlier: columns",
         "rules: [{roles: [ffn_up], round: learn, outlier: none}]\n", "columns"},
    };
    const struct fixture *f = *state;
    stop_at = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ht_err err = {0};
        ht_status status = quantize(1, in_dir(f, "refused"), recipe(f, cases[i].weights, cases[i].more), 0, NULL, &err);
        if (status == HT_OK || strstr(err.msg, cases[i].said) == NULL) {
            fail_msg("%s: %s %s", cases[i].weights, err.what, err.msg);
        }
        assert_int_equal(seen, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layers_gain, setup, teardown),
        cmocka_unit_test_setup_teardown(matrices_gain, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped_and_gone_on, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
