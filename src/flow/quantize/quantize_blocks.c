/* The driver of blocks: the model is taken apart layer by layer.
 *
 *     collect      what the recipe's parts need of the inputs of the layer's linears, in one pass of the text
 *     transform    at the architecture's fold sites, in f32; then the inputs are collected as they are now
 *     solve        each linear: split outliers, fit, snap, round, encode (quant/job.h)
 *     learn        all linears of the layer together, where a part asks for that (quantize_learn.h)
 *     keep         results go to the work file, which a later run resumes from
 *     advance      hidden states move on through the quantized layer (sequential: false: through the
 * unquantized one)
 *
 * Memory: one layer in f32 where transforms want it, its statistics, one linear, and the hidden states of the
 * text. At the end the work file is mapped, and the tensors of the plan point into it. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/mem.h"
#include "flow/quantize/quantize_blocks.h"
#include "model/fold_view.h"
#include "quant/recipe_yaml.h"

/* ---- which tensors ---- */

static struct ht_plan_tensor *tensor_of(const struct ht_quant_job *j, enum ht_role role, int32_t layer,
                                        uint32_t *index) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        if (j->plan->tensors[i].role == role && j->plan->tensors[i].layer == layer) {
            *index = (uint32_t)i;
            return &j->plan->tensors[i];
        }
    }
    return NULL;
}

/* A linear of a layer that leaves floating point. */
static bool is_grid(const struct ht_plan_tensor *t) {
    bool blocks = t->out.format->fit != NULL && t->in != NULL && t->in->format != t->out.format;
    return ht_plan_is_weight(t) && t->in != NULL && t->layer >= 0 && (t->scheme != NULL || blocks);
}

bool ht_quant_wants_blocks(const struct ht_quant_job *j) {
    const struct ht_recipe *r = &j->recipe;
    unsigned beyond = ht_recipe_needs(r) & ~(unsigned)HT_NEEDS_MEAN_SQUARE;
    bool coded = false;
    for (size_t i = 0; i < j->plan->n_tensors && !coded; i++) {
        coded = is_grid(&j->plan->tensors[i]) && j->plan->tensors[i].scheme != NULL;
    }
    return beyond != 0 || coded || r->places[HT_PLACE_WEIGHTS].n_transforms > 0 || ht_recipe_leaves(r) != 0;
}

/* ---- the job's digest ---- */

static ht_status digest_of(const struct blocks *b, char digest[65], ht_err *err) {
    const struct ht_quant_job *j = b->job;
    struct ht_sha256 *sha;
    struct ht_buf text;
    char format[HT_SCHEME_TEXT];
    ht_buf_init(&text, 0);
    ht_buf_printf(&text, "%s %s %s seed %llu\n", ht_version(), ht_cpu_level_name(ht_cpu_best()),
                  j->source_xxh3, (unsigned long long)j->o->seed);
    ht_recipe_write(&j->recipe, &text);
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        ht_buf_printf(&text, "%s %s %llu %llu\n", t->out.name, ht_plan_format(t, format),
                      (unsigned long long)t->out.ne[0], (unsigned long long)t->out.ne[1]);
    }
    if (j->stats != NULL) {
        ht_buf_printf(&text, "statistics %016llx\n", (unsigned long long)ht_quant_stats_hash(j->stats));
    }
    ht_status status = ht_buf_ok(&text) ? ht_sha256_new(&sha, err) : ht_fail_nomem(err, text.len);
    if (status == HT_OK) {
        uint64_t n = b->windows.n * b->windows.window;
        ht_sha256_update(sha, text.data, text.len);
        ht_sha256_update(sha, &b->windows.window, sizeof b->windows.window);
        ht_sha256_update(sha, b->windows.ids, n * sizeof *b->windows.ids);
        ht_sha256_final(sha, digest);
        ht_sha256_free(sha);
    }
    ht_buf_deinit(&text);
    return status;
}

/* ---- the embedding ---- */

struct embedded {
    const struct ht_format *format;
    float *hidden;
    uint64_t width;
    unsigned char *bytes; /* [threads] rows */
    uint64_t row_bytes;
};

