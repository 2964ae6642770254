/* AXIS 4, learned rounding of a layer: codes chosen by gradients, all linears at once, on the layer's output.
 *
 *     sign   AutoRound (Cheng et al. 2023, arXiv 2309.05516): signed gradients on rounding offsets and on the range of
 *            each group
 *     distil ZeroQuant's layer-by-layer distillation (Yao et al. 2022, arXiv 2206.01861, section 4.2): Adam on the
 *            weights themselves behind the rounding, and on ranges
 *
 * Learning starts from rounding to nearest or from codes that are given. Of six windows one is kept from learning (of
 * fewer: none is), and these tell the best step: nothing is returned that is worse than the start on them. What is
 * learned on one linear alone stands in quant/soft/relax.h. */
#ifndef HT_TRAIN_LEARN_H
#define HT_TRAIN_LEARN_H

#include "train/block.h"
#include "quant/soft/soft.h"

enum ht_learn_method { HT_LEARN_SIGN, HT_LEARN_DISTIL, HT_LEARN_METHODS };

struct ht_learn_options {
    enum ht_learn_method method;
    uint32_t steps;
    uint32_t batch;    /* windows per step */
    uint32_t checks;   /* how often the best step is looked for, at least once: at the end */
    double lr;         /* of rounding offsets, in steps of the grid; falls linearly to 0 */
    double lr_range;   /* of ranges; 0: they stay */
    bool relative;     /* each token's error counts relative to the mean square of its target */
    uint64_t seed;     /* order of the windows */
    void (*used)(void *user, size_t window); /* x and target of a window have been read; may be NULL */
    int (*cancel)(void *user); /* not 0: HT_CANCELLED; may be NULL; called once per step */
    void *user;
};
/* sign: 200 steps of 4 windows, lr = lr_range = 1 / steps. distil: 200 steps of 4, lr 0.02, lr_range 0.002. */
void ht_learn_defaults(enum ht_learn_method method, struct ht_learn_options *options);

struct ht_learn_report {
    double loss_start;   /* of rounding to nearest, or of what was given: the error of the layer's output, on windows
                          * that were not learned from, where there are any */
    double loss;         /* of what was written */
    double signal;       /* of an output of zeros */
    uint32_t steps, best_step; /* best 0: nothing did better than the start */
    uint64_t moved;      /* codes that differ from the start's on the final grids */
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

#endif
