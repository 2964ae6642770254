/* Shifts, thresholds and orders on small cases that can be checked by hand. */
#include "fold_test.h"

#define COLS 16
#define TOKENS 30

static const struct ht_foldsite site = {"site", HT_FOLD_CHANNELS, HT_FOLD_SCALE, {HT_ROLE_ATTN_NORM},
                                        {HT_ROLE_ATTN_Q}, {HT_ROLE_OTHER}};

/* ---- Outlier Suppression+ ---------------------------------------------------------------------------------- */

static ht_status int8_tensor(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols, const float *s,
                             float *out, ht_err *err) {
    (void)ctx;
    (void)role;
    (void)s;
    (void)err;
    float most = 0;
    for (uint64_t i = 0; i < rows * cols; i++) {
        most = fmaxf(most, fabsf(x[i]));
    }
    for (uint64_t i = 0; i < rows * cols; i++) {
        out[i] = most > 0 ? rintf(x[i] / most * 127) * most / 127 : 0;
    }
    return HT_OK;
}

/* Channel 2 lies around 50, channel 5 is 20 times as wide as the others. */
static void test_shift_and_threshold(void **state) {
    (void)state;
    struct ht_fold_block b = {0};
    ht_err err = {0};
    struct ht_rng rng;
    struct ht_transform_report report;
    float x[TOKENS * COLS], min[COLS], max[COLS], z[COLS], s[COLS];
    ht_rng_init(&rng, 3);
    for (int c = 0; c < COLS; c++) {
        min[c] = INFINITY;
        max[c] = -INFINITY;
        for (int t = 0; t < TOKENS; t++) {
            float v = (float)ht_rng_normal(&rng) * (c == 5 ? 20.0f : 1.0f) + (c == 2 ? 50.0f : 0.0f);
            x[t * COLS + c] = v;
            min[c] = fminf(min[c], v);
            max[c] = fmaxf(max[c], v);
        }
    }
    ASSERT_OK(ht_fold_block_vector(&b, HT_ROLE_ATTN_NORM, COLS, &err), &err);
    ASSERT_OK(ht_fold_block_matrix(&b, HT_ROLE_ATTN_Q, 8, COLS, &err), &err);
    for (int i = 0; i < 8 * COLS; i++) {
        b.matrices[HT_ROLE_ATTN_Q].w[i] = (float)ht_rng_normal(&rng);
    }
    struct ht_stats stats = {.cols = COLS, .tokens = TOKENS, .min = min, .max = max, .sample = x, .n_sample = TOKENS};
    ASSERT_OK(ht_transform_shift(&b, &site, &stats, z, &report, &err), &err);
    for (int c = 0; c < COLS; c++) {
        assert_float_equal(z[c], (min[c] + max[c]) / 2, 1e-5);
    }
    struct ht_trial trial = {.weights = int8_tensor, .inputs = int8_tensor, .ctx = NULL, .pool = NULL};
    double plain = 0, shifted = 0;
    ASSERT_OK(ht_trial_loss(&trial, &b, &site, &stats, NULL, NULL, &plain, &err), &err);
    ASSERT_OK(ht_trial_loss(&trial, &b, &site, &stats, NULL, z, &shifted, &err), &err);
    ASSERT_OK(ht_transform_threshold(&trial, &b, &site, &stats, z, 20, s, &report, &err), &err);
    print_message("# loss %.3g, shifted %.3g, with threshold %.2f: %.3g\n", plain, shifted, report.alpha, report.loss);
    assert_float_equal(report.loss_before, shifted, 1e-4 * shifted);
    assert_true(shifted < plain && report.loss < shifted && report.trials == 20);
    float top = 0;
    for (int c = 0; c < COLS; c++) {
        top = fmaxf(top, fmaxf(max[c] - z[c], z[c] - min[c]));
    }
    for (int c = 0; c < COLS; c++) { /* only what reaches beyond the threshold is scaled, to just there */
        float reach = fmaxf(max[c] - z[c], z[c] - min[c]), limit = top * (float)report.alpha;
        assert_float_equal(s[c], reach > limit ? reach / limit : 1, 1e-4 * s[c]);
    }
    double again = 0;
    ASSERT_OK(ht_trial_loss(&trial, &b, &site, &stats, s, z, &again, &err), &err);
    assert_float_equal(again, report.loss, 1e-6 * again);
    stats.min = NULL;
    assert_int_equal(ht_transform_shift(&b, &site, &stats, z, &report, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "min and max"));
    ht_fold_block_deinit(&b);
}

/* A norm has no bias: what is left is a shift at run time and a bias for it. */
static void test_shift_without_slot(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    float z[64], bias[64];
    folded_open(&f, HT_TEST_DIR "/golden/models/qwen2-rand", false);
    const struct ht_foldsite *sites = f.model->arch->folds;
    for (int j = 0; j < 64; j++) {
        z[j] = (float)(j % 7) - 3;
    }
    assert_int_equal(ht_fold_shift(&f.blocks[0], ht_fold_site(sites, "attn_norm"), z, &err), HT_INVAL);
    err = (ht_err){0};
    assert_int_equal(ht_fold_shift(&f.blocks[0], ht_fold_site(sites, "value"), z, &err), HT_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "attn_output"));
    const struct ht_fold_matrix *o = &f.blocks[0].matrices[HT_ROLE_ATTN_OUTPUT];
    ht_fold_shift_bias(&f.blocks[0], ht_fold_site(sites, "value"), HT_ROLE_ATTN_OUTPUT, z, bias);
    for (int r = 0; r < 64; r++) {
        double sum = 0;
        for (int c = 0; c < 64; c++) { /* 4 heads of 16 on 2 */
            sum += (double)o->w[r * 64 + c] * z[c / 32 * 16 + c % 16];
        }
        assert_float_equal(bias[r], sum, 1e-5);
    }
    folded_close(&f);
}

