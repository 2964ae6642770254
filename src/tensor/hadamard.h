/* The Walsh-Hadamard transform in blocks: what rotations that cannot be folded into other weights do to activations
 * at run time. H has entries +-1 / sqrt(block) in Sylvester's order, H = H^T = H^-1. Randomized ones (a diagonal of
 * signs in front) take the signs from an input scale of +-1 (tensor/sidecar.h).
 * Source: Ashkboos et al. 2024 (QuaRot, arXiv 2404.00456), sec. 3. */
#ifndef HT_TENSOR_HADAMARD_H
#define HT_TENSOR_HADAMARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest power of two that divides n > 0: the block that a row of n takes. */
uint64_t ht_hadamard_block(uint64_t n);
/* Whether block is a power of two above 1 that divides n. */
bool ht_hadamard_fits(uint64_t block, uint64_t n);
/* In place: x [n] becomes x H, each block of `block` elements on its own. Sums in a fixed order. */
void ht_hadamard(float *x, size_t n, size_t block);

#endif
