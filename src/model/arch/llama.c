/* Llama: RMS norm, rotary attention with grouped heads, gated feed-forward. GGUF reorders the rows of q and k
 * (pairs instead of halves), so that its rope turns neighbours. Biases are a choice of the checkpoint. */
#include "model/arch.h"
#include "model/arch/rows.h"

#define LAYER (HT_TENSOR_REQUIRED | HT_TENSOR_LAYER)
#define ATTN_BIAS (HT_TENSOR_LAYER | HT_TENSOR_IF_ATTN_BIAS)
#define MLP_BIAS (HT_TENSOR_LAYER | HT_TENSOR_IF_MLP_BIAS)

static const struct ht_arch_tensor tensors[] = {
    {HT_ROLE_TOKEN_EMBD, "model.embed_tokens.weight", "token_embd.weight",
     {HT_DIM_WIDTH, HT_DIM_VOCAB}, HT_TENSOR_REQUIRED},
    {HT_ROLE_OUTPUT_NORM, "model.norm.weight", "output_norm.weight", {HT_DIM_WIDTH}, HT_TENSOR_REQUIRED},
    {HT_ROLE_OUTPUT, "lm_head.weight", "output.weight", {HT_DIM_WIDTH, HT_DIM_VOCAB}, HT_TENSOR_IF_UNTIED},
    {HT_ROLE_ROPE_FREQS, NULL, "rope_freqs.weight", {HT_DIM_ROPE_HALF}, 0},

    {HT_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",
     {HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_ATTN_Q, "model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight",
     {HT_DIM_WIDTH, HT_DIM_Q}, LAYER | HT_TENSOR_PERMUTE_Q},
    {HT_ROLE_ATTN_Q_BIAS, "model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias",
     {HT_DIM_Q}, ATTN_BIAS | HT_TENSOR_PERMUTE_Q},
    {HT_ROLE_ATTN_K, "model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight",
     {HT_DIM_WIDTH, HT_DIM_KV}, LAYER | HT_TENSOR_PERMUTE_K},
    {HT_ROLE_ATTN_K_BIAS, "model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias",
     {HT_DIM_KV}, ATTN_BIAS | HT_TENSOR_PERMUTE_K},
    {HT_ROLE_ATTN_V, "model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight",
     {HT_DIM_WIDTH, HT_DIM_KV}, LAYER},
    {HT_ROLE_ATTN_V_BIAS, "model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias",
     {HT_DIM_KV}, ATTN_BIAS},
    {HT_ROLE_ATTN_OUTPUT, "model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight",
     {HT_DIM_Q, HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_ATTN_OUTPUT_BIAS, "model.layers.%u.self_attn.o_proj.bias", "blk.%u.attn_output.bias",
     {HT_DIM_WIDTH}, ATTN_BIAS},

    {HT_ROLE_FFN_NORM, "model.layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight",
     {HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_FFN_GATE, "model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight",
     {HT_DIM_WIDTH, HT_DIM_FFN}, LAYER},
    {HT_ROLE_FFN_GATE_BIAS, "model.layers.%u.mlp.gate_proj.bias", "blk.%u.ffn_gate.bias",
     {HT_DIM_FFN}, MLP_BIAS},
    {HT_ROLE_FFN_UP, "model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight",
     {HT_DIM_WIDTH, HT_DIM_FFN}, LAYER},
    {HT_ROLE_FFN_UP_BIAS, "model.layers.%u.mlp.up_proj.bias", "blk.%u.ffn_up.bias", {HT_DIM_FFN}, MLP_BIAS},
    {HT_ROLE_FFN_DOWN, "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",
     {HT_DIM_FFN, HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_FFN_DOWN_BIAS, "model.layers.%u.mlp.down_proj.bias", "blk.%u.ffn_down.bias",
     {HT_DIM_WIDTH}, MLP_BIAS},
    {HT_ROLE_OTHER, NULL, NULL, {HT_DIM_NONE}, 0},
};

const struct ht_arch ht_arch_llama = {
    .name = "llama",
    .summary = "Llama 1 to 3, SmolLM and others of the same shape",
    .source = "Touvron et al. 2023 (arXiv 2302.13971); Llama 3 (arXiv 2407.21783)",
    .hf_model_type = "llama",
    .hf_class = "LlamaForCausalLM",
    .gguf_rope = HT_ROPE_PAIRS,
    .has_bias_choice = true,
    .tensors = tensors,
    .block = ht_block_gated,
    .folds = ht_folds_gated,
};
