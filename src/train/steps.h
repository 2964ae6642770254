/* Inside train/: what each kind of step does, forward and backward. One row per kind; formulas and sources stand in
 * docs/training.md. Tokens are independent of each other in all but ATTEND; gradients of weights are summed over
 * tokens in pieces of HT_TRAIN_PIECE, added up in order. */
#ifndef HT_TRAIN_STEPS_H
#define HT_TRAIN_STEPS_H

#include "train/block.h"

#define HT_TRAIN_PIECE 64u /* tokens of one task and of one partial sum */

/* A step at work: its values resolved. dx[i] is NULL where no gradient is wanted; add[i] says that another step has
 * already left its part there. */
struct ht_step_job {
    struct ht_train_block *block;
    const struct ht_tape_step *step;
    size_t T;
    const float *x[HT_STEP_INPUTS];
    size_t width[HT_STEP_INPUTS];
    float *y;
    size_t y_width;
    float *dx[HT_STEP_INPUTS];
    bool add[HT_STEP_INPUTS];
    const float *dy;
    bool add_params; /* gradients of weights are added to what is there */
};

typedef void ht_step_fn(const struct ht_step_job *job);
struct ht_train_step {
    ht_step_fn *forward, *backward; /* NULL: not a step of a layer */
};
const struct ht_train_step *ht_train_step(enum ht_step_kind kind);

/* dst[i] = or += src[i] */
void ht_train_put(float *dst, const float *src, size_t n, bool add);
/* out [n] = or += the sum over rows of partial [rows, n], in order. */
void ht_train_sum_rows(const float *partial, size_t rows, size_t n, float *out, bool add);

/* attend.c */
ht_step_fn ht_train_attend_forward, ht_train_attend_backward;
size_t ht_train_attend_bytes(size_t tokens, size_t head_dim); /* scratch of one thread */
/* linear.c */
ht_step_fn ht_train_linear_forward, ht_train_linear_backward;

#endif
