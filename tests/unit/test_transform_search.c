/* Factors found by trial, against the loss computed plainly in double. */
#include "fold_test.h"

#define COLS 32
#define ROWS 12
#define TOKENS 40

static const struct ht_foldsite site = {"site", HT_FOLD_CHANNELS, HT_FOLD_SCALE, {HT_ROLE_ATTN_NORM},
                                        {HT_ROLE_ATTN_Q, HT_ROLE_ATTN_K}, {HT_ROLE_OTHER}};

struct data {
    struct ht_fold_block block;
    struct ht_stats stats;
    float sample[TOKENS * COLS], gram[COLS * COLS], mean_abs[COLS], absmax[COLS];
    int calls;
};

/* Four channels are 30 times as large as the others. */
static void data_init(struct data *d) {
    ht_err err = {0};
    struct ht_rng rng;
    ht_rng_init(&rng, 42);
    memset(d, 0, sizeof *d);
    for (int i = 0; i < TOKENS * COLS; i++) {
        d->sample[i] = (float)ht_rng_normal(&rng) * (i % COLS % 8 == 3 ? 30.0f : 1.0f);
    }
    for (int c = 0; c < COLS; c++) {
        for (int t = 0; t < TOKENS; t++) {
            d->mean_abs[c] += fabsf(d->sample[t * COLS + c]) / TOKENS;
            d->absmax[c] = fmaxf(d->absmax[c], fabsf(d->sample[t * COLS + c]));
            for (int k = 0; k < COLS; k++) {
                d->gram[c * COLS + k] += d->sample[t * COLS + c] * d->sample[t * COLS + k] / TOKENS;
            }
        }
    }
    d->stats = (struct ht_stats){.cols = COLS, .tokens = TOKENS, .gram = d->gram, .absmax = d->absmax,
                                 .mean_abs = d->mean_abs, .sample = d->sample, .n_sample = TOKENS};
    ASSERT_OK(ht_fold_block_vector(&d->block, HT_ROLE_ATTN_NORM, COLS, &err), &err);
    for (int k = 0; k < 2; k++) {
        enum ht_role role = k == 0 ? HT_ROLE_ATTN_Q : HT_ROLE_ATTN_K;
        uint64_t rows = k == 0 ? ROWS : ROWS / 2;
        ASSERT_OK(ht_fold_block_matrix(&d->block, role, rows, COLS, &err), &err);
        for (uint64_t i = 0; i < rows * COLS; i++) {
            d->block.matrices[role].w[i] = 0.1f * (float)ht_rng_normal(&rng);
        }
    }
    for (int c = 0; c < COLS; c++) {
        d->block.vectors[HT_ROLE_ATTN_NORM].x[c] = 1;
    }
}

/* Integers of +-limit, one scale per `group` neighbours. */
static void round_to(const float *x, uint64_t n, uint64_t group, float limit, float *out) {
    for (uint64_t from = 0; from < n; from += group) {
        float most = 0;
        for (uint64_t i = from; i < from + group; i++) {
            most = fmaxf(most, fabsf(x[i]));
        }
        for (uint64_t i = from; i < from + group; i++) {
            out[i] = most > 0 ? rintf(x[i] / most * limit) * most / limit : 0;
        }
    }
}

static ht_status int3_groups(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols, const float *s,
                             float *out, ht_err *err) {
    (void)role;
    (void)s;
    (void)err;
    ((struct data *)ctx)->calls++;
    round_to(x, rows * cols, 8, 3, out);
    return HT_OK;
}

static ht_status int8_tensor(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols, const float *s,
                             float *out, ht_err *err) {
    (void)ctx;
    (void)role;
    (void)s;
    (void)err;
    round_to(x, rows * cols, rows * cols, 127, out);
    return HT_OK;
}

