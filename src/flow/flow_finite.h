/* NaN and Inf among the weights of a source: found before work that would run on them, and made 0 where that is
 * allowed. Tensors that are only streamed need none of this: the stream does it on the way. */
#ifndef HT_FLOW_FLOW_FINITE_H
#define HT_FLOW_FLOW_FINITE_H

#include "base/context.h"
#include "flow/flow_plan.h"
#include "model/model.h"

/* Reads every tensor of the source once: n_nonfinite of the plan's tensors. HT_NUMERIC, unless allowed, names the
 * first that has some, as the source calls it. HT_CANCELLED, HT_NOMEM. */
ht_status ht_finite_scan(struct ht_context *ctx, struct ht_flow_plan *plan, bool allowed, ht_err *err);

/* f32 copies that stand for weights of a model with NaN or Inf. */
struct ht_finite {
    float **copies; /* [n] */
    size_t n;
};

/* The model computes with 0 where the plan's tensors have a NaN or Inf; nothing for tensors without. The copies must
 * outlive the model's use. HT_NOMEM: deinit all the same. */
ht_status ht_finite_mend(struct ht_finite *f, const struct ht_flow_plan *plan, struct ht_model *model, ht_err *err);
void ht_finite_deinit(struct ht_finite *f);

/* Both for a model that runs without a plan: its source is read once; *zeroed (may be NULL): how many became 0. As
 * above otherwise. */
ht_status ht_finite_model(struct ht_context *ctx, struct ht_model *model, bool allowed, struct ht_finite *f,
                          uint64_t *zeroed, ht_err *err);
/* Words for such a count. */
void ht_finite_words(uint64_t zeroed, char *words, size_t len);

/* x[n]: NaN and Inf become 0; returns how many there were. */
uint64_t ht_finite_zero(float *x, uint64_t n);

/* The refusal: bad of the tensor's values are NaN or Inf. */
ht_status ht_finite_refuse(const struct ht_plan_tensor *t, uint64_t bad, ht_err *err);

#endif
