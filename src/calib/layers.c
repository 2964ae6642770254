/* Calibration layer by layer: hidden states of all windows in memory or a file, one layer's inputs summed at a time. */
#include <math.h>
#include <string.h>

#include "base/append.h"
#include "base/ckd.h"
#include "base/mem.h"
#include "calib/calib.h"
#include "model/session.h"
#include "quant/round/dense.h"

#define MAX_INPUTS 16 /* different inputs of one layer's linears */

struct input { /* one vector of inputs that some linears of the layer share */
    const struct ht_linear *owner; /* the first linear that read it */
    struct ht_calib_gram gram;
    struct ht_stats stats;         /* views of the below */
    float *room;                   /* [6, cols] absmax, min, max; mean_square, mean_abs, mean when finished */
    double *sums;                  /* [3, cols] of squares, magnitudes, values */
    float *cross, *sample;
    uint64_t seen;                 /* tokens of the stream, for the sample */
};

struct ht_calib_layers {
    struct ht_context *ctx;
    struct ht_model *model;
    const struct ht_calib_windows *windows;
    struct ht_calib_layers_options options;
    uint64_t width;      /* C */
    float *hidden;       /* [windows * window, C] */
    float *hidden_float; /* the same in the unquantized model, or NULL */
    struct ht_spill spill[2];
    struct input inputs[MAX_INPUTS];
    int n_inputs;
    const float *last;   /* the input in work: linears that read it next share its sums */
    struct ht_map index; /* linear's name -> input */
    void *scratch;       /* of ht_syrk, for the widest input so far */
    uint64_t scratch_bytes;
    bool is_float;       /* the unquantized stream is running: its inputs are kept for the cross moments */
    float *kept[MAX_INPUTS]; /* [window, cols] of the window in work */
    float *moved;        /* [window, cols] inputs as the codes see them, and [cols] */
    uint64_t moved_elems;
    ht_status status;    /* of the hook */
    ht_err err;
};

static void drop_inputs(struct ht_calib_layers *l) {
    for (int i = 0; i < l->n_inputs; i++) {
        struct input *in = &l->inputs[i];
        ht_mem_free_aligned(in->gram.h);
        ht_mem_free_aligned(in->cross);
        ht_mem_free_aligned(in->sample);
        ht_mem_free_aligned(in->room);
        ht_mem_free_aligned(in->sums);
        ht_mem_free_aligned(l->kept[i]);
        l->kept[i] = NULL;
    }
    l->n_inputs = 0;
    l->last = NULL;
    ht_map_deinit(&l->index);
    ht_map_init(&l->index);
}

static void *zeroed(uint64_t n, size_t size) {
    void *p = ht_mem_alloc_aligned(n, size);
    if (p != NULL) {
        memset(p, 0, n * size);
    }
    return p;
}

#define HT_NEEDS_COLUMNS \
    (HT_NEEDS_MEAN_SQUARE | HT_NEEDS_ABSMAX | HT_NEEDS_MINMAX | HT_NEEDS_MEAN_ABS | HT_NEEDS_MEAN)