static ht_status cancels(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols, const float *s,
                         float *out, ht_err *err) {
    (void)ctx;
    (void)x;
    (void)rows;
    (void)cols;
    (void)s;
    (void)out;
    return ht_fail(err, HT_CANCELLED, ht_role_name(role), HT_NO_POS, "no more");
}

/* Mean over tokens of |W x - Q(W s) Qx(x / s)|^2. */
static double plain_loss(struct data *d, const float *s, bool inputs) {
    double sum = 0;
    for (int k = 0; k < 2; k++) {
        const struct ht_fold_matrix *m = &d->block.matrices[k == 0 ? HT_ROLE_ATTN_Q : HT_ROLE_ATTN_K];
        float ws[ROWS * COLS], q[ROWS * COLS], x[TOKENS * COLS], xq[TOKENS * COLS];
        for (uint64_t i = 0; i < m->rows * COLS; i++) {
            ws[i] = m->w[i] * s[i % COLS];
        }
        for (int i = 0; i < TOKENS * COLS; i++) {
            xq[i] = x[i] = d->sample[i] / s[i % COLS];
        }
        round_to(ws, m->rows * COLS, 8, 3, q);
        if (inputs) {
            round_to(x, TOKENS * COLS, TOKENS * COLS, 127, xq);
        }
        for (int t = 0; t < TOKENS; t++) {
            for (uint64_t r = 0; r < m->rows; r++) {
                double e = 0;
                for (int c = 0; c < COLS; c++) {
                    e += (double)m->w[r * COLS + c] * d->sample[t * COLS + c] - (double)q[r * COLS + c] * xq[t * COLS + c];
                }
                sum += e * e / TOKENS;
            }
        }
    }
    return sum;
}

static void test_loss(void **state) {
    (void)state;
    static struct data d;
    ht_err err = {0};
    struct ht_pool *pool;
    double loss = 0, one = 0;
    float s[COLS];
    data_init(&d);
    ASSERT_OK(ht_pool_new(3, &pool, &err), &err);
    for (int c = 0; c < COLS; c++) {
        s[c] = 0.5f + (float)(c % 5);
    }
    struct ht_trial trial = {.weights = int3_groups, .inputs = NULL, .ctx = &d, .pool = pool};
    ASSERT_OK(ht_trial_loss(&trial, &d.block, &site, &d.stats, s, NULL, &loss, &err), &err);
    assert_float_equal(loss, plain_loss(&d, s, false), 1e-4 * loss);
    /* the sample in place of the gram; one thread */
    struct ht_stats stats = d.stats;
    stats.gram = NULL;
    ASSERT_OK(ht_trial_loss(&trial, &d.block, &site, &stats, s, NULL, &one, &err), &err);
    assert_float_equal(one, loss, 1e-4 * loss);
    trial.pool = NULL;
    ASSERT_OK(ht_trial_loss(&trial, &d.block, &site, &stats, s, NULL, &loss, &err), &err);
    assert_true(loss == one);
    trial.inputs = int8_tensor;
    ASSERT_OK(ht_trial_loss(&trial, &d.block, &site, &d.stats, s, NULL, &loss, &err), &err);
    assert_float_equal(loss, plain_loss(&d, s, true), 1e-4 * loss);
    /* what is missing is told */
    stats.sample = NULL;
    assert_int_equal(ht_trial_loss(&trial, &d.block, &site, &stats, s, NULL, &loss, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "a sample"));
    err = (ht_err){0};
    trial.weights = cancels;
    assert_int_equal(ht_trial_loss(&trial, &d.block, &site, &d.stats, s, NULL, &loss, &err), HT_CANCELLED);
    ht_fold_block_deinit(&d.block);
    ht_pool_free(pool);
}

