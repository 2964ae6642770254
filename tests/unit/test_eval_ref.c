/* The reference models on real text, against figures of transformers and of stock llama-imatrix.
 * ht-suite: long */
#include "test.h"

#include <jansson.h>
#include <math.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "calib/calib.h"
#include "eval/eval.h"

static char text_test[512], text_valid[512];

/* Texts lie beside the folder of reference models. */
static bool have_texts(void) {
    if (ref_dir() == NULL) {
        return false;
    }
    snprintf(text_test, sizeof text_test, "%s/../text/wiki.test.raw", ref_dir());
    snprintf(text_valid, sizeof text_valid, "%s/../text/wiki.valid.raw", ref_dir());
    return ht_path_exists(text_test) && ht_path_exists(text_valid);
}

static double golden(const char *name, const char *key) {
    char path[512];
    json_t *j;
    ht_err err = {0};
    snprintf(path, sizeof path, HT_TEST_DIR "/golden/logits/%s.ppl.json", name);
    ASSERT_OK(ht_json_load_file(path, 1u << 20, &j, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(j, "ctx")), 512);
    assert_int_equal(json_integer_value(json_object_get(j, "chunks")), 24);
    double v = json_number_value(json_object_get(j, key));
    json_decref(j);
    return v;
}

/* 24 windows of 512 in f32 by transformers: tests/oracle/make_ppl.py. */
static void check_perplexity(const char *name, bool all) {
    char model[512];
    const char *texts[] = {text_test};
    ht_context *ctx;
    ht_eval_result r;
    ht_err err = {0};
    snprintf(model, sizeof model, "%s/%s.gguf", ref_dir(), name);
    ht_eval_options o = {.size = sizeof o, .model = model, .texts = texts, .n_texts = 1, .tokens = 24 * 512,
                         .ctx = 512, .windows_all = all, .exact = true, .resamples = 2000};
    ASSERT_OK(ht_context_new(NULL, &ctx, &err), &err);
    ASSERT_OK(ht_eval_run(ctx, &o, &r, NULL, &err), &err);
    ht_context_free(ctx);
    double want = golden(name, all ? "ppl_all" : "ppl_half");
    print_message("# %s %s: %.5f, transformers %.5f\n", name, all ? "all" : "llama", r.perplexity.mean, want);
    assert_int_equal(r.tokens_scored, all ? 24 * 511 : 24 * 255);
    assert_true(fabs(r.perplexity.mean / want - 1.0) < 2e-4);
    assert_true(r.perplexity.low < want && want < r.perplexity.high);
}

static void test_perplexity(void **state) {
    (void)state;
    if (!have_texts()) {
        skip();
    }
    check_perplexity("ref-135m", false); /* its stored weights are those of the golden's f16 file, bit for bit */
    check_perplexity("ref-135m", true);
}

/* Stock llama-imatrix, 40 windows of wiki.valid: tests/oracle/imatrix_means.py. It computes with f16 weights and
 * 16-bit activations. */
static void test_imatrix(void **state) {
    (void)state;
    char model[512], name[80];
    if (!have_texts()) {
        skip();
    }
    const char *texts[] = {text_valid};
    ht_context *ctx;
    ht_err err = {0};
    struct ht_model *m;
    struct ht_imatrix *im;
    snprintf(model, sizeof model, "%s/ref-57m.gguf", ref_dir());
    ASSERT_OK(ht_context_new(NULL, &ctx, &err), &err);
    ASSERT_OK(ht_model_load(model, &m, &err), &err);
    ASSERT_OK(ht_calib_imatrix(ctx, m, texts, 1, 40 * 512, 512, HT_MATH_EXACT, &im, &err), &err);
    FILE *f = fopen(HT_TEST_DIR "/golden/imatrix/ref-57m.txt", "r");
    assert_non_null(f);
    int count, n, entries = 0;
    double worst = 0;
    while (fscanf(f, "%79s %d %d", name, &count, &n) == 3) {
        const struct ht_imatrix_entry *e = ht_imatrix_find(im, name);
        assert_non_null(e);
        assert_true(e->count[0] == (float)count && e->n == (uint64_t)n);
        double diff = 0, sum = 0;
        for (int j = 0; j < n; j += 97) {
            double want, got = e->sum2[j] / e->count[0];
            assert_int_equal(fscanf(f, "%lf", &want), 1);
            diff += fabs(got - want);
            sum += want;
        }
        worst = fmax(worst, diff / sum);
        entries++;
    }
    fclose(f);
    print_message("# importance: %d entries, worst relative difference %.2e\n", entries, worst);
    assert_int_equal(entries, im->n);
    assert_true(worst < 5e-3);
    ht_imatrix_free(im);
    ht_model_unload(m);
    ht_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_perplexity),
        cmocka_unit_test(test_imatrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
