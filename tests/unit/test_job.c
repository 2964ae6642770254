/* One linear on its way: what is measured is what is stored; drift correction against the least squares that it states;
 * fixed scales of activations cover what calibration saw. */
#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/job.h"
#include "quant/method.h"

enum { ROWS = 24, COLS = 96, TOKENS = 400 };

struct data {
    float w[ROWS * COLS], y[TOKENS * COLS], x[TOKENS * COLS], h[COLS * COLS], g[COLS * COLS], min[COLS], max[COLS];
    float mean[COLS], mean_abs[COLS], mean_square[COLS];
    struct ht_stats stats;
};

/* y: inputs of the unquantized model, correlated; x: the same with noise, as a quantized model would give them. */
static struct data *make(double noise) {
    struct data *d = ht_mem_calloc(1, sizeof *d);
    struct ht_rng rng;
    assert_non_null(d);
    ht_rng_init(&rng, 7);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        d->w[i] = (float)ht_rng_normal(&rng);
    }
    for (size_t t = 0; t < TOKENS; t++) {
        double last = 0;
        for (size_t j = 0; j < COLS; j++) {
            last = 0.8 * last + ht_rng_normal(&rng) * (1 + (j % 7 == 0) * 4);
            float y = (float)last, x = y + (float)(noise * ht_rng_normal(&rng));
            d->y[t * COLS + j] = y;
            d->x[t * COLS + j] = x;
            d->mean[j] += x / TOKENS;
            d->mean_abs[j] += fabsf(x) / TOKENS;
            d->mean_square[j] += x * x / TOKENS;
            d->min[j] = t == 0 || x < d->min[j] ? x : d->min[j];
            d->max[j] = t == 0 || x > d->max[j] ? x : d->max[j];
        }
    }
    for (size_t i = 0; i < COLS; i++) {
        for (size_t j = 0; j < COLS; j++) {
            double h = 0, g = 0;
            for (size_t t = 0; t < TOKENS; t++) {
                h += (double)d->x[t * COLS + i] * d->x[t * COLS + j] / TOKENS;
                g += (double)d->y[t * COLS + i] * d->x[t * COLS + j] / TOKENS;
            }
            d->h[i * COLS + j] = (float)h;
            d->g[i * COLS + j] = (float)g;
        }
    }
    d->stats = (struct ht_stats){
        .cols = COLS, .tokens = TOKENS, .gram = d->h, .cross = d->g, .min = d->min, .max = d->max,
        .mean = d->mean, .mean_abs = d->mean_abs, .mean_square = d->mean_square};
    return d;
}

/* Mean of |W y - V x|^2 over tokens. */
static double miss(const struct data *d, const float *v) {
    double sum = 0;
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t r = 0; r < ROWS; r++) {
            double e = 0;
            for (size_t j = 0; j < COLS; j++) {
                e += (double)d->w[r * COLS + j] * d->y[t * COLS + j] - (double)v[r * COLS + j] * d->x[t * COLS + j];
            }
            sum += e * e / TOKENS;
        }
    }
    return sum;
}

static void test_drift(void **state) {
    (void)state;
    struct data *d = make(0.7);
    ht_err err = {0};
    float v[ROWS * COLS], half[ROWS * COLS];
    memcpy(v, d->w, sizeof v);
    ASSERT_OK(ht_drift_correct(NULL, v, ROWS, COLS, d->h, d->h, 1, &err), &err);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        assert_true(fabsf(v[i] - d->w[i]) < 1e-6f); /* inputs that did not change: nothing to correct */
    }
    memcpy(half, d->w, sizeof half);
    ASSERT_OK(ht_drift_correct(NULL, v, ROWS, COLS, d->h, d->g, 1, &err), &err);
    ASSERT_OK(ht_drift_correct(NULL, half, ROWS, COLS, d->h, d->g, 0.5, &err), &err);
    double before = miss(d, d->w), full = miss(d, v), middle = miss(d, half);
    assert_true(full < 0.8 * before && middle < before && full < middle);
    /* Half of the way to the least of a quadratic takes three quarters of the gain; damping stops short of it, where
     * half takes less of what the whole takes. */
    double share = (before - middle) / (before - full);
    assert_true(share > 0.6 && share < 0.7501);
    ht_mem_free(d);
}