/* ---- orders ------------------------------------------------------------------------------------------------ */

static void assert_order(const uint32_t *got, const uint32_t *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(got[i], want[i]);
    }
}

static void test_sort_and_deal(void **state) {
    (void)state;
    ht_err err = {0};
    static const float importance[8] = {1, 8, 3, 3, 7, 5, 2, 6};
    uint32_t order[8];
    ASSERT_OK(ht_order_sort(importance, 8, order, &err), &err);
    assert_order(order, (const uint32_t[]){1, 4, 7, 5, 2, 3, 6, 0}, 8);
    /* two groups: 8 | 7, then back 6 > 5 ... : 8 5 3 1 and 7 6 3 2 */
    ASSERT_OK(ht_order_deal(importance, 8, 4, order, &err), &err);
    assert_order(order, (const uint32_t[]){1, 5, 2, 0, 4, 7, 3, 6}, 8);
    assert_int_equal(ht_order_deal(importance, 8, 3, order, &err), HT_INVAL);
    err = (ht_err){0};
    static const float bad[2] = {1, NAN};
    assert_int_equal(ht_order_sort(bad, 2, order, &err), HT_NUMERIC);
}

/* Three well apart kinds of channels are found whatever the seed; each is one piece of the order. */
static void test_cluster(void **state) {
    (void)state;
    ht_err err = {0};
    enum { N = 60 };
    float min[N], max[N];
    struct ht_rng rng;
    ht_rng_init(&rng, 8);
    for (int i = 0; i < N; i++) {
        static const float low[3] = {-1, -20, 0}, high[3] = {1, 20, 90};
        min[i] = low[i % 3] + 0.1f * (float)ht_rng_uniform(&rng);
        max[i] = high[i % 3] + 0.1f * (float)ht_rng_uniform(&rng);
    }
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t order[N], first[3], n = 0;
        ASSERT_OK(ht_order_cluster(min, max, N, 3, seed, order, first, &n, &err), &err);
        assert_int_equal(n, 3);
        assert_order(first, (const uint32_t[]){0, 20, 40}, 3);
        for (uint32_t i = 0; i < N; i++) { /* by falling width: 90, 40, 2 */
            static const uint32_t kind[3] = {2, 1, 0};
            assert_int_equal(order[i], i % 20 * 3 + kind[i / 20]);
        }
    }
    /* equal channels make one cluster, more clusters than channels as many as there are */
    uint32_t order[4], first[8], n = 0;
    static const float same[4] = {1, 1, 1, 1}, apart[4] = {4, 1, 3, 2};
    ASSERT_OK(ht_order_cluster(same, same, 4, 3, 1, order, first, &n, &err), &err);
    assert_true(n == 1 && first[0] == 0 && order[3] == 3);
    ASSERT_OK(ht_order_cluster(same, apart, 4, 8, 1, order, first, &n, &err), &err);
    assert_int_equal(n, 4);
    assert_order(order, (const uint32_t[]){0, 2, 3, 1}, 4);
    assert_int_equal(ht_order_cluster(same, apart, 4, 0, 1, order, first, &n, &err), HT_INVAL);
}

static void test_bad_orders(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    uint32_t order[96];
    folded_open(&f, HT_TEST_DIR "/golden/models/qwen2-rand", false);
    const struct ht_foldsite *sites = f.model->arch->folds;
    for (uint32_t i = 0; i < 96; i++) {
        order[i] = i;
    }
    order[3] = 4;
    assert_int_equal(ht_fold_permute(&f.blocks[0], ht_fold_site(sites, "up"), order, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "position 4 has 4"));
    err = (ht_err){0};
    order[3] = 3;
    order[0] = 20; /* of the other head */
    order[20] = 0;
    assert_int_equal(ht_fold_permute(&f.blocks[0], ht_fold_site(sites, "value"), order, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "own head"));
    err = (ht_err){0};
    order[0] = 96;
    assert_int_equal(ht_fold_permute(&f.blocks[0], ht_fold_site(sites, "up"), order, &err), HT_INVAL);
    folded_close(&f);
}

/* Column j of the codes is input order[j]. */
static void test_permute_inputs(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    uint32_t order[64];
    folded_open(&f, HT_TEST_DIR "/golden/models/qwen2-rand", false);
    struct ht_fold_matrix *q = &f.blocks[0].matrices[HT_ROLE_ATTN_Q];
    float row[64];
    memcpy(row, q->w + 5 * 64, sizeof row);
    for (uint32_t i = 0; i < 64; i++) {
        order[i] = i * 13 % 64;
    }
    const struct ht_foldsite *norm = ht_fold_site(f.model->arch->folds, "attn_norm");
    ASSERT_OK(ht_fold_permute_inputs(&f.blocks[0], norm, order, &err), &err);
    for (uint32_t i = 0; i < 64; i++) {
        assert_true(q->w[5 * 64 + i] == row[order[i]]);
    }
    folded_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shift_and_threshold), cmocka_unit_test(test_shift_without_slot),
        cmocka_unit_test(test_sort_and_deal),       cmocka_unit_test(test_cluster),
        cmocka_unit_test(test_bad_orders),          cmocka_unit_test(test_permute_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
