/* Inside of the driver of blocks: its state, and the steps of one layer that a rehearsal shares. */
#ifndef HT_FLOW_QUANTIZE_BLOCKS_H
#define HT_FLOW_QUANTIZE_BLOCKS_H

#include "calib/calib.h"
#include "flow/flow_finite.h"
#include "flow/flow_stream.h"
#include "flow/quantize/quantize_learn.h"
#include "flow/quantize/quantize_work.h"
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
    struct ht_work_folds folds; /* of the layer in work */
    struct ht_fold_note *notes; /* what folds.notes is */
    struct ht_meter meter;
    uint32_t finished; /* layers */
    uint64_t done;
    uint64_t collects; /* passes of the text that statistics took */
    unsigned needs;
};

/* What the recipe's parts need, of the layer as it stands. */
ht_status ht_blocks_collect(struct blocks *b, int32_t layer, ht_err *err);
/* early: transforms that look at weights alone, before anything is collected. */
ht_status ht_blocks_transform(struct blocks *b, int32_t layer, bool early, ht_err *err);
/* All linears of the layer to their grids; work NULL: results are not kept. */
ht_status ht_blocks_solve(struct blocks *b, struct ht_work *work, int32_t layer, ht_err *err);
ht_status ht_blocks_refuse_factors(const struct ht_model *m, ht_err *err);
/* Linears and vectors of a layer as the model has them; back to that; what the layer in work holds is given back. */
void ht_blocks_save_layer(struct blocks *b, const struct ht_layer *layer);
void ht_blocks_restore_layer(const struct blocks *b, struct ht_layer *layer);
void ht_blocks_drop_layer(struct blocks *b);
void ht_blocks_free(struct blocks *b); /* with all it has; not NULL */

#endif
