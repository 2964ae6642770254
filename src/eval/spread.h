/* A figure measured several times. */
#ifndef HT_EVAL_SPREAD_H
#define HT_EVAL_SPREAD_H

#include <stddef.h>

struct ht_spread {
    double median, low, high; /* low and high: the extremes */
    size_t n;
};

/* Sorts x [n] in place. n 0 gives zeros. */
struct ht_spread ht_spread_of(double *x, size_t n);

#endif
