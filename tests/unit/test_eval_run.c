#include "tiny_model.h"

#include <math.h>

#include "calib/calib.h"
#include "eval/eval.h"
#include "model/session.h"

/* Any text does: this one comes with the tokenizer's tests. */
#define TEXT HT_TEST_DIR "/golden/token/corpus.jsonl"

static char coarse[] = "/tmp/ht-eval-XXXXXX"; /* the tiny model with three bits of its weights cut off */

static void cut_bits(const char *name, uint16_t *w, size_t n) {
    for (size_t i = 0; i < n && strstr(name, "norm") == NULL; i++) {
        w[i] = (uint16_t)(w[i] & 0xfff8);
    }
}

static int setup(void **state) {
    (void)state;
    if (tiny_model() != NULL) {
        assert_non_null(mkdtemp(coarse));
        tiny_copy(coarse, cut_bits);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (tiny_model() != NULL) {
        tiny_remove(coarse);
    }
    return 0;
}

static ht_eval_options options(const char *const *texts, size_t n) {
    return (ht_eval_options){.size = sizeof(ht_eval_options), .model = tiny_model(), .texts = texts, .n_texts = n,
                             .tokens = 512, .ctx = 64, .exact = true, .resamples = 200};
}

static ht_status run(const ht_eval_options *o, int threads, ht_eval_result *result, json_t **json, ht_err *err) {
    ht_context *ctx = make_context(threads, NULL, NULL);
    char *text = NULL;
    ht_status status = ht_eval_run(ctx, o, result, json != NULL ? &text : NULL, err);
    if (json != NULL) {
        *json = NULL;
        if (text != NULL) {
            ht_err e = {0};
            ASSERT_OK(ht_json_parse(text, strlen(text), 0, "record", json, &e), &e);
        }
    }
    ht_mem_free(text);
    ht_context_free(ctx);
    return status;
}

static const char *const one_text[] = {TEXT};

static void test_model_against_itself(void **state) {
    (void)state;
    need_tiny();
    for (int exact = 0; exact < 2; exact++) {
        ht_eval_options o = options(one_text, 1);
        ht_eval_result r;
        ht_err err = {0};
        o.reference = tiny_model();
        o.exact = exact != 0;
        ASSERT_OK(run(&o, 2, &r, NULL, &err), &err);
        assert_true(r.has_reference && r.windows == 8 && r.tokens_scored == 8 * 31);
        assert_true(r.kld.mean == 0.0 && r.kld.high == 0.0 && r.kld_max == 0.0 && r.kld_p99 == 0.0);
        assert_true(r.same_top.mean == 1.0 && r.perplexity.mean == r.reference_perplexity.mean);
        assert_true(r.perplexity.mean > 10 && r.perplexity.low < r.perplexity.mean &&
                    r.perplexity.mean < r.perplexity.high);
    }
}

/* All logits of a window at once, scored by the plainest loop. */
static void plain_window(const float *p, const float *q, size_t vocab, int32_t target, double *nll, double *kld) {
    double mp = -INFINITY, mq = -INFINITY, sp = 0, sq = 0;
    for (size_t i = 0; i < vocab; i++) {
        mp = fmax(mp, p[i]);
        mq = fmax(mq, q[i]);
    }
    for (size_t i = 0; i < vocab; i++) {
        sp += exp(p[i] - mp);
        sq += exp(q[i] - mq);
    }
    for (size_t i = 0; i < vocab; i++) {
        double lp = p[i] - mp - log(sp), lq = q[i] - mq - log(sq);
        *kld += exp(lp) * (lp - lq);
    }
    *nll -= q[target] - mq - log(sq);
}

static void test_against_plain_scores(void **state) {
    (void)state;
    need_tiny();
    enum { CTX = 96 };
    for (int all = 0; all < 2; all++) {
        ht_eval_options o = options(one_text, 1);
        ht_eval_result r;
        ht_err err = {0};
        o.reference = tiny_model();
        o.model = coarse;
        o.ctx = CTX;
        o.tokens = 3 * CTX + 5;
        o.windows_all = all != 0;
        ASSERT_OK(run(&o, 2, &r, NULL, &err), &err);

        struct ht_model *m[2];
        struct ht_run *runs[2];
        float *logits[2];
        struct ht_ids ids = {0};
        ASSERT_OK(ht_model_load(tiny_model(), &m[0], &err), &err);
        ASSERT_OK(ht_model_load(coarse, &m[1], &err), &err);
        ASSERT_OK(ht_calib_tokens(m[0], TEXT, &ids, &err), &err);
        size_t vocab = m[0]->hp.vocab;
        struct ht_run_options ro = {.ctx = CTX, .math = HT_MATH_EXACT, .f32_cache = true};
        for (int i = 0; i < 2; i++) {
            ASSERT_OK(ht_run_new(NULL, m[i], &ro, &runs[i], &err), &err);
            logits[i] = ht_mem_alloc_aligned(CTX * vocab, sizeof(float));
        }
        double nll = 0, kld = 0;
        uint64_t scored = 0;
        for (size_t w = 0; w < 3; w++) {
            for (int i = 0; i < 2; i++) {
                ht_run_rewind(runs[i], 0);
                ASSERT_OK(ht_run_feed(runs[i], ids.ids + w * CTX, CTX, CTX, logits[i], &err), &err);
            }
            for (size_t t = all ? 0 : CTX / 2; t + 1 < CTX; t++, scored++) {
                plain_window(logits[0] + t * vocab, logits[1] + t * vocab, vocab, ids.ids[w * CTX + t + 1], &nll, &kld);
            }
        }
        assert_int_equal(r.tokens_scored, scored);
        assert_true(kld / (double)scored > 1e-4);
        /* Pieces of another size may sum products in another order. */
        assert_true(fabs(r.kld.mean - kld / (double)scored) < 1e-4 * r.kld.mean);
        assert_true(fabs(log(r.perplexity.mean) - nll / (double)scored) < 1e-5);
        for (int i = 0; i < 2; i++) {
            ht_mem_free_aligned(logits[i]);
            ht_run_free(runs[i]);
            ht_model_unload(m[i]);
        }
        ht_mem_free(ids.ids);
    }
}

static void test_threads_do_not_matter(void **state) {
    (void)state;
    need_tiny();
    static const char *const keys[] = {"perplexity", "reference_perplexity", "perplexity_ratio", "kld", "same_top", "texts"};
    static const char *const texts[] = {TEXT, HT_TEST_DIR "/golden/token/edge.jsonl"};
    for (int exact = 0; exact < 2; exact++) {
        ht_eval_options o = options(texts, 2);
        json_t *one = NULL, *other = NULL;
        ht_err err = {0};
        o.reference = tiny_model();
        o.model = coarse;
        o.exact = exact != 0;
        ASSERT_OK(run(&o, 1, NULL, &one, &err), &err);
        for (int threads = 2; threads < 4; threads++) {
            ASSERT_OK(run(&o, threads, NULL, &other, &err), &err);
            for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
                assert_non_null(json_object_get(one, keys[k]));
                assert_true(json_equal(json_object_get(one, keys[k]), json_object_get(other, keys[k])));
            }
            json_decref(other);
        }
        json_decref(one);
    }
}

