/* The steps that treat tokens one by one, and the table of all kinds. */
#include "train/steps.h"

#include <math.h>

#include "kernel/exp.h"
#include "model/rope.h"

void ht_train_put(float *dst, const float *src, size_t n, bool add) {
    if (!add) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        dst[i] += src[i];
    }
}

void ht_train_sum_rows(const float *partial, size_t rows, size_t n, float *out, bool add) {
    for (size_t r = 0; r < rows; r++) {
        ht_train_put(out, partial + r * n, n, add || r > 0);
    }
}

/* ---- over tokens ------------------------------------------------------------------------------------------- */

typedef void token_fn(const struct ht_step_job *j, size_t t, float *partial);

struct pieces {
    const struct ht_step_job *job;
    token_fn *fn;
    size_t partial; /* floats that a piece sums up; 0: none */
};

static void piece_task(void *ctx, size_t piece, int thread) {
    (void)thread;
    const struct pieces *p = ctx;
    size_t from = piece * HT_TRAIN_PIECE, to = from + HT_TRAIN_PIECE;
    float *partial = p->partial != 0 ? p->job->block->partial + piece * p->partial : NULL;
    for (size_t i = 0; i < p->partial; i++) {
        partial[i] = 0;
    }
    for (size_t t = from; t < to && t < p->job->T; t++) {
        p->fn(p->job, t, partial);
    }
}

/* fn for every token; each piece has a vector [n] of its own, whose sum is put into, or added to, out. */
static void each_token(const struct ht_step_job *j, token_fn *fn, size_t n, float *out) {
    struct pieces p = {j, fn, out != NULL ? n : 0};
    size_t count = (j->T + HT_TRAIN_PIECE - 1) / HT_TRAIN_PIECE;
    ht_pool_run(j->block->pool, count, piece_task, &p);
    if (out != NULL) {
        ht_train_sum_rows(j->block->partial, count, n, out, j->add_params);
    }
}

/* ---- norm: y = r x w, r = 1 / sqrt(mean(x^2) + eps) --------------------------------------------------------
 * dx = r (w dy) - x r^3 mean(x w dy),   dw = sum over tokens of r x dy
 * HEAD_NORM is the same on each head, with one w for all of them. */

static void norm_parts(const struct ht_step_job *j, size_t t, size_t n, float *dw) {
    const struct ht_train_block *b = j->block;
    const float *w = b->params[j->step->role].w;
    for (size_t at = t * j->y_width; at < (t + 1) * j->y_width; at += n) {
        const float *x = j->x[0] + at, *dy = j->dy + at;
        double square = 0, along = 0;
        for (size_t i = 0; i < n; i++) {
            square += (double)x[i] * (double)x[i];
            along += (double)x[i] * (double)w[i] * (double)dy[i];
        }
        double r = 1 / sqrt(square / (double)n + (double)b->hp.rms_eps);
        float scale = (float)r, pull = (float)(r * r * r * along / (double)n);
        for (size_t i = 0; i < n && j->dx[0] != NULL; i++) {
            float d = scale * w[i] * dy[i] - pull * x[i];
            j->dx[0][at + i] = j->add[0] ? j->dx[0][at + i] + d : d;
        }
        for (size_t i = 0; i < n && dw != NULL; i++) {
            dw[i] += scale * x[i] * dy[i];
        }
    }
}

static void norm_token(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    ht_kernels()->rms_norm(j->x[0] + t * j->y_width, j->block->params[j->step->role].w, j->block->hp.rms_eps,
                           j->y + t * j->y_width, j->y_width);
}

static void norm_token_back(const struct ht_step_job *j, size_t t, float *partial) {
    norm_parts(j, t, j->y_width, partial);
}

static void head_norm_token(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    size_t D = j->block->hp.head_dim;
    for (size_t at = t * j->y_width; at < (t + 1) * j->y_width; at += D) {
        ht_kernels()->rms_norm(j->x[0] + at, j->block->params[j->step->role].w, j->block->hp.rms_eps, j->y + at, D);
    }
}

static void head_norm_token_back(const struct ht_step_job *j, size_t t, float *partial) {
    norm_parts(j, t, j->block->hp.head_dim, partial);
}

static void norm_forward(const struct ht_step_job *j) {
    each_token(j, norm_token, 0, NULL);
}

static void norm_backward(const struct ht_step_job *j) {
    each_token(j, norm_token_back, j->y_width, j->block->params[j->step->role].dw);
}

static void head_norm_forward(const struct ht_step_job *j) {
    each_token(j, head_norm_token, 0, NULL);
}

static void head_norm_backward(const struct ht_step_job *j) {
    each_token(j, head_norm_token_back, j->block->hp.head_dim, j->block->params[j->step->role].dw);
}

/* ---- rope: pairs turn by an angle; gradients turn back ------------------------------------------------------ */

static void turn(const struct ht_step_job *j, size_t t, const float *angles, float *x) {
    const struct ht_hparams *hp = &j->block->hp;
    ht_rope_turn(j->block->rope, angles + t % j->block->tokens * hp->rope_dim, hp->rope_dim, hp->head_dim,
                 j->y_width / hp->head_dim, x);
}

static void rope_token(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    float *y = j->y + t * j->y_width;
    memcpy(y, j->x[0] + t * j->y_width, j->y_width * sizeof *y);
    turn(j, t, j->block->angles, y);
}

/* A linear map whose inverse is its transpose: what is already in dx is turned forward, added to, and turned back. */
static void rope_token_back(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    float *dx = j->dx[0] + t * j->y_width;
    if (j->add[0]) {
        turn(j, t, j->block->angles, dx);
    }
    ht_train_put(dx, j->dy + t * j->y_width, j->y_width, j->add[0]);
    turn(j, t, j->block->angles_back, dx);
}

