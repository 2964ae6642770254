/* Dense algebra of the rounding parts, on ht_matmul: results do not depend on the number of threads. */
#ifndef HT_QUANT_ROUND_DENSE_H
#define HT_QUANT_ROUND_DENSE_H

#include "base/error.h"
#include "kernel/kernel.h"

/* y [m, n] = a [m, k] * b^T with b [n, k]; strides in elements, a contiguous ([m, k] exactly), y of stride n.
 * scratch: ht_dense_scratch_bytes. */
void ht_dense_product(struct ht_pool *pool, const float *a, uint64_t m, uint64_t k, const float *b, uint64_t b_stride,
                      uint64_t n, float *y, void *scratch);
size_t ht_dense_scratch_bytes(uint64_t m, uint64_t k, uint64_t n, int threads);

/* h [cols, cols] += x^T x over x [n, cols], full and symmetric. HT_NOMEM. */
ht_status ht_dense_gram(struct ht_pool *pool, const float *x, uint64_t n, uint64_t cols, float *h, ht_err *err);

/* What lies below the diagonal of h [n, n] stands above it, too. */
void ht_dense_mirror(float *h, uint64_t n);

/* In place: the lower triangle of a [n, n] (positive definite, row-major, lower triangle read) becomes L with
 * a = L L^T; the upper triangle is left as it was. *pivot: n, or the row whose pivot was not positive.
 * HT_NOMEM. */
ht_status ht_dense_cholesky(struct ht_pool *pool, float *a, uint64_t n, uint64_t *pivot, ht_err *err);

#endif
