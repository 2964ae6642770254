/* Qwen 3: Llama's layer with an RMS norm on every head of q and k before rope, and a head size that does not
 * follow from width and heads. Both containers keep halves, so no rows move. */
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
    {HT_ROLE_ATTN_Q_NORM, "model.layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight",
     {HT_DIM_HEAD}, LAYER},
    {HT_ROLE_ATTN_K, "model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight",
     {HT_DIM_WIDTH, HT_DIM_KV}, LAYER},
    {HT_ROLE_ATTN_K_NORM, "model.layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight",
     {HT_DIM_HEAD}, LAYER},
    {HT_ROLE_ATTN_V, "model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight",
     {HT_DIM_WIDTH, HT_DIM_KV}, LAYER},
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

static const struct ht_block_step block[] = {
    {HT_STEP_NORM, HT_ACT_RESIDUAL, HT_ACT_NONE, HT_ACT_NORMED, HT_ROLE_ATTN_NORM},
    {HT_STEP_LINEAR, HT_ACT_NORMED, HT_ACT_NONE, HT_ACT_Q, HT_ROLE_ATTN_Q},
    {HT_STEP_LINEAR, HT_ACT_NORMED, HT_ACT_NONE, HT_ACT_K, HT_ROLE_ATTN_K},
    {HT_STEP_LINEAR, HT_ACT_NORMED, HT_ACT_NONE, HT_ACT_V, HT_ROLE_ATTN_V},
    {HT_STEP_HEAD_NORM, HT_ACT_Q, HT_ACT_NONE, HT_ACT_Q, HT_ROLE_ATTN_Q_NORM},
    {HT_STEP_HEAD_NORM, HT_ACT_K, HT_ACT_NONE, HT_ACT_K, HT_ROLE_ATTN_K_NORM},
    {HT_STEP_ROPE, HT_ACT_Q, HT_ACT_NONE, HT_ACT_Q, HT_ROLE_OTHER},
    {HT_STEP_ROPE, HT_ACT_K, HT_ACT_NONE, HT_ACT_K, HT_ROLE_OTHER},
    {HT_STEP_CACHE, HT_ACT_K, HT_ACT_V, HT_ACT_NONE, HT_ROLE_OTHER},
    {HT_STEP_ATTEND, HT_ACT_Q, HT_ACT_NONE, HT_ACT_ATTN, HT_ROLE_OTHER},
    {HT_STEP_LINEAR, HT_ACT_ATTN, HT_ACT_NONE, HT_ACT_DELTA, HT_ROLE_ATTN_OUTPUT},
    {HT_STEP_ADD, HT_ACT_RESIDUAL, HT_ACT_DELTA, HT_ACT_RESIDUAL, HT_ROLE_OTHER},
    {HT_STEP_NORM, HT_ACT_RESIDUAL, HT_ACT_NONE, HT_ACT_NORMED, HT_ROLE_FFN_NORM},
    {HT_STEP_LINEAR, HT_ACT_NORMED, HT_ACT_NONE, HT_ACT_GATE, HT_ROLE_FFN_GATE},
    {HT_STEP_LINEAR, HT_ACT_NORMED, HT_ACT_NONE, HT_ACT_UP, HT_ROLE_FFN_UP},
    {HT_STEP_GATE, HT_ACT_GATE, HT_ACT_UP, HT_ACT_GATE, HT_ROLE_OTHER},
    {HT_STEP_LINEAR, HT_ACT_GATE, HT_ACT_NONE, HT_ACT_DELTA, HT_ROLE_FFN_DOWN},
    {HT_STEP_ADD, HT_ACT_RESIDUAL, HT_ACT_DELTA, HT_ACT_RESIDUAL, HT_ROLE_OTHER},
    {HT_STEPS, HT_ACT_NONE, HT_ACT_NONE, HT_ACT_NONE, HT_ROLE_OTHER},
};

const struct ht_arch ht_arch_qwen3 = {
    .name = "qwen3",
    .summary = "Qwen 3, dense",
    .source = "Qwen3 technical report (arXiv 2505.09388)",
    .hf_model_type = "qwen3",
    .hf_class = "Qwen3ForCausalLM",
    .gguf_rope = HT_ROPE_HALVES,
    .hf_head_dim = 128,
    .has_window_key = true,
    .tensors = tensors,
    .block = block,
    .folds = ht_folds_gated_head_norms,
};
