/* Factors that a GGUF file keeps beside its matrices ("blk.0.attn_q.scale", as NVFP4 files do): halving every matrix and
 * adding a factor of 2 changes no logit. */
#include "test.h"

#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "io/container.h"
#include "io/gguf.h"
#include "model/session.h"
#include "tiny_model.h"

enum { MAX = 256, TOKENS = 24 };

static char folder[] = "/tmp/ht-factors-XXXXXX";
static char plain[96], halved[96], broken[96], out[96];

static int setup(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(plain, sizeof plain, "%s/plain.gguf", folder);
    snprintf(halved, sizeof halved, "%s/halved.gguf", folder);
    snprintf(broken, sizeof broken, "%s/broken.gguf", folder);
    snprintf(out, sizeof out, "%s/out", folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(plain);
    unlink(halved);
    unlink(broken);
    return rmdir(folder);
}

static bool has_factor(const struct ht_tensor *t) {
    return t->n_dims == 2 && strncmp(t->name, "token_embd", 10) != 0;
}

/* A copy of `plain` with halved matrices, and a factor of `value` [n] beside each. */
static void write_with_factors(const char *path, float value, uint64_t n) {
    struct ht_source *s;
    struct ht_gguf_writer *w;
    struct ht_tensor tensors[MAX];
    char names[MAX][96];
    float values[4] = {value, value, value, value};
    size_t count = 0;
    ht_err err = {0};
    ASSERT_OK(ht_source_open(plain, &s, &err), &err);
    for (size_t i = 0; i < s->n_tensors; i++) {
        tensors[count++] = s->tensors[i];
        if (has_factor(&s->tensors[i])) {
            snprintf(names[count], sizeof names[0], "%.*sscale", (int)strlen(s->tensors[i].name) - 6,
                     s->tensors[i].name);
            tensors[count] = (struct ht_tensor){
                .name = names[count], .format = ht_format_find("f32"), .n_dims = 1, .ne = {n, 1, 1, 1}, .bytes = 4 * n};
            count++;
        }
        assert_true(count + 2 < MAX);
    }
    ASSERT_OK(ht_gguf_writer_new(path, &s->meta, tensors, count, 0, true, &w, &err), &err);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct ht_tensor *t = &s->tensors[i];
        float *x = ht_mem_alloc(t->bytes);
        memcpy(x, t->data, t->bytes);
        for (uint64_t k = 0; has_factor(t) && k < ht_tensor_elems(t); k++) {
            x[k] *= 0.5f;
        }
        ASSERT_OK(ht_gguf_writer_tensor(w, x, t->bytes, &err), &err);
        if (has_factor(t)) {
            ASSERT_OK(ht_gguf_writer_tensor(w, values, 4 * n, &err), &err);
        }
        ht_mem_free(x);
    }
    ASSERT_OK(ht_gguf_writer_commit(w, &err), &err);
    ht_source_close(s);
}

static float *logits_of(const char *path, struct ht_context *ctx, enum ht_math math, size_t *n) {
    struct ht_model *m;
    struct ht_run *run;
    int32_t ids[TOKENS];
    ht_err err = {0};
    const struct ht_run_options o = {.ctx = TOKENS, .math = math};
    for (int32_t i = 0; i < TOKENS; i++) {
        ids[i] = 17 * i + 5;
    }
    ASSERT_OK(ht_model_load(path, &m, &err), &err);
    ASSERT_OK(ht_run_new(ctx->pool, m, &o, &run, &err), &err);
    *n = (size_t)TOKENS * m->hp.vocab;
    float *x = ht_mem_alloc_array(*n, sizeof *x);
    ASSERT_OK(ht_run_feed(run, ids, TOKENS - 1, TOKENS - 1, x, &err), &err); /* a prompt, then one token */
    ASSERT_OK(ht_run_feed(run, ids + TOKENS - 1, 1, 1, x + (size_t)(TOKENS - 1) * m->hp.vocab, &err), &err);
    ht_run_free(run);
    ht_model_unload(m);
    return x;
}

static void test_factors_are_applied(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    ht_context *ctx = make_context(2, NULL, NULL);
    ht_convert_options c;
    ht_convert_options_defaults(&c);
    c.input = tiny_model();
    c.output = plain;
    c.dtype = "f32";
    c.force = true;
    ASSERT_OK(ht_flow_convert(ctx, &c, NULL, &err), &err);
    write_with_factors(halved, 2.0f, 1);
    for (int math = 0; math < 2; math++) {
        size_t n;
        float *a = logits_of(plain, ctx, math == 0 ? HT_MATH_EXACT : HT_MATH_FAST, &n);
        float *b = logits_of(halved, ctx, math == 0 ? HT_MATH_EXACT : HT_MATH_FAST, &n);
        assert_memory_equal(a, b, n * sizeof *a); /* powers of two: no rounding differs */
        ht_mem_free(a);
        ht_mem_free(b);
    }
    ht_context_free(ctx);
}

/* What would count a factor twice or lose it is refused in words. */
static void test_factors_are_not_lost(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    ht_context *ctx = make_context(1, NULL, NULL);
    const char *const text[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = halved;
    o.output = out;
    o.format = "q4_0";
    o.method = "gptq";
    o.calib = text;
    o.n_calib = 1;
    o.calib_tokens = 64;
    o.ctx = 64;
    assert_int_equal(ht_quantize(ctx, &o, NULL, &err), HT_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "has a factor in a tensor of its own"));
    ht_err_clear(&err);
    ht_convert_options c;
    ht_convert_options_defaults(&c);
    c.input = halved;
    c.output = out;
    c.to = "hf";
    assert_int_equal(ht_flow_convert(ctx, &c, NULL, &err), HT_UNSUPPORTED);
    assert_non_null(strstr(err.msg, ".scale"));
    const struct {
        float value;
        uint64_t n;
        ht_status status;
    } cases[] = {{NAN, 1, HT_NUMERIC}, {INFINITY, 1, HT_NUMERIC}, {2, 2, HT_FORMAT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_model *m;
        write_with_factors(broken, cases[i].value, cases[i].n);
        ht_err_clear(&err);
        assert_int_equal(ht_model_load(broken, &m, &err), cases[i].status);
        assert_non_null(strstr(err.msg, ".scale"));
    }
    ht_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factors_are_applied),
        cmocka_unit_test(test_factors_are_not_lost),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
