/* The driver of blocks: the model is taken apart layer by layer.
 *
 *     collect      what the recipe's parts need of the inputs of the layer's linears, in one pass of the text
 *     transform    at the architecture's fold sites, in f32; then the inputs are collected as they are now
 *     solve        each linear: split outliers, fit, snap, round, encode (quant/job.h)
 *     learn        all linears of the layer together, where a part asks for that (quantize_learn.h)
 *     keep         results go to the work file, which a later run resumes from
 *     advance      hidden states move on through the quantized layer (sequential: false: the unquantized one)
 *
 * Memory: one layer in f32 where transforms want it, its statistics, one linear, and the hidden states of the
 * text. At the end the work file is mapped, and the tensors of the plan point into it. */
#include <string.h>

#include "base/mem.h"
#include "flow/quantize/quantize_blocks.h"

/* ---- which tensors ---- */

struct ht_plan_tensor *ht_blocks_tensor(const struct ht_quant_job *j, enum ht_role role, int32_t layer,
                                        uint32_t *index) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        if (j->plan->tensors[i].role == role && j->plan->tensors[i].layer == layer) {
            *index = (uint32_t)i;
            return &j->plan->tensors[i];
        }
    }
    return NULL;
}

bool ht_blocks_is_grid(const struct ht_plan_tensor *t) {
    bool blocks = t->out.format->fit != NULL && t->in != NULL && t->in->format != t->out.format;
    return ht_plan_is_weight(t) && t->in != NULL && t->layer >= 0 && (t->scheme != NULL || blocks);
}

bool ht_quant_wants_blocks(const struct ht_quant_job *j) {
    const struct ht_recipe *r = &j->recipe;
    unsigned beyond = ht_recipe_needs(r) & ~(unsigned)HT_NEEDS_MEAN_SQUARE;
    bool coded = false;
    for (size_t i = 0; i < j->plan->n_tensors && !coded; i++) {
        coded = ht_blocks_is_grid(&j->plan->tensors[i]) && j->plan->tensors[i].scheme != NULL;
    }
    return beyond != 0 || coded || r->places[HT_PLACE_WEIGHTS].n_transforms > 0 || ht_recipe_leaves(r) != 0;
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

/* The stream of a rotated model starts with rotated rows. */
static ht_status turn_windows(struct blocks *b, ht_err *err) {
    const struct ht_rotation *q = &b->job->turn->q;
    uint64_t tokens, n = b->windows.window;
    float *hidden = ht_calib_layers_hidden(b->calib, &tokens), *was = ht_calib_layers_hidden_float(b->calib);
    for (uint64_t i = 0; i < b->windows.n; i++) {
        HT_TRY(ht_rotation_rows(q, b->ctx->pool, hidden + i * n * q->n, n, q->n, err));
        HT_TRY(was != NULL ? ht_rotation_rows(q, b->ctx->pool, was + i * n * q->n, n, q->n, err) : HT_OK);
        ht_calib_layers_drop(b->calib, i);
    }
    return HT_OK;
}

/* The first layer sees rows of the embedding as the file will hold them. */
static ht_status embed(struct blocks *b, ht_err *err) {
    uint32_t index;
    const struct ht_plan_tensor *t = ht_blocks_tensor(b->job, HT_ROLE_TOKEN_EMBD, -1, &index);
    if (b->calib != NULL && b->job->turn != NULL) {
        HT_TRY(turn_windows(b, err));
    }
    bool same = t != NULL && t->in != NULL && t->in->format == t->out.format && t->turn == NULL;
    if (b->calib == NULL || t == NULL || t->in == NULL || same || t->scheme != NULL) {
        return HT_OK;
    }
    struct embedded e = {.format = t->out.format, .width = t->out.ne[0]};
    uint64_t tokens, n = b->windows.window, threads = (uint64_t)ht_pool_threads(b->ctx->pool);
    float *hidden = ht_calib_layers_hidden(b->calib, &tokens);
    e.row_bytes = (ht_format_row_bytes(e.format, e.width) + 63) & ~63ull;
    e.bytes = ht_mem_alloc_aligned(threads, e.row_bytes);
    if (e.bytes == NULL) {
        return ht_fail_nomem(err, threads * e.row_bytes);
    }
    for (uint64_t i = 0; i < b->windows.n; i++) {
        e.hidden = hidden + i * n * e.width;
        ht_pool_run(b->ctx->pool, n, embed_task, &e);
        ht_calib_layers_drop(b->calib, i);
    }
    ht_mem_free_aligned(e.bytes);
    return HT_OK;
}

/* ---- one layer ---- */

/* Runs size their scratch over all linears: those of layers that are done must stay sound. */
ht_status ht_blocks_save_layer(struct blocks *b, struct ht_layer *layer, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        if (layer->linears[role] != NULL) {
            b->own[role] = *layer->linears[role];
        }
        b->own_vectors[role] = layer->vectors[role];
    }
    return b->halves ? ht_row_order_layer(&b->ordered, b->model, layer, err) : HT_OK;
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
    ht_fold_trail_deinit(&b->trail);
    ht_fold_block_deinit(&b->block);
    b->block = (struct ht_fold_block){0};
    ht_row_order_deinit(&b->ordered);
    ht_mem_free(b->notes);
    b->notes = NULL;
    b->folds = (struct ht_work_folds){0};
}

