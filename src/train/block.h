/* One layer of a model as something to train: f32 weights, a TAPE of its steps, forward and backward.
 *
 * There is no general automatic differentiation. What an architecture's layer computes is a short array of steps
 * (model/plan.h) that is known before anything runs. ht_train_block_new gives every step's output a buffer of its
 * own, so that forward may overwrite nothing that backward needs; backward walks the array in reverse and calls one
 * hand-written function per kind of step (train/steps.h).
 *
 * A batch is `windows` stretches of `tokens` tokens each, at positions 0 .. tokens - 1, one behind the other;
 * attention is causal within a window. T below is windows * tokens.
 *
 * A block owns its memory. One thread at a time; work is split over the pool in fixed pieces and summed in fixed
 * order, so results do not depend on the number of threads. */
#ifndef HT_TRAIN_BLOCK_H
#define HT_TRAIN_BLOCK_H

#include <stdbool.h>

#include "base/pool.h"
#include "model/model.h"
#include "tensor/sidecar.h"

#define HT_TAPE_MAX 32   /* steps of a layer */
#define HT_STEP_INPUTS 3 /* attend reads queries, keys and values */

/* What one step reads and writes: indices of values, -1: none. */
struct ht_tape_step {
    enum ht_step_kind kind;
    enum ht_role role; /* of the weight, OTHER: none */
    int in[HT_STEP_INPUTS];
    int out;
};

/* Value 0 is the input of the block. */
struct ht_tape_value {
    size_t width;
    float *x;    /* [T, width] */
    float *dx;   /* [T, width] gradient of the loss; valid after backward where wanted */
    bool wanted; /* its gradient leads to something that is trained */
};

/* A matrix or a vector (norm or bias; cols 0). Absent: w NULL. */
struct ht_train_param {
    uint64_t rows, cols;
    float *w;
    float *dw; /* gradient, set by backward; NULL: not wanted */
};

struct ht_train_block {
    struct ht_pool *pool;
    struct ht_hparams hp;
    enum ht_rope_style rope;
    int32_t layer;
    size_t max_windows, max_tokens; /* of a batch, of a window */
    size_t windows, tokens;         /* of the batch in work */

    struct ht_train_param params[HT_ROLES]; /* matrices, norms and biases by role */
    bool want_input;                        /* backward gives the gradient of the input */
    const struct ht_sidecar *rounded[HT_ROLES]; /* inputs of the role's matrix are rounded as this says; NULL: not */
    bool relative;                          /* the loss divides a token's error by the mean square of its target */

    struct ht_tape_step steps[HT_TAPE_MAX];
    size_t n_steps;
    struct ht_tape_value values[HT_TAPE_MAX + 1];
    size_t n_values;
    int output; /* the value behind the last step */

    float *angles, *angles_back; /* [max_tokens, rope_dim / 2, 2] cos, sin; and cos, -sin */
    void *scratch;               /* of products and attention */
    size_t scratch_bytes, attend_bytes; /* all of it; per thread, of attention */
    float *partial;              /* [pieces, widest] sums over tokens before they are added up */
    float *inputs;               /* [T, widest] of a matrix, rounded; NULL: none are */
    struct ht_affine *grids;     /* [threads, most] of one token's inputs */
    uint64_t inputs_width, grids_count;
};

/* The layer of a model with its weights decoded to f32, for batches of at most max_windows windows of max_tokens.
 * Nothing is trained until ht_train_block_want. HT_UNSUPPORTED when the architecture has a step without backward,
 * HT_INVAL for an empty batch or a layer that the model lacks, HT_LIMIT, HT_NOMEM. pool must outlive the block, the
 * model need not. */
ht_status ht_train_block_new(struct ht_pool *pool, const struct ht_model *model, int32_t layer, size_t max_windows,
                             size_t max_tokens, struct ht_train_block **block, ht_err *err);
void ht_train_block_free(struct ht_train_block *block); /* NULL is fine */
/* Bytes that ht_train_block_new allocates; gradients of weights come on top. UINT64_MAX: beyond any address space. */
uint64_t ht_train_block_bytes(const struct ht_model *model, size_t max_windows, size_t max_tokens, int threads);

/* Asks for gradients: want[role] of matrices, norms and biases that the block has, and of the input. HT_NOMEM. */
ht_status ht_train_block_want(struct ht_train_block *block, const bool want[HT_ROLES], bool input, ht_err *err);

/* From now on the inputs of a matrix are rounded as the run time will round them (side->act, fixed scales, threshold),
 * so that a loss sees what that does; on the way back rounding counts as the identity. side must outlive the block.
 * HT_UNSUPPORTED: a sidecar that does more to its inputs; HT_NOMEM. */
ht_status ht_train_block_round_inputs(struct ht_train_block *block, enum ht_role role, const struct ht_sidecar *side,
                                      ht_err *err);

/* x [windows * tokens, C], windows and tokens within the limits of the block. Returns the block's output,
 * [windows * tokens, C], a view that lives until the next forward. The same as ht_run_layer with HT_MATH_EXACT and
 * an f32 cache, to 1e-5 of its largest value. */
const float *ht_train_block_forward(struct ht_train_block *block, const float *x, size_t windows, size_t tokens);
/* dy [T, C]: gradient of a loss with respect to the output of the last forward. Gradients of wanted parameters are
 * overwritten, or added to when add. */
void ht_train_block_backward(struct ht_train_block *block, const float *dy, bool add);
/* The same when the gradient of the output is already in block->values[block->output].dx. */
void ht_train_block_backward_in_place(struct ht_train_block *block, bool add);
/* Gradient of the input, [T, C]; NULL unless wanted. */
const float *ht_train_block_input_gradient(const struct ht_train_block *block);

/* Mean squared error of the last forward's output and target [T, C] (block->relative: each token's divided by the mean
 * square of its target, which is what a norm behind it sees), in double; when gradient, leaves
 * scale * its gradient where ht_train_block_backward_in_place reads it. */
double ht_train_block_mse(struct ht_train_block *block, const float *target, bool gradient, double scale);

#endif
