/* Rounding learned on a layer as a whole: parts that need HT_NEEDS_GRAD. quantize_blocks.c has each linear rounded
 * first (the part's run gives the codes that learning starts from), then hands all of them over. */
#ifndef HT_FLOW_QUANTIZE_LEARN_H
#define HT_FLOW_QUANTIZE_LEARN_H

#include "calib/calib.h"
#include "flow/flow_stream.h"
#include "flow/quantize/quantize.h"

struct ht_quant_learner {
    struct ht_context *ctx;
    struct ht_model *model;        /* the layer's linears: those that learn in float, the others as they will be */
    struct ht_calib_layers *calib; /* hidden states before the layer; the unquantized stream behind it: the target */
    const struct ht_calib_windows *windows;
    int32_t layer;
    uint64_t seed;
    const struct ht_choice *choice;
    struct ht_job *jobs[HT_ROLES]; /* by role; NULL: does not learn. Codes change in place, reports are filled */
    struct ht_meter *meter;
    uint64_t done; /* of the meter, before this layer */
};

static inline bool ht_quant_learns(const struct ht_choice *round) {
    return round->part != NULL && (round->part->needs & HT_NEEDS_GRAD) != 0;
}
/* Formats that came from a preset: what cannot learn is refused before work starts. */
ht_status ht_quant_check_learning(const struct ht_quant_job *job, ht_err *err);
ht_status ht_quant_learn_layer(struct ht_quant_learner *l, ht_err *err);
/* Bytes beside calibration's own: the second stream of hidden states (in memory or a file), and learning one layer. */
uint64_t ht_quant_learn_stream(const struct ht_recipe *recipe, const struct ht_model *model, uint64_t tokens);
uint64_t ht_quant_learn_memory(const struct ht_recipe *recipe, const struct ht_model *model, uint32_t window,
                               int threads);

#endif
