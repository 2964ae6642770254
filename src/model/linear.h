/* The linear layer at run time: the joint where formats, sidecars and rounded activations meet. If this runs it, every
 * model runs it.
 *
 *     weight    a matrix in a format of the table (w), or codes of a scheme (q)
 *     side      what a recipe left beside it (tensor/sidecar.h), or NULL
 *     scale     one factor of the whole weight, or NULL
 *     bias      of the architecture, or NULL
 *
 * Results do not depend on the number of threads, nor (but for last bits) on how many tokens share a call. */
#ifndef HT_MODEL_LINEAR_H
#define HT_MODEL_LINEAR_H

#include "kernel/kernel.h"
#include "tensor/role.h"
#include "tensor/sidecar.h"

struct ht_linear {
    struct ht_mat w; /* rows and cols are always set; with q: format and data are NULL, row_bytes 0 */
    const struct ht_qtensor *q;     /* codes, or NULL */
    const struct ht_sidecar *side;  /* or NULL */
    const float *bias; /* [rows] f32 or NULL */
    const float *scale; /* [1] the weight's factor that the file keeps beside it (NVFP4's), or NULL */
    enum ht_role role;
    int32_t layer;
    const char *name; /* GGUF name of the weight, "blk.0.attn_q.weight", also for Hugging Face folders */
};

/* y [T, rows] = the layer's output for x [T, cols], bias included; y with row stride y_stride.
 *
 * Without rounded activations: ht_matmul and ht_qmatmul say what math does. Activations that the sidecar rounds are
 * rounded once, by it, in every math. Sidecar terms are f32 sums.
 * scratch: ht_linear_scratch_bytes(l, T, threads), 64-byte aligned. */
size_t ht_linear_scratch_bytes(const struct ht_linear *l, size_t max_tokens, int threads);
void ht_linear_apply(struct ht_pool *pool, const struct ht_linear *l, const float *x, size_t n_tokens, float *y,
                     size_t y_stride, enum ht_math math, void *scratch);

/* Row r of the weight as it acts on x: w [cols]; scratch [cols]. Any of the two kinds, sidecar included. */
void ht_linear_row(const struct ht_linear *l, uint64_t row, float *w, float *scratch);
/* Bytes that one token reads: weight, sidecar, biases. */
uint64_t ht_linear_bytes(const struct ht_linear *l);
/* Whether one token's product is done in integers. */
bool ht_linear_is_integer(const struct ht_linear *l, enum ht_math math);

#endif
