/* Layers of a model as blocks that transforms change (tensor/fold.h), and back. One layer at a time: a block holds
 * its layer in f32. */
#ifndef HT_MODEL_FOLD_VIEW_H
#define HT_MODEL_FOLD_VIEW_H

#include "model/model.h"

/* Fills a block with the layer's matrices and vectors, decoded to f32; biases that the architecture can carry but
 * the model has not are there as zeros, with `used` false. Codes and sidecars are decoded to the weights they act as;
 * a sidecar's rounding of activations is not part of a block. Layer -1: embedding, last norm, and the head as a
 * matrix of its own even when it shares the embedding's; large models transform these in chunks of rows instead.
 * pool may be NULL. HT_NOMEM. Released with ht_fold_block_deinit. */
ht_status ht_fold_view_take(struct ht_pool *pool, const struct ht_model *model, int32_t layer,
                            struct ht_fold_block *block, ht_err *err);
/* The model computes with the block's values from now on. Norms are copied; matrices and biases stay in the block,
 * which must outlive their use. Biases that are not used are left out, and so are codes and sidecars. Layer -1 unties
 * the head. HT_NOMEM. */
ht_status ht_fold_view_put(struct ht_model *model, const struct ht_fold_block *block, ht_err *err);

#endif