ht_status ht_blocks_advance(struct blocks *b, int32_t layer, ht_err *err) {
    bool last = layer + 1 == (int32_t)b->model->hp.n_layers;
    return b->calib != NULL && !last ? ht_calib_layers_advance(b->calib, layer, err) : HT_OK;
}

ht_status ht_blocks_advance_plain(struct blocks *b, int32_t layer, ht_err *err) {
    uint64_t tokens;
    const float *exact = b->calib != NULL ? ht_calib_layers_hidden_float(b->calib) : NULL;
    if (exact == NULL) {
        return ht_blocks_advance(b, layer, err);
    }
    float *hidden = ht_calib_layers_hidden(b->calib, &tokens);
    uint64_t n = b->windows.window * ht_act_width(b->model, HT_ACT_RESIDUAL);
    for (uint64_t i = 0; i < b->windows.n; i++) {
        memcpy(hidden + i * n, exact + i * n, n * sizeof *hidden);
        ht_calib_layers_drop(b->calib, i);
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
    HT_TRY(ht_blocks_nearest(b, layer, err));
    HT_TRY(ht_blocks_transform(b, layer, false, err));
    HT_TRY(ht_blocks_keep_vectors(b, work, layer, err));
    bool late = b->calib != NULL && ht_calib_layers_hidden_float(b->calib) != NULL; /* inputs are still wanted */
    if (!sequential && !late) {
        HT_TRY(ht_blocks_advance_plain(b, layer, err));
    }
    HT_TRY(ht_blocks_solve(b, work, layer, err));
    HT_TRY(ht_blocks_learn(b, work, layer, err));
    HT_TRY(ht_work_end_layer(work, layer, &b->folds, err));
    b->job->finished_layers = (uint32_t)layer + 1;
    if (!sequential && late) {
        return ht_blocks_advance_plain(b, layer, err);
    }
    return sequential ? ht_blocks_advance(b, layer, err) : HT_OK;
}

/* ---- the whole ---- */

/* The output keeps the factors beside the matrices, where parts that solve for whole outputs would count them twice. */
static ht_status refuse_factors(const struct ht_model *m, ht_err *err) {
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

ht_status ht_blocks_load(struct blocks *b, bool tokenizer_optional, ht_err *err) {
    const struct ht_quant_job *j = b->job;
    struct ht_model_options options = {.pre = j->o->pre, .tokenizer_optional = tokenizer_optional};
    HT_TRY(ht_model_load_with(j->o->input, &options, &b->model, err));
    b->halves = j->plan->target != HT_TARGET_GGUF && ht_row_order_begin(b->model);
    return refuse_factors(b->model, err);
}

/* Hidden states that do not fit beside the rest go to a file. */
static const char *spill_path(const struct blocks *b) {
    uint64_t streams = ht_quant_streams(b->job, b->model, b->windows.n * b->windows.window);
    return ht_quant_spills(b->job, streams) ? b->job->o->output : NULL;
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
    char digest[65];
    uint32_t done = 0;
    uint64_t total = 0;
    bool replaced = false;
    HT_TRY(ht_blocks_load(b, no_text, err));
    HT_TRY(ht_finite_mend(&b->mended, j->plan, b->model, err));
    HT_TRY(start_calibration(b, err));
    HT_TRY(embed(b, err));
    ht_model_drop_layer(b->model, -1);
    HT_TRY(ht_blocks_digest(b, digest, err));
    HT_TRY(ht_work_open(o->output, digest, o->restart, &j->work, &done, &replaced, err));
    j->n_layers = b->model->hp.n_layers;
    if (replaced && !o->restart) { /* hours may have gone into it */
        ht_quant_warn(b->ctx, j, "the work file beside %s was of another job, or not whole: started anew",
                      ht_path_base(o->output));
    }
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        total += ht_blocks_is_grid(&j->plan->tensors[i]) ? ht_tensor_elems(&j->plan->tensors[i].out) : 0;
    }
    if (done > 0) {
        ht_log(b->ctx, HT_LOG_INFO, "%u of %u layers are taken over from the work file of an earlier run", done,
               j->n_layers);
        j->resumed_layers = j->finished_layers = done;
        HT_TRY(ht_blocks_resume(b, j->work, done, err));
    }
    ht_meter_init(&b->meter, b->ctx, "round", "weights", total);
    for (uint32_t layer = done; layer < b->model->hp.n_layers; layer++) {
        HT_TRY(ht_blocks_save_layer(b, &b->model->layers[layer], err));
        HT_TRY(run_layer(b, j->work, (int32_t)layer, err));
        ht_blocks_restore_layer(b, &b->model->layers[layer]);
        ht_blocks_drop_layer(b);
        ht_model_drop_layer(b->model, (int32_t)layer);
    }
    return ht_blocks_bind(b, j->work, err);
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
    ht_blocks_free(b);
    return status;
}
