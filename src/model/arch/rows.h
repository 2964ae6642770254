/* The rows of arch_table.c, and the layers that several of them share. */
#ifndef HT_MODEL_ARCH_ROWS_H
#define HT_MODEL_ARCH_ROWS_H

#include "model/plan.h"
#include "tensor/fold.h"

struct ht_arch;

extern const struct ht_arch ht_arch_llama, ht_arch_qwen2, ht_arch_qwen3;

extern const struct ht_block_step ht_block_gated[];
extern const struct ht_foldsite ht_folds_gated[], ht_folds_gated_head_norms[];

#endif
