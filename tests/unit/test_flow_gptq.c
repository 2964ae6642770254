/* quantize --method gptq: the same bytes for any thread count, rows in place from either container, smaller losses at every
 * linear, refusals in words. */
#include "test.h"

#include "io/container.h"
#include "flow_test.h"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

static json_t *quantize(int threads, const char *input, const char *output, const char *format) {
    ht_context *ctx = make_context(threads, NULL, NULL);
    ht_quantize_options o;
    ht_err err;
    char *json;
    ht_quantize_options_defaults(&o);
    o.input = input;
    o.output = output;
    o.format = format;
    o.method = "gptq";
    o.calib = TEXT;
    o.n_calib = 1;
    o.calib_tokens = 512;
    o.ctx = 128;
    ASSERT_OK(ht_quantize(ctx, &o, &json, &err), &err);
    ht_context_free(ctx);
    return parse(json);
}

/* Tensors whose name starts so. */
static void same_tensors(const char *a_path, const char *b_path, const char *prefix) {
    struct ht_source *a = open_source(a_path), *b = open_source(b_path);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const struct ht_tensor *t = &a->tensors[i], *u = ht_source_find(b, t->name);
        if (strncmp(t->name, prefix, strlen(prefix)) != 0) {
            continue;
        }
        assert_non_null(u);
        assert_ptr_equal(t->format, u->format);
        assert_int_equal(t->bytes, u->bytes);
        if (memcmp(t->data, u->data, t->bytes) != 0) {
            fail_msg("%s: other bytes", t->name);
        }
    }
    ht_source_close(a);
    ht_source_close(b);
}

static void every_linear_loses_less(void **state) {
    const struct fixture *f = *state;
    char *out = ht_path_join(f->dir, "a.gguf");
    json_t *record = quantize(2, TINY, out, "Q4_K_M"), *t;
    size_t i, seen = 0;
    assert_string_equal(json_string_value(json_object_get(record, "method")), "gptq");
    json_array_foreach(json_object_get(record, "tensors"), i, t) {
        const json_t *round = json_object_get(t, "round");
        if (round != NULL) {
            double nearest = json_number_value(json_object_get(round, "loss_nearest"));
            double loss = json_number_value(json_object_get(round, "loss"));
            assert_true(loss > 0 && loss < 0.8 * nearest);
            seen++;
        }
    }
    assert_int_equal(seen, 35);
    json_decref(record);
    ht_mem_free(out);
}

static void threads_and_containers_do_not_matter(void **state) {
    const struct fixture *f = *state;
    char *one = ht_path_join(f->dir, "1.gguf"), *many = ht_path_join(f->dir, "many.gguf");
    char *flat = ht_path_join(f->dir, "flat.gguf"), *other = ht_path_join(f->dir, "other.gguf");
    ht_convert_options c;
    ht_err err;
    json_decref(quantize(1, TINY, one, "q4_0"));
    json_decref(quantize(MANY_THREADS, TINY, many, "q4_0"));
    same_tensors(one, many, "");
    /* Rows of q and k stand in another order in a GGUF file; sums over a head then round otherwise, so that only
     * the first three linears see the very same inputs. */
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = flat;
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
    json_decref(quantize(2, flat, other, "q4_0"));
    same_tensors(one, other, "blk.0.attn_q.");
    same_tensors(one, other, "blk.0.attn_k.");
    same_tensors(one, other, "blk.0.attn_v.");
    ht_mem_free(one);
    ht_mem_free(many);
    ht_mem_free(flat);
    ht_mem_free(other);
}

static void what_it_lacks_is_said(void **state) {
    const struct fixture *f = *state;
    char *out = ht_path_join(f->dir, "no.gguf");
    ht_quantize_options o;
    ht_err err;
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = out;
    o.format = "q4_0";
    o.method = "gptq";
    assert_int_equal(ht_quantize(f->ctx, &o, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "--calib"));
    o.imatrix = "some.gguf";
    assert_int_equal(ht_quantize(f->ctx, &o, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "--calib"));
    o.imatrix = NULL;
    o.calib = TEXT;
    o.n_calib = 1;
    o.calib_tokens = 100;
    assert_int_equal(ht_quantize(f->ctx, &o, NULL, &err), HT_INVAL);
    assert_false(ht_path_exists(out));
    ht_mem_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_linear_loses_less, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_and_containers_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_lacks_is_said, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
