#include "eval/spread.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

struct ht_spread ht_spread_of(double *x, size_t n) {
    if (n == 0) {
        return (struct ht_spread){0};
    }
    qsort(x, n, sizeof *x, ascending);
    double median = n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
    return (struct ht_spread){median, x[0], x[n - 1], n};
}
