/* A tensor as files hold it: a view of bytes with a format and a shape. Never owns.
 * ne[0] is the contiguous dimension (row length = inputs of a linear layer), as in GGUF; a PyTorch
 * [out, in] matrix has ne = {in, out}. Unused dimensions are 1. data may lie at any address: GGUF aligns, but
 * safetensors need not, so elements are read through memcpy. */
#ifndef HT_TENSOR_TENSOR_H
#define HT_TENSOR_TENSOR_H

#include "base/error.h"
#include "base/limits.h"
#include "format/format.h"

struct ht_tensor {
    const char *name; /* as the file calls it */
    const struct ht_format *format;
    int n_dims;
    uint64_t ne[HT_MAX_DIMS];
    const void *data; /* NULL: shape only */
    uint64_t bytes;
};

/* Computes elements, rows, and bytes with checked arithmetic. HT_FORMAT names tensor and dimension when a
 * dimension is 0, a product overflows, or the row is not a multiple of the format's block. */
ht_status ht_tensor_check(struct ht_tensor *tensor, const char *file, ht_err *err); /* sets bytes */

static inline uint64_t ht_tensor_elems(const struct ht_tensor *t) {
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

static inline uint64_t ht_tensor_rows(const struct ht_tensor *t) {
    return t->ne[1] * t->ne[2] * t->ne[3];
}

static inline uint64_t ht_tensor_row_bytes(const struct ht_tensor *t) {
    return ht_format_row_bytes(t->format, t->ne[0]);
}

static inline const void *ht_tensor_row(const struct ht_tensor *t, uint64_t row) {
    return (const unsigned char *)t->data + row * ht_tensor_row_bytes(t);
}

#endif
