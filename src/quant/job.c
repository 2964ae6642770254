#include "quant/job.h"

#include <math.h>

#include "base/mem.h"
#include "base/sys.h"
#include "quant/range_scheme.h"
#include "quant/outlier/outlier.h"
#include "quant/round/dense.h"
#include "quant/soft/relax.h"
#include "tensor/act.h"

const float *ht_job_importance(const struct ht_job *job, float *room) {
    const struct ht_stats *s = job->stats;
    if (s != NULL && s->gram != NULL) {
        for (uint64_t j = 0; j < job->cols; j++) {
            room[j] = s->gram[j * job->cols + j];
        }
        return room;
    }
    return s != NULL ? s->mean_square : NULL;
}

/* ---- rounding to nearest ---- */

struct encode {
    const struct ht_job *job;
    const float *importance;
    uint64_t row_bytes;
};

static void encode_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct encode *e = ctx;
    const struct ht_job *j = e->job;
    j->block->encode(j->w + row * j->cols, e->importance, j->bytes + row * e->row_bytes, j->cols);
}

static ht_status encode_blocks(struct ht_job *job, const float *importance, ht_err *err) {
    struct encode e = {job, importance, ht_format_row_bytes(job->block, job->cols)};
    job->bytes = ht_mem_alloc_aligned(job->rows, e.row_bytes);
    if (job->bytes == NULL) {
        return ht_fail_nomem(err, job->rows * e.row_bytes);
    }
    ht_pool_run(job->pool, job->rows, encode_task, &e);
    return HT_OK;
}

/* The range part of codes; own: the scheme's, weighted: the weighted squared error. */
static ht_status code_range(const struct ht_job *job, struct ht_range_scheme *room, ht_range_fn **fn,
                            ht_err *err) {
    const struct ht_choice *c = &job->weights->range;
    struct ht_range_choice range = {0};
    *fn = NULL;
    if (strcmp(c->part->name, "own") == 0) {
        return HT_OK;
    }
    if (strcmp(c->part->name, "weighted") == 0) {
        HT_TRY(ht_range_parse("wmse", &range, err));
    } else {
        range.part = ht_range_find(c->part->name);
        memcpy(range.options, c->options, sizeof range.options);
    }
    *fn = ht_range_of_scheme;
    return ht_range_scheme_init(room, &range, &job->scheme, err);
}

/* What was kept apart is 0 in the codes, whose grids then cover the others alone. */
static ht_status store_kept(struct ht_job *job, ht_err *err) {
    return job->keep != NULL ? ht_outlier_store(&job->q, job->keep, job->target, 0, &job->side, err) : HT_OK;
}

static ht_status take_kept(struct ht_job *job, ht_err *err) {
    HT_TRY(ht_job_keep_target(job, err));
    for (uint64_t i = 0; i < job->rows * job->cols; i++) {
        job->w[i] = job->keep[i] != HT_KEEP_GRID ? 0 : job->w[i];
    }
    return HT_OK;
}

static ht_status encode_codes(struct ht_job *job, const float *importance, enum ht_rounding rounding,
                              ht_err *err) {
    HT_TRY(job->keep != NULL ? take_kept(job, err) : HT_OK);
    struct ht_qtensor_counts counts = {0};
    struct ht_range_scheme *range = ht_mem_calloc(1, sizeof *range);
    struct ht_qtensor_options o = {.name = job->name,
                                   .weight = importance,
                                   .range_ctx = range,
                                   .rounding = rounding,
                                   .seed = job->seed,
                                   .pool = job->pool};
    ht_status status =
        range == NULL ? ht_fail_nomem(err, sizeof *range) : code_range(job, range, &o.range, err);
    if (status == HT_OK) {
        status = ht_qtensor_init(&job->q, &job->scheme, job->rows, job->cols, job->name, err);
    }
    if (status == HT_OK) {
        status = ht_qtensor_encode(&job->q, job->w, &o, &counts, err);
    }
    if (status == HT_OK) {
        status = store_kept(job, err);
    }
    job->report.saturated = counts.saturated;
    ht_mem_free(range);
    return status;
}

