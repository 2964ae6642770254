/* Roles: what a tensor is for. Every tensor gets its role once, from the architecture's table; presets,
 * rules and reports speak of roles, and nothing matches tensor names by substring. */
#ifndef HT_TENSOR_ROLE_H
#define HT_TENSOR_ROLE_H

#include <stddef.h>

/* X(NAME, text, is a matrix that a recipe may quantize) */
#define HT_ROLE_LIST(X)                    \
    X(OTHER, "other", 0)                   \
    X(TOKEN_EMBD, "token_embd", 1)         \
    X(OUTPUT, "output", 1)                 \
    X(OUTPUT_NORM, "output_norm", 0)       \
    X(ROPE_FREQS, "rope_freqs", 0)         \
    X(ATTN_NORM, "attn_norm", 0)           \
    X(ATTN_Q, "attn_q", 1)                 \
    X(ATTN_K, "attn_k", 1)                 \
    X(ATTN_V, "attn_v", 1)                 \
    X(ATTN_Q_BIAS, "attn_q_bias", 0)       \
    X(ATTN_K_BIAS, "attn_k_bias", 0)       \
    X(ATTN_V_BIAS, "attn_v_bias", 0)       \
    X(ATTN_Q_NORM, "attn_q_norm", 0)       \
    X(ATTN_K_NORM, "attn_k_norm", 0)       \
    X(ATTN_OUTPUT, "attn_output", 1)       \
    X(ATTN_OUTPUT_BIAS, "attn_output_bias", 0) \
    X(FFN_NORM, "ffn_norm", 0)             \
    X(FFN_GATE, "ffn_gate", 1)             \
    X(FFN_UP, "ffn_up", 1)                 \
    X(FFN_DOWN, "ffn_down", 1)             \
    X(FFN_GATE_BIAS, "ffn_gate_bias", 0)   \
    X(FFN_UP_BIAS, "ffn_up_bias", 0)       \
    X(FFN_DOWN_BIAS, "ffn_down_bias", 0)

enum ht_role {
#define HT_ROLE_ENUM(name, text, quantizable) HT_ROLE_##name,
    HT_ROLE_LIST(HT_ROLE_ENUM)
#undef HT_ROLE_ENUM
    HT_ROLES
};

const char *ht_role_name(enum ht_role role);
int ht_role_quantizable(enum ht_role role);
/* The bias that goes with a matrix's role; OTHER: none. */
enum ht_role ht_role_bias(enum ht_role role);
enum ht_role ht_role_find(const char *name); /* HT_ROLES: none of this name */
const char *ht_role_name_at(const void *unused, size_t i); /* for ht_nearest */

#endif
