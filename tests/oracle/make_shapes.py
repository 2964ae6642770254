#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GGUF files with the metadata and tensor list of well-known model shapes and no data (a sparse file
of the right length): input for the dry runs of make_presets.py. make_shapes.py --kind K --out X.gguf
"""
import argparse

import gguf
import numpy as np

# arch, layers, hidden, heads, kv heads, head_dim, ffn, vocab, tied, experts
KINDS = {
    "llama3-8b": ("llama", 32, 4096, 32, 8, 128, 14336, 128256, False, 0),
    "llama3-70b": ("llama", 80, 8192, 64, 8, 128, 28672, 128256, False, 0),
    "llama2-7b": ("llama", 32, 4096, 32, 32, 128, 11008, 32000, False, 0),
    "mixtral-8x7b": ("llama", 32, 4096, 32, 8, 128, 14336, 32000, False, 8),
    "qwen3-30b-a3b": ("qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, False, 128),
    "qwen3-0.6b": ("qwen3", 28, 1024, 16, 8, 128, 3072, 151936, True, 0),
    "gemma3-1b": ("gemma3", 26, 1152, 4, 1, 256, 6912, 262144, True, 0),
    "phi3-mini": ("phi3", 32, 3072, 32, 32, 96, 8192, 32064, False, 0),
}


def tensors(kind):
    arch, layers, d, h, kv, hd, ff, vocab, tied, experts = KINDS[kind]
    yield "token_embd.weight", (vocab, d)
    yield "output_norm.weight", (d,)
    if not tied:
        yield "output.weight", (vocab, d)
    for i in range(layers):
        b = "blk.%d." % i
        yield b + "attn_norm.weight", (d,)
        if arch == "phi3":
            yield b + "attn_qkv.weight", ((h + 2 * kv) * hd, d)
        else:
            yield b + "attn_q.weight", (h * hd, d)
            yield b + "attn_k.weight", (kv * hd, d)
            yield b + "attn_v.weight", (kv * hd, d)
        yield b + "attn_output.weight", (d, h * hd)
        if arch in ("qwen3", "qwen3moe", "gemma3"):
            yield b + "attn_q_norm.weight", (hd,)
            yield b + "attn_k_norm.weight", (hd,)
        if arch == "gemma3":
            yield b + "post_attention_norm.weight", (d,)
            yield b + "post_ffw_norm.weight", (d,)
        yield b + "ffn_norm.weight", (d,)
        if experts:
            yield b + "ffn_gate_inp.weight", (experts, d)
            yield b + "ffn_gate_exps.weight", (experts, ff, d)
            yield b + "ffn_up_exps.weight", (experts, ff, d)
            yield b + "ffn_down_exps.weight", (experts, d, ff)
        elif arch == "phi3":
            yield b + "ffn_up.weight", (2 * ff, d)
            yield b + "ffn_down.weight", (d, ff)
        else:
            yield b + "ffn_gate.weight", (ff, d)
            yield b + "ffn_up.weight", (ff, d)
            yield b + "ffn_down.weight", (d, ff)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--kind", choices=sorted(KINDS), required=True)
    ap.add_argument("--out", required=True)
    args = ap.parse_args()
    arch, layers, d, h, kv, hd, ff, vocab, _, experts = KINDS[args.kind]
    w = gguf.GGUFWriter(args.out, arch)
    w.add_block_count(layers)
    w.add_context_length(4096)
    w.add_embedding_length(d)
    w.add_feed_forward_length(ff)
    w.add_head_count(h)
    w.add_head_count_kv(kv)
    w.add_key_length(hd)
    w.add_value_length(hd)
    w.add_rope_dimension_count(hd)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(vocab)
    w.add_file_type(1)
    if arch in ("gemma3", "phi3"):
        w.add_sliding_window(512)
    if arch == "phi3":
        w.add_rope_scaling_orig_ctx_len(4096)
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(min(8, experts // 4))
        w.add_expert_feed_forward_length(ff)
    w.add_tokenizer_model("no_vocab")
    total = 0
    for name, shape in tensors(args.kind):
        f32 = len(shape) == 1 or "gate_inp" in name
        nbytes = int(np.prod(shape, dtype=np.int64)) * (4 if f32 else 2)
        w.add_tensor_info(name, shape, np.dtype(np.float32 if f32 else np.float16), nbytes)
        total += -(-nbytes // 32) * 32
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.close()
    with open(args.out, "r+b") as f:
        end = f.seek(0, 2)
        f.truncate(-(-end // 32) * 32 + total)


if __name__ == "__main__":
    main()
