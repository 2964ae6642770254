/* Learned rounding of all linears of a layer, on the layer's output. */
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "train/learn.h"

#define HELD 6u /* one window of so many is kept from learning and tells the best step */

static const struct {
    float bound;
    bool adam;
    double lr, lr_range; /* 0: 1 / steps */
} methods[HT_LEARN_METHODS] = {
    [HT_LEARN_SIGN] = {0.5f, false, 0, 0},
    [HT_LEARN_DISTIL] = {1e6f, true, 0.02, 0.002},
};

void ht_learn_defaults(enum ht_learn_method method, struct ht_learn_options *o) {
    *o = (struct ht_learn_options){.method = method, .steps = 200, .batch = 4, .checks = 8};
    o->lr = methods[method].lr > 0 ? methods[method].lr : 1.0 / o->steps;
    o->lr_range = methods[method].lr_range > 0 ? methods[method].lr_range : 1.0 / o->steps;
}

struct learner {
    struct ht_train_block *block;
    const float *x, *target;
    size_t windows, tokens, width; /* elements of one window: width */
    const struct ht_learn_linear *linears;
    size_t n;
    struct ht_soft soft[HT_ROLES];
    float *w[HT_ROLES]; /* the float weights */
    uint32_t *order;    /* [windows] those that are learned from, as drawn; behind them those that judge */
    size_t n_drawn;     /* learned from */
    size_t judge, n_judges; /* where those that judge start in order, and how many they are */
    float *batch_x, *batch_target;
    const struct ht_learn_options *o;
    struct ht_rng rng;
    size_t drawn;
};

static struct ht_train_param *param(const struct learner *l, size_t i) {
    return &l->block->params[l->linears[i].role];
}

static ht_status check(const struct learner *l, ht_err *err) {
    const struct ht_learn_options *o = l->o;
    bool seen[HT_ROLES] = {false};
    if (l->windows == 0 || l->tokens == 0 || l->tokens > l->block->max_tokens || o->batch == 0 ||
        o->batch > l->block->max_windows || l->windows > UINT32_MAX || l->n == 0 || l->n > HT_ROLES || o->steps == 0) {
        return ht_fail(err, HT_INVAL, "learned rounding", HT_NO_POS,
                       "expected windows of at most %zu tokens and batches of at most %zu windows, found %zu of %zu in "
                       "batches of %u", l->block->max_tokens, l->block->max_windows, l->windows, l->tokens, o->batch);
    }
    for (size_t i = 0; i < l->n; i++) {
        const struct ht_learn_linear *to = &l->linears[i];
        const struct ht_train_param *p = param(l, i);
        bool shape = to->q == NULL || (to->q->rows == p->rows && to->q->cols == p->cols && to->q->owned);
        if (p->w == NULL || p->cols == 0 || seen[to->role] || !shape || (to->q == NULL) == (to->format == NULL) ||
            (to->format != NULL && to->bytes == NULL)) {
            return ht_fail(err, HT_INVAL, ht_role_name(to->role), HT_NO_POS,
                           "expected a matrix of the layer, once, with room for its codes");
        }
        seen[to->role] = true;
    }
    return HT_OK;
}

/* Every HELD-th window judges and is not learned from, where there are enough; else all do both. */
static void split(struct learner *l) {
    size_t held = l->windows >= HELD ? l->windows / HELD : 0, drawn = 0, judge = l->windows - held;
    l->n_drawn = judge;
    l->judge = held > 0 ? judge : 0;
    l->n_judges = held > 0 ? held : l->windows;
    for (size_t i = 0; i < l->windows; i++) {
        bool judges = held > 0 && i % HELD == HELD - 1;
        l->order[judges ? judge++ : drawn++] = (uint32_t)i;
    }
}

