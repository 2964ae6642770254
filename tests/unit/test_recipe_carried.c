/* A recipe is refused in words before work starts, or it is carried out: the table of parts, every option at its
 * bounds, on grids of every kind. */
#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/job.h"

#ifdef HT_SANITIZED
enum { EVERY = 3 }; /* formats */
#else
enum { EVERY = 1 };
#endif
enum { ROWS = 4, MOST = 256, STEPS = 40 };

struct data {
    float w[ROWS * MOST], h[MOST * MOST], one[MOST], low[MOST];
    struct ht_stats stats;
};

static struct data *make(uint64_t cols) {
    struct data *d = ht_mem_calloc(1, sizeof *d);
    struct ht_rng rng;
    assert_non_null(d);
    ht_rng_init(&rng, 5);
    for (size_t i = 0; i < ROWS * cols; i++) {
        d->w[i] = (float)ht_rng_normal(&rng);
    }
    for (size_t i = 0; i < cols; i++) { /* E[x_i x_j] of a stationary sequence */
        d->one[i] = 1;
        d->low[i] = -1;
        for (size_t j = 0; j < cols; j++) {
            d->h[i * cols + j] = (float)pow(0.7, fabs((double)i - (double)j));
        }
    }
    d->stats = (struct ht_stats){.cols = cols, .tokens = 100, .gram = d->h, .min = d->low, .max = d->one,
                                 .mean = d->one, .mean_abs = d->one, .mean_square = d->one, .absmax = d->one};
    return d;
}

static uint64_t cols_of(const char *format) {
    return strchr(format, ':') == NULL && ht_format_find(format)->block_elems == MOST ? MOST : 64;
}

/* Zeros that the file holds, where the job prunes. */
static uint64_t zeros(const struct ht_job *job) {
    float x[ROWS * MOST], scratch[MOST];
    uint64_t n = 0;
    ht_job_decode(job, 0, ROWS, x, scratch);
    for (uint64_t i = 0; i < ROWS * job->cols; i++) {
        n += x[i] == 0.0f;
    }
    return n;
}

/* How many recipes were carried and refused. */
static struct {
    unsigned carried, refused;
} count;

static void carry(const struct ht_place_recipe *how, const char *format) {
    struct ht_recipe r;
    char round[HT_CHOICE_TEXT], range[HT_CHOICE_TEXT], outlier[HT_CHOICE_TEXT];
    ht_err err = {0};
    ht_recipe_defaults(&r);
    r.places[HT_PLACE_WEIGHTS] = *how;
    snprintf(r.places[HT_PLACE_WEIGHTS].format, HT_RECIPE_FORMAT, "%s", format);
    if (ht_recipe_check(&r, &err) != HT_OK) {
        assert_true(strlen(err.msg) > 20);
        count.refused++;
        return;
    }
    uint64_t cols = cols_of(format);
    struct data *d = make(cols);
    struct ht_job job = {.name = "linear", .weights = &r.places[HT_PLACE_WEIGHTS], .w = d->w, .rows = ROWS,
                         .cols = cols, .stats = &d->stats, .seed = 3};
    if (strchr(format, ':') != NULL) {
        ASSERT_OK(ht_scheme_parse(format, &job.scheme, &err), &err);
    } else {
        job.block = ht_format_find(format);
    }
    if (ht_job_run(&job, &err) != HT_OK) {
        fail_msg("%s, %s, range %s, outlier %s: passes the check, then: %s", format, ht_choice_text(&how->round, round),
                 ht_choice_text(&how->range, range), ht_choice_text(&how->outlier, outlier), err.msg);
    }
    if (zeros(&job) < job.report.pruned) {
        fail_msg("%s, %s, outlier %s: %llu pruned, %llu are 0", format, ht_choice_text(&how->round, round),
                 ht_choice_text(&how->outlier, outlier), (unsigned long long)job.report.pruned,
                 (unsigned long long)zeros(&job));
    }
    count.carried++;
    ht_job_release(&job);
    ht_mem_free(d);
}

static const char *const formats[] = {"int4:g32",      "uint4:g32:offset", "int3:channel", "int4:tensor", "kmeans4:g32",
                                      "binary:g32",    "nf4:g32:nested",   "int12:g32",    "log4:g32",    "ternary:g32",
                                      "fp8_e4m3:channel", "q4_k",          "q4_0",         "iq4_nl",      "iq2_xxs"};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

/* Steps and trials cost time and nothing else. */
static double within(const struct ht_part_option *o, double value) {
    bool costs = strcmp(o->name, "steps") == 0 || strcmp(o->name, "grid") == 0 || strcmp(o->name, "bins") == 0;
    return costs && value > o->value && o->value >= STEPS ? o->value : costs && value > STEPS ? STEPS : value;
}

