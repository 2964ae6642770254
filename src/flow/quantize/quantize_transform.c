/* Transforms of the layer in work, and what goes with them: its vectors, and statistics of inputs as they are now. */
#include <string.h>

#include "base/mem.h"
#include "flow/quantize/quantize_blocks.h"
#include "model/fold_view.h"

const struct ht_stats *ht_blocks_stats(const struct blocks *b, const struct ht_linear *linear) {
    if (b->job->stats != NULL) {
        return ht_quant_stats_of(b->job->stats, linear);
    }
    return b->calib != NULL ? ht_calib_layers_stats(b->calib, linear) : NULL;
}

struct stats_at {
    const struct blocks *b;
    int32_t layer;
};

static const struct ht_stats *stats_of(void *ctx, enum ht_role role) {
    const struct stats_at *at = ctx;
    const struct ht_linear *linear = at->b->model->layers[at->layer].linears[role];
    return linear != NULL ? ht_blocks_stats(at->b, linear) : NULL;
}

static ht_status grid_of(void *ctx, enum ht_role role, const struct ht_format **block, struct ht_scheme *scheme,
                         ht_err *err) {
    const struct stats_at *at = ctx;
    uint32_t index;
    const struct ht_plan_tensor *t = ht_blocks_tensor(at->b->job, role, at->layer, &index);
    if (t == NULL) {
        return ht_fail(err, HT_INTERNAL, ht_role_name(role), HT_NO_POS, "layer %d has no such tensor", at->layer);
    }
    *block = t->scheme == NULL ? t->out.format : NULL;
    if (t->scheme != NULL) {
        *scheme = *t->scheme;
    }
    return HT_OK;
}

ht_status ht_blocks_keep_vectors(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_fold_vector *v = &b->block.vectors[role];
        uint32_t index;
        const struct ht_plan_tensor *t = ht_blocks_tensor(b->job, (enum ht_role)role, layer, &index);
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

ht_status ht_blocks_transform(struct blocks *b, int32_t layer, bool early, ht_err *err) {
    const struct ht_place_recipe *w = &b->job->recipe.places[HT_PLACE_WEIGHTS];
    struct stats_at at = {b, layer};
    struct ht_fold_job fold = {.pool = b->ctx->pool,
                               .block = &b->block,
                               .sites = b->model->arch->folds,
                               .fronts = b->fronts,
                               .trail = early ? &b->trail : NULL,
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