static void test_magnitude(void **state) {
    (void)state;
    static struct data d;
    ht_err err = {0};
    struct ht_transform_report report;
    float s[COLS], mean[COLS];
    data_init(&d);
    for (int c = 0; c < COLS; c++) {
        d.mean_abs[c] = mean[c] = c == 0 ? 4 : 1;
    }
    d.mean_abs[5] = 0; /* a dead channel keeps 1 */
    ASSERT_OK(ht_transform_magnitude(&d.block, &site, &d.stats, 0.5, s, &report, &err), &err);
    /* 4^.5 = 2 and 1, over sqrt(2) */
    assert_float_equal(s[0], sqrt(2), 1e-6);
    assert_float_equal(s[1], sqrt(0.5), 1e-6);
    assert_true(s[5] == 1 && report.dead == 1);
    d.mean_abs[6] = INFINITY;
    assert_int_equal(ht_transform_magnitude(&d.block, &site, &d.stats, 0.5, s, &report, &err), HT_NUMERIC);
    err = (ht_err){0};
    assert_int_equal(ht_transform_magnitude(&d.block, &site, &d.stats, 1.5, s, &report, &err), HT_INVAL);
    ht_fold_block_deinit(&d.block);
}

static void search(ht_factors_fn *factors, bool inputs, const float *expected_better_than_none) {
    static struct data d;
    ht_err err = {0};
    struct ht_transform_report report;
    float s[COLS], t[COLS];
    data_init(&d);
    struct ht_trial trial = {.weights = int3_groups, .inputs = inputs ? int8_tensor : NULL, .ctx = &d, .pool = NULL};
    ASSERT_OK(ht_transform_search(factors, &trial, &d.block, &site, &d.stats, 20, s, &report, &err), &err);
    assert_int_equal(report.trials, 22);
    assert_int_equal(d.calls, 44);
    assert_float_equal(report.loss, plain_loss(&d, s, inputs), 1e-4 * report.loss);
    assert_float_equal(report.loss_before, plain_loss(&d, expected_better_than_none, inputs), 1e-4 * report.loss_before);
    print_message("# alpha %.2f: loss %.4g -> %.4g\n", report.alpha, report.loss_before, report.loss);
    assert_true(report.alpha > 0 && report.loss < 0.9 * report.loss_before);
    /* the best of the grid: none of its neighbours is better */
    for (int k = 0; k <= 20; k++) {
        struct ht_transform_report tried;
        ASSERT_OK(factors(&d.block, &site, &d.stats, k / 20.0, t, &tried, &err), &err);
        assert_true(plain_loss(&d, t, inputs) >= report.loss * (1 - 1e-4));
    }
    ht_fold_block_deinit(&d.block);
}

static void test_search(void **state) {
    (void)state;
    float ones[COLS];
    for (int c = 0; c < COLS; c++) {
        ones[c] = 1;
    }
    search(ht_transform_magnitude, false, ones);
    search(ht_transform_migrate, true, ones);
}

/* Nothing is better than an exact grid: factors of 1 stay. */
static ht_status exact(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols, const float *s,
                       float *out, ht_err *err) {
    (void)ctx;
    (void)role;
    (void)s;
    (void)err;
    memcpy(out, x, rows * cols * sizeof *x);
    return HT_OK;
}

static void test_search_keeps_ones(void **state) {
    (void)state;
    static struct data d;
    ht_err err = {0};
    struct ht_transform_report report;
    float s[COLS];
    data_init(&d);
    struct ht_trial trial = {.weights = exact, .inputs = NULL, .ctx = &d, .pool = NULL};
    ASSERT_OK(ht_transform_search(ht_transform_magnitude, &trial, &d.block, &site, &d.stats, 20, s, &report, &err), &err);
    assert_true(report.alpha == -1 && report.loss == 0 && s[3] == 1 && s[4] == 1);
    assert_int_equal(ht_transform_search(ht_transform_magnitude, &trial, &d.block, &site, &d.stats, 0, s, &report, &err),
                     HT_INVAL);
    ht_fold_block_deinit(&d.block);
}