static ht_status round_plain(struct ht_job *job, enum ht_rounding rounding, ht_err *err) {
    bool weighted = (job->weights->range.part->needs & HT_NEEDS_MEAN_SQUARE) != 0;
    float *room = ht_mem_alloc_array(job->cols, sizeof *room);
    if (room == NULL) {
        return ht_fail_nomem(err, job->cols * sizeof *room);
    }
    const float *importance = weighted ? ht_job_importance(job, room) : NULL;
    ht_status status = job->block != NULL ? encode_blocks(job, importance, err)
                                          : encode_codes(job, importance, rounding, err);
    ht_mem_free(room);
    return status;
}

ht_status ht_job_round_nearest(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    (void)choice;
    return round_plain(job, HT_ROUND_EVEN, err);
}

ht_status ht_job_round_stochastic(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    (void)choice;
    return round_plain(job, HT_ROUND_STOCHASTIC, err);
}

/* ---- error feedback ---- */

/* Codes by feedback; then what was kept apart goes to the sidecar. */
static ht_status round_codes(struct ht_job *job, struct ht_round_options *o, struct ht_round_report *r,
                             ht_err *err) {
    float *values = NULL;
    if (job->keep != NULL) {
        values = ht_mem_alloc_aligned(job->rows, job->cols * sizeof *values);
        if (values == NULL) {
            return ht_fail_nomem(err, job->rows * job->cols * sizeof *values);
        }
        o->keep = job->keep;
        o->values = values;
    }
    ht_status status = ht_round_qtensor(job->pool, &job->scheme, job->w, job->rows, job->cols,
                                        job->stats->gram, o, &job->q, r, err);
    if (status == HT_OK && job->keep != NULL) {
        status = ht_outlier_store(&job->q, job->keep, values, 0, &job->side, err);
    }
    ht_mem_free_aligned(values);
    return status;
}

static ht_status feedback(struct ht_job *job, struct ht_round_options *o, ht_err *err) {
    const struct ht_choice *c = &job->weights->range;
    struct ht_round_report r = {0};
    struct ht_range_choice range;
    range.part = ht_range_find(c->part->name);
    if (range.part != NULL) { /* own and weighted: least weighted squares */
        memcpy(range.options, c->options, sizeof range.options);
        o->range = &range;
    }
    if (job->block == NULL) {
        HT_TRY(round_codes(job, o, &r, err));
    } else {
        uint64_t row_bytes = ht_format_row_bytes(job->block, job->cols);
        job->bytes = ht_mem_alloc_aligned(job->rows, row_bytes);
        if (job->bytes == NULL) {
            return ht_fail_nomem(err, job->rows * row_bytes);
        }
        HT_TRY(ht_round_feedback(job->pool, job->block, job->w, job->rows, job->cols, job->stats->gram, o,
                                 job->bytes, &r, err));
    }
    struct ht_job_report *report = &job->report;
    report->damping = r.damping;
    report->dampings = r.dampings;
    report->dead = r.dead;
    report->kept_nearest = r.kept_nearest;
    return HT_OK;
}

ht_status ht_job_round_feedback(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    struct ht_round_options o;
    ht_round_defaults(&o);
    o.damping = ht_choice_value(choice, "damping");
    o.descents = (uint32_t)ht_choice_value(choice, "descents");
    o.order = (enum ht_round_order)ht_choice_value(choice, "order");
    o.dynamic = ht_choice_value(choice, "dynamic") != 0;
    return feedback(job, &o, err);
}

ht_status ht_job_round_greedy(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    struct ht_round_options o;
    ht_round_defaults(&o);
    o.damping = ht_choice_value(choice, "damping");
    o.descents = (uint32_t)ht_choice_value(choice, "descents");
    o.greedy = true;
    return feedback(job, &o, err);
}

/* ---- learning ---- */

ht_status ht_job_round_relax(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    const struct ht_relax_options o = {.steps = (uint32_t)ht_choice_value(choice, "steps"),
                                       .lr = ht_choice_value(choice, "lr"),
                                       .weight = ht_choice_value(choice, "weight"),
                                       .beta_from = ht_choice_value(choice, "beta-from"),
                                       .beta_to = ht_choice_value(choice, "beta-to"),
                                       .warmup = ht_choice_value(choice, "warmup")};
    struct ht_relax_report r;
    HT_TRY(round_plain(job, HT_ROUND_EVEN, err)); /* grids */
    struct ht_learn_linear to = {.q = job->block == NULL ? &job->q : NULL,
                                 .format = job->block,
                                 .bytes = job->bytes,
                                 .given = true};
    HT_TRY(ht_relax(job->pool, job->w, job->rows, job->cols, job->stats->gram, &to, &o, NULL, &r, err));
    job->report.kept_nearest = r.kept_nearest;
    return HT_OK;
}