static void run(struct data *d, const char *method, const char *format, struct ht_job *job) {
    static struct ht_recipe recipe;
    ht_err err = {0};
    float *w = ht_mem_alloc_aligned(ROWS, COLS * sizeof *w);
    memcpy(w, d->w, sizeof d->w);
    ASSERT_OK(ht_method_recipe(ht_method_find(method), &recipe, &err), &err);
    *job = (struct ht_job){.name = "linear", .weights = &recipe.places[HT_PLACE_WEIGHTS],
                           .activations = &recipe.places[HT_PLACE_ACTIVATIONS], .w = w, .rows = ROWS, .cols = COLS,
                           .stats = &d->stats};
    if (strchr(format, ':') != NULL) {
        ASSERT_OK(ht_scheme_parse(format, &job->scheme, &err), &err);
    } else {
        job->block = ht_format_find(format);
    }
    ASSERT_OK(ht_job_run(job, &err), &err);
    ht_mem_free_aligned(w);
    job->w = NULL;
}

/* The loss that a job tells, from its decoded result and the tokens themselves. */
static void test_what_is_told(void **state) {
    (void)state;
    static const char *const formats[] = {"int4:g32", "int3:channel", "q4_0", "nf4:g32:nested"};
    struct data *d = make(0);
    float v[ROWS * COLS], scratch[COLS];
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        struct ht_job nearest, feedback;
        run(d, "rtn", formats[i], &nearest);
        run(d, "gptq", formats[i], &feedback);
        ht_job_decode(&nearest, 0, ROWS, v, scratch);
        assert_true(fabs(miss(d, v) - nearest.report.loss) < 1e-3 * nearest.report.loss);
        ht_job_decode(&feedback, 0, ROWS, v, scratch);
        assert_true(fabs(miss(d, v) - feedback.report.loss) < 1e-3 * feedback.report.loss);
        assert_true(feedback.report.loss < feedback.report.loss_nearest);
        assert_true(nearest.report.moments == 2 && nearest.report.signal > nearest.report.loss);
        ht_job_release(&nearest);
        ht_job_release(&feedback);
    }
    ht_mem_free(d);
}

/* Whatever a recipe does to a linear, it starts from the same: its weights as they came, to nearest on the format's own
 * grid, whose loss is that of the tokens themselves. Two ways of the same recipe with other damping lose as they do. */
static void test_before(void **state) {
    (void)state;
    static const struct {
        const char *range, *round, *outlier;
        double drift;
        bool gains;
    } ways[] = {
        {"own", "nearest", "none", 0, false},       {"own", "stochastic", "none", 0, false},
        {"weighted", "feedback", "none", 0, true},  {"weighted", "feedback:damping=10,descents=0", "none", 0, true},
        {"weighted", "greedy", "none", 0, true},    {"mse", "nearest", "none", 0, false},
        {"weighted", "relax:steps=20", "none", 0, true}, {"own", "nearest", "salient:fraction=0.1", 0, true},
        {"own", "nearest", "lowrank:rank=8", 0, true},   {"own", "feedback", "prune", 0, false},
        {"own", "feedback", "none", 1, false},
    };
    struct data *d = make(0.3);
    float *w = ht_mem_alloc_aligned(ROWS, COLS * sizeof *w), v[ROWS * COLS], scratch[COLS], unit[ROWS];
    double first = 0;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        for (size_t moments = 0; moments < 3; moments++) { /* the last is told */
            struct ht_recipe recipe;
            struct ht_place_recipe *how = &recipe.places[HT_PLACE_WEIGHTS];
            struct ht_stats stats = d->stats;
            ht_err err = {0};
            ht_recipe_defaults(&recipe);
            ASSERT_OK(ht_choice_parse(HT_AXIS_RANGE, ways[i].range, &how->range, &err), &err);
            ASSERT_OK(ht_choice_parse(HT_AXIS_ROUND, ways[i].round, &how->round, &err), &err);
            ASSERT_OK(ht_choice_parse(HT_AXIS_OUTLIER, ways[i].outlier, &how->outlier, &err), &err);
            bool gram = ((how->round.part->needs | how->outlier.part->needs) & HT_NEEDS_GRAM) != 0;
            if ((moments < 2 && gram) || (moments == 0 && strcmp(ways[i].range, "weighted") == 0)) {
                continue;
            }
            stats.gram = moments == 2 ? stats.gram : NULL;
            stats.mean_square = moments == 1 ? stats.mean_square : NULL;
            memcpy(w, d->w, sizeof d->w);
            struct ht_job job = {.name = "linear", .weights = how, .w = w, .rows = ROWS, .cols = COLS, .stats = &stats,
                                 .drift = ways[i].drift};
            ASSERT_OK(ht_scheme_parse("int3:g32", &job.scheme, &err), &err);
            ASSERT_OK(ht_job_run(&job, &err), &err);
            const struct ht_job_report *r = &job.report;
            assert_int_equal(r->moments, moments);
            assert_true(moments > 0 ? isfinite(r->loss_nearest) : isnan(r->loss_nearest));
            if (moments == 2) {
                memcpy(d->y, d->x, sizeof d->x); /* miss() of the same inputs */
                ht_job_decode(&job, 0, ROWS, v, scratch);
                first = i == 0 ? miss(d, v) : first;
                assert_true(fabs(r->loss - miss(d, v)) < 1e-3 * r->loss);
                if (fabs(r->loss_nearest - first) > 1e-3 * first) {
                    fail_msg("%s, %s: nearest loses %g, told %g", ways[i].round, ways[i].outlier, first, r->loss_nearest);
                }
                assert_true(!ways[i].gains || r->loss < 0.95 * r->loss_nearest);
                struct ht_front front = {.unit = unit, .measured = true, .loss_nearest = 77};
                for (size_t k = 0; k < ROWS; k++) { /* all of one size: the loss by its square */
                    unit[k] = 0.5f;
                }
                double loss = r->loss, signal = r->signal;
                job.front = &front;
                ASSERT_OK(ht_job_measure(&job, d->w, &err), &err);
                assert_true(fabs(r->loss - 4 * loss) < 1e-9 * loss && fabs(r->signal - 4 * signal) < 1e-9 * signal);
            }
            ht_job_release(&job);
        }
    }
    ht_mem_free_aligned(w);
    ht_mem_free(d);
}

