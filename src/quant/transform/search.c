/* Exponents found by trial (AWQ), and weights cut by trial. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"
#include "quant/transform/transform_impl.h"

ht_status ht_transform_magnitude(const struct ht_fold_block *block, const struct ht_foldsite *site,
                                 const struct ht_stats *stats, double alpha, float *s,
                                 struct ht_transform_report *report, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    uint64_t n = ht_fold_channels(block, site), inputs = ht_fold_inputs(block, site);
    if (inputs == 0 || stats->cols != inputs || stats->mean_abs == NULL || !(alpha >= 0 && alpha <= 1)) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS,
                       "expected the mean magnitude of %llu inputs and alpha in [0, 1], found %llu and %g",
                       (unsigned long long)inputs,
                       (unsigned long long)(stats->mean_abs != NULL ? stats->cols : 0), alpha);
    }
    HT_TRY(ht_transform_check_finite(site, stats->mean_abs, inputs, "the mean input", err));
    memset(s, 0, n * sizeof *s);
    for (uint64_t c = 0; c < inputs; c++) {
        s[ht_fold_factor_of(block, site, c)] += stats->mean_abs[c] * (float)n / (float)inputs;
    }
    double least = INFINITY, most = 0;
    for (uint64_t j = 0; j < n; j++) {
        if (s[j] > 0) {
            s[j] = fmaxf(powf(s[j], (float)alpha), 1e-4f);
            least = fmin(least, s[j]);
            most = fmax(most, s[j]);
        }
    }
    double middle = most > 0 ? sqrt(least * most) : 1;
    for (uint64_t j = 0; j < n; j++) {
        s[j] = (float)(s[j] / middle);
    }
    ht_transform_settle(s, n, s, s, report);
    return HT_OK;
}

struct search {
    const struct ht_trial *trial;
    const struct ht_fold_block *block;
    const struct ht_foldsite *site;
    const struct ht_stats *stats;
    float *wide; /* [inputs] */
};

static ht_status loss_of(const struct search *x, const float *s, double *loss, ht_err *err) {
    ht_fold_widen(x->block, x->site, s, x->wide);
    return ht_trial_loss(x->trial, x->block, x->site, x->stats, x->wide, NULL, loss, err);
}

ht_status ht_transform_search(ht_factors_fn *factors, const struct ht_trial *trial, const struct ht_fold_block *block,
                              const struct ht_foldsite *site, const struct ht_stats *stats, uint32_t grid, float *s,
                              struct ht_transform_report *report, ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_SCALE, err));
    uint64_t n = ht_fold_channels(block, site), inputs = ht_fold_inputs(block, site);
    struct search x = {trial, block, site, stats, NULL};
    struct ht_transform_report tried;
    double before = 0, loss = 0;
    if (grid == 0) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "expected a grid of at least 1 step, found 0");
    }
    float *now = ht_mem_alloc_array(n + inputs, sizeof *now);
    if (now == NULL) {
        return ht_fail_nomem(err, (n + inputs) * sizeof *now);
    }
    x.wide = now + n;
    ht_status status = HT_OK;
    HT_TRY_DONE(ht_trial_loss(trial, block, site, stats, NULL, NULL, &before, err));
    for (uint64_t j = 0; j < n; j++) {
        s[j] = 1;
    }
    *report = (struct ht_transform_report){
        .channels = n, .least = 1, .most = 1, .alpha = -1, .loss_before = before, .loss = before};
    for (uint32_t k = 0; k <= grid; k++) {
        double alpha = (double)k / grid;
        HT_TRY_DONE(factors(block, site, stats, alpha, now, &tried, err));
        HT_TRY_DONE(loss_of(&x, now, &loss, err));
        if (loss < report->loss) {
            memcpy(s, now, n * sizeof *s);
            tried.alpha = alpha;
            tried.loss_before = before;
            tried.loss = loss;
            *report = tried;
        }
    }
    report->trials = grid + 2ull;
done:
    ht_mem_free(now);
    return status;
}

/* ---- clip -------------------------------------------------------------------------------------------------- */

struct clip {
    const struct ht_fold_matrix *m;
    const float *gram;
    uint64_t group, n_groups;
    const float *q;    /* [rows, cols] what comes back of cut weights */
    float cut;         /* in work */
    float *bounds;     /* [rows, n_groups] the best cut */
    double *best;      /* [rows, n_groups] its loss */
    double *first;     /* [rows, n_groups] loss without a cut */
    float *w;          /* [rows, cols] cut weights */
    char *room;        /* [threads, thread_bytes]: errors and products [JUDGE_ROWS, group], scratch of ht_product */
    uint64_t thread_bytes;
};

#define CLIP_ROWS 16u
#define JUDGE_ROWS 192u

static uint64_t group_cols(const struct clip *c, uint64_t from) {
    return c->m->cols - from < c->group ? c->m->cols - from : c->group;
}

static float reach(const float *w, uint64_t n) {
    float most = 0;
    for (uint64_t i = 0; i < n; i++) {
        float a = fabsf(w[i]);
        most = a > most ? a : most;
    }
    return most;
}

static void cut_to(const float *w, uint64_t n, float bound, float *out) {
    for (uint64_t i = 0; i < n; i++) {
        float x = w[i] > -bound ? w[i] : -bound;
        out[i] = x < bound ? x : bound;
    }
}

static void cut_rows(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct clip *c = ctx;
    for (uint64_t r = task * CLIP_ROWS; r < c->m->rows && r < (task + 1) * CLIP_ROWS; r++) {
        for (uint64_t from = 0; from < c->m->cols; from += c->group) {
            const float *w = c->m->w + r * c->m->cols + from;
            uint64_t len = group_cols(c, from);
            cut_to(w, len, reach(w, len) * c->cut, c->w + r * c->m->cols + from);
        }
    }
}

