/* Rotations: orthogonal Q [n, n] that spread the outliers of a vector over all of its elements, kept as factors and
 * applied fast. The same seed gives the same Q on every machine.
 *
 *     Q = (C (x) H) diag(signs)          n = m * 2^k: H the Walsh-Hadamard matrix of 2^k, C a core [m, m]
 *
 *     m = 1                              n is a power of two
 *     C a Hadamard matrix / sqrt(m)      m = 4, 8, 12, 20, 28, 36 ... by Paley's two constructions: order q + 1 (prime
 *                                        q = 3 mod 4) or 2 (q + 1) (prime q = 1 mod 4). 576 = 36 * 16, 1536 = 12 * 128,
 *                                        896 = 28 * 32. All entries of Q have the same magnitude
 *     C random orthogonal                where none of these orders fits; m is the odd factor of n
 *
 * Sources: Ashkboos et al. 2024 (QuaRot, arXiv 2404.00456), sec. 3; R. Paley, "On orthogonal matrices", 1933. */
#ifndef HT_QUANT_TRANSFORM_ROTATION_H
#define HT_QUANT_TRANSFORM_ROTATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"

#define HT_MAX_ROTATION_CORE 2048 /* columns of C; it is applied as a dense matrix */

struct ht_rotation {
    uint64_t n, core, block; /* n = core * block, block = 2^k */
    bool hadamard;           /* C is a Hadamard matrix (or 1) */
    float *c;                /* [core, core] row-major; NULL: core is 1 */
    float *sign;             /* [n] +-1 */
};

/* seed 0 .. : signs, and C where it is random. HT_UNSUPPORTED when no core of at most HT_MAX_ROTATION_CORE fits.
 * Released with ht_rotation_deinit. */
ht_status ht_rotation_init(struct ht_rotation *q, uint64_t n, uint64_t seed, ht_err *err);
void ht_rotation_deinit(struct ht_rotation *q);

/* x [n_rows, n], each row becomes (Q x)^T: activations; rows of a matrix that reads Q x, whose W becomes W Q^T; rows of
 * an embedding. row_stride in elements. HT_NOMEM; pool may be NULL. */
ht_status ht_rotation_rows(const struct ht_rotation *q, struct ht_pool *pool, float *x, uint64_t n_rows,
                           uint64_t row_stride, ht_err *err);
/* The same for one row x [n]; scratch [n]. Nothing allocates or fails. */
void ht_rotation_row(const struct ht_rotation *q, float *x, float *scratch);
/* w [n, cols] becomes Q w: a matrix that writes what Q then turns. */
ht_status ht_rotation_outputs(const struct ht_rotation *q, struct ht_pool *pool, float *w, uint64_t cols, ht_err *err);

/* The order of the Hadamard matrix that n's odd factor takes; 0: none fits (see above). 1 for powers of two. */
uint64_t ht_rotation_core(uint64_t n);

#endif
