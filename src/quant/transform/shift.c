/* Shift and scale by threshold: Outlier Suppression+. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/transform/transform_impl.h"

static ht_status check_minmax(const struct ht_fold_block *block, const struct ht_foldsite *site,
                              const struct ht_stats *stats, ht_err *err) {
    uint64_t inputs = ht_fold_inputs(block, site);
    if (inputs == 0 || stats->cols != inputs || stats->min == NULL || stats->max == NULL) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "expected min and max of %llu inputs, found %llu",
                       (unsigned long long)inputs,
                       (unsigned long long)(stats->min != NULL && stats->max != NULL ? stats->cols : 0));
    }
    HT_TRY(ht_transform_check_finite(site, stats->min, inputs, "the smallest input", err));
    return ht_transform_check_finite(site, stats->max, inputs, "the largest input", err);
}

/* Bounds of each factor's channel: heads of a group together. low, high [n]. */
static void bounds(const struct ht_fold_block *block, const struct ht_foldsite *site, const struct ht_stats *stats,
                   float *low, float *high) {
    uint64_t n = ht_fold_channels(block, site);
    for (uint64_t j = 0; j < n; j++) {
        low[j] = INFINITY;
        high[j] = -INFINITY;
    }
    for (uint64_t c = 0; c < stats->cols; c++) {
        uint64_t j = ht_fold_factor_of(block, site, c);
        low[j] = fminf(low[j], stats->min[c]);
        high[j] = fmaxf(high[j], stats->max[c]);
    }
}

ht_status ht_transform_shift(const struct ht_fold_block *block, const struct ht_foldsite *site,
                             const struct ht_stats *stats, float *z, struct ht_transform_report *report, ht_err *err) {
    HT_TRY(check_minmax(block, site, stats, err));
    uint64_t n = ht_fold_channels(block, site);
    float *high = ht_mem_alloc_array(n, sizeof *high);
    if (high == NULL) {
        return ht_fail_nomem(err, n * sizeof *high);
    }
    bounds(block, site, stats, z, high);
    *report = (struct ht_transform_report){.channels = n, .least = INFINITY, .most = -INFINITY};
    for (uint64_t j = 0; j < n; j++) {
        z[j] = 0.5f * z[j] + 0.5f * high[j];
        report->dead += z[j] == 0;
        report->least = fminf(report->least, z[j]);
        report->most = fmaxf(report->most, z[j]);
    }
    ht_mem_free(high);
    return HT_OK;
}

struct threshold {
    const struct ht_trial *trial;
    const struct ht_fold_block *block;
    const struct ht_foldsite *site;
    const struct ht_stats *stats;
    uint64_t n;
    const float *z; /* [n] or NULL */
    float *reach;   /* [n] max |x_j - z_j| */
    float *now;     /* [n] factors in work */
    float *wide_s, *wide_z; /* [inputs] */
};

static ht_status try_threshold(const struct threshold *t, float limit, double *loss, ht_err *err) {
    for (uint64_t j = 0; j < t->n; j++) {
        t->now[j] = fmaxf(1, t->reach[j] / limit);
    }
    ht_fold_widen(t->block, t->site, t->now, t->wide_s);
    return ht_trial_loss(t->trial, t->block, t->site, t->stats, t->wide_s, t->z != NULL ? t->wide_z : NULL, loss, err);
}

static ht_status search(const struct threshold *t, uint32_t grid, float *s, struct ht_transform_report *report,
                        ht_err *err) {
    double loss = 0;
    float top = 0;
    for (uint64_t j = 0; j < t->n; j++) {
        top = fmaxf(top, t->reach[j]);
    }
    report->alpha = 1;
    for (uint32_t k = grid; k >= 1 && top > 0; k--) { /* the first has factors of 1 */
        HT_TRY(try_threshold(t, k == grid ? top : top * (float)k / (float)grid, &loss, err));
        report->trials++;
        if (k == grid || loss < report->loss) {
            memcpy(s, t->now, t->n * sizeof *s);
            report->loss_before = k == grid ? loss : report->loss_before;
            report->loss = loss;
            report->alpha = (double)k / grid;
        }
    }
    return HT_OK;
}

