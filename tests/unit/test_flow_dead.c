/* ht-suite: long */
/* Inputs that calibration never saw move: counted in the record, and the weights behind them are still what was asked for. */
#include "test.h"

#include "flow_test.h"
#include "tiny_model.h"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

static void silence(const char *name, uint16_t *w, size_t n) {
    (void)n;
    if (strcmp(name, "model.layers.1.input_layernorm.weight") == 0) {
        w[5] = w[70] = w[71] = 0;
    }
}

static void inputs_that_are_always_zero(void **state) {
    const struct fixture *f = *state;
    const char *folder = in_dir(f, "silent");
    ht_quantize_options o;
    ht_err err = {0};
    char *json;
    mkdir(folder, 0755);
    tiny_copy(folder, silence);
    ht_quantize_options_defaults(&o);
    o.input = folder;
    o.output = in_dir(f, "out");
    o.method = "gptq";
    o.format = "int4:g64";
    o.calib = TEXT;
    o.n_calib = 1;
    o.calib_tokens = 64;
    o.ctx = 64;
    ASSERT_OK(ht_quantize(f->ctx, &o, &json, &err), &err);
    json_t *record = parse(json), *t;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(record, "tensors"), i, t) {
        const char *role = json_string_value(json_object_get(t, "role"));
        const json_t *round = json_object_get(t, "round");
        bool behind = strcmp(role, "attn_q") == 0 || strcmp(role, "attn_k") == 0 || strcmp(role, "attn_v") == 0;
        if (round != NULL && behind && json_integer_value(json_object_get(t, "layer")) == 1) {
            assert_int_equal(json_integer_value(json_object_get(round, "dead_inputs")), 3);
            assert_true(json_number_value(json_object_get(round, "loss")) <=
                        json_number_value(json_object_get(round, "loss_nearest")));
            seen++;
        } else if (round != NULL && behind) {
            assert_int_equal(json_integer_value(json_object_get(round, "dead_inputs")), 0);
        }
    }
    assert_int_equal(seen, 3);
    json_decref(record);
    ASSERT_OK(ht_verify(f->ctx, o.output, NULL, NULL, &err), &err); /* every value is finite */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(inputs_that_are_always_zero, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
