/* Factors that even out ranges: SmoothQuant's between activations and weights, and between two layers' weights. */
#include <math.h>

#include "base/mem.h"
#include "quant/transform/transform_impl.h"

#define LEAST 1e-4f
#define MOST 1e4f

void ht_transform_settle(float *s, uint64_t n, const float *above, const float *below,
                         struct ht_transform_report *report) {
    *report = (struct ht_transform_report){.channels = n, .least = INFINITY};
    for (uint64_t j = 0; j < n; j++) {
        bool dead = !(above[j] > 0) || !(below[j] > 0);
        report->dead += dead;
        report->clamped += !dead && !(s[j] >= LEAST && s[j] <= MOST);
        s[j] = dead ? 1 : fminf(fmaxf(s[j], LEAST), MOST);
        report->least = fminf(report->least, s[j]);
        report->most = fmaxf(report->most, s[j]);
    }
}

ht_status ht_transform_check_finite(const struct ht_foldsite *site, const float *x, uint64_t n, const char *what,
                                    ht_err *err) {
    for (uint64_t j = 0; j < n; j++) {
        if (!isfinite(x[j])) {
            return ht_fail(err, HT_NUMERIC, site->name, j, "%s of channel %llu is not finite", what,
                           (unsigned long long)j);
        }
    }
    return HT_OK;
}

ht_status ht_transform_migrate(const struct ht_fold_block *block, const struct ht_foldsite *site,
                               const struct ht_stats *stats, double alpha, float *s,
                               struct ht_transform_report *report, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    uint64_t n = ht_fold_channels(block, site), inputs = ht_fold_inputs(block, site);
    if (inputs == 0 || stats->cols != inputs || stats->absmax == NULL || !(alpha >= 0 && alpha <= 1)) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS,
                       "expected absmax of %llu inputs and alpha in [0, 1], found %llu and %g",
                       (unsigned long long)inputs,
                       (unsigned long long)(stats->absmax != NULL ? stats->cols : 0), alpha);
    }
    float *reach = ht_mem_calloc(2 * n, sizeof *reach);
    if (reach == NULL) {
        return ht_fail_nomem(err, 2 * n * sizeof *reach);
    }
    ht_status status = HT_OK;
    float *input = reach + n;
    HT_TRY_DONE(ht_transform_check_finite(site, stats->absmax, inputs, "the largest input", err));
    ht_fold_reach_columns(block, site, reach);
    HT_TRY_DONE(ht_transform_check_finite(site, reach, n, "the largest weight", err));
    for (uint64_t c = 0; c < inputs; c++) {
        float *at = &input[ht_fold_factor_of(block, site, c)];
        *at = ht_fold_larger(*at, stats->absmax[c]);
    }
    for (uint64_t j = 0; j < n; j++) {
        s[j] = (float)(pow((double)input[j], alpha) / pow((double)reach[j], 1 - alpha));
    }
    ht_transform_settle(s, n, input, reach, report);
done:
    ht_mem_free(reach);
    return status;
}

ht_status ht_transform_equalize(const struct ht_fold_block *block, const struct ht_foldsite *site, float *s,
                                struct ht_transform_report *report, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    if (block->matrices[site->producers[0]].w == NULL) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "%s has no rows of weights to equalize with",
                       ht_role_name(site->producers[0]));
    }
    uint64_t n = ht_fold_channels(block, site);
    float *above = ht_mem_calloc(2 * n, sizeof *above);
    if (above == NULL) {
        return ht_fail_nomem(err, 2 * n * sizeof *above);
    }
    ht_status status = HT_OK;
    float *below = above + n;
    ht_fold_reach_rows(block, site, site->producers[0], above);
    if (site->span == HT_FOLD_PAIRS) {
        ht_fold_reach_rows(block, site, site->consumers[0], below);
    } else {
        ht_fold_reach_columns(block, site, below);
    }
    HT_TRY_DONE(ht_transform_check_finite(site, above, 2 * n, "the largest weight", err));
    for (uint64_t j = 0; j < n; j++) {
        s[j] = sqrtf(above[j] / below[j]);
    }
    ht_transform_settle(s, n, above, below, report);
done:
    ht_mem_free(above);
    return status;
}
