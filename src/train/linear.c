/* y = x W^T + b:   dx = dy W,   dW = dy^T x,   db = sum over tokens of dy. */
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

void ht_train_linear_forward(const struct ht_step_job *j) {
    const struct ht_train_param *p = matrix(j);
    struct ht_side x = {j->x[0], p->cols, false}, w = {p->w, p->cols, false};
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
        struct ht_side dy = {j->dy, p->rows, true}, x = {j->x[0], p->cols, true};
        ht_product(j->block->pool, dy, x, p->rows, p->cols, j->T, p->dw, p->cols, j->add_params, scratch);
    }
    if (b != NULL && b->dw != NULL) {
        struct ht_step_job job = *j;
        ht_pool_run(j->block->pool, pieces(j), bias_sum_task, &job);
        ht_train_sum_rows(j->block->partial, pieces(j), j->y_width, b->dw, j->add_params);
    }
}
