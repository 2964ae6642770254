#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seeds of fuzz/fuzz_model.c, also used by tests/unit/test_model.c: tiny random GGUF models with mixed formats,
one per architecture, made by the `gguf` package.

  make_fuzz_models.py OUT_DIR
"""
import os
import sys

import gguf
import numpy as np


def tokenizer(w, n_vocab):
    chars = gguf_byte_chars()[: n_vocab - 4]
    merges = ["%s %s" % (chars[i], chars[i + 1]) for i in range(2)]
    tokens = chars + [m.replace(" ", "") for m in merges] + ["<|im_start|>", "<|im_end|>"]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([1] * (n_vocab - 2) + [3, 4])
    w.add_token_merges(merges)
    w.add_bos_token_id(n_vocab - 2)
    w.add_eos_token_id(n_vocab - 1)
    w.add_add_bos_token(True)


def gguf_byte_chars():
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    extra = iter(range(256, 512))
    return [chr(b if b in printable else next(extra)) for b in range(256)]


def model(path, arch):
    rng = np.random.default_rng(1)
    n_vocab, width, heads, kv, head_dim, ffn = 48, 32, 2, 1, 16, 32
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(2)
    w.add_context_length(64)
    w.add_embedding_length(width)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(n_vocab)
    w.add_rope_dimension_count(head_dim)
    if arch == "qwen3":
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    tokenizer(w, n_vocab)

    def matrix(name, rows, cols, kind=gguf.GGMLQuantizationType.F16, gain=1.5):
        x = (rng.standard_normal((rows, cols)) * gain / cols ** 0.5).astype(np.float32)
        w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)

    def vector(name, n):
        w.add_tensor(name, (1 + 0.1 * rng.standard_normal(n)).astype(np.float32))

    q8 = gguf.GGMLQuantizationType.Q8_0
    matrix("token_embd.weight", n_vocab, width, q8)
    vector("output_norm.weight", width)
    if arch == "qwen3":
        matrix("output.weight", n_vocab, width)
    if arch == "llama":
        vector("rope_freqs.weight", head_dim // 2)
    for layer in range(2):
        b = "blk.%d." % layer
        vector(b + "attn_norm.weight", width)
        vector(b + "ffn_norm.weight", width)
        matrix(b + "attn_q.weight", heads * head_dim, width)
        matrix(b + "attn_k.weight", kv * head_dim, width, gguf.GGMLQuantizationType.Q4_0)
        matrix(b + "attn_v.weight", kv * head_dim, width, q8)
        matrix(b + "attn_output.weight", width, heads * head_dim)
        matrix(b + "ffn_gate.weight", ffn, width, gguf.GGMLQuantizationType.Q5_1)
        matrix(b + "ffn_up.weight", ffn, width, gguf.GGMLQuantizationType.F32)
        matrix(b + "ffn_down.weight", width, ffn, gguf.GGMLQuantizationType.BF16)
        if arch == "qwen2":
            for part, n in (("q", heads * head_dim), ("k", kv * head_dim), ("v", kv * head_dim)):
                vector(b + "attn_%s.bias" % part, n)
        if arch == "qwen3":
            vector(b + "attn_q_norm.weight", head_dim)
            vector(b + "attn_k_norm.weight", head_dim)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    for name in ("llama", "qwen2", "qwen3"):
        model(os.path.join(sys.argv[1], name + ".gguf"), name)
