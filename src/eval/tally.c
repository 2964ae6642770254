#include "eval/tally.h"

#include <math.h>
#include <stdlib.h>

#include "base/ckd.h"
#include "base/mem.h"

void ht_tally_init(struct ht_tally *tally, uint32_t per_window, bool has_reference) {
    *tally = (struct ht_tally){.per_window = per_window, .has_reference = has_reference};
}

void ht_tally_deinit(struct ht_tally *tally) {
    ht_mem_free(tally->nll);
    ht_mem_free(tally->ref_nll);
    ht_mem_free(tally->same_top);
    ht_mem_free(tally->kld_sum);
    ht_mem_free(tally->kld);
    *tally = (struct ht_tally){0};
}

static ht_status grow(double **array, size_t count, size_t each, ht_err *err) {
    size_t total = count * each; /* windows are counted from tokens in memory: no overflow */
    double *p = ht_mem_realloc_array(*array, total, sizeof *p);
    if (p == NULL) {
        return ht_fail_nomem(err, total * sizeof *p);
    }
    *array = p;
    return HT_OK;
}

ht_status ht_tally_add(struct ht_tally *tally, const struct ht_score *scores, ht_err *err) {
    if (tally->n == tally->cap) {
        size_t cap = tally->cap ? tally->cap * 2 : 16;
        HT_TRY(grow(&tally->nll, cap, 1, err));
        if (tally->has_reference) {
            HT_TRY(grow(&tally->ref_nll, cap, 1, err));
            HT_TRY(grow(&tally->same_top, cap, 1, err));
            HT_TRY(grow(&tally->kld_sum, cap, 1, err));
            HT_TRY(grow(&tally->kld, cap, tally->per_window, err));
        }
        tally->cap = cap;
    }
    size_t w = tally->n++;
    double nll = 0.0, ref_nll = 0.0, kld = 0.0, same = 0.0;
    for (uint32_t i = 0; i < tally->per_window; i++) {
        nll += scores[i].nll;
        ref_nll += scores[i].ref_nll;
        kld += scores[i].kld;
        same += scores[i].same_top ? 1.0 : 0.0;
    }
    tally->nll[w] = nll;
    if (tally->has_reference) {
        tally->ref_nll[w] = ref_nll;
        tally->kld_sum[w] = kld;
        tally->same_top[w] = same;
        for (uint32_t i = 0; i < tally->per_window; i++) {
            tally->kld[w * tally->per_window + i] = scores[i].kld;
        }
    }
    return HT_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile of ascending values, linear between order statistics. */
static double quantile(const double *sorted, size_t n, double q) {
    double pos = q * (double)(n - 1);
    size_t i = (size_t)pos;
    return i + 1 < n ? sorted[i] + (pos - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static ht_status order_statistics(const double *kld, size_t count, uint32_t per_window, struct ht_summary *s,
                                  ht_err *err) {
    double *sorted = ht_mem_alloc_array(count, sizeof *sorted);
    if (sorted == NULL) {
        return ht_fail_nomem(err, count * sizeof *sorted);
    }
    size_t max = 0;
    for (size_t i = 0; i < count; i++) {
        sorted[i] = kld[i];
        max = kld[i] > kld[max] ? i : max;
    }
    qsort(sorted, count, sizeof *sorted, ascending);
    s->kld_median = quantile(sorted, count, 0.5);
    s->kld_p999 = quantile(sorted, count, 0.999);
    s->kld_max = kld[max];
    s->max_window = max / per_window;
    s->max_position = max % per_window;
    ht_mem_free(sorted);
    return HT_OK;
}

static ht_estimate estimate(struct ht_bootstrap b) {
    return (ht_estimate){b.mean, b.low, b.high};
}

static ht_estimate exponential(struct ht_bootstrap b) {
    /* An unknown bound stays infinite (JSON: null), not exp(-inf) = 0. */
    return (ht_estimate){exp(b.mean), isfinite(b.low) ? exp(b.low) : b.low, exp(b.high)};
}

ht_status ht_tally_summary(const struct ht_tally *tally, size_t first, size_t n, uint32_t resamples,
                           uint64_t seed, struct ht_summary *summary, ht_err *err) {
    *summary = (struct ht_summary){.windows = n, .tokens_scored = (uint64_t)n * tally->per_window};
    double *counts = ht_mem_alloc_array(n, sizeof *counts), *diff = ht_mem_alloc_array(n, sizeof *diff);
    ht_status status = HT_OK;
    if (counts == NULL || diff == NULL) {
        status = ht_fail_nomem(err, n * sizeof *counts);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        counts[i] = (double)tally->per_window;
        diff[i] = tally->has_reference ? tally->nll[first + i] - tally->ref_nll[first + i] : 0.0;
    }
    summary->perplexity = exponential(ht_bootstrap_mean(tally->nll + first, counts, n, resamples, seed));
    if (tally->has_reference) {
        const double *kld = tally->kld + first * tally->per_window;
        summary->reference_perplexity =
            exponential(ht_bootstrap_mean(tally->ref_nll + first, counts, n, resamples, seed));
        summary->ratio = exponential(ht_bootstrap_mean(diff, counts, n, resamples, seed));
        summary->kld = estimate(ht_bootstrap_mean(tally->kld_sum + first, counts, n, resamples, seed));
        summary->same_top = estimate(ht_bootstrap_mean(tally->same_top + first, counts, n, resamples, seed));
        summary->kld_p99 =
            estimate(ht_bootstrap_quantile(kld, n, tally->per_window, 0.99, resamples, seed));
        HT_TRY_DONE(order_statistics(kld, n * tally->per_window, tally->per_window, summary, err));
    }
    if (isnan(summary->perplexity.mean + summary->reference_perplexity.mean + summary->ratio.mean +
              summary->kld.mean + summary->same_top.mean + summary->kld_p99.mean)) {
        status = ht_fail_nomem(err, resamples * sizeof(double));
    }
done:
    ht_mem_free(diff);
    ht_mem_free(counts);
    return status;
}