ht_status ht_job_round_start(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    struct ht_round_options o;
    ht_round_defaults(&o);
    return ht_choice_value(choice, "start") == 0 ? feedback(job, &o, err) : round_plain(job, HT_ROUND_EVEN, err);
}

/* ---- drift ---- */

struct solve {
    const float *l, *lt; /* [cols, cols] lower factor, and its transpose */
    float *b;            /* [rows, cols] right sides, then solutions */
    uint64_t cols;
};

static void solve_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct solve *s = ctx;
    float *b = s->b + row * s->cols;
    for (uint64_t i = 0; i < s->cols; i++) {
        double sum = b[i];
        for (uint64_t j = 0; j < i; j++) {
            sum -= (double)s->l[i * s->cols + j] * b[j];
        }
        b[i] = (float)(sum / s->l[i * s->cols + i]);
    }
    for (uint64_t i = s->cols; i-- > 0;) {
        double sum = b[i];
        for (uint64_t j = i + 1; j < s->cols; j++) {
            sum -= (double)s->lt[i * s->cols + j] * b[j];
        }
        b[i] = (float)(sum / s->lt[i * s->cols + i]);
    }
}

/* H + damping = L L^T into l; the damping grows until that works. */
static ht_status factor(struct ht_pool *pool, const float *h, uint64_t cols, float *l, ht_err *err) {
    double mean = 0;
    uint64_t pivot = 0;
    for (uint64_t j = 0; j < cols; j++) {
        mean += h[j * cols + j] / (double)cols;
    }
    for (double damping = 0.01 * mean; damping <= 100 * mean && mean > 0; damping *= 10) {
        memcpy(l, h, cols * cols * sizeof *l);
        for (uint64_t j = 0; j < cols; j++) {
            l[j * cols + j] += (float)damping;
        }
        HT_TRY(ht_dense_cholesky(pool, l, cols, &pivot, err));
        if (pivot == cols) {
            return HT_OK;
        }
    }
    return ht_fail(err, HT_NUMERIC, "drift", HT_NO_POS,
                   "the moments of %llu inputs cannot be factored, whatever the "
                   "damping; leave drift away",
                   (unsigned long long)cols);
}

ht_status ht_drift_correct(struct ht_pool *pool, float *w, uint64_t rows, uint64_t cols, const float *h,
                           const float *g, double drift, ht_err *err) {
    float *l = ht_mem_alloc_aligned(cols, cols * sizeof *l),
          *t = ht_mem_alloc_aligned(cols, cols * sizeof *t);
    float *b = ht_mem_alloc_aligned(rows, cols * sizeof *b);
    void *scratch = ht_mem_alloc_aligned(1, ht_dense_scratch_bytes(rows, cols, cols, ht_pool_threads(pool)));
    ht_status status = HT_OK;
    if (l == NULL || t == NULL || b == NULL || scratch == NULL) {
        status = ht_fail_nomem(err, (2 * cols + rows) * cols * sizeof *l);
        goto done;
    }
    /* W* - W = W (G - H) (H + damping)^-1: damping pulls towards W, not towards 0. */
    for (uint64_t i = 0; i < cols; i++) {
        for (uint64_t j = 0; j < cols; j++) {
            t[j * cols + i] = g[i * cols + j] - h[i * cols + j];
        }
    }
    ht_dense_product(pool, w, rows, cols, t, cols, cols, b, scratch);
    HT_TRY_DONE(factor(pool, h, cols, l, err));
    for (uint64_t i = 0; i < cols; i++) {
        for (uint64_t j = 0; j <= i; j++) {
            t[j * cols + i] = l[i * cols + j];
        }
    }
    struct solve s = {l, t, b, cols};
    ht_pool_run(pool, rows, solve_task, &s);
    for (uint64_t i = 0; i < rows * cols; i++) {
        w[i] += (float)drift * b[i];
    }
done:
    ht_mem_free_aligned(l);
    ht_mem_free_aligned(t);
    ht_mem_free_aligned(b);
    ht_mem_free_aligned(scratch);
    return status;
}

