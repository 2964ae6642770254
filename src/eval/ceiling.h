/* What this machine can do, measured: bytes read from memory per second, and operations per second of our own
 * matrix products on operands that stay in the cache. The bench puts a model's figures beside these, measured in
 * the same round. */
#ifndef HT_EVAL_CEILING_H
#define HT_EVAL_CEILING_H

#include "base/pool.h"
#include "kernel/kernel.h"

struct ht_ceiling {
    unsigned char *memory; /* as allocated */
    size_t bytes;          /* read per pass: several times the last cache */
    float *x, *y;          /* of the matrix products, shared by all kinds */
    struct ht_mat product[2];
    void *weights[2], *scratch;
};

enum ht_ceiling_product {
    HT_CEILING_F32, /* f32 weights, f32 activations */
    HT_CEILING_INT8 /* q8_0 weights, 8-bit activations */
};

/* pool: the largest that will be used. HT_NOMEM. */
ht_status ht_ceiling_init(struct ht_ceiling *c, struct ht_pool *pool, ht_err *err);
void ht_ceiling_deinit(struct ht_ceiling *c); /* fine after a failed init */

/* The way of reading that is fastest with this pool; about 60 ms. */
size_t ht_ceiling_best_way(const struct ht_ceiling *c, struct ht_pool *pool);
/* Bytes per second read by all threads of the pool together, median of a few passes; about 20 ms. per_cpu_s (may be
 * NULL): the same per second of CPU time, which other programs disturb less. */
double ht_ceiling_read(const struct ht_ceiling *c, struct ht_pool *pool, size_t way, double *per_cpu_s);
/* Operations (two per weight and token) per second of ht_matmul. About 20 ms. */
double ht_ceiling_product(const struct ht_ceiling *c, struct ht_pool *pool, enum ht_ceiling_product kind);

#endif