/* Half of the rows estimate the loss of all. */
static void test_max_rows(void **state) {
    (void)state;
    static struct data d;
    ht_err err = {0};
    double all = 0, half = 0;
    data_init(&d);
    struct ht_trial trial = {.weights = int3_groups, .inputs = NULL, .ctx = &d, .pool = NULL};
    ASSERT_OK(ht_trial_loss(&trial, &d.block, &site, &d.stats, NULL, NULL, &all, &err), &err);
    trial.max_rows = 6;
    ASSERT_OK(ht_trial_loss(&trial, &d.block, &site, &d.stats, NULL, NULL, &half, &err), &err);
    assert_true(half != all && half > 0.5 * all && half < 2 * all);
    ht_fold_block_deinit(&d.block);
}

/* ---- clip -------------------------------------------------------------------------------------------------- */

static double group_loss(const struct data *d, const float *w, const float *q, uint64_t from, uint64_t len) {
    double sum = 0;
    for (int t = 0; t < TOKENS; t++) {
        double e = 0;
        for (uint64_t i = 0; i < len; i++) {
            e += ((double)w[i] - (double)q[i]) * d->sample[(uint64_t)t * COLS + from + i];
        }
        sum += e * e / TOKENS;
    }
    return sum;
}

static void test_clip(void **state) {
    (void)state;
    static struct data d;
    ht_err err = {0};
    struct ht_transform_report report;
    data_init(&d);
    struct ht_fold_matrix *m = &d.block.matrices[HT_ROLE_ATTN_Q];
    float w[ROWS * COLS], q[ROWS * COLS], best[8];
    memcpy(w, m->w, sizeof w);
    struct ht_trial trial = {.weights = int3_groups, .inputs = NULL, .ctx = &d, .pool = NULL};
    ASSERT_OK(ht_transform_clip(&trial, &d.block, HT_ROLE_ATTN_Q, &d.stats, 8, 20, &report, &err), &err);
    assert_int_equal(report.channels, ROWS * 4);
    assert_int_equal(report.trials, 11);
    assert_true(report.cut > 0 && report.clamped == 0 && report.least >= 0.5f);
    double before = 0, after = 0;
    for (int g = 0; g < ROWS * 4; g++) {
        const float *from = w + g * 8;
        float most = 0;
        double least = INFINITY;
        for (int i = 0; i < 8; i++) {
            most = fmaxf(most, fabsf(from[i]));
        }
        for (int k = 0; k <= 10; k++) { /* every cut by hand */
            float bound = most * (1 - (float)k / 20);
            for (int i = 0; i < 8; i++) {
                best[i] = fminf(fmaxf(from[i], -bound), bound);
            }
            round_to(best, 8, 8, 3, q);
            double loss = group_loss(&d, from, q, (uint64_t)(g % 4) * 8, 8);
            least = fmin(least, loss);
            before += k == 0 ? loss : 0;
        }
        round_to(m->w + g * 8, 8, 8, 3, q);
        double now = group_loss(&d, from, q, (uint64_t)(g % 4) * 8, 8);
        assert_float_equal(now, least, 1e-4 * least + 1e-9);
        after += now;
    }
    assert_float_equal(report.loss_before, before, 1e-3 * before);
    assert_float_equal(report.loss, after, 1e-3 * after);
    assert_true(after < before);
    /* groups that do not divide the row: 5 + 5 + ... + 2 */
    ASSERT_OK(ht_transform_clip(&trial, &d.block, HT_ROLE_ATTN_K, &d.stats, 5, 20, &report, &err), &err);
    assert_int_equal(report.channels, ROWS / 2 * 7);
    assert_int_equal(ht_transform_clip(&trial, &d.block, HT_ROLE_ATTN_V, &d.stats, 8, 20, &report, &err), HT_INVAL);
    ht_fold_block_deinit(&d.block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_magnitude),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_search_keeps_ones),
        cmocka_unit_test(test_max_rows),
        cmocka_unit_test(test_clip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
