/* Calibration layer by layer: hidden states of all windows in memory, one layer's inputs summed at a time. */
#include <math.h>
#include <string.h>

#include "base/ckd.h"
#include "base/mem.h"
#include "calib/calib.h"
#include "model/session.h"
#include "quant/round/dense.h"

#define MAX_INPUTS 16 /* different inputs of one layer's linears */

struct ht_calib_layers {
    struct ht_context *ctx;
    struct ht_model *model;
    const struct ht_calib_windows *windows;
    enum ht_math math;
    uint64_t width; /* C */
    float *hidden;  /* [windows * window, C] */
    struct ht_calib_gram grams[MAX_INPUTS];
    const struct ht_linear *owner[MAX_INPUTS]; /* the first linear that read it */
    int n_grams;
    const float *seen; /* the input in work: linears that read it next share its gram */
    struct ht_map index; /* linear's name -> gram */
    ht_status status;  /* of the hook */
    ht_err err;
};

static void drop_grams(struct ht_calib_layers *l) {
    for (int i = 0; i < l->n_grams; i++) {
        ht_mem_free_aligned(l->grams[i].h);
    }
    l->n_grams = 0;
    l->seen = NULL;
    ht_map_deinit(&l->index);
    ht_map_init(&l->index);
}

static ht_status new_gram(struct ht_calib_layers *l, const struct ht_linear *linear, ht_err *err) {
    uint64_t cols = linear->w.cols, n;
    if (l->n_grams == MAX_INPUTS || ht_ckd_mul(&n, cols, cols)) {
        return ht_fail(err, HT_LIMIT, linear->name, HT_NO_POS, "a layer of more than %d different inputs", MAX_INPUTS);
    }
    float *h = ht_mem_alloc_aligned(n, sizeof *h);
    if (h == NULL) {
        return ht_fail_nomem(err, n * sizeof *h);
    }
    memset(h, 0, n * sizeof *h);
    l->grams[l->n_grams] = (struct ht_calib_gram){.cols = cols, .h = h};
    l->owner[l->n_grams++] = linear;
    return HT_OK;
}

/* Linears that read one vector come one after the other with the same x. */
static ht_status take(struct ht_calib_layers *l, const struct ht_linear *linear, const float *x, size_t n,
                      ht_err *err) {
    uint64_t i;
    bool known = ht_map_get_str(&l->index, linear->name, &i);
    if (!known) {
        bool shared = l->n_grams > 0 && x == l->seen && l->grams[l->n_grams - 1].cols == linear->w.cols;
        if (!shared) {
            HT_TRY(new_gram(l, linear, err));
        }
        i = (uint64_t)l->n_grams - 1;
        l->seen = x;
        if (!ht_map_put(&l->index, linear->name, strlen(linear->name), i, NULL)) {
            return ht_fail_nomem(err, 0);
        }
    }
    if (l->owner[i] != linear) {
        return HT_OK;
    }
    l->grams[i].tokens += n;
    return ht_dense_gram(l->ctx->pool, x, n, l->grams[i].cols, l->grams[i].h, err);
}

static void on_linear(void *user, const struct ht_linear *linear, const float *x, size_t n) {
    struct ht_calib_layers *l = user;
    if (l->status == HT_OK) {
        l->status = take(l, linear, x, n, &l->err);
    }
}