static void embed_task(void *ctx, size_t row, int thread) {
    const struct embedded *e = ctx;
    unsigned char *bytes = e->bytes + (uint64_t)thread * e->row_bytes;
    e->format->encode(e->hidden + row * e->width, NULL, bytes, e->width);
    e->format->decode(bytes, e->hidden + row * e->width, e->width);
}

/* The first layer sees rows of the embedding as the file will hold them. */
static ht_status embed(struct blocks *b, ht_err *err) {
    uint32_t index;
    const struct ht_plan_tensor *t = tensor_of(b->job, HT_ROLE_TOKEN_EMBD, -1, &index);
    if (b->calib != NULL && b->job->turn != NULL) {
        const struct ht_rotation *q = &b->job->turn->q;
        uint64_t n;
        float *hidden = ht_calib_layers_hidden(b->calib, &n), *was = ht_calib_layers_hidden_float(b->calib);
        HT_TRY(ht_rotation_rows(q, b->ctx->pool, hidden, n, q->n, err));
        HT_TRY(was != NULL ? ht_rotation_rows(q, b->ctx->pool, was, n, q->n, err) : HT_OK);
    }
    bool same = t != NULL && t->in != NULL && t->in->format == t->out.format && t->turn == NULL;
    if (b->calib == NULL || t == NULL || t->in == NULL || same || t->scheme != NULL) {
        return HT_OK;
    }
    struct embedded e = {.format = t->out.format, .width = t->out.ne[0]};
    uint64_t tokens, threads = (uint64_t)ht_pool_threads(b->ctx->pool);
    e.hidden = ht_calib_layers_hidden(b->calib, &tokens);
    e.row_bytes = (ht_format_row_bytes(e.format, e.width) + 63) & ~63ull;
    e.bytes = ht_mem_alloc_aligned(threads, e.row_bytes);
    if (e.bytes == NULL) {
        return ht_fail_nomem(err, threads * e.row_bytes);
    }
    ht_pool_run(b->ctx->pool, tokens, embed_task, &e);
    ht_mem_free_aligned(e.bytes);
    return HT_OK;
}

/* ---- one linear ---- */

struct rows {
    const struct ht_linear *linear;
    float *w, *scratch; /* scratch [threads, cols] */
};

static void row_task(void *ctx, size_t row, int thread) {
    const struct rows *r = ctx;
    uint64_t cols = r->linear->w.cols;
    ht_linear_row(r->linear, row, r->w + row * cols, r->scratch + (uint64_t)thread * cols);
}