static ht_status begin(struct learner *l, ht_err *err) {
    bool want[HT_ROLES] = {false};
    size_t n = l->o->batch * l->width;
    for (size_t i = 0; i < l->n; i++) {
        struct ht_train_param *p = param(l, i);
        l->w[i] = ht_mem_alloc_aligned(p->rows * p->cols, sizeof *l->w[i]);
        if (l->w[i] == NULL) {
            return ht_fail_nomem(err, p->rows * p->cols * sizeof *l->w[i]);
        }
        memcpy(l->w[i], p->w, p->rows * p->cols * sizeof *p->w);
        HT_TRY(ht_soft_init(&l->soft[i], l->block->pool, &l->linears[i], l->w[i], p->rows, p->cols, l->o->lr_range > 0,
                            methods[l->o->method].adam, err));
        if (l->linears[i].given) {
            ht_soft_adopt(&l->soft[i], l->w[i]);
        }
        ht_soft_values(&l->soft[i], p->w);
        want[l->linears[i].role] = true;
    }
    l->order = ht_mem_alloc_array(l->windows, sizeof *l->order);
    l->batch_x = ht_mem_alloc_aligned(n, sizeof *l->batch_x);
    l->batch_target = ht_mem_alloc_aligned(n, sizeof *l->batch_target);
    if (l->order == NULL || l->batch_x == NULL || l->batch_target == NULL) {
        return ht_fail_nomem(err, 2 * n * sizeof *l->batch_x);
    }
    split(l);
    ht_rng_init(&l->rng, l->o->seed);
    return ht_train_block_want(l->block, want, false, err);
}

static void used(const struct learner *l, size_t window) {
    if (l->o->used != NULL) {
        l->o->used(l->o->user, window);
    }
}

/* Mean over the windows that judge. */
static double evaluate(struct learner *l) {
    double sum = 0;
    for (size_t i = 0; i < l->n_judges; i++) {
        size_t at = l->order[l->judge + i];
        ht_train_block_forward(l->block, l->x + at * l->width, 1, l->tokens);
        sum += ht_train_block_mse(l->block, l->target + at * l->width, false, 1);
        used(l, at);
    }
    return sum / (double)l->n_judges;
}

/* The same of zeros. */
static double signal(struct learner *l) {
    double sum = 0;
    for (size_t k = 0; k < l->n_judges && !l->o->relative; k++) {
        size_t at = l->order[l->judge + k];
        const float *target = l->target + at * l->width;
        double square = 0;
        for (size_t i = 0; i < l->width; i++) {
            square += (double)target[i] * (double)target[i];
        }
        sum += square / (double)l->width;
        used(l, at);
    }
    return l->o->relative ? 1 : sum / (double)l->n_judges;
}

/* The next windows of a shuffled order, shuffled again when it ends. */
static void draw(struct learner *l) {
    for (size_t i = 0; i < l->o->batch; i++, l->drawn++) {
        size_t at = l->drawn % l->n_drawn;
        if (at == 0) {
            for (size_t k = l->n_drawn; k > 1; k--) {
                size_t other = (size_t)ht_rng_below(&l->rng, k);
                uint32_t t = l->order[k - 1];
                l->order[k - 1] = l->order[other];
                l->order[other] = t;
            }
        }
        memcpy(l->batch_x + i * l->width, l->x + l->order[at] * l->width, l->width * sizeof *l->x);
        memcpy(l->batch_target + i * l->width, l->target + l->order[at] * l->width, l->width * sizeof *l->x);
        used(l, l->order[at]);
    }
}

static void train_step(struct learner *l, uint32_t step) {
    float left = 1 - (float)(step - 1) / (float)l->o->steps;
    struct ht_soft_step s = {(float)l->o->lr * left, (float)l->o->lr_range * left, methods[l->o->method].bound,
                             methods[l->o->method].adam, step};
    draw(l);
    ht_train_block_forward(l->block, l->batch_x, l->o->batch, l->tokens);
    ht_train_block_mse(l->block, l->batch_target, true, 1);
    ht_train_block_backward_in_place(l->block, false);
    for (size_t i = 0; i < l->n; i++) {
        ht_soft_update(&l->soft[i], param(l, i)->dw, &s);
        ht_soft_values(&l->soft[i], param(l, i)->w);
    }
}