/* Totals pool the texts; the record has what docs/evaluation.md promises. */
static void test_record_of_two_texts(void **state) {
    (void)state;
    need_tiny();
    static const char *const texts[] = {TEXT, HT_TEST_DIR "/golden/token/edge.jsonl"};
    ht_eval_options o = options(texts, 2);
    json_t *j, *t;
    ht_err err = {0};
    o.reference = tiny_model();
    o.model = coarse;
    ASSERT_OK(run(&o, 2, NULL, &j, &err), &err);
    double kld = 0, windows = 0, max = 0;
    size_t i;
    json_array_foreach(json_object_get(j, "texts"), i, t) {
        double w = json_number_value(json_object_get(t, "windows"));
        kld += w * json_number_value(json_object_get(json_object_get(t, "kld"), "mean"));
        windows += w;
        max = fmax(max, json_number_value(json_object_get(json_object_get(t, "kld"), "max")));
        assert_int_equal(json_string_length(json_object_get(t, "sha256")), 64);
        const json_t *at = json_object_get(json_object_get(t, "kld"), "max_at");
        assert_string_equal(json_string_value(json_object_get(at, "text")), texts[i]);
        assert_true(json_integer_value(json_object_get(at, "window")) < (json_int_t)w);
        assert_true(json_integer_value(json_object_get(at, "position")) >= 32);
    }
    const json_t *total = json_object_get(j, "kld");
    assert_true(windows == json_number_value(json_object_get(j, "windows")));
    assert_true(fabs(kld / windows - json_number_value(json_object_get(total, "mean"))) < 1e-9);
    assert_true(max == json_number_value(json_object_get(total, "max")));
    assert_string_equal(json_string_value(json_object_get(j, "schema")), "halftone.eval/1");
    assert_string_equal(json_string_value(json_object_get(j, "convention")), "llama");
    assert_string_equal(json_string_value(json_object_get(j, "math")), "exact");
    assert_true(json_number_value(json_object_get(json_object_get(j, "model"), "bits_per_weight")) == 16.0);
    json_decref(j);
}

