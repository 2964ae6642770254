/* FOLD SITES: places between two layers of weights where a factor can be moved from one side to the other without
 * changing what the model computes, so that both become easier to quantize. An architecture lists its sites once
 * (model/arch); every transform of quant/transform walks the same rows: scaling (SmoothQuant, AWQ), shifting
 * (Outlier Suppression+), rotation (QuaRot), permutation (RPTQ), equalization.
 *
 *     y = W x            scale     x / s     producer / s       W diag(s)
 *                        shift     x - z     its bias - z       bias + W z
 *                        rotate    Q x       Q producer         W Q^T
 *                        permute   x[p]      its rows [p]       columns [p]
 *
 * A block is one layer's weights in f32, by role, that transforms change in place. Here, below quant/ and model/,
 * because the architectures fill it and the transforms change it, and neither knows the other. */
#ifndef HT_TENSOR_FOLD_H
#define HT_TENSOR_FOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/role.h"

enum ht_fold_kind { HT_FOLD_SCALE = 1, HT_FOLD_SHIFT = 2, HT_FOLD_ROTATE = 4, HT_FOLD_PERMUTE = 8 };

/* How the producers' outputs reach the consumers. */
enum ht_fold_span {
    HT_FOLD_CHANNELS, /* output j is input j */
    HT_FOLD_HEADS,    /* values: output d of KV head h is input d of each of the query heads that share h. Attention
                       * takes means of values whose weights sum to 1, so a shift passes through it; a rotation or
                       * permutation must stay inside of a head */
    HT_FOLD_PAIRS,    /* keys and queries meet in a dot product behind rope: one factor for the two dimensions that
                       * turn together; the consumer's ROWS take it. Query heads of a group share their key's */
    HT_FOLD_RESIDUAL  /* the residual stream: all producers of all layers add to it, all consumers read it through a
                       * norm. One transform for the whole model; rotations need norms of ones (`along`) */
};

#define HT_FOLD_MEMBERS 8

struct ht_foldsite {
    const char *name; /* "attn_norm"; NULL ends a table */
    enum ht_fold_span span;
    unsigned kinds;   /* enum ht_fold_kind: what the site can fold */
    /* OTHER ends each. Norms or linears; a linear's bias goes with it. */
    enum ht_role producers[HT_FOLD_MEMBERS + 1];
    enum ht_role consumers[HT_FOLD_MEMBERS + 1];
    enum ht_role along[HT_FOLD_MEMBERS + 1]; /* is permuted alike, but takes no factor: the gate beside up, the norms
                                              * on the residual stream */
};

struct ht_fold_matrix {
    float *w; /* [rows, cols], 64-byte aligned; NULL: the block has none */
    uint64_t rows, cols;
};

struct ht_fold_vector {
    float *x; /* [n]; NULL: neither there nor possible */
    uint64_t n;
    bool used; /* false: the model has none but the architecture can carry it; x is 0. Who fills it sets used */
};

struct ht_fold_block {
    int32_t layer;                           /* -1: embedding, last norm and head */
    struct ht_fold_matrix matrices[HT_ROLES];
    struct ht_fold_vector vectors[HT_ROLES]; /* norms and biases */
    uint32_t n_heads, n_kv_heads, head_dim;
    bool rope_halves;                        /* dimensions i and i + D/2 turn together, else 2i and 2i+1 */
};

/* Memory of the block; matrices and vectors that are NULL are fine. */
ht_status ht_fold_block_matrix(struct ht_fold_block *block, enum ht_role role, uint64_t rows, uint64_t cols,
                               ht_err *err);
ht_status ht_fold_block_vector(struct ht_fold_block *block, enum ht_role role, uint64_t n, ht_err *err); /* zeros */
void ht_fold_block_deinit(struct ht_fold_block *block);

#endif