/* The matrix that the codes will stand for: a transform's, or the model's. */
static ht_status weights_of(struct blocks *b, const struct ht_linear *linear, float **w, ht_err *err) {
    uint64_t rows = linear->w.rows, cols = linear->w.cols, threads = (uint64_t)ht_pool_threads(b->ctx->pool);
    const struct ht_fold_matrix *changed = &b->block.matrices[linear->role];
    if (changed->w != NULL) {
        *w = ht_mem_alloc_aligned(rows, cols * sizeof **w);
        if (*w == NULL) {
            return ht_fail_nomem(err, rows * cols * sizeof **w);
        }
        memcpy(*w, changed->w, rows * cols * sizeof **w);
        return HT_OK;
    }
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

/* The model computes with the result from now on. */
static void install(struct ht_linear *linear, const struct ht_format *block, const void *bytes,
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

/* Collected in this run, or from a file; NULL: the recipe needs none. */
static const struct ht_stats *stats_for(const struct blocks *b, const struct ht_linear *linear) {
    if (b->job->stats != NULL) {
        return ht_quant_stats_of(b->job->stats, linear);
    }
    return b->calib != NULL ? ht_calib_layers_stats(b->calib, linear) : NULL;
}

/* Where the mean error of this linear's outputs goes, if the recipe wants it off. */
static enum ht_center center_of(const struct blocks *b, const struct ht_linear *linear) {
    const struct ht_place_recipe *w = &b->job->recipe.places[HT_PLACE_WEIGHTS];
    for (size_t i = 0; i < w->n_transforms; i++) {
        const char *name = w->transforms[i].part->name;
        if (strcmp(name, "center") == 0 || strcmp(name, "center-biases") == 0) {
            return linear->bias != NULL            ? HT_CENTER_BIAS
                   : strcmp(name, "center") == 0 ? HT_CENTER_BESIDE
                                                 : HT_CENTER_NONE;
        }
    }
    return HT_CENTER_NONE;
}

/* The model's bias gains what the job has found. */
static ht_status put_bias(struct blocks *b, struct ht_work *work, const struct ht_linear *linear,
                          const struct ht_job *job, ht_err *err) {
    uint32_t index;
    const enum ht_role role = ht_role_bias(linear->role);
    if (job->bias == NULL || tensor_of(b->job, role, linear->layer, &index) == NULL) {
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
    install(linear, job->block, job->bytes, job->block == NULL ? &job->q : NULL,
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
    ht_recipe_weights(&j->recipe, t->role, t->layer, &how);
    ht_recipe_activations(&j->recipe, t->role, t->layer, &inputs);
    bool is_float = t->scheme == NULL && t->out.format->kind == HT_KIND_FLOAT;
    if (is_float) {
        plain_choices(&how);
    }
    *job = (struct ht_job){.pool = b->ctx->pool,
                           .name = t->in->name, /* as the user's file calls it */
                           .weights = &how,
                           .activations = is_float ? NULL : &inputs,
                           .block = t->scheme == NULL ? t->out.format : NULL,
                           .rows = linear->w.rows,
                           .cols = linear->w.cols,
                           .front = &b->fronts[t->role],
                           .stats = stats_for(b, linear),
                           .center = is_float ? HT_CENTER_NONE : center_of(b, linear),
                           .drift = is_float ? 0 : j->recipe.calibration.drift,
                           .seed = j->o->seed + index};
    if (t->scheme != NULL) {
        job->scheme = *t->scheme;
    }
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

/* The linears that are rounded so far learn together; then they are final. */
static ht_status learn(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
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
            status = ht_job_measure(p.job, w, err);
        }
        ht_mem_free_aligned(w);
        HT_TRY(status);
        HT_TRY(keep_result(b, work, linear, p.index, p.job, err));
    }
    return HT_OK;
}

/* ---- transforms ---- */

struct stats_at {
    const struct blocks *b;
    int32_t layer;
};

static const struct ht_stats *stats_of(void *ctx, enum ht_role role) {
    const struct stats_at *at = ctx;
    const struct ht_linear *linear = at->b->model->layers[at->layer].linears[role];
    return linear != NULL ? stats_for(at->b, linear) : NULL;
}

static ht_status grid_of(void *ctx, enum ht_role role, const struct ht_format **block, struct ht_scheme *scheme,
                         ht_err *err) {
    const struct stats_at *at = ctx;
    uint32_t index;
    const struct ht_plan_tensor *t = tensor_of(at->b->job, role, at->layer, &index);
    if (t == NULL) {
        return ht_fail(err, HT_INTERNAL, ht_role_name(role), HT_NO_POS, "layer %d has no such tensor", at->layer);
    }
    *block = t->scheme == NULL ? t->out.format : NULL;
    if (t->scheme != NULL) {
        *scheme = *t->scheme;
    }
    return HT_OK;
}

/* Norms and biases as they are now, for the output. */
static ht_status keep_vectors(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_fold_vector *v = &b->block.vectors[role];
        uint32_t index;
        const struct ht_plan_tensor *t = tensor_of(b->job, (enum ht_role)role, layer, &index);
        if (v->x != NULL && v->used && t == NULL) {
            return ht_fail(err, HT_UNSUPPORTED, ht_role_name((enum ht_role)role), HT_NO_POS,
                           "a transform wants a %s that the model's file does not have",
                           ht_role_name((enum ht_role)role));
        }
        if (v->x != NULL && v->used) {
            HT_TRY(ht_work_put_vector(work, index, layer, v->x, v->n, err));
        }
    }
    return HT_OK;
}

/* Consumers of a site share one input: what was seen of it is divided once. False: what they read passes something in
 * front of them first. */
static bool stats_divided(void *ctx, const struct ht_foldsite *site, const float *s) {
    const struct stats_at *at = ctx;
    const struct ht_stats *done = NULL;
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        const struct ht_stats *stats = stats_of(ctx, *role);
        if (at->b->fronts[*role].side.leaves != 0) {
            return false;
        }
        if (stats != NULL && stats != done) {
            const struct ht_linear *linear = at->b->model->layers[at->layer].linears[*role];
            if (at->b->job->stats != NULL) {
                ht_quant_stats_divide(at->b->job->stats, linear, s);
            } else {
                ht_calib_layers_divide(at->b->calib, linear, s);
            }
            done = stats;
        }
    }
    return true;
}

/* What is needed of calibration behind the first n transforms of the weights. */
static unsigned needs_behind(const struct ht_recipe *recipe, size_t n) {
    struct ht_recipe rest = *recipe;
    struct ht_place_recipe *w = &rest.places[HT_PLACE_WEIGHTS];
    w->n_transforms -= n;
    memmove(w->transforms, w->transforms + n, w->n_transforms * sizeof *w->transforms);
    return ht_recipe_needs(&rest);
}

ht_status ht_blocks_collect(struct blocks *b, int32_t layer, ht_err *err) {
    b->collects++;
    return b->calib != NULL ? ht_calib_layers_collect(b->calib, layer, err) : HT_OK;
}

/* Inputs are others now, behind the first n transforms. */
static ht_status collect_again(struct blocks *b, int32_t layer, size_t n, ht_err *err) {
    unsigned needs = needs_behind(&b->job->recipe, n);
    if ((needs & HT_NEEDS_CROSS) != 0) {
        return ht_fail(err, HT_UNSUPPORTED, "drift", HT_NO_POS, "the unquantized model's hidden states cannot follow "
                       "transform %s; leave calibration.drift out",
                       b->job->recipe.places[HT_PLACE_WEIGHTS].transforms[n - 1].part->name);
    }
    return needs != HT_NEEDS_NOTHING ? ht_blocks_collect(b, layer, err) : HT_OK;
}

static bool needs_nothing(const struct ht_choice *c) {
    return c->part->needs == HT_NEEDS_NOTHING;
}

/* The model computes with the changed layer, and with what is left in front of its linears. */
static ht_status put_layer(struct blocks *b, int32_t layer, ht_err *err) {
    HT_TRY(ht_fold_view_put(b->model, &b->block, err));
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_linear *linear = b->model->layers[layer].linears[role];
        if (linear != NULL && b->fronts[role].side.leaves != 0) {
            linear->side = &b->fronts[role].side;
        }
    }
    return HT_OK;
}

