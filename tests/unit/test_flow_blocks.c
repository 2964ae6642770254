/* ht-suite: long */
/* The driver of blocks: what an interrupted run has finished is gone on from, to the same bytes; codes and sidecars in a
 * folder do not depend on threads; hidden states in a file change nothing; transforms that fold keep the function. */
#include "test.h"

#include "flow_test.h"
#include "io/container.h"

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

static int seen, stop_at; /* calls in stage "round"; 0: never stop */

static int stop(void *user, const ht_progress *p) {
    (void)user;
    return strcmp(p->stage, "round") == 0 && ++seen == stop_at;
}

static ht_status quantize(int threads, const char *output, const char *method, const char *format, uint64_t memory,
                          char **json, ht_err *err) {
    ht_context *ctx = make_context(threads, stop, NULL);
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = output;
    o.format = format;
    o.method = method;
    o.memory_bytes = memory;
    if (strcmp(method, "rtn") != 0) {
        o.calib = TEXT;
        o.n_calib = 1;
        o.calib_tokens = 128;
        o.ctx = 64;
    }
    seen = 0;
    ht_status status = ht_quantize(ctx, &o, json, err);
    ht_context_free(ctx);
    return status;
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

/* Stops at many points; each run goes on from the one before; the file is as if nothing had happened. */
static void resumed(const struct fixture *f, const char *method, const char *format, const char *name) {
    char *whole = ht_path_join(f->dir, "whole"), *out = ht_path_join(f->dir, "out");
    char *work = ht_path_join(f->dir, "out.work");
    char a[512], b[512];
    ht_err err = {0};
    int stopped = 0;
    char *json = NULL;
    stop_at = 0;
    ASSERT_OK(quantize(2, whole, method, format, 0, &json, &err), &err);
    json_t *d = parse(json);
    assert_null(json_object_get(d, "resumed"));
    json_decref(d);
    for (stop_at = 3;; stop_at += 6) {
        ht_err_clear(&err);
        ht_status status = quantize(stop_at % 3 + 1, out, method, format, 0, &json, &err);
        if (status == HT_OK) {
            break;
        }
        if (status != HT_CANCELLED) {
            fail_msg("%s: %s", err.what, err.msg);
        }
        assert_true(ht_path_exists(work));
        assert_false(ht_path_exists(out));
        stopped++;
    }
    assert_true(stopped >= 2);
    assert_false(ht_path_exists(work));
    d = parse(json); /* the last run says what it found */
    json_int_t layers = json_integer_value(json_object_get(json_object_get(d, "resumed"), "layers"));
    assert_true(layers >= 1 && layers <= 5);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(d, "resumed"), "of")), 5);
    json_decref(d);
    stop_at = 0;
    snprintf(a, sizeof a, "%s%s", whole, name);
    snprintf(b, sizeof b, "%s%s", out, name);
    same_file(a, b);
    ht_mem_free(whole);
    ht_mem_free(out);
    ht_mem_free(work);
}

static void stopped_and_gone_on_gguf(void **state) {
    resumed(*state, "gptq", "q4_0", "");
}

static void stopped_and_gone_on_folder(void **state) {
    resumed(*state, "gptq", "int4:g64", "/model.safetensors");
}

/* A work file that is cut or changed anywhere is gone on from where it is whole, or started anew; one whose mark is
 * another could be anybody's, and is kept. */
static void damaged_work(void **state) {
    const struct fixture *f = *state;
    char *whole = ht_path_join(f->dir, "w"), *out = ht_path_join(f->dir, "o"), *work = ht_path_join(f->dir, "o.work");
    char *data;
    size_t len;
    ht_err err = {0};
    stop_at = 0;
    ASSERT_OK(quantize(2, whole, "gptq", "q4_0", 0, NULL, &err), &err);
    stop_at = 20;
    assert_int_equal(quantize(2, out, "gptq", "q4_0", 0, NULL, &err), HT_CANCELLED);
    ht_err_clear(&err);
    ASSERT_OK(ht_read_file(work, 1u << 30, &data, &len, &err), &err);
    const size_t at[] = {7, 70, 1000, len / 2, len - 1};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        data[at[i]] ^= 1;
        ASSERT_OK(ht_write_file(work, data, i % 2 == 0 ? len : at[i] + 1, true, &err), &err);
        data[at[i]] ^= 1;
        stop_at = 0;
        ASSERT_OK(quantize(1, out, "gptq", "q4_0", 0, NULL, &err), &err);
        same_file(whole, out);
        assert_int_equal(remove(out), 0);
    }
    data[0] ^= 1;
    ASSERT_OK(ht_write_file(work, data, len, true, &err), &err);
    assert_int_equal(quantize(1, out, "gptq", "q4_0", 0, NULL, &err), HT_EXISTS);
    assert_true(ht_path_exists(work));
    ht_mem_free(data);
    ht_mem_free(whole);
    ht_mem_free(out);
    ht_mem_free(work);
}

static void threads_and_memory_do_not_matter(void **state) {
    const struct fixture *f = *state;
    char *one = ht_path_join(f->dir, "1"), *seven = ht_path_join(f->dir, "7"), a[512], b[512], *json;
    ht_err err = {0};
    stop_at = 0;
    ASSERT_OK(quantize(1, one, "gptq", "int3:g32", 0, NULL, &err), &err);
    ASSERT_OK(quantize(7, seven, "gptq", "int3:g32", 1, &json, &err), &err);
    json_t *record = parse(json);
    assert_true(json_is_true(json_object_get(json_object_get(record, "calibration"), "hidden_states_in_file")));
    json_decref(record);
    snprintf(a, sizeof a, "%s/model.safetensors", one);
    snprintf(b, sizeof b, "%s/model.safetensors", seven);
    same_file(a, b);
    ht_mem_free(one);
    ht_mem_free(seven);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stopped_and_gone_on_gguf, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped_and_gone_on_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_work, setup, teardown),
        cmocka_unit_test_setup_teardown(threads_and_memory_do_not_matter, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
