/* Shared by the searches fit_scale.c and fit_affine.c. */
#ifndef HT_FORMAT_FIT_H
#define HT_FORMAT_FIT_H

#include "format/search.h"

/* f16 bits of v, clamped to the largest finite f16. */
uint16_t ht_fit_f16(float v);
/* Largest magnitude that a format can reach in both directions. */
float ht_fit_limit(const struct ht_grid_spec *spec);
/* The step d for which the n values v lie best on d * q, lo <= q <= hi, weighted by w. */
float ht_fit_step(const float *v, const float *w, int n, int lo, int hi);
/* err: the error of the grid that was found. Where f16 has few bits left for the scales, all zero may be better. */
void ht_fit_or_zero(const struct ht_work *work, int n, float err, struct ht_grid *grid);
/* The f16 nearest to d in the real scale: its bits, and its value in the block's own scale. */
float ht_fit_storable(const struct ht_work *work, float d, uint16_t *bits);
/* The nearest q in lo..hi to v / step. */
int ht_fit_nearest(float v, float step, int lo, int hi);

#endif
