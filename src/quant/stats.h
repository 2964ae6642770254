/* What calibration saw of the inputs of one linear. Linears that read the same vectors share one. Only the fields
 * that the recipe's parts asked for (enum ht_needs) are there, the others are NULL; parts read and never own. */
#ifndef HT_QUANT_STATS_H
#define HT_QUANT_STATS_H

#include <stdint.h>

/* What a part must be given about the inputs x [tokens, cols] of its linear. The OR over a recipe's parts is what one
 * calibration pass collects. */
enum ht_needs {
    HT_NEEDS_NOTHING = 0,
    HT_NEEDS_MEAN_SQUARE = 1, /* of each input: the diagonal of the gram */
    HT_NEEDS_GRAM = 2,        /* second moments of all pairs of inputs */
    HT_NEEDS_ABSMAX = 4,      /* largest magnitude of each input */
    HT_NEEDS_MINMAX = 8,      /* smallest and largest value of each input */
    HT_NEEDS_MEAN_ABS = 16,   /* mean magnitude of each input */
    HT_NEEDS_MEAN = 32,       /* mean of each input */
    HT_NEEDS_SAMPLE = 64,     /* some of the input vectors themselves */
    HT_NEEDS_CROSS = 128,     /* moments between these inputs and those of the unquantized model */
    HT_NEEDS_GRAD = 256       /* gradients through the block: solved in src/train/, not one linear at a time */
};

struct ht_stats {
    uint64_t cols, tokens;
    const float *gram;        /* [cols, cols] mean of x x^T */
    const float *mean_square; /* [cols] */
    const float *absmax;      /* [cols] */
    const float *min, *max;   /* [cols] */
    const float *mean_abs;    /* [cols] */
    const float *mean;        /* [cols] */
    const float *cross;       /* [cols, cols] mean of y x^T, y the input in the unquantized model */
    const float *sample;      /* [n_sample, cols] vectors spread evenly over the text */
    uint64_t n_sample;
};

#endif