/* ---- activations ---- */

/* Columns from .. to - 1 of the sample, side by side; *x is the caller's to free. */
static ht_status gather_sample(const struct ht_stats *s, uint64_t from, uint64_t to, float **x, ht_err *err) {
    uint64_t n = to - from;
    *x = ht_mem_alloc_array(s->n_sample * n, sizeof **x);
    if (*x == NULL) {
        return ht_fail_nomem(err, s->n_sample * n * sizeof **x);
    }
    for (uint64_t t = 0; t < s->n_sample; t++) {
        memcpy(*x + t * n, s->sample + t * s->cols + from, n * sizeof **x);
    }
    return HT_OK;
}

/* The same of a stream: each token of the sample is a batch. */
static ht_status stream_range(const struct ht_range_scheme *r, const float *x, uint64_t tokens, size_t n, float *lo,
                              float *hi, ht_err *err) {
    struct ht_range_state *state = ht_mem_alloc(sizeof *state);
    const struct ht_range_input in = {.state = state};
    struct ht_range range;
    if (state == NULL) {
        return ht_fail_nomem(err, sizeof *state);
    }
    ht_status status = ht_range_state_init(state, r->choice.options[0], err);
    for (uint64_t t = 0; t < tokens && status == HT_OK; t++) {
        status = ht_range_state_add(state, x + t * n, n, err);
    }
    status = status == HT_OK ? ht_range_fit(&r->choice, &in, &r->grid, &range, err) : status;
    if (status == HT_OK) {
        ht_range_reach(&r->grid, &range, lo, hi);
    }
    ht_mem_free(state);
    return status;
}

/* A fixed scale for inputs from .. to - 1, from what calibration saw. */
static ht_status fixed_range(struct ht_job *job, uint64_t from, uint64_t to, float *lo, float *hi, ht_err *err) {
    const struct ht_stats *s = job->stats;
    const struct ht_choice *c = &job->activations->range;
    bool bounds = strcmp(c->part->name, "absmax") == 0 || strcmp(c->part->name, "minmax") == 0;
    if (bounds) {
        *lo = *hi = 0;
        for (uint64_t j = from; j < to; j++) {
            *lo = s->min[j] < *lo ? s->min[j] : *lo;
            *hi = s->max[j] > *hi ? s->max[j] : *hi;
        }
        return HT_OK;
    }
    float *x = NULL;
    struct ht_range_scheme *r = ht_mem_calloc(1, sizeof *r);
    struct ht_range_choice range = {.part = ht_range_find(c->part->name)};
    memcpy(range.options, c->options, sizeof range.options);
    ht_status status =
        r == NULL ? ht_fail_nomem(err, sizeof *r) : ht_range_scheme_init(r, &range, &job->side.act, err);
    if (status == HT_OK) {
        status = gather_sample(s, from, to, &x, err);
    }
    if (status == HT_OK) {
        size_t n = (size_t)(s->n_sample * (to - from));
        status = range.part->streams ? stream_range(r, x, s->n_sample, (size_t)(to - from), lo, hi, err)
                                     : ht_range_of_scheme(r, &job->side.act, x, NULL, n, lo, hi, err);
        job->report.searched += (uint32_t)ht_range_searched(&range, &r->grid, n);
    }
    ht_mem_free(x);
    ht_mem_free(r);
    return status;
}

static ht_status quantize_inputs(struct ht_job *job, ht_err *err) {
    struct ht_sidecar *side = &job->side;
    const struct ht_place_recipe *a = job->activations;
    bool columns = strcmp(a->outlier.part->name, "threshold") == 0;
    side->leaves |= HT_LEAVES_ACT | (columns ? HT_LEAVES_THRESHOLD : 0);
    side->threshold = columns ? (float)ht_choice_value(&a->outlier, "threshold") : 0;
    HT_TRY(ht_scheme_parse(a->format, &side->act, err));
    side->leaves |= side->act.granularity == HT_PER_TENSOR ? HT_LEAVES_ACT_SCALE : 0;
    return HT_OK;
}

