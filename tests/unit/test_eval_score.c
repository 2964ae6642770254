#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "eval/eval.h"

static float *ref_row(size_t vocab, double spread) {
    float *x = ht_mem_alloc_array(vocab, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < vocab; i++) {
        x[i] = (float)((double)((i * 7919 + 104729) % 20011) / 20011.0 * spread);
    }
    return x;
}

static float *noisy_row(const float *ref, size_t vocab, double noise) {
    float *x = ht_mem_alloc_array(vocab, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < vocab; i++) {
        x[i] = (float)((double)ref[i] + ((double)((i * 104729 + 7919) % 10007) / 10007.0 - 0.5) * noise);
    }
    return x;
}

/* Rows of tests/oracle/score.py. */
static void test_golden_scores(void **state) {
    (void)state;
    static const struct {
        size_t vocab;
        double spread, noise, nll, ref_nll, kld;
    } cases[] = {
        {2, 5, 1, 1.656056532872726, 2.10815739797977, 0.017412893248560532},
        {7, 30, 0.5, 23.71434629099419, 23.749490527109003, 6.775682064396459e-05},
        {1000, 12, 3, 15.663095641628669, 16.27669021016047, 0.34961409096275176},
        {49152, 25, 0.01, 9.771419229671345, 9.7739619414141, 4.189583964328489e-06},
        {151936, 8, 2, 16.64339578610279, 17.06481219834066, 0.161541173530575},
        {511, 900, 50, 437.41757012526716, 442.1161333367787, 14.577187191277181},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float *ref = ref_row(cases[i].vocab, cases[i].spread);
        float *q = noisy_row(ref, cases[i].vocab, cases[i].noise);
        struct ht_score s;
        assert_true(ht_score_position(q, ref, cases[i].vocab, (int32_t)(cases[i].vocab / 3), &s));
        if (fabs(s.nll - cases[i].nll) > 1e-12 * (1 + cases[i].nll) ||
            fabs(s.ref_nll - cases[i].ref_nll) > 1e-12 * (1 + cases[i].ref_nll) ||
            fabs(s.kld - cases[i].kld) > 1e-12 * (1 + cases[i].kld)) {
            fail_msg("vocab %zu: %.17g %.17g %.17g", cases[i].vocab, s.nll, s.ref_nll, s.kld);
        }
        ht_mem_free(q);
        ht_mem_free(ref);
    }
}

static void test_equal_rows_do_not_diverge(void **state) {
    (void)state;
    for (size_t vocab = 1; vocab < 3000; vocab += 97) {
        float *ref = ref_row(vocab, 33.0);
        struct ht_score s;
        assert_true(ht_score_position(ref, ref, vocab, 0, &s));
        assert_true(s.kld == 0.0 && s.same_top && s.nll == s.ref_nll);
        ht_mem_free(ref);
    }
}

/* The rows of a softmax do not change when all logits move, nor does any score (up to f32's rounding of q). */
static void test_shift_does_not_matter(void **state) {
    (void)state;
    float ref[64], q[64], moved[64];
    for (int i = 0; i < 64; i++) {
        ref[i] = (float)(i * 37 % 64) / 4.0f;
        q[i] = (float)(i * 29 % 64) / 4.0f;
        moved[i] = q[i] + 128.0f; /* exact */
    }
    struct ht_score a, b;
    assert_true(ht_score_position(q, ref, 64, 5, &a));
    assert_true(ht_score_position(moved, ref, 64, 5, &b));
    assert_true(fabs(a.kld - b.kld) < 1e-12 && fabs(a.nll - b.nll) < 1e-12 && a.same_top == b.same_top);
    assert_true(a.kld > 1.0);
}

static void test_top_token(void **state) {
    (void)state;
    float ref[] = {1, 9, 9, 3}, first[] = {0, 5, 2, 1}, second[] = {0, 4, 5, 1};
    struct ht_score s;
    assert_true(ht_score_position(first, ref, 4, 0, &s) && s.same_top);
    assert_true(ht_score_position(second, ref, 4, 0, &s) && !s.same_top); /* of equals, the first counts */
}

static void test_not_finite(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 3; b++) {
        for (size_t at = 0; at < 9; at++) {
            float q[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, ref[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
            struct ht_score s;
            q[at] = bad[b];
            assert_false(ht_score_position(q, ref, 9, 0, &s));
            assert_false(ht_score_position(q, NULL, 9, 0, &s));
            assert_false(ht_score_position(ref, q, 9, 0, &s));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_scores),         cmocka_unit_test(test_equal_rows_do_not_diverge),
        cmocka_unit_test(test_shift_does_not_matter), cmocka_unit_test(test_top_token),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
