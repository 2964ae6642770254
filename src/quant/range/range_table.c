/* The parts of axis 2, their options, and the checks that come before each. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"
#include "quant/range/range_impl.h"

#define NO_OPTIONS {{NULL, 0, 0, 0, NULL, HT_OPTION_REAL, NULL}}
#define ROW_ON(places, name, needs, summary, formula, source, ...)                                            \
    {name, HT_AXIS_RANGE, places, HT_GRIDS_CODE, needs, HT_LEAVES_NOTHING, summary, formula, source, NULL, NULL, \
     __VA_ARGS__}
/* What inputs get at run time, token by token or as keys and values are kept. */
#define ROW_ANYWHERE(...) ROW_ON(HT_ON_WEIGHTS | HT_ON_ACTIVATIONS | HT_ON_KV, __VA_ARGS__)
/* Inputs get it beforehand, from what calibration saw: one scale for all of them. */
#define FIXED (HT_ON_ACTIVATIONS | HT_SINGLE(HT_ON_ACTIVATIONS))
#define ROW(...) ROW_ON(HT_ON_WEIGHTS | FIXED, __VA_ARGS__)
#define REAL(name, value, low, high, help) {name, value, low, high, help, HT_OPTION_REAL, NULL}
#define WHOLE(name, value, low, high, help) {name, value, low, high, help, HT_OPTION_WHOLE, NULL}

static const struct ht_range_part parts[] = {
    {ROW_ANYWHERE("absmax", HT_NEEDS_NOTHING, "scale from the largest magnitude", "scale = max |x| / max level",
         "Krishnamoorthi 2018, arXiv 1806.08342, section 2", NO_OPTIONS), false, ht_range_fit_absmax},
    {ROW_ANYWHERE("minmax", HT_NEEDS_NOTHING, "from the smallest to the largest value",
         "scale = (max x - min x) / (levels - 1)", "Jacob et al. 2017, arXiv 1712.05877, section 3.1", NO_OPTIONS),
     false, ht_range_fit_minmax},
    {ROW("percentile", HT_NEEDS_NOTHING, "a share of the values stays inside, the rest is clipped",
         "scale = quantile_p |x| / max level", "McKinstry et al. 2018, arXiv 1809.04191",
         {REAL("p", 99.99, 50, 100, "percent of the values inside"),
          WHOLE("tails", 0, 0, 2, "1: of |x|; 2: half of the rest at either end; 0: 1 when symmetric, else 2")}),
     false, ht_range_fit_percentile},
    {ROW_ON(HT_ON_WEIGHTS | HT_SINGLE(HT_ON_WEIGHTS) | FIXED, "entropy", HT_NEEDS_NOTHING,
            "the threshold whose quantized histogram diverges least from the values' own",
         "t = argmin_t KL(hist |x| clipped at t || its quantized form)",
         "Migacz 2017, 8-bit inference with TensorRT, GTC",
         {WHOLE("bins", 2048, 16, HT_RANGE_BINS, "of the histogram of |x|; a stream has its own"),
          REAL("smooth", 1e-4, 1e-12, 0.5, "share of an even distribution in the quantized one, against log 0")}),
     false, ht_range_fit_entropy},
    {ROW("mse", HT_NEEDS_NOTHING, "the range with the smallest error sum |x - x'|^norm",
         "argmin over ranges of sum |x - x'|^norm",
         "Banner et al. 2018, arXiv 1810.05723; norm 2.4: the code of Frantar et al. 2022, arXiv 2210.17323",
         {REAL("norm", 2, 1, 4, "exponent of the error"),
          WHOLE("grid", 64, 8, 1024, "candidates between a quarter and the whole range, and below")}),
     false, ht_range_fit_mse},
    {ROW_ON(HT_ON_WEIGHTS, "wmse", HT_NEEDS_MEAN_SQUARE, "the same, each error weighted by its importance",
         "argmin over ranges of sum E[x_j^2] |w_j - w_j'|^norm", "llama.cpp, pull request 4861",
         {REAL("norm", 2, 1, 4, "exponent of the error"),
          WHOLE("grid", 64, 8, 1024, "candidates between a quarter and the whole range, and below")}),
     false, ht_range_fit_weighted},
    {ROW("half-quadratic", HT_NEEDS_NOTHING,
         "sum |x - x'|^p with p below 1, outliers split off by shrinkage; needs no data",
         "argmin_z sum |w - s (q - z)|^p", "Badri and Shaji 2023, Half-Quadratic Quantization",
         {REAL("p", 0.7, 0.1, 1, "exponent of the error"),
          REAL("beta", 10, 0.1, 1e6, "start of the penalty, in steps"),
          REAL("kappa", 1.01, 1, 10, "its growth per iteration"), WHOLE("iters", 20, 1, 1000, "iterations at most")}),
     false, ht_range_fit_halfquad},
    {ROW_ON(FIXED, "moving-average", HT_NEEDS_NOTHING,
            "exponential moving average of the bounds of batches: of the tokens of the sample, in their order",
            "bound <- m bound + (1 - m) max x of the batch", "Jacob et al. 2017, arXiv 1712.05877, section 3.1",
            {REAL("momentum", 0.99, 0, 0.9999, "what remains of the batches before, each time")}), true,
     ht_range_fit_average},
};
enum { N_PARTS = sizeof parts / sizeof parts[0] };