static ht_status transform_one(struct blocks *b, struct ht_fold_job *fold, size_t i, bool early, ht_err *err) {
    const struct ht_choice *c = &b->job->recipe.places[HT_PLACE_WEIGHTS].transforms[i];
    int32_t layer = ((const struct stats_at *)fold->ctx)->layer;
    if (b->block.layer != layer || b->block.n_heads == 0) {
        HT_TRY(ht_fold_view_take(b->ctx->pool, b->model, layer, &b->block, err));
    }
    fold->stale = true; /* unless the part knows better */
    HT_TRY(c->part->fold(fold, c, err));
    HT_TRY(put_layer(b, layer, err));
    return !early && fold->stale ? collect_again(b, layer, i + 1, err) : HT_OK;
}

/* Transforms of the layer; early: those at the front of the list that look at weights alone. They go before anything
 * is collected. The others are behind them, and see inputs as the one before has left them. */
ht_status ht_blocks_transform(struct blocks *b, int32_t layer, bool early, ht_err *err) {
    const struct ht_place_recipe *w = &b->job->recipe.places[HT_PLACE_WEIGHTS];
    struct stats_at at = {b, layer};
    struct ht_fold_job fold = {.pool = b->ctx->pool,
                               .block = &b->block,
                               .sites = b->model->arch->folds,
                               .fronts = b->fronts,
                               .stream = b->job->turn != NULL ? &b->job->turn->q : NULL,
                               .seed = b->job->o->seed,
                               .values_turned = b->job->plan->kv.hadamard,
                               .recipe = &b->job->recipe,
                               .stats = stats_of,
                               .grid = grid_of,
                               .divided = stats_divided,
                               .ctx = &at,
                               .notes = b->notes,
                               .n_notes = (size_t)b->folds.n_notes};
    ht_status status = HT_OK;
    size_t from = 0, to = w->n_transforms;
    while (from < w->n_transforms && needs_nothing(&w->transforms[from])) {
        from++;
    }
    if (early) {
        to = from;
        from = 0;
    }
    for (size_t i = from; i < to; i++) {
        if (w->transforms[i].part->fold == NULL) {
            continue;
        }
        HT_TRY_DONE(transform_one(b, &fold, i, early, err));
    }
done:
    b->folds.sites += fold.n_sites;
    b->folds.dead += fold.dead;
    b->folds.clamped += fold.clamped;
    b->folds.cut += fold.cut;
    b->folds.n_notes = fold.n_notes;
    b->folds.notes = b->notes = fold.notes;
    return status;
}

