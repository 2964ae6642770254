/* The parts of axis 2, their options, and the checks that come before each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/nearest.h"
#include "quant/range/range_impl.h"

#define NO_OPTIONS {{NULL, 0, 0, 0, NULL}}

static const struct ht_range_part parts[] = {
    {"absmax", "scale from the largest magnitude", "Krishnamoorthi 2018, arXiv 1806.08342, section 2", false, false,
     NO_OPTIONS, ht_range_fit_absmax},
    {"minmax", "from the smallest to the largest value", "Jacob et al. 2017, arXiv 1712.05877, section 3.1", false,
     false, NO_OPTIONS, ht_range_fit_minmax},
    {"percentile", "a share of the values stays inside, the rest is clipped",
     "McKinstry et al. 2018, arXiv 1809.04191", false, false,
     {{"p", 99.99, 50, 100, "percent of the values inside"},
      {"tails", 0, 0, 2, "1: of |x|; 2: half of the rest at either end; 0: 1 when symmetric, else 2"}},
     ht_range_fit_percentile},
    {"entropy", "the threshold whose quantized histogram diverges least from the values' own",
     "Migacz 2017, 8-bit inference with TensorRT, GTC", false, false,
     {{"bins", 2048, 16, HT_RANGE_BINS, "of the histogram of |x|; a stream has its own"},
      {"smooth", 1e-4, 1e-12, 0.5, "share of an even distribution in the quantized one, against log 0"}},
     ht_range_fit_entropy},
    {"mse", "the range with the smallest error sum |x - x'|^norm",
     "Banner et al. 2018, arXiv 1810.05723; norm 2.4: the code of Frantar et al. 2022, arXiv 2210.17323", false, false,
     {{"norm", 2, 1, 4, "exponent of the error"},
      {"grid", 64, 8, 1024, "candidates between a quarter and the whole range, and below"}},
     ht_range_fit_mse},
    {"wmse", "the same, each error weighted by its importance", "llama.cpp, pull request 4861", true, false,
     {{"norm", 2, 1, 4, "exponent of the error"},
      {"grid", 64, 8, 1024, "candidates between a quarter and the whole range, and below"}},
     ht_range_fit_weighted},
    {"half-quadratic", "sum |x - x'|^p with p below 1, outliers split off by shrinkage; needs no data",
     "Badri and Shaji 2023, Half-Quadratic Quantization", false, false,
     {{"p", 0.7, 0.1, 1, "exponent of the error"}, {"beta", 10, 0.1, 1e6, "start of the penalty, in steps"},
      {"kappa", 1.01, 1, 10, "its growth per iteration"}, {"iters", 20, 1, 1000, "iterations at most"}},
     ht_range_fit_halfquad},
    {"moving-average", "exponential moving average of the bounds of batches",
     "Jacob et al. 2017, arXiv 1712.05877, section 3.1", false, true, NO_OPTIONS, ht_range_fit_average},
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
        if (strcasecmp(parts[i].name, name) == 0) {
            return &parts[i];
        }
    }
    return NULL;
}

const char *ht_range_name_at(const void *unused, size_t i) {
    (void)unused;
    return i < N_PARTS ? parts[i].name : NULL;
}

/* ---- text --------------------------------------------------------------------------------------------- */

static size_t option_count(const struct ht_range_part *part) {
    size_t n = 0;
    while (n < HT_RANGE_OPTIONS && part->options[n].name != NULL) {
        n++;
    }
    return n;
}

/* One "name=value" or, as the first, "value". */
static ht_status parse_option(const char *text, size_t len, bool first, struct ht_range_choice *choice, ht_err *err) {
    const struct ht_range_part *part = choice->part;
    const char *equals = memchr(text, '=', len);
    size_t n = option_count(part), name_len = equals != NULL ? (size_t)(equals - text) : 0, at = 0;
    if (equals == NULL && !first) {
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "%s: expected NAME=VALUE, found '%.*s'", part->name, (int)len,
                       text);
    }
    while (equals != NULL && at < n &&
           !(strlen(part->options[at].name) == name_len && strncasecmp(part->options[at].name, text, name_len) == 0)) {
        at++;
    }
    if (at >= n) {
        char known[128] = "";
        for (size_t i = 0, used = 0; i < n && used < sizeof known; i++) {
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                                     part->options[i].name);
        }
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "%s has no option '%.*s'; it has %s", part->name,
                       (int)(equals != NULL ? name_len : len), text, n > 0 ? known : "none");
    }
    const struct ht_range_option *o = &part->options[at];
    const char *number = equals != NULL ? equals + 1 : text;
    char copy[32], *end = copy;
    size_t number_len = len - (size_t)(number - text);
    snprintf(copy, sizeof copy, "%.*s", (int)number_len, number);
    double v = strtod(copy, &end);
    if (number_len == 0 || number_len >= sizeof copy || *end != '\0' || !(v >= o->low && v <= o->high)) {
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "%s: %s is %s, from %g to %g; found '%.*s'", part->name,
                       o->name, o->help, o->low, o->high, (int)number_len, number);
    }
    choice->options[at] = v;
    return HT_OK;
}

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
    for (size_t i = 0; i < HT_RANGE_OPTIONS; i++) {
        choice->options[i] = i < option_count(choice->part) ? choice->part->options[i].value : 0;
    }
    bool first = true;
    for (const char *p = text + len; *p != '\0'; first = false) {
        p++;
        size_t n = strcspn(p, ",");
        HT_TRY(parse_option(p, n, first, choice, err));
        p += n;
    }
    return HT_OK;
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
                       part->name);
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
    if (choice->part->needs_weight) {
        bool any = false;
        HT_TRY(check_weights(choice->part, in, &any, err));
        checked.weight = any ? in->weight : NULL;
    }
    return choice->part->fit(&checked, grid, choice->options, out, err);
}
