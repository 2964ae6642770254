/* Methods that round with the layer's own inputs in view: the model is taken apart layer by layer. Each layer's
 * inputs are collected on what the already quantized layers really give, its linears are solved, and the hidden
 * states move on through the quantized layer. Finished rows wait in the source's row order until the file is
 * written. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "calib/calib.h"
#include "flow/flow_stream.h"
#include "flow/quantize/quantize.h"
#include "quant/round/round.h"

struct layers {
    struct ht_context *ctx;
    struct ht_quant_job *job;
    struct ht_model *model;
    struct ht_calib_layers *calib;
    struct ht_meter meter;
    uint64_t done;
};

static bool is_grid(const struct ht_plan_tensor *t) {
    return t->out.format->fit != NULL && ht_plan_is_weight(t) && t->in != NULL && t->in->format != t->out.format;
}

static struct ht_plan_tensor *tensor_of(const struct ht_quant_job *j, const char *name) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        if (strcmp(j->plan->tensors[i].out.name, name) == 0) {
            return &j->plan->tensors[i];
        }
    }
    return NULL;
}

/* ---- the embedding ----------------------------------------------------------------------------------------- */

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
static ht_status embed(struct layers *l, ht_err *err) {
    const struct ht_plan_tensor *t = tensor_of(l->job, "token_embd.weight");
    if (t == NULL || t->in == NULL || t->in->format == t->out.format) {
        return HT_OK;
    }
    struct embedded e = {.format = t->out.format, .width = t->out.ne[0]};
    uint64_t tokens, threads = (uint64_t)ht_pool_threads(l->ctx->pool);
    e.hidden = ht_calib_layers_hidden(l->calib, &tokens);
    e.row_bytes = (ht_format_row_bytes(e.format, e.width) + 63) & ~63ull;
    e.bytes = ht_mem_alloc_aligned(threads, e.row_bytes);
    if (e.bytes == NULL) {
        return ht_fail_nomem(err, threads * e.row_bytes);
    }
    ht_pool_run(l->ctx->pool, tokens, embed_task, &e);
    ht_mem_free_aligned(e.bytes);
    return HT_OK;
}

/* ---- one linear -------------------------------------------------------------------------------------------- */

struct decode {
    const struct ht_tensor *in;
    float *w;
    uint64_t cols;
};

static void decode_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct decode *d = ctx;
    d->in->format->decode(ht_tensor_row(d->in, row), d->w + row * d->cols, d->cols);
}

static ht_status solve(struct layers *l, struct ht_linear *linear, struct ht_plan_tensor *t, ht_err *err) {
    const struct ht_calib_gram *gram = ht_calib_layers_gram(l->calib, linear);
    uint64_t rows = linear->w.rows, cols = linear->w.cols, row_bytes = ht_format_row_bytes(t->out.format, cols);
    struct ht_round_options options;
    ht_round_defaults(&options);
    float *w = ht_mem_alloc_aligned(rows * cols, sizeof *w);
    unsigned char *bytes = ht_mem_alloc_aligned(rows, row_bytes);
    struct ht_round_report *report = ht_arena_calloc(&l->job->plan->arena, 1, sizeof *report);
    ht_status status = HT_OK;
    if (w == NULL || bytes == NULL || report == NULL) {
        status = ht_fail_nomem(err, rows * (cols * sizeof *w + row_bytes));
        goto done;
    }
    struct decode d = {t->in, w, cols};
    ht_pool_run(l->ctx->pool, rows, decode_task, &d);
    uint64_t bad = ht_count_nonfinite(w, rows * cols);
    if (bad != 0) {
        status = ht_fail(err, HT_NUMERIC, linear->name, HT_NO_POS,
                         "%llu of %llu weights are NaN or Inf; method %s cannot use them",
                         (unsigned long long)bad, (unsigned long long)(rows * cols), l->job->recipe.name);
        goto done;
    }
    HT_TRY_DONE(ht_round_feedback(l->ctx->pool, t->out.format, w, rows, cols, gram->h, &options, bytes, report, err));
    t->stored = bytes;
    t->round = report;
    linear->w.format = t->out.format;
    linear->w.data = bytes;
    linear->w.row_bytes = row_bytes;
    bytes = NULL;
done:
    ht_mem_free_aligned(bytes);
    ht_mem_free_aligned(w);
    return status;
}

void ht_quant_layers_free(struct ht_flow_plan *plan) {
    for (size_t i = 0; plan != NULL && i < plan->n_tensors; i++) {
        ht_mem_free_aligned(plan->tensors[i].stored);
        plan->tensors[i].stored = NULL;
    }
}

static ht_status run_layer(struct layers *l, int32_t layer, ht_err *err) {
    HT_TRY(ht_calib_layers_collect(l->calib, layer, err));
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_linear *linear = l->model->layers[layer].linears[role];
        struct ht_plan_tensor *t = linear != NULL ? tensor_of(l->job, linear->name) : NULL;
        if (t != NULL && is_grid(t) && ht_calib_layers_gram(l->calib, linear) != NULL) {
            HT_TRY(solve(l, linear, t, err));
            l->done += ht_tensor_elems(&t->out);
            HT_TRY(ht_meter_tell(&l->meter, l->done, 0, linear->name, err));
        }
    }
    return layer + 1 < (int32_t)l->model->hp.n_layers ? ht_calib_layers_advance(l->calib, layer, err) : HT_OK;
}

ht_status ht_quant_layers(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const ht_quantize_options *o = j->o;
    struct layers l = {.ctx = ctx, .job = j};
    struct ht_calib_windows windows = {0};
    struct ht_model_options options = {.pre = o->pre};
    HT_TRY(ht_model_load_with(o->input, &options, &l.model, err));
    uint64_t total = 0;
    ht_status status = HT_OK;
    HT_TRY_DONE(ht_calib_windows(l.model, o->calib, o->n_calib, o->calib_tokens, o->ctx, &windows, err));
    HT_TRY_DONE(ht_calib_layers_new(ctx, l.model, &windows, HT_MATH_EXACT, &l.calib, err));
    HT_TRY_DONE(embed(&l, err));
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        total += t->layer >= 0 && is_grid(t) ? ht_tensor_elems(&t->out) : 0;
    }
    ht_meter_init(&l.meter, ctx, "round", "weights", total);
    for (uint32_t layer = 0; layer < l.model->hp.n_layers; layer++) {
        HT_TRY_DONE(run_layer(&l, (int32_t)layer, err));
    }
    j->calib_tokens = windows.n * windows.window;
done:
    ht_calib_layers_free(l.calib);
    ht_calib_windows_deinit(&windows);
    ht_model_unload(l.model);
    return status;
}