static ht_status train(struct learner *l, struct ht_learn_report *report, ht_err *err) {
    const struct ht_learn_options *o = l->o;
    uint32_t checks = o->checks > 0 ? o->checks : 1, every = (o->steps + checks - 1) / checks;
    report->loss = report->loss_start = evaluate(l);
    report->signal = signal(l);
    for (uint32_t step = 1; isfinite(report->loss) && step <= o->steps; step++) {
        train_step(l, step);
        report->steps = step;
        if (o->cancel != NULL && o->cancel(o->user) != 0) {
            return ht_fail(err, HT_CANCELLED, NULL, HT_NO_POS, "cancelled in step %u of %u", step, o->steps);
        }
        if (step % every != 0 && step != o->steps) {
            continue;
        }
        double loss = evaluate(l);
        if (loss < report->loss) {
            report->loss = loss;
            report->best_step = step;
            for (size_t i = 0; i < l->n; i++) {
                ht_soft_keep(&l->soft[i]);
            }
        }
    }
    return isfinite(report->loss) ? HT_OK
                                  : ht_fail(err, HT_NUMERIC, "learned rounding", HT_NO_POS,
                                            "the layer's error is not finite: its weights or inputs hold NaN or Inf");
}

/* The best state becomes codes, and the block holds what they decode to. */
static ht_status finish(struct learner *l, struct ht_learn_report *report, ht_err *err) {
    for (size_t i = 0; i < l->n; i++) {
        struct ht_soft *s = &l->soft[i];
        struct ht_train_param *p = param(l, i);
        ht_soft_restore(s);
        HT_TRY(ht_soft_encode(s, err));
        ht_soft_values(s, p->w);
        float *v = s->v;
        s->v = ht_mem_calloc(p->rows * p->cols, sizeof *v);
        if (s->v == NULL) {
            s->v = v;
            return ht_fail_nomem(err, p->rows * p->cols * sizeof *v);
        }
        ht_soft_values(s, l->w[i]); /* nearest on the same grids: the float weights are no longer needed */
        ht_mem_free(v);
        for (uint64_t k = 0; k < p->rows * p->cols; k++) {
            report->moved += l->w[i][k] != p->w[k];
        }
    }
    bool none[HT_ROLES] = {false};
    return ht_train_block_want(l->block, none, false, err);
}

ht_status ht_learn_block(struct ht_train_block *block, const float *x, const float *target, size_t windows,
                         size_t tokens, const struct ht_learn_linear *linears, size_t n_linears,
                         const struct ht_learn_options *options, struct ht_learn_report *report, ht_err *err) {
    struct ht_learn_report unused;
    struct learner *l = ht_mem_calloc(1, sizeof *l);
    if (l == NULL) {
        return ht_fail_nomem(err, sizeof *l);
    }
    *l = (struct learner){.block = block, .x = x, .target = target, .windows = windows, .tokens = tokens,
                          .width = tokens * block->values[0].width, .linears = linears, .n = n_linears, .o = options};
    double start = ht_sys_now();
    ht_status status;
    report = report != NULL ? report : &unused;
    block->relative = options->relative;
    *report = (struct ht_learn_report){0};
    HT_TRY_DONE(check(l, err));
    HT_TRY_DONE(begin(l, err));
    HT_TRY_DONE(train(l, report, err));
    HT_TRY_DONE(finish(l, report, err));
    report->seconds = ht_sys_now() - start;
done:
    for (size_t i = 0; i < HT_ROLES; i++) {
        ht_soft_deinit(&l->soft[i]);
        ht_mem_free_aligned(l->w[i]);
    }
    ht_mem_free(l->order);
    ht_mem_free_aligned(l->batch_x);
    ht_mem_free_aligned(l->batch_target);
    ht_mem_free(l);
    return status;
}
