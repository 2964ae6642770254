/* Activations of one token rounded to a sidecar's scheme (tensor/sidecar.h), segment by segment: a segment is what
 * shares a scale, that is a cluster, a group of columns, or all of them.
 *
 * A segment's grid is the sidecar's act_scale and act_zero where these are fixed, else it covers the segment's
 * smallest and largest value (format/scheme.h). A segment with NaN or Inf gets the scale NaN: everything that it is
 * multiplied with becomes NaN, as in floating point. Nothing allocates or fails. */
#ifndef HT_TENSOR_ACT_H
#define HT_TENSOR_ACT_H

#include "tensor/sidecar.h"

uint64_t ht_act_segments(const struct ht_sidecar *s);
/* Columns from .. to - 1 of segment i. */
void ht_act_segment(const struct ht_sidecar *s, uint64_t i, uint64_t *from, uint64_t *to);
/* Integer codes of at most 8 bits, so that products are int32 sums. */
bool ht_act_is_integer(const struct ht_sidecar *s);

/* The grid of each segment for u [cols]: grids [segments]. */
void ht_act_fit(const struct ht_sidecar *s, const float *u, struct ht_affine *grids);
/* Codes of u [cols], integers only: value = grid.scale * (code - grid.zero). */
void ht_act_codes(const struct ht_sidecar *s, const float *u, const struct ht_affine *grids, int16_t *codes);
/* u [cols] becomes the values of its codes. */
void ht_act_values(const struct ht_sidecar *s, float *u, const struct ht_affine *grids);

#endif
