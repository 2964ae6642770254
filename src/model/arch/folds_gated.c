/* Where the gated layer (block_gated.c) can fold factors. A norm in front of several linears is one site: they read
 * the same input. The gate takes no factor, because silu is not linear; up does. */
#include "model/arch/rows.h"

#define ATTN HT_ROLE_ATTN_Q, HT_ROLE_ATTN_K, HT_ROLE_ATTN_V
#define FFN HT_ROLE_FFN_GATE, HT_ROLE_FFN_UP
#define RESIDUAL_SITE                                                                                      \
    {"residual", HT_FOLD_RESIDUAL, HT_FOLD_ROTATE | HT_FOLD_PERMUTE,                                       \
     {HT_ROLE_TOKEN_EMBD, HT_ROLE_ATTN_OUTPUT, HT_ROLE_FFN_DOWN}, {ATTN, FFN, HT_ROLE_OUTPUT},             \
     {HT_ROLE_ATTN_NORM, HT_ROLE_FFN_NORM, HT_ROLE_OUTPUT_NORM}}
#define VALUE_SITE                                                                                         \
    {"value", HT_FOLD_HEADS, HT_FOLD_SCALE | HT_FOLD_SHIFT | HT_FOLD_ROTATE | HT_FOLD_PERMUTE,             \
     {HT_ROLE_ATTN_V}, {HT_ROLE_ATTN_OUTPUT}, {HT_ROLE_OTHER}}
#define UP_SITE                                                                                            \
    {"up", HT_FOLD_CHANNELS, HT_FOLD_SCALE | HT_FOLD_PERMUTE, {HT_ROLE_FFN_UP}, {HT_ROLE_FFN_DOWN},        \
     {HT_ROLE_FFN_GATE}}
#define NORM_SITE(name, norm, ...) {name, HT_FOLD_CHANNELS, HT_FOLD_SCALE, {norm}, {__VA_ARGS__}, {HT_ROLE_OTHER}}
#define END {NULL, HT_FOLD_CHANNELS, 0, {HT_ROLE_OTHER}, {HT_ROLE_OTHER}, {HT_ROLE_OTHER}}

const struct ht_foldsite ht_folds_gated[] = {
    RESIDUAL_SITE,
    NORM_SITE("attn_norm", HT_ROLE_ATTN_NORM, ATTN),
    {"query_key", HT_FOLD_PAIRS, HT_FOLD_SCALE, {HT_ROLE_ATTN_K}, {HT_ROLE_ATTN_Q}, {HT_ROLE_OTHER}},
    VALUE_SITE,
    NORM_SITE("ffn_norm", HT_ROLE_FFN_NORM, FFN),
    UP_SITE,
    NORM_SITE("output_norm", HT_ROLE_OUTPUT_NORM, HT_ROLE_OUTPUT),
    END,
};

/* With norms on every head of q and k, factors of their rows would be normalized away; the norms' own weights take
 * them, one set for all heads. */
const struct ht_foldsite ht_folds_gated_head_norms[] = {
    RESIDUAL_SITE,
    NORM_SITE("attn_norm", HT_ROLE_ATTN_NORM, ATTN),
    {"query_key", HT_FOLD_PAIRS, HT_FOLD_SCALE, {HT_ROLE_ATTN_K_NORM}, {HT_ROLE_ATTN_Q_NORM}, {HT_ROLE_OTHER}},
    VALUE_SITE,
    NORM_SITE("ffn_norm", HT_ROLE_FFN_NORM, FFN),
    UP_SITE,
    NORM_SITE("output_norm", HT_ROLE_OUTPUT_NORM, HT_ROLE_OUTPUT),
    END,
};