static ht_status fix_scales(struct ht_job *job, ht_err *err) {
    uint64_t n = ht_act_segments(&job->side);
    for (uint64_t i = 0; (job->side.leaves & HT_LEAVES_ACT_SCALE) != 0 && i < n; i++) {
        uint64_t from, to;
        float lo, hi;
        ht_act_segment(&job->side, i, &from, &to);
        HT_TRY(fixed_range(job, from, to, &lo, &hi, err));
        struct ht_affine grid = ht_scheme_cover(&job->side.act, lo, hi);
        job->side.act_scale[i] = grid.scale > 0 ? grid.scale : 1.0f; /* inputs that were always 0 */
        if (job->side.act_zero != NULL) {
            job->side.act_zero[i] = grid.zero;
        }
    }
    return HT_OK;
}

/* ---- what transforms have left in front ---- */

ht_status ht_front_add(struct ht_front *front, uint64_t rows, uint64_t cols, unsigned leaves, uint32_t hadamard,
                       ht_err *err) {
    struct ht_sidecar old = front->side, now = {.rows = rows, .cols = cols, .leaves = old.leaves | leaves};
    struct ht_qpart from, to;
    now.hadamard = hadamard != 0 ? hadamard : old.hadamard;
    HT_TRY(ht_sidecar_init(&now, NULL, err));
    for (uint64_t j = 0; (now.leaves & HT_LEAVES_PERM) != 0 && j < cols; j++) {
        now.perm[j] = (uint32_t)j;
    }
    for (size_t i = 0; ht_sidecar_part(&old, i, &from); i++) {
        for (size_t k = 0; ht_sidecar_part(&now, k, &to); k++) {
            if (strcmp(from.suffix, to.suffix) == 0) {
                memcpy(*to.slot, *from.slot, from.bytes);
            }
        }
    }
    ht_sidecar_deinit(&old);
    front->side = now;
    return HT_OK;
}

ht_status ht_front_cut(struct ht_front *front, const float *was, const float *now, uint64_t n, ht_err *err) {
    uint64_t cuts = 0;
    ht_front_forget_cuts(front);
    for (uint64_t i = 0; i < n; i++) {
        cuts += now[i] != was[i];
    }
    front->cuts = ht_mem_alloc_array(cuts > 0 ? cuts : 1, sizeof *front->cuts);
    if (front->cuts == NULL) {
        return ht_fail_nomem(err, cuts * sizeof *front->cuts);
    }
    for (uint64_t i = 0; i < n; i++) {
        if (now[i] != was[i]) {
            front->cuts[front->n_cuts++] = (struct ht_front_cut){i, was[i]};
        }
    }
    return HT_OK;
}

void ht_front_restore(const struct ht_front *front, float *w) {
    for (uint64_t i = 0; front != NULL && i < front->n_cuts; i++) {
        w[front->cuts[i].at] = front->cuts[i].was;
    }
}

void ht_front_forget_cuts(struct ht_front *front) {
    ht_mem_free(front->cuts);
    front->cuts = NULL;
    front->n_cuts = 0;
}

void ht_front_deinit(struct ht_front *front) {
    ht_front_forget_cuts(front);
    ht_sidecar_deinit(&front->side);
    ht_mem_free(front->clusters);
    ht_mem_free(front->unit);
    *front = (struct ht_front){0};
}

/* Room for it in the job's sidecar. Clusters say nothing where activations stay float. */
static void plan_front(struct ht_job *job) {
    const struct ht_front *f = job->front;
    struct ht_sidecar *side = &job->side;
    if (f == NULL) {
        return;
    }
    bool clusters = f->n_clusters > 1 && (side->leaves & HT_LEAVES_ACT) != 0;
    side->leaves |= f->side.leaves | (clusters ? HT_LEAVES_CLUSTERS : 0);
    side->hadamard = f->side.hadamard;
    side->n_clusters = clusters ? f->n_clusters : 0;
}

static void copy_front(struct ht_job *job) {
    struct ht_sidecar *side = &job->side;
    struct ht_sidecar view = job->front != NULL ? job->front->side : (struct ht_sidecar){0};
    struct ht_qpart from, to;
    for (size_t i = 0; ht_sidecar_part(&view, i, &from); i++) {
        for (size_t k = 0; ht_sidecar_part(side, k, &to); k++) {
            if (strcmp(from.suffix, to.suffix) == 0) {
                memcpy(*to.slot, *from.slot, from.bytes);
            }
        }
    }
    if ((side->leaves & HT_LEAVES_CLUSTERS) != 0) {
        memcpy(side->act_idx, job->front->clusters, side->n_clusters * sizeof *side->act_idx);
    }
}