size_t ht_range_count(void) {
    return N_PARTS;
}

const struct ht_range_part *ht_range_at(size_t i) {
    return i < N_PARTS ? &parts[i] : NULL;
}

const struct ht_range_part *ht_range_find(const char *name) {
    for (size_t i = 0; i < N_PARTS; i++) {
        if (strcasecmp(parts[i].part.name, name) == 0) {
            return &parts[i];
        }
    }
    return NULL;
}

const char *ht_range_name_at(const void *unused, size_t i) {
    (void)unused;
    return i < N_PARTS ? parts[i].part.name : NULL;
}

/* ---- text --------------------------------------------------------------------------------------------- */

ht_status ht_range_parse(const char *text, struct ht_range_choice *choice, ht_err *err) {
    char name[64], near[128];
    size_t len = strcspn(text, ":");
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    choice->part = ht_range_find(name);
    if (choice->part == NULL) {
        ht_nearest(name, ht_range_name_at, NULL, N_PARTS, near, sizeof near);
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "no range part is called '%s'%s%s", name,
                       near[0] != '\0' ? "; did you mean " : "", near);
    }
    struct ht_choice defaults;
    ht_choice_defaults(&defaults, &choice->part->part);
    memcpy(choice->options, defaults.options, sizeof choice->options);
    return text[len] == ':' ? ht_part_parse_options(&choice->part->part, text + len + 1, choice->options, err) : HT_OK;
}

/* ---- fit ---------------------------------------------------------------------------------------------- */

static ht_status check_values(const struct ht_range_input *in, ht_err *err) {
    if (in->x == NULL ? in->state == NULL || in->state->n == 0 : in->n == 0) {
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "there are no values to fit a range to");
    }
    for (size_t i = 0; in->x != NULL && i < in->n; i++) {
        if (!isfinite(in->x[i])) {
            return ht_fail(err, HT_NUMERIC, NULL, HT_NO_POS, "value %zu of %zu is %f; a range needs finite values", i,
                           in->n, (double)in->x[i]);
        }
    }
    return HT_OK;
}

/* *any: some importance is above zero. */
static ht_status check_weights(const struct ht_range_part *part, const struct ht_range_input *in, bool *any,
                               ht_err *err) {
    if (in->x == NULL || in->weight == NULL) {
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "%s needs the importance of each value; mse needs none",
                       part->part.name);
    }
    *any = false;
    for (size_t i = 0; i < in->n; i++) {
        if (!isfinite(in->weight[i]) || in->weight[i] < 0) {
            bool negative = isfinite(in->weight[i]);
            return ht_fail(err, negative ? HT_INVAL : HT_NUMERIC, NULL, HT_NO_POS,
                           "importance %zu of %zu is %g; expected finite, at least 0", i, in->n, (double)in->weight[i]);
        }
        *any |= in->weight[i] > 0;
    }
    return HT_OK;
}

ht_status ht_range_fit(const struct ht_range_choice *choice, const struct ht_range_input *in,
                       const struct ht_range_grid *grid, struct ht_range *out, ht_err *err) {
    struct ht_range_input checked = *in;
    if (grid->lo >= grid->hi || (grid->levels != NULL && grid->integer_zero)) {
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS,
                       "the grid has codes %d to %d%s; expected two codes or more, and a whole zero for integers only",
                       grid->lo, grid->hi, grid->levels != NULL ? ", a table" : "");
    }
    HT_TRY(check_values(in, err));
    if (choice->part->part.needs != HT_NEEDS_NOTHING) {
        bool any = false;
        HT_TRY(check_weights(choice->part, in, &any, err));
        checked.weight = any ? in->weight : NULL;
    }
    return choice->part->fit(&checked, grid, choice->options, out, err);
}