ht_status ht_transform_threshold(const struct ht_trial *trial, const struct ht_fold_block *block,
                                 const struct ht_foldsite *site, const struct ht_stats *stats, const float *z,
                                 uint32_t grid, float *s, struct ht_transform_report *report, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    HT_TRY(check_minmax(block, site, stats, err));
    if (grid == 0) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "expected a grid of at least 1 step, found 0");
    }
    struct threshold t = {.trial = trial, .block = block, .site = site, .stats = stats, .z = z};
    t.n = ht_fold_channels(block, site);
    uint64_t elems = 3 * t.n + 2 * stats->cols;
    float *memory = ht_mem_alloc_array(elems, sizeof *memory);
    if (memory == NULL) {
        return ht_fail_nomem(err, elems * sizeof *memory);
    }
    float *low = memory;
    t.reach = memory + t.n;
    t.now = memory + 2 * t.n;
    t.wide_s = memory + 3 * t.n;
    t.wide_z = t.wide_s + stats->cols;
    bounds(block, site, stats, low, t.reach);
    for (uint64_t j = 0; j < t.n; j++) {
        float middle = z != NULL ? z[j] : 0;
        t.reach[j] = fmaxf(fabsf(low[j] - middle), fabsf(t.reach[j] - middle));
        s[j] = 1;
    }
    if (z != NULL) {
        ht_fold_widen(block, site, z, t.wide_z);
    }
    *report = (struct ht_transform_report){.channels = t.n};
    ht_status status = search(&t, grid, s, report, err);
    if (status == HT_OK) {
        struct ht_transform_report found = *report;
        ht_transform_settle(s, t.n, s, s, report);
        report->alpha = found.alpha;
        report->loss_before = found.loss_before;
        report->loss = found.loss;
        report->trials = found.trials;
    }
    ht_mem_free(memory);
    return status;
}

/* ---- folds ------------------------------------------------------------------------------------------------- */

void ht_fold_shift_bias(const struct ht_fold_block *block, const struct ht_foldsite *site, enum ht_role role,
                        const float *z, float *bias) {
    const struct ht_fold_matrix *m = &block->matrices[role];
    for (uint64_t r = 0; r < m->rows; r++) {
        double sum = 0;
        for (uint64_t c = 0; c < m->cols; c++) {
            sum += (double)m->w[r * m->cols + c] * (double)z[ht_fold_factor_of(block, site, c)];
        }
        bias[r] = (float)sum;
    }
}

static ht_status check_slot(const struct ht_fold_block *block, const struct ht_foldsite *site, enum ht_role role,
                            ht_err *err) {
    enum ht_role bias = ht_role_bias(role);
    if (bias == HT_ROLE_OTHER || block->vectors[bias].x == NULL) {
        return ht_fail(err, HT_UNSUPPORTED, site->name, HT_NO_POS,
                       "a shift needs a bias on %s, which this architecture has not; "
                       "it can only be left to the run time",
                       ht_role_name(role));
    }
    return HT_OK;
}

ht_status ht_fold_shift(struct ht_fold_block *block, const struct ht_foldsite *site, const float *z, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SHIFT, err));
    HT_TRY(check_slot(block, site, site->producers[0], err));
    HT_TRY(ht_transform_check_finite(site, z, ht_fold_channels(block, site), "the shift", err));
    uint64_t rows = 0;
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        HT_TRY(check_slot(block, site, *role, err));
        rows = block->matrices[*role].rows > rows ? block->matrices[*role].rows : rows;
    }
    float *more = ht_mem_alloc_array(rows, sizeof *more);
    if (more == NULL) {
        return ht_fail_nomem(err, rows * sizeof *more);
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        struct ht_fold_vector *bias = &block->vectors[ht_role_bias(*role)];
        ht_fold_shift_bias(block, site, *role, z, more);
        for (uint64_t r = 0; r < bias->n; r++) {
            bias->x[r] += more[r];
        }
        bias->used = true;
    }
    struct ht_fold_vector *bias = &block->vectors[ht_role_bias(site->producers[0])];
    for (uint64_t j = 0; j < bias->n; j++) {
        bias->x[j] -= z[j];
    }
    bias->used = true;
    ht_mem_free(more);
    return HT_OK;
}
