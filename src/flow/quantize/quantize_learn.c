#include "flow/quantize/quantize_learn.h"

#include "base/sys.h"
#include "train/learn.h"

/* ---- before work starts ---- */

/* The one way in which layers of the recipe learn; NULL: they do not. */
static const struct ht_choice *way_of(const struct ht_recipe *r) {
    const struct ht_choice *way =
        ht_quant_learns(&r->places[HT_PLACE_WEIGHTS].round) ? &r->places[HT_PLACE_WEIGHTS].round : NULL;
    for (size_t i = 0; i < r->n_rules && way == NULL; i++) {
        way = ht_quant_learns(&r->rules[i].round) ? &r->rules[i].round : NULL;
    }
    return way;
}

ht_status ht_quant_check_learning(const struct ht_quant_job *j, ht_err *err) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        struct ht_place_recipe how;
        ht_recipe_weights(&j->recipe, t->role, t->layer, &how);
        bool single = (how.round.part->grids & HT_GRIDS_VECTOR) == 0;
        if (single && ht_plan_is_weight(t) && t->layer >= 0 && t->scheme == NULL && t->out.format->fit != NULL &&
            t->out.format->round_vector != NULL) {
            return ht_fail(err, HT_UNSUPPORTED, t->out.name, HT_NO_POS,
                           "round part %s decides each weight by itself, and %s stores vectors of weights; take "
                           "another format, or round: feedback",
                           how.round.part->name, t->out.format->name);
        }
    }
    return HT_OK;
}

uint64_t ht_quant_learn_stream(const struct ht_recipe *recipe, const struct ht_model *model, uint64_t tokens) {
    bool second = (ht_recipe_needs(recipe) & (HT_NEEDS_CROSS | HT_NEEDS_GRAD)) != 0;
    return second ? tokens * ht_act_width(model, HT_ACT_RESIDUAL) * sizeof(float) : 0;
}

uint64_t ht_quant_learn_memory(const struct ht_recipe *recipe, const struct ht_model *model, uint32_t window,
                               int threads) {
    const struct ht_choice *way = way_of(recipe);
    uint64_t weights = 0;
    if (way == NULL || model->hp.n_layers == 0) {
        return 0;
    }
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_linear *l = model->layers[0].linears[role];
        weights += l != NULL ? l->w.rows * l->w.cols : 0;
    }
    size_t batch = (size_t)ht_choice_value(way, "batch");
    bool adam = ht_choice_value(way, "by") != 0;
    uint64_t block = ht_train_block_bytes(model, batch, window, threads);
    /* gradients, float weights, codes given, offsets and the best of them, moments; values' gradients: as the values */
    return block == UINT64_MAX ? block : 2 * block + weights * (adam ? 7 : 5) * sizeof(float);
}

/* ---- one layer ---- */

#define ADAM_LR 0.004 /* in steps of the grid */

static int step_done(void *user) {
    struct ht_quant_learner *l = user;
    ht_err err = {0};
    return ht_meter_tell(l->meter, l->done, 0, "learn", &err) != HT_OK;
}

static void window_used(void *user, size_t window) {
    const struct ht_quant_learner *l = user;
    ht_calib_layers_drop(l->calib, window);
}

static void options_of(struct ht_quant_learner *l, struct ht_learn_options *o) {
    const struct ht_choice *c = l->choice;
    size_t batch = (size_t)ht_choice_value(c, "batch");
    double lr = ht_choice_value(c, "lr"), lr_range = ht_choice_value(c, "lr-range");
    ht_learn_defaults(ht_choice_value(c, "by") == 0 ? HT_LEARN_SIGN : HT_LEARN_DISTIL, o);
    o->steps = (uint32_t)ht_choice_value(c, "steps");
    o->batch = (uint32_t)(batch < l->windows->n ? batch : l->windows->n);
    o->checks = (uint32_t)ht_choice_value(c, "checks");
    /* Signs move every weight by the same: from nearest by half a step in all, which reaches both neighbours; codes of
     * feedback make up for each other, and noise would undo that, so they get a quarter. */
    bool near = ht_choice_value(c, "start") == 0;
    double own = (near ? 0.25 : 1.0) / o->steps;
    o->lr = lr > 0 ? lr : o->method == HT_LEARN_SIGN ? own : ADAM_LR;
    o->lr_range = lr_range > 0 ? lr_range : o->lr / 4;
    o->relative = ht_choice_value(c, "error") == 0;
    o->seed = l->seed + (uint64_t)l->layer;
    o->cancel = step_done;
    o->used = window_used;
    o->user = l;
}

/* Inputs are rounded as the run time will round them: where matrices learn, and where they do not. */
static ht_status round_inputs(const struct ht_quant_learner *l, struct ht_train_block *block, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_linear *linear = l->model->layers[l->layer].linears[role];
        const struct ht_sidecar *side = l->jobs[role] != NULL ? &l->jobs[role]->side
                                        : linear != NULL      ? linear->side
                                                              : NULL;
        if (side != NULL && (side->leaves & HT_LEAVES_ACT) != 0) {
            HT_TRY(ht_train_block_round_inputs(block, (enum ht_role)role, side, err));
        }
    }
    return HT_OK;
}

static void fill_reports(struct ht_quant_learner *l, const struct ht_learn_report *r) {
    double weights = 0;
    for (int role = 0; role < HT_ROLES; role++) {
        weights += l->jobs[role] != NULL ? (double)(l->jobs[role]->rows * l->jobs[role]->cols) : 0;
    }
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_job *job = l->jobs[role];
        if (job != NULL) {
            job->report.steps = r->steps;
            job->report.best_step = r->best_step;
            job->report.layer_signal = r->signal;
            job->report.layer_start = r->loss_start;
            job->report.layer_loss = r->loss;
            job->report.seconds += r->seconds * (double)(job->rows * job->cols) / weights;
        }
    }
}

ht_status ht_quant_learn_layer(struct ht_quant_learner *l, ht_err *err) {
    struct ht_learn_linear linears[HT_ROLES];
    struct ht_learn_options o;
    struct ht_learn_report report;
    struct ht_train_block *block;
    size_t n = 0;
    uint64_t tokens;
    const float *x = ht_calib_layers_hidden(l->calib, &tokens), *target = ht_calib_layers_hidden_float(l->calib);
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_job *job = l->jobs[role];
        if (job != NULL) {
            linears[n++] = (struct ht_learn_linear){.role = (enum ht_role)role,
                                                    .q = job->block == NULL ? &job->q : NULL,
                                                    .format = job->block,
                                                    .bytes = job->bytes,
                                                    .given = true};
        }
    }
    options_of(l, &o);
    HT_TRY(ht_train_block_new(l->ctx->pool, l->model, l->layer, o.batch, l->windows->window, &block, err));
    ht_status status = round_inputs(l, block, err);
    if (status == HT_OK) {
        status = ht_learn_block(block, x, target, (size_t)l->windows->n, l->windows->window, linears, n, &o, &report,
                                err);
    }
    if (status == HT_OK) {
        fill_reports(l, &report);
    }
    ht_train_block_free(block);
    return status;
}
