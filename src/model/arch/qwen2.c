/* Qwen 2 and 2.5: Llama's layer with biases on q, k and v. Both containers keep halves, so no rows move. */
#include "model/arch.h"
#include "model/arch/rows.h"

#define LAYER (HT_TENSOR_REQUIRED | HT_TENSOR_LAYER)

static const struct ht_arch_tensor tensors[] = {
    {HT_ROLE_TOKEN_EMBD, "model.embed_tokens.weight", "token_embd.weight",
     {HT_DIM_WIDTH, HT_DIM_VOCAB}, HT_TENSOR_REQUIRED},
    {HT_ROLE_OUTPUT_NORM, "model.norm.weight", "output_norm.weight", {HT_DIM_WIDTH}, HT_TENSOR_REQUIRED},
    {HT_ROLE_OUTPUT, "lm_head.weight", "output.weight", {HT_DIM_WIDTH, HT_DIM_VOCAB}, HT_TENSOR_IF_UNTIED},

    {HT_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",
     {HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_ATTN_Q, "model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight",
     {HT_DIM_WIDTH, HT_DIM_Q}, LAYER},
    {HT_ROLE_ATTN_Q_BIAS, "model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias",
     {HT_DIM_Q}, LAYER},
    {HT_ROLE_ATTN_K, "model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight",
     {HT_DIM_WIDTH, HT_DIM_KV}, LAYER},
    {HT_ROLE_ATTN_K_BIAS, "model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias",
     {HT_DIM_KV}, LAYER},
    {HT_ROLE_ATTN_V, "model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight",
     {HT_DIM_WIDTH, HT_DIM_KV}, LAYER},
    {HT_ROLE_ATTN_V_BIAS, "model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias",
     {HT_DIM_KV}, LAYER},
    {HT_ROLE_ATTN_OUTPUT, "model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight",
     {HT_DIM_Q, HT_DIM_WIDTH}, LAYER},

    {HT_ROLE_FFN_NORM, "model.layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight",
     {HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_FFN_GATE, "model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight",
     {HT_DIM_WIDTH, HT_DIM_FFN}, LAYER},
    {HT_ROLE_FFN_UP, "model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight",
     {HT_DIM_WIDTH, HT_DIM_FFN}, LAYER},
    {HT_ROLE_FFN_DOWN, "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",
     {HT_DIM_FFN, HT_DIM_WIDTH}, LAYER},
    {HT_ROLE_OTHER, NULL, NULL, {HT_DIM_NONE}, 0},
};

const struct ht_arch ht_arch_qwen2 = {
    .name = "qwen2",
    .summary = "Qwen 2 and 2.5, without sliding window",
    .source = "Qwen2 technical report (arXiv 2407.10671)",
    .hf_model_type = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .gguf_rope = HT_ROPE_HALVES,
    .has_window_key = true,
    .tensors = tensors,
    .block = ht_block_gated,
    .folds = ht_folds_gated,
};
