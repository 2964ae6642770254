/* y = x W^T + b:   dx = dy W,   dW = dy^T x,   db = sum over tokens of dy. */
#include <math.h>

#include "tensor/act.h"
#include "train/steps.h"

static const struct ht_train_param *matrix(const struct ht_step_job *j) {
    return &j->block->params[j->step->role];
}

static const struct ht_train_param *bias(const struct ht_step_job *j) {
    enum ht_role role = ht_role_bias(j->step->role);
    return role != HT_ROLE_OTHER && j->block->params[role].w != NULL ? &j->block->params[role] : NULL;
}

static void bias_task(void *ctx, size_t piece, int thread) {
    (void)thread;
    const struct ht_step_job *j = ctx;
    const float *b = bias(j)->w;
    size_t from = piece * HT_TRAIN_PIECE, to = from + HT_TRAIN_PIECE < j->T ? from + HT_TRAIN_PIECE : j->T;
    for (size_t t = from; t < to; t++) {
        float *y = j->y + t * j->y_width;
        for (size_t i = 0; i < j->y_width; i++) {
            y[i] += b[i];
        }
    }
}

static void bias_sum_task(void *ctx, size_t piece, int thread) {
    (void)thread;
    const struct ht_step_job *j = ctx;
    size_t from = piece * HT_TRAIN_PIECE, rows = j->T - from < HT_TRAIN_PIECE ? j->T - from : HT_TRAIN_PIECE;
    ht_train_sum_rows(j->dy + from * j->y_width, rows, j->y_width, j->block->partial + piece * j->y_width, false);
}

static size_t pieces(const struct ht_step_job *j) {
    return (j->T + HT_TRAIN_PIECE - 1) / HT_TRAIN_PIECE;
}

static void round_task(void *ctx, size_t piece, int thread) {
    (void)thread;
    const struct ht_step_job *j = ctx;
    const struct ht_sidecar *side = j->block->rounded[j->step->role];
    uint64_t cols = j->width[0], segments = ht_act_segments(side);
    struct ht_affine *grids = j->block->grids + (size_t)thread * segments;
    for (size_t t = piece * HT_TRAIN_PIECE; t < (piece + 1) * HT_TRAIN_PIECE && t < j->T; t++) {
        const float *x = j->x[0] + t * cols;
        float *u = j->block->inputs + t * cols;
        for (uint64_t i = 0; i < cols; i++) {
            u[i] = side->threshold > 0 && fabsf(x[i]) > side->threshold ? 0 : x[i];
        }
        ht_act_fit(side, u, grids);
        ht_act_values(side, u, grids);
        for (uint64_t i = 0; i < cols && side->threshold > 0; i++) {
            u[i] = fabsf(x[i]) > side->threshold ? x[i] : u[i];
        }
    }
}

/* What the matrix is multiplied with: the step's input, or that rounded. */
static const float *inputs(const struct ht_step_job *j) {
    if (j->block->rounded[j->step->role] == NULL) {
        return j->x[0];
    }
    struct ht_step_job job = *j;
    ht_pool_run(j->block->pool, pieces(j), round_task, &job);
    return j->block->inputs;
}

void ht_train_linear_forward(const struct ht_step_job *j) {
    const struct ht_train_param *p = matrix(j);
    struct ht_side x = {inputs(j), p->cols, false}, w = {p->w, p->cols, false};
    ht_product(j->block->pool, x, w, j->T, p->rows, p->cols, j->y, p->rows, false, j->block->scratch);
    if (bias(j) != NULL) {
        struct ht_step_job job = *j;
        ht_pool_run(j->block->pool, pieces(j), bias_task, &job);
    }
}

void ht_train_linear_backward(const struct ht_step_job *j) {
    const struct ht_train_param *p = matrix(j), *b = bias(j);
    void *scratch = j->block->scratch;
    if (j->dx[0] != NULL) {
        struct ht_side dy = {j->dy, p->rows, false}, w = {p->w, p->cols, true};
        ht_product(j->block->pool, dy, w, j->T, p->cols, p->rows, j->dx[0], p->cols, j->add[0], scratch);
    }
    if (p->dw != NULL) {
        struct ht_side dy = {j->dy, p->rows, true}, x = {inputs(j), p->cols, true};
        ht_product(j->block->pool, dy, x, p->rows, p->cols, j->T, p->dw, p->cols, j->add_params, scratch);
    }
    if (b != NULL && b->dw != NULL) {
        struct ht_step_job job = *j;
        ht_pool_run(j->block->pool, pieces(j), bias_sum_task, &job);
        ht_train_sum_rows(j->block->partial, pieces(j), j->y_width, b->dw, j->add_params);
    }
}