/* ---- one layer ---- */

/* Runs size their scratch over all linears: those of layers that are done must stay sound. */
void ht_blocks_save_layer(struct blocks *b, const struct ht_layer *layer) {
    for (int role = 0; role < HT_ROLES; role++) {
        if (layer->linears[role] != NULL) {
            b->own[role] = *layer->linears[role];
        }
        b->own_vectors[role] = layer->vectors[role];
    }
}

void ht_blocks_restore_layer(const struct blocks *b, struct ht_layer *layer) {
    for (int role = 0; role < HT_ROLES; role++) {
        if (layer->linears[role] != NULL) {
            *layer->linears[role] = b->own[role];
        }
        layer->vectors[role] = b->own_vectors[role];
    }
}

void ht_blocks_drop_layer(struct blocks *b) {
    for (size_t i = 0; i < b->n_results; i++) {
        ht_job_release(&b->results[i]);
    }
    b->n_results = 0;
    for (int role = 0; role < HT_ROLES; role++) {
        ht_front_deinit(&b->fronts[role]);
    }
    ht_fold_block_deinit(&b->block);
    b->block = (struct ht_fold_block){0};
    ht_mem_free(b->notes);
    b->notes = NULL;
    b->folds = (struct ht_work_folds){0};
}

static ht_status advance(struct blocks *b, int32_t layer, ht_err *err) {
    bool last = layer + 1 == (int32_t)b->model->hp.n_layers;
    return b->calib != NULL && !last ? ht_calib_layers_advance(b->calib, layer, err) : HT_OK;
}

/* The next layer's inputs, when they are those of the unquantized model: called with its weights in place. */
static ht_status advance_plain(struct blocks *b, int32_t layer, ht_err *err) {
    uint64_t tokens;
    const float *exact = b->calib != NULL ? ht_calib_layers_hidden_float(b->calib) : NULL;
    if (exact == NULL) {
        return advance(b, layer, err);
    }
    float *hidden = ht_calib_layers_hidden(b->calib, &tokens);
    memcpy(hidden, exact, tokens * ht_act_width(b->model, HT_ACT_RESIDUAL) * sizeof *hidden);
    for (uint64_t i = 0; i < b->windows.n; i++) {
        ht_calib_layers_drop(b->calib, i);
    }
    return HT_OK;
}

ht_status ht_blocks_solve(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_linear *linear = b->model->layers[layer].linears[role];
        uint32_t index;
        struct ht_plan_tensor *t =
            linear != NULL ? tensor_of(b->job, (enum ht_role)role, layer, &index) : NULL;
        /* What a transform has changed is written anew, also where it stays in floating point. */
        if (t != NULL && (is_grid(t) || b->block.matrices[role].w != NULL)) {
            HT_TRY(solve(b, work, linear, t, index, err));
        }
    }
    return HT_OK;
}

