/* Inside quant/soft/: the weights of one grid of integers, a stretch of a row, in loops that become vector
 * instructions. The same arithmetic as soft.c's for any levels. */
#ifndef HT_QUANT_SOFT_SOFT_RUN_H
#define HT_QUANT_SOFT_SOFT_RUN_H

#include <stdbool.h>
#include <stddef.h>

struct ht_soft_run {
    float scale, base; /* scale not 0 */
    float first, top;  /* level 0; the last index */
    const float *w;
    float *v;
    size_t n;
};

/* out [n]: what w and v decode to. */
void ht_soft_run_values(const struct ht_soft_run *r, float *out);

struct ht_soft_run_step {
    const float *dw;    /* [n] gradient of the values */
    float lr, bound;
    float *m1, *m2;     /* [n] Adam's moments, or NULL: signs */
    float part1, part2; /* 1 - beta^step of both */
};
/* Moves v; *dscale and *dbase: gradients of scale and base, before v moved. */
void ht_soft_run_update(const struct ht_soft_run *r, const struct ht_soft_run_step *s, float *dscale, float *dbase);

#define HT_SOFT_BETA1 0.9f /* Adam's */
#define HT_SOFT_BETA2 0.999f

#endif