/* ---- the six steps ---- */

static ht_status check_input(const struct ht_job *job, ht_err *err) {
    uint64_t bad = 0;
    for (uint64_t i = 0; i < job->rows * job->cols; i++) {
        bad += !isfinite(job->w[i]);
    }
    if (bad != 0) {
        return ht_fail(err, HT_NUMERIC, job->name, HT_NO_POS, "%llu of %llu weights are NaN or Inf",
                       (unsigned long long)bad, (unsigned long long)(job->rows * job->cols));
    }
    return HT_OK;
}

/* What goes beside the codes whatever outlier parts do. */
static ht_status start_side(struct ht_job *job, ht_err *err) {
    job->side = (struct ht_sidecar){.rows = job->rows, .cols = job->cols};
    if (job->activations != NULL && job->activations->format[0] != '\0') {
        HT_TRY(quantize_inputs(job, err));
    }
    plan_front(job);
    job->side.leaves |= job->center == HT_CENTER_BESIDE ? HT_LEAVES_OUT_BIAS : 0;
    return HT_OK;
}

ht_status ht_job_expect(struct ht_job *job, unsigned *expect, ht_err *err) {
    HT_TRY(start_side(job, err));
    *expect = ht_job_expect_outliers(job, &job->weights->outlier);
    return HT_OK;
}

/* What transforms started from was measured before them. */
static ht_status measure_nearest(struct ht_job *job, float *original, ht_err *err) {
    if (job->front != NULL && job->front->measured) {
        job->report.loss_nearest = job->front->loss_nearest;
        return HT_OK;
    }
    return ht_job_nearest(job, original, NULL, NULL, &job->report.loss_nearest, err);
}

ht_status ht_job_run(struct ht_job *job, ht_err *err) {
    const struct ht_place_recipe *how = job->weights;
    double started = ht_sys_now();
    HT_TRY(check_input(job, err));
    float *original = ht_mem_alloc_aligned(job->rows, job->cols * sizeof *original);
    if (original == NULL) {
        return ht_fail_nomem(err, job->rows * job->cols * sizeof *original);
    }
    memcpy(original, job->w, job->rows * job->cols * sizeof *original);
    ht_front_restore(job->front, original);
    ht_status status = HT_OK;
    job->lowrank = HT_LOWRANK_NONE;
    job->report = (struct ht_job_report){.tokens = job->stats != NULL ? job->stats->tokens : 0};
    if (job->drift > 0 && job->stats != NULL && job->stats->cross != NULL) {
        HT_TRY_DONE(ht_drift_correct(job->pool, job->w, job->rows, job->cols, job->stats->gram,
                                     job->stats->cross, job->drift, err));
        job->report.drift = job->drift;
    }
    HT_TRY_DONE(start_side(job, err));
    if (how->outlier.part->run != NULL) {
        HT_TRY_DONE(how->outlier.part->run(job, &how->outlier, err));
    }
    if (job->side.leaves != 0 && job->keep == NULL) { /* parts with contents have made it themselves */
        HT_TRY_DONE(ht_sidecar_init(&job->side, job->name, err));
    }
    HT_TRY_DONE(how->round.part->run(job, &how->round, err));
    copy_front(job);
    HT_TRY_DONE(fix_scales(job, err));
    HT_TRY_DONE(ht_job_make_up(job, original, err));
    HT_TRY_DONE(ht_job_measure(job, original, err));
    HT_TRY_DONE(measure_nearest(job, original, err));
    job->report.seconds = ht_sys_now() - started;
done:
    ht_mem_free_aligned(original);
    ht_mem_free(job->keep);
    ht_mem_free_aligned(job->target);
    job->keep = NULL;
    job->target = NULL;
    return status;
}

void ht_job_release(struct ht_job *job) {
    ht_mem_free_aligned(job->bytes);
    ht_mem_free(job->bias);
    job->bytes = NULL;
    job->bias = NULL;
    ht_qtensor_deinit(&job->q);
    ht_sidecar_deinit(&job->side);
}