/* What is kept or added beside codes and blocks, in the order of what it gains; what a job tells is what is there. */
static void test_beside(void **state) {
    (void)state;
    struct data *d = make(0);
    float v[ROWS * COLS], scratch[COLS];
    static const struct {
        const char *part;
        unsigned leaves;
    } parts[] = {
        {"none", 0},
        {"lowrank:rank=8", HT_LEAVES_LOWRANK},
        {"lowrank-scaled:rank=8", HT_LEAVES_LOWRANK},
        {"lowrank-moments:rank=8", HT_LEAVES_LOWRANK},
        {"salient:fraction=0.1", HT_LEAVES_COLUMNS},
    };
    for (size_t k = 0; k < 2; k++) {
        double least = INFINITY, none = 0;
        for (size_t i = 0; i < (k == 0 ? 5 : 4); i++) {
            struct ht_recipe recipe;
            struct ht_job job;
            ht_err err = {0};
            float *w = ht_mem_alloc_aligned(ROWS, COLS * sizeof *w);
            memcpy(w, d->w, sizeof d->w);
            ht_recipe_defaults(&recipe);
            ASSERT_OK(ht_choice_parse(HT_AXIS_OUTLIER, parts[i].part, &recipe.places[HT_PLACE_WEIGHTS].outlier, &err),
                      &err);
            job = (struct ht_job){.name = "linear", .weights = &recipe.places[HT_PLACE_WEIGHTS], .w = w, .rows = ROWS,
                                  .cols = COLS, .stats = &d->stats};
            if (k == 0) {
                ASSERT_OK(ht_scheme_parse("uint3:g32", &job.scheme, &err), &err);
            } else {
                job.block = ht_format_find("q4_0");
            }
            ASSERT_OK(ht_job_run(&job, &err), &err);
            ht_job_decode(&job, 0, ROWS, v, scratch);
            assert_int_equal(job.side.leaves, parts[i].leaves);
            assert_true(fabs(miss(d, v) - job.report.loss) < 1e-3 * job.report.loss);
            none = i == 0 ? job.report.loss : none;
            if (i > 0 && i < 4) {
                assert_true(job.report.loss < 0.7 * none && (i < 3 || job.report.loss < least));
                assert_true(fabs(job.report.loss_nearest - none) < 1e-6 * none);
            }
            if (i == 4) { /* ceil(0.1 * 96) columns, as they were but for f16 */
                assert_int_equal(job.side.n_out, 10);
                assert_true(job.report.loss < 0.9 * none);
                for (uint32_t c = 0; c < 10; c++) {
                    assert_true(fabsf(v[job.side.out_idx[c]] - d->w[job.side.out_idx[c]]) < 2e-3f);
                }
            }
            least = fmin(least, job.report.loss);
            ht_job_release(&job);
            ht_mem_free_aligned(w);
        }
    }
    ht_mem_free(d);
}

