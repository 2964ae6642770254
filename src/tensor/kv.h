/* Keys and values of the cache as codes: one row per position and head, [head_dim], with scales of its own.
 *
 *     int8:token    a scale per token and head            uint4:g32   a scale per 32 values
 *     +hadamard     keys and queries, values and outputs are turned by a Hadamard matrix (tensor/hadamard.h), in blocks
 *                   of the largest power of two that divides head_dim: large channels are spread over all
 *
 * Products of keys and queries are those of the turned ones, outputs are turned back. Keys are stored behind rope.
 * Sources: Hooper et al. 2024 (KVQuant, arXiv 2401.18079); rotation: Ashkboos et al. 2024 (QuaRot, arXiv 2404.00456),
 * sec. 4.1. */
#ifndef HT_TENSOR_KV_H
#define HT_TENSOR_KV_H

#include "tensor/qtensor.h"

struct ht_kv {
    struct ht_scheme scheme; /* format NULL: floats */
    bool hadamard;
};

/* "int8:token", "int4:g32+hadamard"; without granularity per token: "int8"; "none": floats. HT_INVAL says what would
 * do. */
ht_status ht_kv_parse(const char *text, struct ht_kv *kv, ht_err *err);
#define HT_KV_TEXT (HT_SCHEME_TEXT + 16)
const char *ht_kv_text(const struct ht_kv *kv, char text[HT_KV_TEXT]);

/* Rounds x [q->cols] into row pos of q, a qtensor of kv's scheme. Values that share a scale with NaN or Inf become NaN,
 * as far as the format of scales has it. */
void ht_kv_put(const struct ht_qtensor *q, uint64_t pos, const float *x);

#endif
