/* Importance: one weight per column of each matrix, the mean square of that input on calibration text. */
#include "calib/calib.h"
#include "flow/flow_calib.h"
#include "flow/flow_finite.h"
#include "flow/flow_stats.h"
#include "flow/quantize/quantize.h"
#include "model/model.h"

ht_status ht_quant_windows(struct ht_context *ctx, struct ht_quant_job *j, const struct ht_model *model,
                           struct ht_calib_windows *windows, ht_err *err) {
    const struct ht_calib_data_options data = HT_FLOW_CALIB(j->o, j->tokens, j->window);
    char words[160];
    HT_TRY(ht_calib_data(ctx, model, &data, windows, &j->data, err));
    if (ht_flow_calib_short(j->data, words, sizeof words)) {
        if (j->o->calib_tokens != UINT64_MAX) {
            ht_quant_warn(ctx, j, "%s", words);
        } else {
            ht_log(ctx, HT_LOG_INFO, "%s", words);
        }
    }
    return HT_OK;
}

static ht_status collect(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const ht_quantize_options *o = j->o;
    struct ht_calib_windows windows = {0};
    struct ht_model *model = NULL;
    struct ht_finite mended = {0};
    HT_TRY(ht_model_load(o->input, &model, err));
    ht_status status = ht_finite_mend(&mended, j->plan, model, err);
    if (status == HT_OK) {
        status = ht_quant_windows(ctx, j, model, &windows, err);
    }
    if (status == HT_OK) {
        status = ht_calib_imatrix_of(ctx, model, &windows, o->calib, o->n_calib, HT_MATH_EXACT, &j->imatrix, err);
    }
    if (status == HT_OK) {
        status = ht_source_check(model->source, err);
    }
    ht_calib_windows_deinit(&windows);
    ht_model_unload(model);
    ht_finite_deinit(&mended);
    for (size_t i = 0; i < j->plan->n_tensors; i++) { /* the stream counts them again */
        j->plan->tensors[i].n_nonfinite = 0;
    }
    return status;
}

static const char *source_of(const struct ht_quant_job *j) {
    return j->o->imatrix != NULL ? j->o->imatrix : j->o->stats != NULL ? j->o->stats : "calibration";
}

static ht_status bind_one(struct ht_quant_job *j, struct ht_plan_tensor *t, const struct ht_imatrix_entry *e,
                          ht_err *err) {
    if (e->n != t->out.ne[0] || e->n_mat != 1) {
        return ht_fail(err, HT_INVAL, t->out.name, HT_NO_POS,
                       "the importance matrix has %llu inputs (%llu matrices) for it, the tensor has %llu; it is of "
                       "another model",
                       (unsigned long long)e->n, (unsigned long long)e->n_mat, (unsigned long long)t->out.ne[0]);
    }
    float *w = ht_arena_calloc(&j->plan->arena, e->n, sizeof *w);
    if (w == NULL) {
        return ht_fail_nomem(err, e->n * sizeof *w);
    }
    HT_TRY(ht_imatrix_importance(e, w, source_of(j), err));
    t->importance = w;
    return HT_OK;
}

/* A grid that the recipe wants to be searched with importance: rules may leave some out. */
static bool is_weighted(const struct ht_quant_job *j, const struct ht_plan_tensor *t) {
    struct ht_place_recipe how;
    ht_recipe_weights(&j->recipe, t->role, t->layer, &how);
    return t->out.format->kind != HT_KIND_FLOAT && (how.range.part->needs & HT_NEEDS_MEAN_SQUARE) != 0;
}

static ht_status bind_all(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    struct ht_flow_plan *p = j->plan;
    size_t n_used = 0, n_grid = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct ht_plan_tensor *t = &p->tensors[i];
        if (!ht_plan_is_weight(t)) {
            continue;
        }
        const struct ht_imatrix_entry *e = ht_imatrix_find(j->imatrix, t->out.name);
        bool weighted = is_weighted(j, t);
        if (e != NULL) {
            n_used++;
            HT_TRY(bind_one(j, t, e, err));
        } else if (weighted) {
            j->n_unweighted++;
            if (t->role != HT_ROLE_TOKEN_EMBD) { /* an embedding is looked up, not multiplied */
                ht_quant_warn(ctx, j, "%s has no importance and is quantized unweighted", t->out.name);
            }
        }
        n_grid += weighted;
        if (!weighted) {
            t->importance = NULL; /* the entry was checked all the same; floats round to nearest whatever the weight */
        }
    }
    if (n_used == 0 && n_grid > 0) {
        return ht_fail(err, HT_INVAL, source_of(j), HT_NO_POS,
                       "none of its %zu entries names a weight of this model; it is of another architecture or "
                       "naming",
                       j->imatrix->n);
    }
    if (n_used < j->imatrix->n) {
        ht_quant_warn(ctx, j, "%zu of %zu entries of the importance matrix name no weight of this model",
                      j->imatrix->n - n_used, j->imatrix->n);
    }
    return HT_OK;
}

ht_status ht_quant_load_weights(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    if (j->o->imatrix == NULL && (j->stats == NULL || ht_quant_wants_blocks(j))) {
        return HT_OK;
    }
    if (j->stats == NULL && ht_stats_file_probe(j->o->imatrix)) {
        return ht_fail(err, HT_INVAL, j->o->imatrix, HT_NO_POS,
                       "it is a file of statistics, not an importance matrix: --stats FILE takes it");
    }
    HT_TRY(j->stats != NULL ? ht_quant_stats_imatrix(j->stats, &j->imatrix, err)
                            : ht_imatrix_load(j->o->imatrix, &j->imatrix, err));
    return bind_all(ctx, j, err);
}

ht_status ht_quant_collect_weights(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    if (j->o->n_calib == 0) {
        return HT_OK;
    }
    HT_TRY(collect(ctx, j, err));
    return bind_all(ctx, j, err);
}