/* The mean of what is lost, to a bias beside or to be added to the file's own. */
static void test_center(void **state) {
    (void)state;
    struct data *d = make(0.3);
    struct ht_recipe recipe;
    float v[ROWS * COLS], scratch[COLS];
    ht_err err = {0};
    for (size_t j = 0; j < COLS; j++) {
        d->mean[j] = (float)j;
    }
    ASSERT_OK(ht_method_recipe(ht_method_find("rtn"), &recipe, &err), &err);
    for (int where = HT_CENTER_BIAS; where <= HT_CENTER_BESIDE; where++) { /* the second with drift corrected for */
        float *w = ht_mem_alloc_aligned(ROWS, COLS * sizeof *w);
        memcpy(w, d->w, sizeof d->w);
        struct ht_job job = {.name = "linear", .weights = &recipe.places[HT_PLACE_WEIGHTS], .w = w, .rows = ROWS,
                             .cols = COLS, .stats = &d->stats, .block = ht_format_find("q4_0"),
                             .center = (enum ht_center)where, .drift = where == HT_CENTER_BESIDE ? 1 : 0};
        ASSERT_OK(ht_job_run(&job, &err), &err);
        ht_job_decode(&job, 0, ROWS, v, scratch);
        assert_int_equal(job.side.leaves, where == HT_CENTER_BESIDE ? HT_LEAVES_OUT_BIAS : 0);
        const float *bias = where == HT_CENTER_BESIDE ? job.side.out_bias : job.bias;
        for (size_t r = 0; r < ROWS; r++) {
            double lost = 0;
            for (size_t j = 0; j < COLS; j++) {
                lost += ((double)d->w[r * COLS + j] - v[r * COLS + j]) * j;
            }
            assert_true(fabs(bias[r] - lost) < 1e-4 * (1 + fabs(lost)));
        }
        ht_job_release(&job);
        ht_mem_free_aligned(w);
    }
    ht_mem_free(d);
}

/* The fixed scale of inputs by a moving average: the tokens of the sample one after the other, by its definition. */
static void test_moving_average(void **state) {
    (void)state;
    struct data *d = make(0);
    struct ht_recipe r;
    struct ht_job job;
    ht_err err = {0};
    double low = 0, high = 0, weight = 0;
    d->stats.sample = d->x;
    d->stats.n_sample = TOKENS;
    for (size_t t = 0; t < TOKENS; t++) {
        double share = pow(0.9, TOKENS - 1 - (double)t), min = 0, max = 0;
        for (size_t j = 0; j < COLS; j++) {
            min = fmin(min, d->x[t * COLS + j]);
            max = fmax(max, d->x[t * COLS + j]);
        }
        low += share * min;
        high += share * max;
        weight += share;
    }
    ASSERT_OK(ht_method_recipe(ht_method_find("percentile"), &r, &err), &err);
    struct ht_place_recipe *a = &r.places[HT_PLACE_ACTIVATIONS];
    ASSERT_OK(ht_choice_parse(HT_AXIS_RANGE, "moving-average:0.9", &a->range, &err), &err);
    job = (struct ht_job){.name = "linear", .weights = &r.places[HT_PLACE_WEIGHTS], .activations = a, .w = d->w,
                          .rows = ROWS, .cols = COLS, .stats = &d->stats};
    ASSERT_OK(ht_scheme_parse("int8:channel", &job.scheme, &err), &err);
    ASSERT_OK(ht_job_run(&job, &err), &err);
    double reach = fmax(-low, high) / weight, scale = job.side.act_scale[0];
    /* Symmetric: one side meets the last level, -128 or 127. */
    assert_true(fabs(scale * 127 / reach - 1) < 0.009);
    ht_job_release(&job);
    ht_mem_free(d);
}

static void test_refused(void **state) {
    (void)state;
    struct data *d = make(0);
    struct ht_recipe r;
    ht_err err = {0};
    ASSERT_OK(ht_method_recipe(ht_method_find("rtn"), &r, &err), &err);
    d->w[77] = NAN;
    struct ht_job job = {.name = "linear", .weights = &r.places[HT_PLACE_WEIGHTS], .block = ht_format_find("q4_0"),
                         .w = d->w, .rows = ROWS, .cols = COLS};
    assert_int_equal(ht_job_run(&job, &err), HT_NUMERIC);
    assert_non_null(strstr(err.msg, "1 of 2304"));
    ht_job_release(&job);
    ht_mem_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drift),
        cmocka_unit_test(test_what_is_told),
        cmocka_unit_test(test_before),
        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_center),
        cmocka_unit_test(test_moving_average),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