static uint64_t judge_elems(const struct clip *c) {
    return JUDGE_ROWS * ((c->group + 15) & ~15ull);
}

/* e^T H e of one group in JUDGE_ROWS rows, and whether it is the least so far. Tasks: chunks of rows, then groups. */
static void judge_task(void *ctx, size_t task, int thread) {
    const struct clip *c = ctx;
    uint64_t row = task / c->n_groups * JUDGE_ROWS, g = task % c->n_groups, from = g * c->group;
    uint64_t cols = c->m->cols, len = group_cols(c, from);
    uint64_t rows = c->m->rows - row < JUDGE_ROWS ? c->m->rows - row : JUDGE_ROWS;
    float *e = (float *)(void *)(c->room + (uint64_t)thread * c->thread_bytes), *y = e + judge_elems(c);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t at = (row + r) * cols + from;
        for (uint64_t i = 0; i < len; i++) {
            e[r * len + i] = c->q[at + i] - c->m->w[at + i];
        }
    }
    struct ht_side left = {.data = e, .stride = len}, right = {.data = c->gram + from * cols + from, .stride = cols};
    ht_product(NULL, left, right, rows, len, len, y, len, false, y + judge_elems(c));
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t at = (row + r) * c->n_groups + g;
        double loss = 0;
        for (uint64_t i = 0; i < len; i++) {
            loss += (double)e[r * len + i] * (double)y[r * len + i];
        }
        c->first[at] = c->cut == 1 ? loss : c->first[at];
        if (c->cut == 1 || loss < c->best[at]) {
            c->best[at] = loss;
            c->bounds[at] = c->cut;
        }
    }
}

static void take_cuts(const struct clip *c, struct ht_fold_matrix *m, struct ht_transform_report *report) {
    *report = (struct ht_transform_report){.channels = m->rows * c->n_groups, .least = 1, .most = 1, .alpha = -1};
    for (uint64_t i = 0; i < report->channels; i++) {
        uint64_t from = i % c->n_groups * c->group;
        uint64_t len = group_cols(c, from);
        float *w = m->w + i / c->n_groups * m->cols + from, bound = reach(w, len) * c->bounds[i];
        report->loss_before += c->first[i];
        report->loss += c->best[i];
        report->cut += c->bounds[i] < 1;
        report->least = fminf(report->least, c->bounds[i]);
        if (c->bounds[i] < 1) {
            cut_to(w, len, bound, w);
        }
    }
}

ht_status ht_transform_clip(const struct ht_trial *trial, struct ht_fold_block *block, enum ht_role role,
                            const struct ht_stats *stats, uint64_t group, uint32_t grid,
                            struct ht_transform_report *report, ht_err *err) {
    struct ht_fold_matrix *m = &block->matrices[role];
    if (m->w == NULL || stats->gram == NULL || stats->cols != m->cols || grid == 0) {
        return ht_fail(err, HT_INVAL, ht_role_name(role), HT_NO_POS,
                       "clipping needs its weights, the gram of its %llu inputs and a grid of at least 1 step",
                       (unsigned long long)m->cols);
    }
    struct clip c = {.m = m, .gram = stats->gram, .group = group == 0 || group > m->cols ? m->cols : group};
    c.n_groups = (m->cols + c.group - 1) / c.group;
    uint64_t n = m->rows * c.n_groups, tasks = (m->rows + CLIP_ROWS - 1) / CLIP_ROWS;
    uint64_t judges = (m->rows + JUDGE_ROWS - 1) / JUDGE_ROWS * c.n_groups;
    uint64_t threads = (uint64_t)ht_pool_threads(trial->pool);
    c.thread_bytes = 2 * judge_elems(&c) * sizeof(float) + ht_product_scratch_bytes(JUDGE_ROWS, c.group, 1);
    c.thread_bytes = (c.thread_bytes + 63) & ~63ull;
    c.room = ht_mem_alloc_aligned(threads, c.thread_bytes);
    float *q = ht_mem_alloc_aligned(m->rows * m->cols, sizeof *q);
    c.w = ht_mem_alloc_aligned(m->rows * m->cols, sizeof *c.w);
    c.bounds = ht_mem_alloc_array(n, sizeof *c.bounds);
    c.best = ht_mem_alloc_array(n, sizeof *c.best);
    c.first = ht_mem_alloc_array(n, sizeof *c.first);
    ht_status status = HT_OK;
    if (q == NULL || c.w == NULL || c.bounds == NULL || c.best == NULL || c.first == NULL ||
        c.room == NULL) {
        status = ht_fail_nomem(err, (2 * m->cols + c.n_groups * 5) * m->rows * sizeof *q);
        goto done;
    }
    c.q = q;
    for (uint32_t k = 0; k <= grid / 2; k++) {
        c.cut = 1 - (float)k / (float)grid;
        ht_pool_run(trial->pool, (size_t)tasks, cut_rows, &c);
        HT_TRY_DONE(trial->weights(trial->ctx, role, c.w, m->rows, m->cols, NULL, q, err));
        ht_pool_run(trial->pool, (size_t)judges, judge_task, &c);
    }
    take_cuts(&c, m, report);
    report->trials = grid / 2 + 1ull;
done:
    ht_mem_free_aligned(q);
    ht_mem_free_aligned(c.w);
    ht_mem_free_aligned(c.room);
    ht_mem_free(c.bounds);
    ht_mem_free(c.best);
    ht_mem_free(c.first);
    return status;
}