static ht_status new_input(struct ht_calib_layers *l, const struct ht_linear *linear, ht_err *err) {
    uint64_t cols = linear->w.cols, n;
    unsigned needs = l->options.needs;
    if (l->n_inputs == MAX_INPUTS || ht_ckd_mul(&n, cols, cols)) {
        return ht_fail(err, HT_LIMIT, linear->name, HT_NO_POS, "a layer of more than %d different inputs", MAX_INPUTS);
    }
    struct input *in = &l->inputs[l->n_inputs];
    *in = (struct input){.owner = linear, .gram = {.cols = cols}, .stats = {.cols = cols}};
    l->n_inputs++;
    bool ok = true;
    if ((needs & (HT_NEEDS_GRAM | HT_NEEDS_CROSS)) != 0) {
        ok = (in->gram.h = zeroed(n, sizeof(float))) != NULL;
    }
    if (ok && (needs & HT_NEEDS_CROSS) != 0) {
        ok = (in->cross = zeroed(n, sizeof(float))) != NULL &&
             (l->kept[l->n_inputs - 1] = zeroed(l->windows->window, cols * sizeof(float))) != NULL;
    }
    if (ok && (needs & HT_NEEDS_COLUMNS) != 0) {
        ok = (in->room = zeroed(6, cols * sizeof(float))) != NULL &&
             (in->sums = zeroed(3, cols * sizeof(double))) != NULL;
    }
    if (ok && (needs & HT_NEEDS_SAMPLE) != 0) {
        ok = (in->sample = zeroed(l->options.n_sample, cols * sizeof(float))) != NULL;
    }
    return ok ? HT_OK : ht_fail_nomem(err, n * sizeof(float));
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

#define TILE 64u /* columns of one task: each column is summed in the order of the tokens */

struct columns {
    struct input *in;
    const float *x;
    size_t n;
};

static void columns_task(void *ctx, size_t tile, int thread) {
    const struct columns *c = ctx;
    struct input *in = c->in;
    uint64_t cols = in->gram.cols, from = tile * TILE, to = from + TILE < cols ? from + TILE : cols;
    float *absmax = in->room, *min = in->room + cols, *max = in->room + 2 * cols;
    double *square = in->sums, *magnitude = in->sums + cols, *sum = in->sums + 2 * cols;
    bool first = in->gram.tokens == 0;
    (void)thread;
    for (size_t t = 0; t < c->n; t++) {
        const float *x = c->x + t * cols;
        for (uint64_t j = from; j < to; j++) {
            float a = fabsf(x[j]);
            bool start = first && t == 0;
            absmax[j] = a > absmax[j] || isnan(a) ? a : absmax[j];
            min[j] = start || x[j] < min[j] ? x[j] : min[j];
            max[j] = start || x[j] > max[j] ? x[j] : max[j];
            square[j] += (double)x[j] * x[j];
            magnitude[j] += a;
            sum[j] += x[j];
        }
    }
}

/* Every stride-th token of the whole text. */
static void take_sample(const struct ht_calib_layers *l, struct input *in, const float *x, size_t n) {
    uint64_t total = l->windows->n * l->windows->window, want = l->options.n_sample, cols = in->gram.cols;
    uint64_t stride = (total + want - 1) / want;
    for (size_t t = 0; t < n; t++, in->seen++) {
        if (in->seen % stride == 0 && in->stats.n_sample < want) {
            memcpy(in->sample + in->stats.n_sample++ * cols, x + t * cols, cols * sizeof *x);
        }
    }
}

/* cross += y^T x over the window, y the same inputs in the unquantized model. */
static ht_status add_cross(struct ht_calib_layers *l, struct input *in, const float *y, const float *x, size_t n,
                           ht_err *err) {
    uint64_t cols = in->gram.cols;
    float *yt = ht_mem_alloc_aligned(cols, n * sizeof *yt), *xt = ht_mem_alloc_aligned(cols, n * sizeof *xt);
    float *p = ht_mem_alloc_aligned(cols, cols * sizeof *p);
    void *scratch = ht_mem_alloc_aligned(1, ht_dense_scratch_bytes(cols, n, cols, ht_pool_threads(l->ctx->pool)));
    ht_status status = HT_OK;
    if (yt == NULL || xt == NULL || p == NULL || scratch == NULL) {
        status = ht_fail_nomem(err, cols * (2 * n + cols) * sizeof *p);
    } else {
        for (size_t t = 0; t < n; t++) {
            for (uint64_t j = 0; j < cols; j++) {
                yt[j * n + t] = y[t * cols + j];
                xt[j * n + t] = x[t * cols + j];
            }
        }
        ht_dense_product(l->ctx->pool, yt, cols, n, xt, n, cols, p, scratch);
        for (uint64_t i = 0; i < cols * cols; i++) {
            in->cross[i] += p[i];
        }
    }
    ht_mem_free_aligned(yt);
    ht_mem_free_aligned(xt);
    ht_mem_free_aligned(p);
    ht_mem_free_aligned(scratch);
    return status;
}

#define HT_LEAVES_FRONT (HT_LEAVES_IN_SHIFT | HT_LEAVES_IN_SCALE | HT_LEAVES_HADAMARD | HT_LEAVES_PERM)

/* Inputs as the codes see them: behind what the run time does in front. *x stays where nothing is done. */
static ht_status behind_front(struct ht_calib_layers *l, const struct ht_linear *linear, const float **x, size_t n,
                              ht_err *err) {
    uint64_t cols = linear->w.cols, elems = (n + 1) * cols;
    if (linear->side == NULL || (linear->side->leaves & HT_LEAVES_FRONT) == 0) {
        return HT_OK;
    }
    if (elems > l->moved_elems) {
        ht_mem_free_aligned(l->moved);
        l->moved = ht_mem_alloc_aligned(elems, sizeof *l->moved);
        l->moved_elems = l->moved != NULL ? elems : 0;
        if (l->moved == NULL) {
            return ht_fail_nomem(err, elems * sizeof *l->moved);
        }
    }
    ht_sidecar_inputs(linear->side, *x, n, l->moved, l->moved + n * cols);
    *x = l->moved;
    return HT_OK;
}

/* The lower triangle: finish_input mirrors it. */
static ht_status add_gram(struct ht_calib_layers *l, struct input *in, const float *x, size_t n, ht_err *err) {
    uint64_t cols = in->gram.cols, bytes = ht_syrk_scratch_bytes(n, cols);
    if (bytes > l->scratch_bytes) {
        ht_mem_free_aligned(l->scratch);
        l->scratch_bytes = bytes;
        l->scratch = ht_mem_alloc_aligned(1, bytes);
        if (l->scratch == NULL) {
            l->scratch_bytes = 0;
            return ht_fail_nomem(err, bytes);
        }
    }
    ht_syrk(l->ctx->pool, x, cols, n, cols, in->gram.h, cols, l->scratch);
    return HT_OK;
}

static ht_status add(struct ht_calib_layers *l, uint64_t i, const float *x, size_t n, ht_err *err) {
    struct input *in = &l->inputs[i];
    HT_TRY(behind_front(l, in->owner, &x, n, err));
    if (l->is_float) {
        memcpy(l->kept[i], x, n * in->gram.cols * sizeof *x);
        return HT_OK;
    }
    if (in->sums != NULL) {
        struct columns c = {in, x, n};
        ht_pool_run(l->ctx->pool, (in->gram.cols + TILE - 1) / TILE, columns_task, &c);
    }
    if (in->sample != NULL) {
        take_sample(l, in, x, n);
    }
    if (in->cross != NULL) {
        HT_TRY(add_cross(l, in, l->kept[i], x, n, err));
    }
    in->gram.tokens += n;
    return in->gram.h != NULL ? add_gram(l, in, x, n, err) : HT_OK;
}

/* Linears that read one vector come one after the other with the same x. */
static ht_status take(struct ht_calib_layers *l, const struct ht_linear *linear, const float *x, size_t n,
                      ht_err *err) {
    uint64_t i;
    bool known = ht_map_get_str(&l->index, linear->name, &i);
    if (!known) {
        bool shared = l->n_inputs > 0 && x == l->last && l->inputs[l->n_inputs - 1].gram.cols == linear->w.cols;
        if (!shared) {
            HT_TRY(new_input(l, linear, err));
        }
        i = (uint64_t)l->n_inputs - 1;
        l->last = x;
        if (!ht_map_put(&l->index, linear->name, strlen(linear->name), i, NULL)) {
            return ht_fail_nomem(err, 0);
        }
    }
    return l->inputs[i].owner == linear ? add(l, i, x, n, err) : HT_OK;
}

static void on_linear(void *user, const struct ht_linear *linear, const float *x, size_t n) {
    struct ht_calib_layers *l = user;
    if (l->status == HT_OK) {
        l->status = take(l, linear, x, n, &l->err);
    }
}

/* ---- the layer on all windows ------------------------------------------------------------------------------- */

struct stream {
    struct ht_calib_layers *l;
    struct ht_run *run;
    int32_t layer;
};

/* One window of one stream through the layer. keep: the hidden states become those behind it; else only the inputs
 * of its linears are wanted. */
static ht_status run_window(const struct stream *s, uint64_t i, bool is_float, bool keep, ht_err *err) {
    struct ht_calib_layers *l = s->l;
    const struct ht_calib_windows *w = l->windows;
    uint64_t n = w->window * l->width;
    float *hidden = (is_float ? l->hidden_float : l->hidden) + i * n;
    l->is_float = is_float;
    if (keep) {
        ht_run_layer(s->run, s->layer, w->ids + i * w->window, w->window, hidden);
    } else {
        ht_run_layer_inputs(s->run, s->layer, w->ids + i * w->window, w->window, hidden);
    }
    const struct ht_spill *spill = &l->spill[is_float];
    if (spill->data != NULL) {
        ht_spill_drop(spill, i * n * sizeof(float), n * sizeof(float));
    }
    if (l->status != HT_OK && err != NULL) {
        *err = l->err;
    }
    return l->status;
}

enum pass { PASS_COLLECT, PASS_ADVANCE, PASS_ADVANCE_FLOAT };

static ht_status run_layer(struct ht_calib_layers *l, int32_t layer, enum pass pass, ht_err *err) {
    const struct ht_calib_windows *w = l->windows;
    bool collect = pass == PASS_COLLECT;
    struct ht_run_options options = {.ctx = w->window, .batch = w->window, .math = l->options.math,
                                     .f32_cache = l->options.math == HT_MATH_EXACT,
                                     .hook = collect ? on_linear : NULL, .hook_user = l};
    struct stream s = {.l = l, .layer = layer};
    ht_status status = ht_run_new(l->ctx->pool, l->model, &options, &s.run, err);
    for (uint64_t i = 0; status == HT_OK && i < w->n; i++) {
        bool cross = (l->options.needs & HT_NEEDS_CROSS) != 0;
        if (pass == PASS_ADVANCE_FLOAT || (collect && cross)) {
            status = run_window(&s, i, true, !collect, err);
        }
        if (status == HT_OK && pass != PASS_ADVANCE_FLOAT) {
            status = run_window(&s, i, false, !collect, err);
        }
    }
    ht_run_free(s.run);
    return status;
}

static ht_status damaged(const struct input *in, uint64_t j, ht_err *err) {
    return ht_fail(err, HT_NUMERIC, in->owner->name, HT_NO_POS,
                   "input %llu became NaN or infinite: the model's weights or its file are damaged; `verify` finds "
                   "such weights",
                   (unsigned long long)j);
}

/* The mean of the lower triangle, in both. */
static ht_status finish_gram(struct input *in, float scale, ht_err *err) {
    uint64_t cols = in->gram.cols;
    float *h = in->gram.h;
    for (uint64_t i = 0; i < cols; i++) {
        for (uint64_t j = 0; j <= i; j++) {
            h[i * cols + j] *= scale;
            if (!isfinite(h[i * cols + j])) {
                return damaged(in, j, err);
            }
        }
    }
    ht_dense_mirror(h, cols);
    return HT_OK;
}

/* Sums become means, and stats the views of them. */
static ht_status finish_input(struct input *in, ht_err *err) {
    struct ht_calib_gram *g = &in->gram;
    uint64_t cols = g->cols, tokens = g->tokens;
    float scale = 1.0f / (float)tokens;
    if (g->h != NULL) {
        HT_TRY(finish_gram(in, scale, err));
    }
    for (uint64_t j = 0; in->cross != NULL && j < cols * cols; j++) {
        in->cross[j] *= scale;
        if (!isfinite(in->cross[j])) {
            return damaged(in, j / cols, err);
        }
    }
    struct ht_stats *s = &in->stats;
    s->tokens = tokens;
    s->gram = g->h;
    s->cross = in->cross;
    s->sample = in->sample;
    if (in->sums == NULL) {
        return HT_OK;
    }
    float *means = in->room + 3 * cols;
    for (uint64_t j = 0; j < 3 * cols; j++) {
        means[j] = (float)(in->sums[j] / (double)tokens);
        if (!isfinite(means[j]) || !isfinite(in->room[j % cols])) {
            return damaged(in, j % cols, err);
        }
    }
    s->absmax = in->room;
    s->min = in->room + cols;
    s->max = in->room + 2 * cols;
    s->mean_square = means;
    s->mean_abs = means + cols;
    s->mean = means + 2 * cols;
    return HT_OK;
}

ht_status ht_calib_layers_collect(struct ht_calib_layers *l, int32_t layer, ht_err *err) {
    drop_inputs(l);
    HT_TRY(run_layer(l, layer, PASS_COLLECT, err));
    for (int i = 0; i < l->n_inputs; i++) {
        HT_TRY(finish_input(&l->inputs[i], err));
    }
    return HT_OK;
}

const struct ht_stats *ht_calib_layers_stats(const struct ht_calib_layers *l, const struct ht_linear *linear) {
    uint64_t i;
    return ht_map_get_str(&l->index, linear->name, &i) ? &l->inputs[i].stats : NULL;
}

const struct ht_calib_gram *ht_calib_layers_gram(const struct ht_calib_layers *l, const struct ht_linear *linear) {
    uint64_t i;
    return ht_map_get_str(&l->index, linear->name, &i) ? &l->inputs[i].gram : NULL;
}

/* a [cols, cols]: element (i, j) over s_i s_j. */
static void divide_both(float *a, const float *s, uint64_t cols) {
    for (uint64_t i = 0; a != NULL && i < cols; i++) {
        for (uint64_t j = 0; j < cols; j++) {
            a[i * cols + j] /= s[i] * s[j];
        }
    }
}

void ht_calib_layers_divide(struct ht_calib_layers *l, const struct ht_linear *linear, const float *s) {
    uint64_t i;
    if (!ht_map_get_str(&l->index, linear->name, &i)) {
        return;
    }
    struct input *in = &l->inputs[i];
    uint64_t cols = in->gram.cols;
    divide_both(in->gram.h, s, cols);
    divide_both(in->cross, s, cols);
    for (uint64_t j = 0; in->sums != NULL && j < cols; j++) {
        float *absmax = in->room + j, *min = absmax + cols, *max = min + cols, *square = max + cols;
        float *magnitude = square + cols, *mean = magnitude + cols, a = *min / s[j], b = *max / s[j];
        *absmax /= fabsf(s[j]);
        *min = a < b ? a : b;
        *max = a < b ? b : a;
        *square /= s[j] * s[j];
        *magnitude /= fabsf(s[j]);
        *mean /= s[j];
    }
    for (uint64_t j = 0; in->sample != NULL && j < in->stats.n_sample * cols; j++) {
        in->sample[j] /= s[j % cols];
    }
}

ht_status ht_calib_layers_advance(struct ht_calib_layers *l, int32_t layer, ht_err *err) {
    return run_layer(l, layer, PASS_ADVANCE, err);
}

ht_status ht_calib_layers_advance_float(struct ht_calib_layers *l, int32_t layer, ht_err *err) {
    return l->hidden_float != NULL ? run_layer(l, layer, PASS_ADVANCE_FLOAT, err) : HT_OK;
}

float *ht_calib_layers_hidden(struct ht_calib_layers *l, uint64_t *tokens) {
    *tokens = l->windows->n * l->windows->window;
    return l->hidden;
}

float *ht_calib_layers_hidden_float(struct ht_calib_layers *l) {
    return l->hidden_float;
}

void ht_calib_layers_drop(const struct ht_calib_layers *l, uint64_t window) {
    uint64_t bytes = l->windows->window * l->width * sizeof(float);
    for (int i = 0; i < 2; i++) {
        if (l->spill[i].data != NULL) {
            ht_spill_drop(&l->spill[i], window * bytes, bytes);
        }
    }
}

uint64_t ht_calib_layers_memory(const struct ht_model *model, uint64_t tokens, uint32_t window, int threads) {
    struct ht_run_options options = {.ctx = window, .batch = window, .math = HT_MATH_EXACT, .f32_cache = true};
    uint64_t kv, width = ht_act_width(model, HT_ACT_RESIDUAL), grams = 0, widest = 0;
    uint64_t run = ht_run_bytes(&kv, model, &options, threads);
    for (size_t i = 0; i < model->plan.n; i++) {
        const struct ht_linear *linear = model->plan.steps[i].linear;
        if (linear != NULL && linear->layer == 0) {
            grams += linear->w.cols * linear->w.cols; /* shared ones count twice: an upper bound */
            widest = linear->w.cols > widest ? linear->w.cols : widest;
        }
    }
    return run + kv / (model->hp.n_layers ? model->hp.n_layers : 1) +
           (tokens * width + grams + widest * (window + 256ull)) * sizeof(float);
}

static ht_status new_hidden(struct ht_calib_layers *l, int stream, float **hidden, ht_err *err) {
    uint64_t bytes, tokens = l->windows->n * l->windows->window;
    if (ht_ckd_mul(&bytes, tokens, l->width * sizeof **hidden)) {
        return ht_fail_nomem(err, UINT64_MAX);
    }
    if (l->options.spill != NULL) {
        HT_TRY(ht_spill_new(l->options.spill, bytes, &l->spill[stream], err));
        *hidden = l->spill[stream].data;
        return HT_OK;
    }
    *hidden = ht_mem_alloc_aligned(1, bytes);
    if (*hidden == NULL) {
        return ht_fail_nomem(err, bytes);
    }
    memset(*hidden, 0, bytes);
    return HT_OK;
}

ht_status ht_calib_layers_new_with(struct ht_context *ctx, struct ht_model *model,
                                   const struct ht_calib_windows *windows,
                                   const struct ht_calib_layers_options *options, struct ht_calib_layers **out,
                                   ht_err *err) {
    *out = NULL;
    struct ht_calib_layers *l = ht_mem_calloc(1, sizeof *l);
    if (l == NULL) {
        return ht_fail_nomem(err, sizeof *l);
    }
    *l = (struct ht_calib_layers){.ctx = ctx, .model = model, .windows = windows, .options = *options,
                                  .width = ht_act_width(model, HT_ACT_RESIDUAL)};
    l->options.n_sample = l->options.n_sample != 0 ? l->options.n_sample : 512;
    ht_map_init(&l->index);
    ht_status status = new_hidden(l, 0, &l->hidden, err);
    if (status == HT_OK && (options->needs & (HT_NEEDS_CROSS | HT_NEEDS_GRAD)) != 0) {
        status = new_hidden(l, 1, &l->hidden_float, err);
    }
    if (status == HT_OK) {
        status = run_layer(l, -1, PASS_ADVANCE, err);
    }
    if (status == HT_OK && l->hidden_float != NULL) {
        status = run_layer(l, -1, PASS_ADVANCE_FLOAT, err);
    }
    if (status != HT_OK) {
        ht_calib_layers_free(l);
        return status;
    }
    *out = l;
    return HT_OK;
}

ht_status ht_calib_layers_new(struct ht_context *ctx, struct ht_model *model, const struct ht_calib_windows *windows,
                              enum ht_math math, struct ht_calib_layers **layers, ht_err *err) {
    const struct ht_calib_layers_options options = {.needs = HT_NEEDS_GRAM, .math = math};
    return ht_calib_layers_new_with(ctx, model, windows, &options, layers, err);
}

void ht_calib_layers_free(struct ht_calib_layers *l) {
    if (l != NULL) {
        drop_inputs(l);
        ht_mem_free_aligned(l->moved);
        ht_mem_free_aligned(l->scratch);
        ht_map_deinit(&l->index);
        for (int i = 0; i < 2; i++) {
            float *hidden = i == 0 ? l->hidden : l->hidden_float;
            if (l->spill[i].data != NULL) {
                ht_spill_free(&l->spill[i]);
            } else {
                ht_mem_free_aligned(hidden);
            }
        }
        ht_mem_free(l);
    }
}
