/* The sampler: filters, their order, determinism, and what damaged logits give. */
#include "test.h"

#include <math.h>

#include "model/sampler.h"

static void init(struct ht_sampler *s, uint32_t vocab, float temperature, uint32_t k, float p, float min_p) {
    ht_generate_options o = {.temperature = temperature, .top_k = k, .top_p = p, .min_p = min_p, .seed = 11};
    ht_err err = {0};
    ASSERT_OK(ht_sampler_init(s, vocab, &o, &err), &err);
}

static int32_t next(struct ht_sampler *s, const float *logits) {
    int32_t id;
    ht_err err = {0};
    ASSERT_OK(ht_sampler_next(s, logits, &id, &err), &err);
    return id;
}

/* Shares of 20,000 draws. */
static void shares(struct ht_sampler *s, const float *logits, double *share) {
    for (uint32_t i = 0; i < s->vocab; i++) {
        share[i] = 0;
    }
    for (int n = 0; n < 20000; n++) {
        share[next(s, logits)] += 1.0 / 20000;
    }
}

static float ln(double p) {
    return (float)log(p);
}

static void test_greedy(void **state) {
    (void)state;
    struct ht_sampler s;
    static const float logits[] = {-1, 3, 2, 3, -INFINITY};
    init(&s, 5, 0, 40, 0.9f, 0.05f);
    assert_int_equal(next(&s, logits), 1); /* the lower id among equals */
    ht_sampler_deinit(&s);
}

static void test_temperature(void **state) {
    (void)state;
    struct ht_sampler s;
    double share[3];
    const float logits[] = {ln(0.1), ln(0.3), ln(0.6)};
    init(&s, 3, 1, 0, 1, 0);
    shares(&s, logits, share);
    assert_true(fabs(share[0] - 0.1) < 0.01 && fabs(share[1] - 0.3) < 0.015 && fabs(share[2] - 0.6) < 0.015);
    ht_sampler_deinit(&s);
    init(&s, 3, 0.5f, 0, 1, 0); /* squares: 0.01, 0.09, 0.36 of 0.46 */
    shares(&s, logits, share);
    assert_true(fabs(share[0] - 0.0217) < 0.006 && fabs(share[2] - 0.7826) < 0.015);
    ht_sampler_deinit(&s);
}

static void test_filters(void **state) {
    (void)state;
    struct ht_sampler s;
    double share[5];
    const float logits[] = {ln(0.05), ln(0.4), ln(0.15), ln(0.3), ln(0.1)};
    init(&s, 5, 1, 2, 1, 0); /* top-k keeps 0.4 and 0.3 */
    shares(&s, logits, share);
    assert_true(share[0] == 0 && share[2] == 0 && share[4] == 0);
    assert_true(fabs(share[1] - 4.0 / 7) < 0.015);
    ht_sampler_deinit(&s);

    init(&s, 5, 1, 0, 0.75f, 0); /* 0.4 + 0.3 < 0.75, so 0.15 comes along */
    shares(&s, logits, share);
    assert_true(share[0] == 0 && share[4] == 0 && share[2] > 0);
    assert_true(fabs(share[1] - 0.4 / 0.85) < 0.015);
    ht_sampler_deinit(&s);

    init(&s, 5, 1, 0, 1, 0.3f); /* at least 0.3 * 0.4 = 0.12 */
    shares(&s, logits, share);
    assert_true(share[0] == 0 && share[4] == 0 && share[2] > 0);
    ht_sampler_deinit(&s);

    init(&s, 5, 1, 3, 0.8f, 0); /* top-p of what top-k left: 0.4, 0.3 of 0.85 are 0.82 */
    shares(&s, logits, share);
    assert_true(share[2] == 0 && share[3] > 0);
    ht_sampler_deinit(&s);

    init(&s, 5, 0.5f, 0, 0.8f, 0); /* temperature first: 0.16, 0.09, 0.0225 ... of 0.285, so two reach 0.8 */
    shares(&s, logits, share);
    assert_true(share[2] == 0 && share[3] > 0);
    ht_sampler_deinit(&s);

    init(&s, 5, 1, 0, 0, 0); /* top-p 0 keeps one */
    assert_int_equal(next(&s, logits), 1);
    ht_sampler_deinit(&s);
    init(&s, 5, 1, 1000, 1, 1); /* k beyond the vocabulary; min-p 1 keeps the largest */
    assert_int_equal(next(&s, logits), 1);
    ht_sampler_deinit(&s);
}

/* Every path draws the same tokens for the same seed, others for another. */
static void test_seed(void **state) {
    (void)state;
    static const uint32_t ks[] = {0, 50};
    for (int i = 0; i < 2; i++) {
        struct ht_sampler a, b, c;
        float logits[500];
        int differ = 0;
        for (int j = 0; j < 500; j++) {
            logits[j] = (float)(j * 7919 % 101) * 0.05f;
        }
        init(&a, 500, 0.9f, ks[i], 0.97f, 0.01f);
        init(&b, 500, 0.9f, ks[i], 0.97f, 0.01f);
        init(&c, 500, 0.9f, ks[i], 0.97f, 0.01f);
        ht_rng_init(&c.rng, 12);
        for (int n = 0; n < 200; n++) {
            int32_t x = next(&a, logits);
            assert_int_equal(x, next(&b, logits));
            differ += x != next(&c, logits);
        }
        assert_true(differ > 100);
        ht_sampler_deinit(&a);
        ht_sampler_deinit(&b);
        ht_sampler_deinit(&c);
    }
}

static void test_damaged_logits(void **state) {
    (void)state;
    static const float bad[][3] = {
        {1, NAN, 0}, {NAN, NAN, NAN}, {1, INFINITY, 0}, {-INFINITY, -INFINITY, -INFINITY}};
    static const float temperatures[] = {0, 0.8f};
    for (size_t i = 0; i < 4; i++) {
        for (int t = 0; t < 2; t++) {
            struct ht_sampler s;
            int32_t id = 7;
            ht_err err = {0};
            init(&s, 3, temperatures[t], 2, 0.9f, 0.05f);
            assert_int_equal(ht_sampler_next(&s, bad[i], &id, &err), HT_NUMERIC);
            assert_int_equal(id, -1);
            ht_sampler_deinit(&s);
        }
    }
    struct ht_sampler s;
    static const float masked[] = {-INFINITY, 0, -INFINITY};
    init(&s, 3, 1, 0, 1, 0);
    for (int n = 0; n < 100; n++) {
        assert_int_equal(next(&s, masked), 1);
    }
    ht_sampler_deinit(&s);
}

static void test_refused_options(void **state) {
    (void)state;
    static const struct {
        float t, p, m;
        const char *what;
    } cases[] = {{-1, 1, 0, "temperature"}, {NAN, 1, 0, "temperature"}, {1, 1.5f, 0, "top_p"},
                 {1, -0.1f, 0, "top_p"},    {1, 1, 2, "min_p"},         {1, 1, NAN, "min_p"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_sampler s;
        ht_err err = {0};
        ht_generate_options o = {.temperature = cases[i].t, .top_p = cases[i].p, .min_p = cases[i].m};
        assert_int_equal(ht_sampler_init(&s, 10, &o, &err), HT_INVAL);
        assert_string_equal(err.what, cases[i].what);
        ht_sampler_deinit(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),         cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_filters),        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_damaged_logits), cmocka_unit_test(test_refused_options),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