static void test_few_windows_are_called_unreliable(void **state) {
    (void)state;
    need_tiny();
    ht_eval_options o = options(one_text, 1);
    json_t *j;
    ht_err err = {0};
    o.tokens = 7 * 64;
    ASSERT_OK(run(&o, 2, NULL, &j, &err), &err);
    assert_true(json_is_false(json_object_get(j, "interval_reliable")));
    assert_int_equal(json_array_size(json_object_get(j, "warnings")), 1);
    json_decref(j);
    o.tokens = 64; /* one window has no interval at all */
    ASSERT_OK(run(&o, 2, NULL, &j, &err), &err);
    assert_true(json_is_null(json_object_get(json_object_get(j, "perplexity"), "high")));
    json_decref(j);
}

static void test_gate(void **state) {
    (void)state;
    need_tiny();
    ht_eval_options o = options(one_text, 1);
    json_t *j;
    ht_err err = {0};
    o.reference = tiny_model();
    o.model = coarse;
    o.fail_if_kld = 1e-9;
    assert_int_equal(run(&o, 2, NULL, &j, &err), HT_GATE);
    assert_non_null(json_object_get(j, "kld")); /* the record is there all the same */
    assert_non_null(strstr(err.msg, "above the bound"));
    json_decref(j);
    ht_err_clear(&err);
    o.fail_if_kld = 10;
    ASSERT_OK(run(&o, 2, NULL, NULL, &err), &err);
    o.reference = NULL;
    assert_int_equal(run(&o, 2, NULL, NULL, NULL), HT_INVAL);
}

static void put_nan(const char *name, uint16_t *w, size_t n) {
    if (strcmp(name, "model.norm.weight") == 0) {
        w[n / 2] = 0x7fc0;
    }
}

static void test_nan_is_located(void **state) {
    (void)state;
    need_tiny();
    char folder[] = "/tmp/ht-eval-XXXXXX";
    assert_non_null(mkdtemp(folder));
    tiny_copy(folder, put_nan);
    ht_eval_options o = options(one_text, 1);
    ht_err err = {0};
    o.model = folder;
    assert_int_equal(run(&o, 2, NULL, NULL, &err), HT_NUMERIC);
    assert_non_null(strstr(err.msg, "window 0, position 32"));
    tiny_remove(folder);
}