static void rope_forward(const struct ht_step_job *j) {
    each_token(j, rope_token, 0, NULL);
}

static void rope_backward(const struct ht_step_job *j) {
    if (j->dx[0] != NULL) {
        each_token(j, rope_token_back, 0, NULL);
    }
}

/* ---- gate: y = g sigmoid(g) u ------------------------------------------------------------------------------
 * dg = dy u sig (1 + g (1 - sig)),   du = dy g sig                                                            */

static void gate_token(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    ht_kernels()->silu_mul(j->x[0] + t * j->y_width, j->x[1] + t * j->y_width, j->y + t * j->y_width, j->y_width);
}

static void gate_token_back(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    size_t n = j->y_width;
    const float *g = j->x[0] + t * n, *u = j->x[1] + t * n, *dy = j->dy + t * n;
    for (size_t i = 0; i < n; i++) {
        float sig = 1.0f / (1.0f + ht_exp_f32(-g[i]));
        float d[2] = {dy[i] * u[i] * sig * (1.0f + g[i] * (1.0f - sig)), dy[i] * g[i] * sig};
        for (int k = 0; k < 2; k++) {
            if (j->dx[k] != NULL) {
                float *dx = j->dx[k] + t * n + i;
                *dx = j->add[k] ? *dx + d[k] : d[k];
            }
        }
    }
}

static void gate_forward(const struct ht_step_job *j) {
    each_token(j, gate_token, 0, NULL);
}

static void gate_backward(const struct ht_step_job *j) {
    each_token(j, gate_token_back, 0, NULL);
}

/* ---- add: the gradient goes both ways ---------------------------------------------------------------------- */

static void add_token(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    size_t n = j->y_width;
    for (size_t i = t * n; i < (t + 1) * n; i++) {
        j->y[i] = j->x[0][i] + j->x[1][i];
    }
}

static void add_token_back(const struct ht_step_job *j, size_t t, float *partial) {
    (void)partial;
    size_t n = j->y_width;
    for (int k = 0; k < 2; k++) {
        if (j->dx[k] != NULL) {
            ht_train_put(j->dx[k] + t * n, j->dy + t * n, n, j->add[k]);
        }
    }
}

static void add_forward(const struct ht_step_job *j) {
    each_token(j, add_token, 0, NULL);
}

static void add_backward(const struct ht_step_job *j) {
    each_token(j, add_token_back, 0, NULL);
}

/* Keys and values stay where they are: attend reads them there and leaves their gradients there. */
static void cache_forward(const struct ht_step_job *j) {
    (void)j;
}

/* ---- the table --------------------------------------------------------------------------------------------- */

static const struct ht_train_step steps[HT_STEPS] = {
    [HT_STEP_EMBED] = {NULL, NULL},
    [HT_STEP_NORM] = {norm_forward, norm_backward},
    [HT_STEP_HEAD_NORM] = {head_norm_forward, head_norm_backward},
    [HT_STEP_LINEAR] = {ht_train_linear_forward, ht_train_linear_backward},
    [HT_STEP_ROPE] = {rope_forward, rope_backward},
    [HT_STEP_CACHE] = {cache_forward, cache_forward},
    [HT_STEP_ATTEND] = {ht_train_attend_forward, ht_train_attend_backward},
    [HT_STEP_GATE] = {gate_forward, gate_backward},
    [HT_STEP_ADD] = {add_forward, add_backward},
};

const struct ht_train_step *ht_train_step(enum ht_step_kind kind) {
    return &steps[kind];
}

/* ---- loss --------------------------------------------------------------------------------------------------- */

struct mse {
    const struct ht_train_block *block;
    const float *target;
    float *dy;
    double factor, *sums; /* [pieces] */
};

/* What a token's error counts: 1, or one over the mean square of its target. */
static double token_weight(const struct mse *m, const float *target, size_t width) {
    double square = 0;
    for (size_t i = 0; i < width && m->block->relative; i++) {
        square += (double)target[i] * (double)target[i];
    }
    return m->block->relative ? 1 / (square / (double)width + 1e-20) : 1;
}

static void mse_task(void *ctx, size_t piece, int thread) {
    (void)thread;
    const struct mse *m = ctx;
    const struct ht_train_block *b = m->block;
    const struct ht_tape_value *v = &b->values[b->output];
    size_t T = b->windows * b->tokens, from = piece * HT_TRAIN_PIECE, to = from + HT_TRAIN_PIECE;
    double sum = 0;
    for (size_t t = from; t < to && t < T; t++) {
        const float *y = v->x + t * v->width, *target = m->target + t * v->width;
        double weight = token_weight(m, target, v->width), square = 0;
        float factor = (float)(m->factor * weight);
        for (size_t i = 0; i < v->width; i++) {
            float d = y[i] - target[i];
            square += (double)d * (double)d;
            if (m->dy != NULL) {
                m->dy[t * v->width + i] = factor * d;
            }
        }
        sum += weight * square;
    }
    m->sums[piece] = sum;
}

double ht_train_block_mse(struct ht_train_block *b, const float *target, bool gradient, double scale) {
    const struct ht_tape_value *v = &b->values[b->output];
    size_t T = b->windows * b->tokens, count = (T + HT_TRAIN_PIECE - 1) / HT_TRAIN_PIECE;
    double n = (double)(T * v->width), sum = 0;
    struct mse m = {.block = b, .target = target, .dy = gradient && v->wanted ? v->dx : NULL,
                    .factor = scale * 2 / n, .sums = (double *)b->scratch};
    ht_pool_run(b->pool, count, mse_task, &m);
    for (size_t i = 0; i < count; i++) {
        sum += m.sums[i];
    }
    return sum / n;
}