static ht_status run_layer(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
    bool sequential = b->job->recipe.calibration.sequential;
    if (b->job->stats != NULL) { /* before any transform, since every fold divides them */
        HT_TRY(ht_quant_stats_layer(b->job->stats, &b->model->layers[layer], b->needs, err));
    }
    HT_TRY(ht_blocks_transform(b, layer, true, err));
    HT_TRY(ht_blocks_collect(b, layer, err));
    if (b->calib != NULL) {
        HT_TRY(ht_calib_layers_advance_float(b->calib, layer, err));
    }
    HT_TRY(ht_blocks_transform(b, layer, false, err));
    HT_TRY(keep_vectors(b, work, layer, err));
    bool late = b->calib != NULL && ht_calib_layers_hidden_float(b->calib) != NULL; /* inputs are still wanted */
    if (!sequential && !late) {
        HT_TRY(advance_plain(b, layer, err));
    }
    HT_TRY(ht_blocks_solve(b, work, layer, err));
    HT_TRY(learn(b, work, layer, err));
    HT_TRY(ht_work_end_layer(work, layer, &b->folds, err));
    b->finished = (uint32_t)layer + 1;
    if (!sequential && late) {
        return advance_plain(b, layer, err);
    }
    return sequential ? advance(b, layer, err) : HT_OK;
}

/* ---- what an earlier run has finished ---- */

/* The model's own copy of a norm or bias: steps of the plan point to it. */
static void put_vector(struct ht_layer *layer, enum ht_role role, const void *bytes, uint64_t n_bytes) {
    if (layer->vectors[role] != NULL) {
        memcpy((float *)(uintptr_t)layer->vectors[role], bytes, n_bytes);
    }
}

/* Layers of a former run: hidden states go through them again, with the weights they were given then. */
static ht_status resume(struct blocks *b, struct ht_work *work, uint32_t layers, ht_err *err) {
    struct ht_work_item items[MAX_LINEARS];
    struct ht_model *m = b->model;
    ht_status status = HT_OK;
    uint64_t at = 0;
    bool sequential = b->job->recipe.calibration.sequential;
    HT_TRY(ht_work_map(work, err));
    bool more = ht_work_next(work, b->job->plan, &at, &items[0], &status, err);
    for (int32_t layer = 0; layer < (int32_t)layers; layer++) {
        size_t n = 0;
        ht_blocks_save_layer(b, &m->layers[layer]);
        /* The layer in floating point is only wanted where something runs through it. */
        if (b->calib != NULL && (!sequential || ht_calib_layers_hidden_float(b->calib) != NULL)) {
            HT_TRY(ht_blocks_transform(b, layer, true, err));
            HT_TRY(ht_calib_layers_advance_float(b->calib, layer, err));
        }
        while (more && items[n].layer == layer && n + 1 < MAX_LINEARS) {
            const struct ht_plan_tensor *t = &b->job->plan->tensors[items[n].tensor];
            struct ht_linear *linear = m->layers[layer].linears[t->role];
            if (sequential && items[n].vector) {
                put_vector(&m->layers[layer], t->role, items[n].bytes, items[n].n_bytes);
            } else if (sequential && linear != NULL) {
                install(linear, items[n].has_q ? NULL : t->out.format, items[n].bytes,
                        items[n].has_q ? &items[n].q : NULL,
                        items[n].side.leaves != 0 ? &items[n].side : NULL);
            }
            b->done += items[n].vector ? 0 : ht_tensor_elems(&t->out);
            n++;
            more = ht_work_next(work, b->job->plan, &at, &items[n], &status, err);
        }
        HT_TRY(status);
        HT_TRY(sequential ? advance(b, layer, err) : advance_plain(b, layer, err));
        ht_blocks_restore_layer(b, &m->layers[layer]);
        ht_blocks_drop_layer(b);
        items[0] = items[n];
    }
    return HT_OK;
}

