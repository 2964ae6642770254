/* One linear of the layer in work: its weights, the job that rounds it, and what is kept of that; linears that learn
 * together with their layer are rounded first and final behind it. */
#include <string.h>

#include "base/mem.h"
#include "flow/quantize/quantize_blocks.h"

struct rows {
    const struct ht_linear *linear;
    float *w, *scratch; /* scratch [threads, cols] */
};

static void row_task(void *ctx, size_t row, int thread) {
    const struct rows *r = ctx;
    uint64_t cols = r->linear->w.cols;
    ht_linear_row(r->linear, row, r->w + row * cols, r->scratch + (uint64_t)thread * cols);
}

/* Decoded; *w is the caller's to free. */
static ht_status rows_of(const struct blocks *b, const struct ht_linear *linear, float **w, ht_err *err) {
    uint64_t rows = linear->w.rows, cols = linear->w.cols, threads = (uint64_t)ht_pool_threads(b->ctx->pool);
    struct rows r = {linear, ht_mem_alloc_aligned(rows, cols * sizeof *r.w),
                     ht_mem_alloc_aligned(threads, cols * sizeof *r.w)};
    *w = r.w;
    if (r.w == NULL || r.scratch == NULL) {
        ht_mem_free_aligned(r.scratch);
        return ht_fail_nomem(err, (rows + threads) * cols * sizeof *r.w);
    }
    ht_pool_run(b->ctx->pool, rows, row_task, &r);
    ht_mem_free_aligned(r.scratch);
    return HT_OK;
}

/* The matrix that the codes will stand for: a transform's, or the model's. */
static ht_status weights_of(struct blocks *b, const struct ht_linear *linear, float **w, ht_err *err) {
    const struct ht_fold_matrix *changed = &b->block.matrices[linear->role];
    if (changed->w == NULL) {
        return rows_of(b, linear, w, err);
    }
    *w = ht_mem_alloc_aligned(changed->rows, changed->cols * sizeof **w);
    if (*w == NULL) {
        return ht_fail_nomem(err, changed->rows * changed->cols * sizeof **w);
    }
    memcpy(*w, changed->w, changed->rows * changed->cols * sizeof **w);
    return HT_OK;
}

void ht_blocks_install(struct ht_linear *linear, const struct ht_format *block, const void *bytes,
                    const struct ht_qtensor *q, const struct ht_sidecar *side) {
    linear->w.format = block;
    linear->w.data = bytes;
    linear->w.row_bytes = block != NULL ? ht_format_row_bytes(block, linear->w.cols) : 0;
    linear->q = q;
    linear->side = side;
}

/* Floating point has one way to be rounded. */
static void plain_choices(struct ht_place_recipe *how) {
    struct ht_recipe plain;
    ht_recipe_defaults(&plain);
    how->range = plain.places[HT_PLACE_WEIGHTS].range;
    how->round = plain.places[HT_PLACE_WEIGHTS].round;
    how->outlier = plain.places[HT_PLACE_WEIGHTS].outlier;
}

/* Where the mean error of this linear's outputs goes, if the recipe wants it off. */
static enum ht_center center_of(const struct ht_recipe *recipe, bool has_bias) {
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    for (size_t i = 0; i < w->n_transforms; i++) {
        const char *name = w->transforms[i].part->name;
        if (strcmp(name, "center") == 0 || strcmp(name, "center-biases") == 0) {
            return has_bias                      ? HT_CENTER_BIAS
                   : strcmp(name, "center") == 0 ? HT_CENTER_BESIDE
                                                 : HT_CENTER_NONE;
        }
    }
    return HT_CENTER_NONE;
}

void ht_blocks_choose(const struct ht_recipe *recipe, const struct ht_plan_tensor *t, bool has_bias,
                      struct ht_place_recipe *how, struct ht_place_recipe *inputs, struct ht_job *job) {
    bool is_float = t->scheme == NULL && t->out.format->kind == HT_KIND_FLOAT;
    ht_recipe_weights(recipe, t->role, t->layer, how);
    ht_recipe_activations(recipe, t->role, t->layer, inputs);
    if (is_float) {
        plain_choices(how);
    }
    *job = (struct ht_job){.weights = how,
                           .activations = is_float ? NULL : inputs,
                           .block = t->scheme == NULL ? t->out.format : NULL,
                           .rows = t->out.ne[1],
                           .cols = t->out.ne[0],
                           .center = is_float ? HT_CENTER_NONE : center_of(recipe, has_bias),
                           .drift = is_float ? 0 : recipe->calibration.drift};
    if (t->scheme != NULL) {
        job->scheme = *t->scheme;
    }
}

/* The model's bias gains what the job has found. */
static ht_status put_bias(struct blocks *b, struct ht_work *work, const struct ht_linear *linear,
                          const struct ht_job *job, ht_err *err) {
    uint32_t index;
    const enum ht_role role = ht_role_bias(linear->role);
    if (job->bias == NULL || ht_blocks_tensor(b->job, role, linear->layer, &index) == NULL) {
        return HT_OK;
    }
    float *bias = (float *)(uintptr_t)linear->bias; /* the model's own copy, or the layer's in work */
    for (uint64_t r = 0; r < job->rows; r++) {
        bias[r] += job->bias[r];
    }
    return ht_work_put_vector(work, index, linear->layer, bias, job->rows, err);
}

