/* Inside of the driver of blocks: its state, and the steps of one layer that a rehearsal shares. */
#ifndef HT_FLOW_QUANTIZE_BLOCKS_H
#define HT_FLOW_QUANTIZE_BLOCKS_H

#include "calib/calib.h"
#include "flow/flow_finite.h"
#include "flow/flow_stream.h"
#include "flow/quantize/quantize_learn.h"
#include "flow/quantize/quantize_work.h"
#include "model/row_order.h"
#include "quant/fold_job.h"

#define MAX_LINEARS 32 /* of one layer */

struct blocks {
    struct ht_context *ctx;
    struct ht_quant_job *job;
    struct ht_model *model;
    struct ht_finite mended; /* its weights that had a NaN or Inf */
    struct ht_calib_windows windows;
    struct ht_calib_layers *calib; /* NULL: the recipe needs nothing */
    struct ht_fold_block block;    /* the layer in f32, when transforms changed it */
    struct ht_front fronts[HT_ROLES]; /* what they left in front of its linears */
    struct ht_fold_trail trail;    /* what happened to inputs before statistics were taken */
    struct ht_job
        results[MAX_LINEARS]; /* of the layer in work: the model computes with them until it moves on */
    size_t n_results;
    struct pending { /* linears that are rounded and still learn with their layer, by role */
        struct ht_job *job;
        uint32_t index;
    } pending[HT_ROLES];
    struct ht_choice way; /* in which they learn */
    struct ht_linear own[HT_ROLES]; /* linears of the layer in work as they were, which they become again behind it */
    const float *own_vectors[HT_ROLES];
    bool halves; /* a folder is made of a file that keeps pairs: each layer is solved in the folder's order */
    struct ht_row_order ordered; /* rows of the layer in work in that order */
    struct ht_work_folds folds; /* of the layer in work */
    struct ht_fold_note *notes; /* what folds.notes is */
    struct ht_meter meter;
    uint64_t done;
    uint64_t collects; /* passes of the text that statistics took */
    unsigned needs;
};

/* quantize_blocks.c */
struct ht_plan_tensor *ht_blocks_tensor(const struct ht_quant_job *job, enum ht_role role, int32_t layer,
                                        uint32_t *index); /* NULL: the plan has none; index into its tensors */
/* A linear of a layer that leaves floating point. */
bool ht_blocks_is_grid(const struct ht_plan_tensor *t);
/* The model that is taken apart. HT_UNSUPPORTED for factors in tensors of their own. */
ht_status ht_blocks_load(struct blocks *b, bool tokenizer_optional, ht_err *err);
/* Keeps linears and vectors of a layer as the model has them, and puts rows in the output's order: once per layer.
 * Back to what was kept; what the layer in work holds is given back. */
ht_status ht_blocks_save_layer(struct blocks *b, struct ht_layer *layer, ht_err *err);
void ht_blocks_restore_layer(const struct blocks *b, struct ht_layer *layer);
void ht_blocks_drop_layer(struct blocks *b);
/* Hidden states go on behind the layer as it stands; as it was unquantized: called with those weights in place. */
ht_status ht_blocks_advance(struct blocks *b, int32_t layer, ht_err *err);
ht_status ht_blocks_advance_plain(struct blocks *b, int32_t layer, ht_err *err);
void ht_blocks_free(struct blocks *b); /* with all it has; not NULL */

/* quantize_transform.c */
/* What the recipe's parts need, of the layer as it stands. */
ht_status ht_blocks_collect(struct blocks *b, int32_t layer, ht_err *err);
/* Collected in this run, or from a file; NULL: the recipe needs none. */
const struct ht_stats *ht_blocks_stats(const struct blocks *b, const struct ht_linear *linear);
/* Transforms of the layer; early: those at the front of the list that look at weights alone. They go before anything
 * is collected. The others are behind them, and see inputs as the one before has left them. */
ht_status ht_blocks_transform(struct blocks *b, int32_t layer, bool early, ht_err *err);
/* Norms and biases as they are now, for the output. */
ht_status ht_blocks_keep_vectors(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err);

/* quantize_solve.c; work NULL: results are not kept. */
/* The choices for one linear of a layer: a job without weights, statistics and front; how and inputs are its. */
void ht_blocks_choose(const struct ht_recipe *recipe, const struct ht_plan_tensor *t, bool has_bias,
                      struct ht_place_recipe *how, struct ht_place_recipe *inputs, struct ht_job *job);
/* The model computes with the result from now on. */
void ht_blocks_install(struct ht_linear *linear, const struct ht_format *block, const void *bytes,
                       const struct ht_qtensor *q, const struct ht_sidecar *side);
/* Behind the early transforms, statistics collected, before the others: what rounding the model's own weights to
 * nearest loses, for the record. Nothing where no transform changes weights: the job of each linear finds it. */
ht_status ht_blocks_nearest(struct blocks *b, int32_t layer, ht_err *err);
/* All linears of the layer to their grids. */
ht_status ht_blocks_solve(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err);
/* Those that learn with their layer, rounded so far: they learn together, then they are final. */
ht_status ht_blocks_learn(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err);

/* quantize_resume.c */
/* Of all that decides what the work file will hold. */
ht_status ht_blocks_digest(const struct blocks *b, char digest[65], ht_err *err);
/* Layers of a former run: hidden states go through them again, with the weights they were given then. */
ht_status ht_blocks_resume(struct blocks *b, struct ht_work *work, uint32_t layers, ht_err *err);
/* Tensors of the plan are what the work file holds. */
ht_status ht_blocks_bind(struct blocks *b, struct ht_work *work, ht_err *err);

#endif