/* Runs the layer on every window. Without keep the hidden states stay as they are. */
static ht_status run_layer(struct ht_calib_layers *l, int32_t layer, bool collect, ht_err *err) {
    const struct ht_calib_windows *w = l->windows;
    struct ht_run_options options = {.ctx = w->window, .batch = w->window, .math = l->math,
                                     .f32_cache = l->math == HT_MATH_EXACT,
                                     .hook = collect ? on_linear : NULL, .hook_user = l};
    struct ht_run *run = NULL;
    float *out = ht_mem_alloc_aligned(w->window, l->width * sizeof *out);
    ht_status status = out == NULL ? ht_fail_nomem(err, w->window * l->width * sizeof *out)
                                   : ht_run_new(l->ctx->pool, l->model, &options, &run, err);
    for (uint64_t i = 0; status == HT_OK && i < w->n; i++) {
        float *hidden = l->hidden + i * w->window * l->width;
        memcpy(out, hidden, w->window * l->width * sizeof *out);
        ht_run_layer(run, layer, w->ids + i * w->window, w->window, collect ? out : hidden);
        if (l->status != HT_OK) {
            status = l->status;
            if (err != NULL) {
                *err = l->err;
            }
        }
    }
    ht_run_free(run);
    ht_mem_free_aligned(out);
    return status;
}

static ht_status finish_gram(struct ht_calib_layers *l, int i, ht_err *err) {
    struct ht_calib_gram *g = &l->grams[i];
    float scale = 1.0f / (float)g->tokens;
    for (uint64_t j = 0; j < g->cols * g->cols; j++) {
        g->h[j] *= scale;
        if (!isfinite(g->h[j])) {
            return ht_fail(err, HT_NUMERIC, l->owner[i]->name, HT_NO_POS,
                           "input %llu became NaN or infinite: the model's weights or its file are damaged; `verify` "
                           "finds such weights", (unsigned long long)(j % g->cols));
        }
    }
    return HT_OK;
}

ht_status ht_calib_layers_collect(struct ht_calib_layers *l, int32_t layer, ht_err *err) {
    drop_grams(l);
    HT_TRY(run_layer(l, layer, true, err));
    for (int i = 0; i < l->n_grams; i++) {
        HT_TRY(finish_gram(l, i, err));
    }
    return HT_OK;
}

const struct ht_calib_gram *ht_calib_layers_gram(const struct ht_calib_layers *l, const struct ht_linear *linear) {
    uint64_t i;
    return ht_map_get_str(&l->index, linear->name, &i) ? &l->grams[i] : NULL;
}

ht_status ht_calib_layers_advance(struct ht_calib_layers *l, int32_t layer, ht_err *err) {
    return run_layer(l, layer, false, err);
}

float *ht_calib_layers_hidden(struct ht_calib_layers *l, uint64_t *tokens) {
    *tokens = l->windows->n * l->windows->window;
    return l->hidden;
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

ht_status ht_calib_layers_new(struct ht_context *ctx, struct ht_model *model, const struct ht_calib_windows *windows,
                              enum ht_math math, struct ht_calib_layers **out, ht_err *err) {
    *out = NULL;
    struct ht_calib_layers *l = ht_mem_calloc(1, sizeof *l);
    if (l == NULL) {
        return ht_fail_nomem(err, sizeof *l);
    }
    *l = (struct ht_calib_layers){.ctx = ctx, .model = model, .windows = windows, .math = math,
                                  .width = ht_act_width(model, HT_ACT_RESIDUAL)};
    ht_map_init(&l->index);
    uint64_t bytes, tokens = windows->n * windows->window;
    ht_status status = HT_OK;
    if (ht_ckd_mul(&bytes, tokens, l->width * sizeof *l->hidden) ||
        (l->hidden = ht_mem_alloc_aligned(tokens, l->width * sizeof *l->hidden)) == NULL) {
        status = ht_fail_nomem(err, tokens * l->width * sizeof *l->hidden);
    } else {
        memset(l->hidden, 0, bytes);
        status = run_layer(l, -1, false, err);
    }
    if (status != HT_OK) {
        ht_calib_layers_free(l);
        return status;
    }
    *out = l;
    return HT_OK;
}

void ht_calib_layers_free(struct ht_calib_layers *l) {
    if (l != NULL) {
        drop_grams(l);
        ht_map_deinit(&l->index);
        ht_mem_free_aligned(l->hidden);
        ht_mem_free(l);
    }
}
