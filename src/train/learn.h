/* AXIS 4, learned rounding: codes chosen by gradients. Plain functions; they know no model file and no recipe.
 *
 *     ht_learn_block    all linears of a layer at once, on the layer's output:
 *                         sign   AutoRound (Cheng et al. 2023, arXiv 2309.05516): signed gradients on rounding
 *                                offsets and on the range of each group
 *                         distil ZeroQuant's layer-by-layer distillation (Yao et al. 2022, arXiv 2206.01861,
 *                                section 4.2): Adam on the weights themselves behind the rounding, and on ranges
 *     ht_learn_gram     one linear on its own output, from the second moments of its inputs:
 *                         AdaRound (Nagel et al. 2020, arXiv 2004.10568)
 *
 * Both start from rounding to nearest and never return anything worse, by their own loss, than that. */
#ifndef HT_TRAIN_LEARN_H
#define HT_TRAIN_LEARN_H

#include "train/block.h"
#include "tensor/qtensor.h"

/* Where one linear goes. Exactly one of q and format is set. */
struct ht_learn_linear {
    enum ht_role role;        /* of the block; ht_learn_gram does not look at it */
    struct ht_qtensor *q;     /* initialized with scheme and shape (ht_qtensor_init); filled here */
    const struct ht_format *format; /* a grid format of GGUF that rounds each weight on its own */
    void *bytes;              /* [rows, row_bytes] of format; filled here */
    const float *importance;  /* [cols] >= 0 for the grids' search, or NULL */
};

enum ht_learn_method { HT_LEARN_SIGN, HT_LEARN_DISTIL, HT_LEARN_METHODS };

struct ht_learn_options {
    enum ht_learn_method method;
    uint32_t steps;
    uint32_t batch;    /* windows per step */
    uint32_t checks;   /* how often all windows are evaluated to find the best step, at least once: at the end */
    double lr;         /* of rounding offsets, in steps of the grid; falls linearly to 0 */
    double lr_range;   /* of ranges; 0: they stay */
    uint64_t seed;     /* order of the windows */
    int (*cancel)(void *user); /* not 0: HT_CANCELLED; may be NULL; called once per step */
    void *user;
};
/* sign: 200 steps of 4 windows, lr = lr_range = 1 / steps. distil: 200 steps of 4, lr 0.02, lr_range 0.002. */
void ht_learn_defaults(enum ht_learn_method method, struct ht_learn_options *options);

struct ht_learn_report {
    double loss_nearest; /* of rounding to nearest: mean squared error of the layer's output (gram: tr(E H E^T)) */
    double loss;         /* of what was written */
    uint32_t steps, best_step; /* best 0: nothing did better than nearest */
    uint64_t moved;      /* codes that differ from rounding to nearest on the final grids */
    uint64_t kept_nearest; /* gram: rows written as rounded to nearest, because nothing did better */
    double seconds;
};

/* block: the layer with its float weights, max_windows >= options->batch. x [windows, tokens, C]: the inputs that the
 * quantized layer will see (of the unquantized model, or those behind the quantized layers before it); target, the
 * same shape: what it shall give, the unquantized layer's output (ht_train_block_forward before this call) on the
 * unquantized model's inputs. Afterwards the block holds what the codes decode to, and wants no gradients.
 * HT_INVAL, HT_UNSUPPORTED (formats that round vectors), HT_NUMERIC when the loss is not finite, HT_NOMEM. */
ht_status ht_learn_block(struct ht_train_block *block, const float *x, const float *target, size_t windows,
                         size_t tokens, const struct ht_learn_linear *linears, size_t n_linears,
                         const struct ht_learn_options *options, struct ht_learn_report *report, ht_err *err);

struct ht_learn_gram_options {
    uint32_t steps;
    double lr;               /* Adam's, of the soft rounding's variables */
    double weight;           /* of the regularizer (lambda) */
    double beta_from, beta_to; /* its exponent falls between them */
    double warmup;           /* share of the steps without regularizer */
};
/* 300 steps, lr 0.03, lambda 3, beta 20 to 2, warmup 0.2. */
void ht_learn_gram_defaults(struct ht_learn_gram_options *options);

/* w [rows, cols], hessian [cols, cols] symmetric, mean of x x^T; values [rows, cols] what the codes decode to, or
 * NULL. The regularized loss is tr(E H E^T) / c + lambda * sum of 1 - |2 h - 1|^beta, with c the mean over all weights
 * of gap^2 H_jj, so that moving one weight by a step costs about 1 whatever the layer's scale. */
ht_status ht_learn_gram(struct ht_pool *pool, const float *w, uint64_t rows, uint64_t cols, const float *hessian,
                        const struct ht_learn_linear *to, const struct ht_learn_gram_options *options, float *values,
                        struct ht_learn_report *report, ht_err *err);

#endif