/* What transforms did to all layers, those of earlier runs too. */
static ht_status bind_folds(struct blocks *b, const struct ht_work *work, ht_err *err) {
    struct ht_quant_job *j = b->job;
    struct ht_work_folds f;
    size_t n = 0;
    for (uint64_t at = 0; ht_work_next_layer(work, &at, &f);) {
        n += (size_t)f.n_notes;
    }
    struct ht_fold_note *all = ht_arena_calloc(&j->plan->arena, n + 1, sizeof *all);
    if (all == NULL) {
        return ht_fail_nomem(err, n * sizeof *all);
    }
    for (uint64_t at = 0; ht_work_next_layer(work, &at, &f);) {
        j->folded_sites += f.sites;
        j->folded_dead += f.dead;
        j->folded_clamped += f.clamped;
        j->folded_cut += f.cut;
        if (f.n_notes > 0) {
            memcpy(all + j->n_folds, f.notes, (size_t)f.n_notes * sizeof *all);
        }
        j->n_folds += (size_t)f.n_notes;
    }
    j->folds = all;
    return HT_OK;
}

/* Tensors of the plan are what the work file holds. */
static ht_status bind(struct blocks *b, struct ht_work *work, ht_err *err) {
    struct ht_flow_plan *p = b->job->plan;
    struct ht_work_item item;
    ht_status status;
    uint64_t at = 0;
    HT_TRY(ht_work_map(work, err));
    while (ht_work_next(work, p, &at, &item, &status, err)) {
        struct ht_plan_tensor *t = &p->tensors[item.tensor];
        if (item.vector) {
            t->out.format = t->wanted = ht_format_find("f32");
            t->stored = item.bytes;
            continue;
        }
        struct ht_job_report *report = ht_arena_calloc(&p->arena, 1, sizeof *report);
        struct ht_qtensor *q = item.has_q ? ht_arena_calloc(&p->arena, 1, sizeof *q) : NULL;
        struct ht_sidecar *side = item.side.leaves != 0 ? ht_arena_calloc(&p->arena, 1, sizeof *side) : NULL;
        if (report == NULL || (item.has_q && q == NULL) || (item.side.leaves != 0 && side == NULL)) {
            return ht_fail_nomem(err, sizeof *report + sizeof *q + sizeof *side);
        }
        *report = item.report;
        t->report = report;
        t->stored = item.bytes;
        if (q != NULL) {
            *q = item.q;
        }
        if (side != NULL) {
            *side = item.side;
        }
        t->q = q;
        t->side = side;
    }
    HT_TRY(status);
    HT_TRY(bind_folds(b, work, err));
    for (size_t i = 0; i < p->n_tensors; i++) { /* what is streamed from the source is counted there */
        p->tensors[i].n_nonfinite = p->tensors[i].q != NULL ? p->tensors[i].n_nonfinite : 0;
    }
    return ht_flow_plan_sizes(p, err);
}

/* ---- the whole ---- */

/* The output keeps the factors beside the matrices, where parts that solve for whole outputs would count them twice. */
ht_status ht_blocks_refuse_factors(const struct ht_model *m, ht_err *err) {
    for (uint32_t layer = 0; layer < m->hp.n_layers; layer++) {
        for (int role = 0; role < HT_ROLES; role++) {
            const struct ht_linear *l = m->layers[layer].linears[role];
            if (l != NULL && l->scale != NULL) {
                return ht_fail(err, HT_UNSUPPORTED, l->name, HT_NO_POS,
                               "has a factor in a tensor of its own, as NVFP4 files do; layer by layer it cannot be "
                               "quantized: take method rtn or imatrix, or start from the 16-bit model");
            }
        }
    }
    return HT_OK;
}

