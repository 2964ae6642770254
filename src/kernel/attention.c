#include "kernel/kernel.h"

/* Room for the scores of one query (two-pass kernels) or for blocks of 64 keys in f32: K, V and the
 * probabilities of up to 16 queries. */
size_t ht_attention_scratch_bytes(size_t max_keys, size_t head_dim) {
    size_t block = 2 * 64 * head_dim + 16 * 64;
    size_t floats = max_keys > block ? max_keys : block;
    return (floats * sizeof(float) + 63) & ~(size_t)63;
}