/* The result of a linear is final. */
static ht_status keep_result(struct blocks *b, struct ht_work *work, struct ht_linear *linear, uint32_t index,
                             struct ht_job *job, ht_err *err) {
    const struct ht_plan_tensor *t = &b->job->plan->tensors[index];
    ht_blocks_install(linear, job->block, job->bytes, job->block == NULL ? &job->q : NULL,
            job->side.leaves != 0 ? &job->side : NULL);
    if (work == NULL) { /* a rehearsal */
        return HT_OK;
    }
    HT_TRY(put_bias(b, work, linear, job, err));
    HT_TRY(ht_work_put(work, index, t->layer, job, err));
    b->done += ht_tensor_elems(&t->out);
    return ht_meter_tell(&b->meter, b->done, 0, linear->name, err);
}

static ht_status solve(struct blocks *b, struct ht_work *work, struct ht_linear *linear,
                       struct ht_plan_tensor *t, uint32_t index, ht_err *err) {
    struct ht_quant_job *j = b->job;
    struct ht_place_recipe how, inputs;
    if (b->n_results == MAX_LINEARS) {
        return ht_fail(err, HT_LIMIT, linear->name, HT_NO_POS, "a layer of more than %d matrices",
                       MAX_LINEARS);
    }
    struct ht_job *job = &b->results[b->n_results++];
    ht_blocks_choose(&j->recipe, t, linear->bias != NULL, &how, &inputs, job);
    bool is_float = job->activations == NULL;
    job->pool = b->ctx->pool;
    job->name = t->in->name; /* as the user's file calls it */
    job->front = &b->fronts[t->role];
    job->stats = ht_blocks_stats(b, linear);
    job->seed = j->o->seed + index;
    ht_status status = weights_of(b, linear, &job->w, err);
    if (status == HT_OK) {
        status = ht_job_run(job, err);
    }
    ht_mem_free_aligned(job->w);
    job->w = NULL;
    job->weights = job->activations = NULL;
    HT_TRY(status);
    if (!is_float && ht_quant_learns(&how.round)) {
        b->pending[t->role] = (struct pending){job, index};
        b->way = how.round;
        return HT_OK;
    }
    return keep_result(b, work, linear, index, job, err);
}

/* ---- what they start from ---- */

struct carried {
    const struct blocks *b;
    enum ht_role role;
};

static ht_status carry(const void *ctx, float *x, uint64_t n, uint64_t cols, ht_err *err) {
    const struct carried *c = ctx;
    return ht_fold_trail_apply(&c->b->trail, c->role, c->b->ctx->pool, x, n, cols, err);
}

static ht_status nearest(struct blocks *b, const struct ht_linear *linear, const struct ht_plan_tensor *t,
                         ht_err *err) {
    const struct carried carried = {b, linear->role};
    struct ht_front *front = &b->fronts[linear->role];
    struct ht_place_recipe how, inputs;
    struct ht_job job;
    float *w = NULL;
    ht_blocks_choose(&b->job->recipe, t, linear->bias != NULL, &how, &inputs, &job);
    job.pool = b->ctx->pool;
    job.name = t->in->name;
    job.stats = ht_blocks_stats(b, linear);
    ht_status status = rows_of(b, linear, &w, err);
    if (status == HT_OK) {
        status = ht_job_nearest(&job, w, carry, &carried, &front->loss_nearest, err);
    }
    front->measured = status == HT_OK;
    ht_mem_free_aligned(w);
    return status;
}

ht_status ht_blocks_nearest(struct blocks *b, int32_t layer, ht_err *err) {
    const struct ht_place_recipe *w = &b->job->recipe.places[HT_PLACE_WEIGHTS];
    bool folds = false;
    for (size_t i = 0; i < w->n_transforms; i++) {
        folds |= w->transforms[i].part->fold != NULL;
    }
    for (int role = 0; folds && role < HT_ROLES; role++) {
        const struct ht_linear *own = &b->own[role];
        uint32_t index;
        const struct ht_plan_tensor *t = b->model->layers[layer].linears[role] != NULL
                                             ? ht_blocks_tensor(b->job, (enum ht_role)role, layer, &index)
                                             : NULL;
        HT_TRY(t != NULL ? nearest(b, own, t, err) : HT_OK);
    }
    return HT_OK;
}

ht_status ht_blocks_learn(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
    struct ht_quant_learner l = {b->ctx,   b->model, b->calib,  &b->windows, layer,
                                 b->job->o->seed, &b->way, {NULL}, &b->meter, b->done};
    bool any = false;
    for (int role = 0; role < HT_ROLES; role++) {
        l.jobs[role] = b->pending[role].job;
        any |= l.jobs[role] != NULL;
    }
    if (!any) {
        return HT_OK;
    }
    HT_TRY(ht_quant_learn_layer(&l, err));
    for (int role = 0; role < HT_ROLES; role++) {
        struct pending p = b->pending[role];
        struct ht_linear *linear = b->model->layers[layer].linears[role];
        float *w = NULL;
        b->pending[role].job = NULL;
        if (p.job == NULL) {
            continue;
        }
        ht_status status = weights_of(b, linear, &w, err);
        if (status == HT_OK) {
            ht_front_restore(p.job->front, w);
            status = ht_job_measure(p.job, w, err);
        }
        ht_mem_free_aligned(w);
        HT_TRY(status);
        HT_TRY(keep_result(b, work, linear, p.index, p.job, err));
    }
    return HT_OK;
}

ht_status ht_blocks_solve(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_linear *linear = b->model->layers[layer].linears[role];
        uint32_t index;
        struct ht_plan_tensor *t =
            linear != NULL ? ht_blocks_tensor(b->job, (enum ht_role)role, layer, &index) : NULL;
        /* What a transform has changed is written anew, also where it stays in floating point. */
        if (t != NULL && (ht_blocks_is_grid(t) || b->block.matrices[role].w != NULL)) {
            HT_TRY(solve(b, work, linear, t, index, err));
        }
    }
    return HT_OK;
}