/* Bytes of hidden states that would not fit beside the rest go to a file. */
static const char *spill_path(const struct blocks *b) {
    const ht_quantize_options *o = b->job->o;
    uint64_t tokens = b->windows.n * b->windows.window;
    if (o->memory_bytes == 0) {
        return NULL;
    }
    const struct ht_recipe *r = &b->job->recipe;
    int threads = ht_pool_threads(b->ctx->pool);
    uint64_t all = ht_calib_layers_memory(b->model, tokens, b->windows.window, threads) +
                   ht_quant_learn_stream(r, b->model, tokens) +
                   ht_quant_learn_memory(r, b->model, b->windows.window, threads);
    return all > o->memory_bytes ? o->output : NULL;
}

static ht_status start_calibration(struct blocks *b, ht_err *err) {
    b->needs = ht_recipe_needs(&b->job->recipe);
    if (b->needs == HT_NEEDS_NOTHING || b->job->stats != NULL) {
        return HT_OK;
    }
    HT_TRY(ht_quant_windows(b->ctx, b->job, b->model, &b->windows, err));
    const struct ht_calib_layers_options options = {
        .needs = b->needs, .math = HT_MATH_EXACT, .spill = spill_path(b)};
    b->job->spilled = options.spill != NULL;
    b->job->calib_tokens = b->windows.n * b->windows.window;
    return ht_calib_layers_new_with(b->ctx, b->model, &b->windows, &options, &b->calib, err);
}

static ht_status run(struct blocks *b, ht_err *err) {
    struct ht_quant_job *j = b->job;
    const ht_quantize_options *o = j->o;
    bool no_text = ht_recipe_needs(&j->recipe) == 0 || j->stats != NULL;
    struct ht_model_options options = {.pre = o->pre, .tokenizer_optional = no_text};
    char digest[65];
    uint32_t done = 0;
    uint64_t total = 0;
    bool replaced = false;
    HT_TRY(ht_model_load_with(o->input, &options, &b->model, err));
    HT_TRY(ht_blocks_refuse_factors(b->model, err));
    HT_TRY(ht_finite_mend(&b->mended, j->plan, b->model, err));
    HT_TRY(start_calibration(b, err));
    HT_TRY(embed(b, err));
    HT_TRY(digest_of(b, digest, err));
    HT_TRY(ht_work_open(o->output, digest, o->restart, &j->work, &done, &replaced, err));
    if (replaced) {
        ht_log(b->ctx, HT_LOG_INFO, "the work file beside %s was of another job, or not whole: started anew",
               o->output);
    }
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        total += is_grid(&j->plan->tensors[i]) ? ht_tensor_elems(&j->plan->tensors[i].out) : 0;
    }
    if (done > 0) {
        ht_log(b->ctx, HT_LOG_INFO, "going on behind layer %u of %u, which an earlier run finished", done,
               b->model->hp.n_layers);
        j->resumed_layers = done;
        HT_TRY(resume(b, j->work, done, err));
    }
    ht_meter_init(&b->meter, b->ctx, "round", "weights", total);
    for (uint32_t layer = done; layer < b->model->hp.n_layers; layer++) {
        ht_blocks_save_layer(b, &b->model->layers[layer]);
        HT_TRY(run_layer(b, j->work, (int32_t)layer, err));
        ht_blocks_restore_layer(b, &b->model->layers[layer]);
        ht_blocks_drop_layer(b);
    }
    return bind(b, j->work, err);
}

void ht_blocks_free(struct blocks *b) {
    ht_blocks_drop_layer(b);
    ht_calib_layers_free(b->calib);
    ht_calib_windows_deinit(&b->windows);
    ht_model_unload(b->model);
    ht_finite_deinit(&b->mended);
    ht_mem_free(b);
}

ht_status ht_quant_blocks(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    struct blocks *b = ht_mem_calloc(1, sizeof *b);
    if (b == NULL) {
        return ht_fail_nomem(err, sizeof *b);
    }
    b->ctx = ctx;
    b->job = j;
    ht_status status = run(b, err);
    if (status == HT_CANCELLED && b->finished > 0) {
        ht_log(ctx, HT_LOG_WARN, "%u of %u layers are finished and stay in the work file beside the output: the same "
               "command goes on from there", b->finished, b->model->hp.n_layers);
    }
    ht_blocks_free(b);
    return status;
}