static void test_refused_options(void **state) {
    (void)state;
    need_tiny();
    static const char *const missing[] = {"/nonexistent/text"};
    char empty[] = "/tmp/ht-text-XXXXXX";
    int fd = mkstemp(empty);
    assert_true(fd >= 0);
    close(fd);
    const char *empty_text[] = {empty};
    ht_err err = {0};
    ht_eval_options o = options(missing, 1);
    assert_int_equal(run(&o, 1, NULL, NULL, &err), HT_NOTFOUND);
    o = options(empty_text, 1);
    ht_err_clear(&err);
    assert_int_equal(run(&o, 1, NULL, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "one window needs 64"));
    o = options(one_text, 1);
    o.tokens = 50;
    assert_int_equal(run(&o, 1, NULL, NULL, NULL), HT_INVAL);
    o.tokens = 0;
    o.ctx = 3;
    assert_int_equal(run(&o, 1, NULL, NULL, NULL), HT_INVAL);
    o.ctx = 64;
    o.resamples = 5;
    assert_int_equal(run(&o, 1, NULL, NULL, NULL), HT_INVAL);
    o.resamples = 200;
    o.n_texts = 0;
    assert_int_equal(run(&o, 1, NULL, NULL, NULL), HT_INVAL);
    o.n_texts = 1;
    o.reference = "/nonexistent/model";
    assert_int_equal(run(&o, 1, NULL, NULL, NULL), HT_NOTFOUND);
    unlink(empty);
}

static void test_other_vocabulary(void **state) {
    (void)state;
    need_tiny();
    if (ref_dir() == NULL) {
        skip();
    }
    char path[512];
    snprintf(path, sizeof path, "%s/ref-57m.gguf", ref_dir());
    ht_eval_options o = options(one_text, 1);
    ht_err err = {0};
    o.reference = path;
    assert_int_equal(run(&o, 1, NULL, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "4096"));
    assert_non_null(strstr(err.msg, "49152"));
}

static int stop(void *user, const ht_progress *p) {
    (void)user;
    return p->done > 0;
}

static void test_cancel(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    ht_context *ctx = make_context(1, stop, NULL);
    ht_eval_options o = options(one_text, 1);
    assert_int_equal(ht_eval_run(ctx, &o, NULL, NULL, &err), HT_CANCELLED);
    ht_context_free(ctx);
}

/* Fails one allocation after another: HT_NOMEM, and nothing leaks (the sanitizer build looks). The compiler of
 * regular expressions may go without its fast form; nothing else may be passed over. */
static void test_out_of_memory(void **state) {
    (void)state;
    need_tiny();
    ht_context *ctx = make_context(1, NULL, NULL);
    ht_eval_options o = options(one_text, 1);
    o.reference = tiny_model();
    o.ctx = 8;
    o.tokens = 16;
    int failures = 0, passed_over = 0;
    for (uint64_t n = 1;; n += 1 + n / 32) {
        ht_err err = {0};
        char *json = NULL;
        ht_mem_fail_at(n, 0);
        ht_status status = ht_eval_run(ctx, &o, NULL, &json, &err);
        bool met = ht_mem_alloc_count() >= n;
        ht_mem_fail_at(0, 0);
        ht_mem_free(json);
        if (!met) {
            assert_int_equal(status, HT_OK);
            break;
        }
        passed_over += status == HT_OK;
        assert_true(status == HT_NOMEM || status == HT_OK);
        failures++;
    }
    ht_context_free(ctx);
    assert_true(failures > 40 && passed_over <= 12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_against_itself),  cmocka_unit_test(test_against_plain_scores),
        cmocka_unit_test(test_threads_do_not_matter), cmocka_unit_test(test_record_of_two_texts),
        cmocka_unit_test(test_few_windows_are_called_unreliable),
        cmocka_unit_test(test_gate),                  cmocka_unit_test(test_nan_is_located),
        cmocka_unit_test(test_refused_options),       cmocka_unit_test(test_other_vocabulary),
        cmocka_unit_test(test_cancel),                cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
