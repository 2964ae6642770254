/* ht-suite: long */
/* Rounding behind transforms loses less than without; bytes do not depend on threads or on having been interrupted. */
#include "turn_test.h"

#ifdef HT_SANITIZED /* ten times slower: some of them */
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* ---- rounding behind them ---------------------------------------------------------------------------------- */

/* Loss of a file against the model: mean KLD over a short text. */
static double loss(const struct fixture *f, const char *path) {
    ht_eval_result result;
    ht_err err = {0};
    const char *texts[] = {HT_MODEL_DIR "/text/persuasion.txt"};
    ht_eval_options o;
    ht_eval_options_defaults(&o);
    o.model = path;
    o.reference = TINY;
    o.texts = texts;
    o.n_texts = 1;
    o.tokens = 512;
    o.ctx = 128;
    o.resamples = 100;
    ASSERT_OK(ht_eval(f->ctx, &o, &result, NULL, &err), &err);
    return result.kld.mean;
}

#define OWN "range: own, format: "

static const struct {
    const char *name, *with, *plain; /* a method or a recipe; a recipe without its transform or outlier part */
    bool calib, calib_plain;         /* with text */
    double least;                    /* share of plain's loss that is left, at most */
} better[] = {
    {"quarot", "quarot",
     "weights: {range: weighted, format: \"int4:channel\", round: feedback}\n"
     "activations: {format: \"int4:token\"}\nkv: {range: minmax, format: \"uint4:token\"}",
     true, true, 0.6},
    {"os+",
     "weights: {transform: [\"shift:grid=5\"], range: absmax, format: \"int6:channel\"}\n"
     "activations: {format: \"int6:tensor\"}",
     "weights: {range: absmax, format: \"int6:channel\"}\nactivations: {format: \"int6:tensor\"}", true, true, 0.6},
    {"rptq",
     "weights: {transform: [cluster], range: absmax, format: \"int8:channel\"}\n"
     "activations: {range: minmax, format: \"uint4:tensor\"}",
     "weights: {range: absmax, format: \"int8:channel\"}\nactivations: {range: minmax, format: \"uint4:tensor\"}", true,
     true, 0.6},
    {"awq-mixed", "weights: {" OWN "\"uint3:g128\", outlier: \"salient:fraction=0.01\"}",
     "weights: {" OWN "\"uint3:g128\"}", true, false, 0.97},
    {"lorc", "weights: {" OWN "\"uint3:g128\", outlier: \"lowrank:rank=16\"}", "weights: {" OWN "\"uint3:g128\"}", false,
     false, 0.9},
    {"lqer", "weights: {" OWN "\"uint3:g128\", outlier: \"lowrank-scaled:rank=16\"}",
     "weights: {" OWN "\"uint3:g128\", outlier: \"lowrank:rank=16\"}", true, false, 0.97},
    {"moments", "weights: {" OWN "q2_k, outlier: \"lowrank-moments:rank=16\"}", "weights: {" OWN "q2_k}", true, false,
     0.8},
    {"center", "weights: {transform: [center], " OWN "\"int2:g64\"}", "weights: {" OWN "\"int2:g64\"}", true, false,
     0.9},
};

static void test_loses_less(void **state) {
    const struct fixture *f = *state;
    for (size_t i = 0; i < (SANITIZED ? 1 : sizeof better / sizeof better[0]); i++) {
        char *with = ht_path_join(f->dir, "with"), *plain = ht_path_join(f->dir, "plain");
        ht_err err = {0};
        ASSERT_OK(quantize(f, 2, TINY, with, better[i].with, better[i].calib, &err), &err);
        ASSERT_OK(quantize(f, 2, TINY, plain, better[i].plain, better[i].calib_plain, &err), &err);
        double a = loss(f, with), b = loss(f, plain);
        if (!(a < better[i].least * b)) {
            fail_msg("%s: KLD %g, without %g", better[i].name, a, b);
        }
        print_message("# %s: KLD %.4f, without %.4f\n", better[i].name, a, b);
        remove_tree(with);
        remove(plain); /* a GGUF file, or a folder: */
        remove_tree(plain);
        ht_mem_free(with);
        ht_mem_free(plain);
    }
}

/* ---- the same bytes ---------------------------------------------------------------------------------------- */

static void same(const char *a, const char *b) {
    char x[512], y[512], *p, *q;
    size_t n, m;
    ht_err err = {0};
    snprintf(x, sizeof x, "%s/model.safetensors", a);
    snprintf(y, sizeof y, "%s/model.safetensors", b);
    ASSERT_OK(ht_read_file(x, 1u << 30, &p, &n, &err), &err);
    ASSERT_OK(ht_read_file(y, 1u << 30, &q, &m, &err), &err);
    assert_int_equal(n, m);
    assert_memory_equal(p, q, n);
    ht_mem_free(p);
    ht_mem_free(q);
}

/* One run to the end, and one that stops again and again, each time with other threads. */
static void test_same_bytes(void **state) {
    const struct fixture *f = *state;
    static const char *const methods[] = {
        "quarot",
        "weights: {transform: [rotate, \"shift:grid=2\", rotate-inputs, \"cluster:k=4\"], range: own, "
        "format: \"int4:g64\", outlier: \"salient:fraction=0.02\"}\n"
        "activations: {range: minmax, format: \"uint8:tensor\"}",
        "weights: {transform: [center], range: weighted, format: q4_0, outlier: \"lowrank-scaled:rank=4\"}",
        "weights: {transform: [order, rotate-inputs], range: weighted, format: \"int4:g32\", round: feedback}",
    };
    for (size_t i = SANITIZED ? 1 : 0; i < (SANITIZED ? 2 : sizeof methods / sizeof methods[0]); i++) {
        char *whole = ht_path_join(f->dir, "whole"), *out = ht_path_join(f->dir, "pieces");
        ht_err err = {0};
        int stopped = 0;
        stop_at = 0;
        ASSERT_OK(quantize(f, 1, TINY, whole, methods[i], true, &err), &err);
        for (stop_at = 10;; stop_at += 9) {
            ht_err_clear(&err);
            ht_status status = quantize(f, stop_at % 2 != 0 ? 2 : 7, TINY, out, methods[i], true, &err);
            if (status == HT_OK) {
                break;
            }
            if (status != HT_CANCELLED) {
                fail_msg("%s: %s: %s", methods[i], err.what, err.msg);
            }
            stopped++;
        }
        stop_at = 0;
        assert_true(stopped >= 1);
        same(whole, out);
        remove_tree(whole);
        remove_tree(out);
        ht_mem_free(whole);
        ht_mem_free(out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loses_less, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