static struct ht_choice *slot(struct ht_place_recipe *how, enum ht_axis axis) {
    return axis == HT_AXIS_RANGE ? &how->range : axis == HT_AXIS_ROUND ? &how->round : &how->outlier;
}

/* The part as it is, then with each option at its lowest and highest. */
static void walk(const struct ht_place_recipe *base, const struct ht_part *part) {
    for (size_t f = 0; f < N_FORMATS; f += EVERY) {
        struct ht_place_recipe how = *base;
        struct ht_choice *choice = slot(&how, part->axis);
        ht_choice_defaults(choice, part);
        for (size_t k = 0; k < HT_PART_OPTIONS && part->options[k].name != NULL; k++) {
            choice->options[k] = within(&part->options[k], choice->options[k]);
        }
        const struct ht_choice plain = *choice;
        carry(&how, formats[f]);
        for (size_t k = 0; k < HT_PART_OPTIONS && part->options[k].name != NULL; k++) {
            const struct ht_part_option *o = &part->options[k];
            const double bounds[2] = {o->low, within(o, o->high)};
            for (int b = 0; b < 2; b++) {
                *choice = plain;
                choice->options[k] = bounds[b];
                carry(&how, formats[f]);
            }
        }
    }
}

static void every_part_is_carried_or_refused(void **state) {
    (void)state;
    static const char *const rounds[] = {"nearest", "feedback:order=groups"};
    const struct ht_part *part;
    count.carried = count.refused = 0;
    for (size_t i = 0; (part = ht_part_at(i)) != NULL; i++) {
        if (part->axis == HT_AXIS_TRANSFORM || (part->places & HT_ON_WEIGHTS) == 0) {
            continue;
        }
        for (size_t k = 0; k < (part->axis == HT_AXIS_ROUND ? 1 : 2); k++) {
            struct ht_recipe r;
            ht_err err = {0};
            ht_recipe_defaults(&r);
            ASSERT_OK(ht_choice_parse(HT_AXIS_ROUND, rounds[k], &r.places[HT_PLACE_WEIGHTS].round, &err), &err);
            walk(&r.places[HT_PLACE_WEIGHTS], part);
        }
    }
    print_message("# %u carried, %u refused\n", count.carried, count.refused);
    assert_true(count.carried > count.refused && count.refused > 0);
}

/* What no part knows by itself. */
static void refused_in_words(void **state) {
    (void)state;
    static const struct {
        const char *format, *range, *round, *outlier, *said;
    } bad[] = {
        {"int4:g64", "own", "feedback:dynamic=true", "none", "order: natural"},
        {"q4_k", "own", "feedback:dynamic=true", "none", "order: natural"},
        {"int4:tensor", "own", "feedback:dynamic=true", "none", "one scale for the whole tensor"},
        {"nf4:g64:nested", "own", "feedback:dynamic=true,order=natural", "none", "nests its scales"},
        {"kmeans4:g64", "own", "feedback:dynamic=true,order=groups", "none", "fits its levels"},
        {"int4:g64", "own", "feedback", "prune:n=3,m=2", "3 of 2 cannot stay"},
        {"uint4:g64:offset", "own", "feedback", "prune", "without offset"},
        {"uint4:g64:offset", "own", "nearest", "prune:fraction=0.5", "without offset"},
        {"kmeans4:g64", "own", "nearest", "prune", "0 is no value of kmeans4:g64"},
        {"binary:g64", "own", "nearest", "prune", "0 is no value of binary:g64"},
        {"iq2_xxs", "own", "greedy", "none", "stores vectors of weights"},
        {"int12:g64", "own", "greedy", "none", "at most 8 bits"},
        {"kmeans4:g64", "mse", "feedback", "none", "take range: own"},
        {"kmeans4:g64", "weighted", "nearest", "none", "take range: own"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ht_recipe r;
        ht_err err = {0};
        ht_recipe_defaults(&r);
        struct ht_place_recipe *w = &r.places[HT_PLACE_WEIGHTS];
        snprintf(w->format, sizeof w->format, "%s", bad[i].format);
        ASSERT_OK(ht_choice_parse(HT_AXIS_RANGE, bad[i].range, &w->range, &err), &err);
        ASSERT_OK(ht_choice_parse(HT_AXIS_ROUND, bad[i].round, &w->round, &err), &err);
        ASSERT_OK(ht_choice_parse(HT_AXIS_OUTLIER, bad[i].outlier, &w->outlier, &err), &err);
        if (ht_recipe_check(&r, &err) == HT_OK || strstr(err.msg, bad[i].said) == NULL) {
            fail_msg("%zu: %s, %s: '%s' says nothing of '%s'", i, bad[i].format, bad[i].round, err.msg, bad[i].said);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_is_carried_or_refused),
        cmocka_unit_test(refused_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
