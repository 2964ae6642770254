/* Transforms through the driver: what is folded, and what is left to the run time, computes what the model did before,
 * for every architecture. */
#include "turn_test.h"

#define TOKENS 24

/* f32 logits of some tokens, [TOKENS, V]; *n: how many. ids NULL: random ones. */
static float *logits_of(const char *path, const int32_t *ids, size_t *n) {
    struct ht_model_options options = {.tokenizer_optional = true};
    struct ht_run_options o = {.ctx = TOKENS, .math = HT_MATH_EXACT, .f32_cache = true};
    struct ht_model *model;
    struct ht_pool *pool;
    struct ht_run *run;
    struct ht_rng rng;
    int32_t own[TOKENS];
    ht_err err = {0};
    ASSERT_OK(ht_pool_new(2, &pool, &err), &err);
    ASSERT_OK(ht_model_load_with(path, &options, &model, &err), &err);
    ht_rng_init(&rng, 11);
    for (size_t i = 0; i < TOKENS; i++) {
        own[i] = ids != NULL ? ids[i] : (int32_t)ht_rng_below(&rng, model->hp.vocab);
    }
    *n = (size_t)TOKENS * model->hp.vocab;
    float *logits = ht_mem_alloc_aligned(*n, sizeof *logits);
    assert_non_null(logits);
    ASSERT_OK(ht_run_new(pool, model, &o, &run, &err), &err);
    ASSERT_OK(ht_run_feed(run, own, TOKENS, TOKENS, logits, &err), &err);
    ht_run_free(run);
    ht_model_unload(model);
    ht_pool_free(pool);
    return logits;
}

/* max |a - b| / max |b| of the logits of two files. */
static double difference(const char *a, const char *b) {
    size_t n, m;
    float *x = logits_of(a, NULL, &n), *y = logits_of(b, NULL, &m);
    double d = 0, top = 0;
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]));
        d = fmax(d, fabs((double)x[i] - (double)y[i]));
        top = fmax(top, fabs((double)y[i]));
    }
    ht_mem_free_aligned(x);
    ht_mem_free_aligned(y);
    return d / top;
}

/* ---- the function stays ------------------------------------------------------------------------------------ */

static const struct {
    const char *input, *recipe, *output;
    bool calib;
} kept[] = {
    {TINY, "weights: {transform: [rotate], format: f32}", "a.gguf", false},
    {TINY, "weights: {transform: [{part: rotate, stream: 0}], format: f32}", "b.gguf", false},
    {TINY, "weights: {transform: [rotate, {part: rotate-inputs, output: 1}], format: f32}", "c", false},
    {GOLDEN "llama3rope-rand", "weights: {transform: [rotate, rotate-inputs], format: f32}", "d", false},
    {GOLDEN "qwen2-rand", "weights: {transform: [rotate, rotate-inputs], format: f32}", "e", false},
    {TINY, "weights: {transform: [\"shift:always=1,grid=1\"], format: f32}", "g", true},
    {TINY, "weights: {transform: [\"order:by=sort\"], format: \"int16:g32:scale=f32\"}", "o", true},
    {TINY, "weights: {transform: [\"shift:always=1,grid=1\", {part: rotate-inputs, output: 1}, cluster], format: \"int16:g32:scale=f32\"}\n"
           "activations: {format: \"int16:token\"}", "h", true},
    {GOLDEN "qwen3-rand", "weights: {transform: [rotate, rotate-inputs], format: f32}", "f", false},
};

static void test_function_stays(void **state) {
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        char *out = ht_path_join(f->dir, kept[i].output);
        ht_err err = {0};
        ASSERT_OK(quantize(f, 2, kept[i].input, out, kept[i].recipe, kept[i].calib, &err), &err);
        double d = difference(out, kept[i].input);
        if (!(d < 1e-4)) {
            fail_msg("%s, %s: logits differ by %g of the largest", kept[i].input, kept[i].recipe, d);
        }
        ht_mem_free(out);
    }
}

/* A GGUF file of its own: the transformed weights go to a folder, and from a folder to a GGUF file. */
static void test_from_gguf(void **state) {
    const struct fixture *f = *state;
    char *gguf = ht_path_join(f->dir, "in.gguf"), *out = ht_path_join(f->dir, "out");
    ht_err err = {0};
    ASSERT_OK(quantize(f, 2, TINY, gguf, "weights: {transform: [rotate], format: f32}", false, &err), &err);
    ASSERT_OK(quantize(f, 2, gguf, out, "weights: {transform: [rotate, rotate-inputs], format: f32}", false, &err),
              &err);
    assert_true(difference(out, TINY) < 1e-4); /* turned twice; q and k in the other order of rows */
    ht_mem_free(gguf);
    ht_mem_free(out);
}

/* ---- refused before any work ------------------------------------------------------------------------------- */

static const struct {
    const char *output, *recipe, *words;
} refused[] = {
    {"x.gguf", "weights: {transform: [rotate, rotate-inputs], format: q4_0}", "halftone folder"},
    {"x", "weights: {transform: [equalize, rotate], format: \"int4:g64\"}", "comes before equalize"},
    {"x", "weights: {transform: [rotate, rotate], format: \"int4:g64\"}", "twice"},
    {"x", "weights: {transform: [cluster], format: \"int4:g64\"}", "gives activations their ranges"},
    {"x", "weights: {transform: [rotate-inputs, shift], format: \"int4:g64\"}", "comes before rotate-inputs"},
    {"x", "weights: {range: mse}", "works on schemes"}, /* the format that is taken when none is named */
    {"x.gguf", "weights: {outlier: lowrank, format: q4_0}", "halftone folder"},
    {"x", "weights: {format: \"int4:g64\", round: stochastic, outlier: salient}", "feedback or nearest"},
    {"x", "weights: {format: \"int4:g64\"}\nkv: {format: \"int4:channel+hadamard\"}", "per token or group"},
};

static void test_refused(void **state) {
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char *out = ht_path_join(f->dir, refused[i].output);
        ht_err err = {0};
        assert_int_not_equal(quantize(f, 1, TINY, out, refused[i].recipe, false, &err), HT_OK);
        if (strstr(err.msg, refused[i].words) == NULL) {
            fail_msg("%s: '%s' does not say '%s'", refused[i].recipe, err.msg, refused[i].words);
        }
        assert_false(ht_path_exists(out));
        ht_mem_free(out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_function_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_gguf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
