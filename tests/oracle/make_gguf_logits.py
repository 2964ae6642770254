#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden logits of small GGUF models: weights dequantized to f32 by the `gguf` package, computed by
`transformers` (eager attention, CPU). Covers what Hugging Face folders cannot: quantized weights, reordered
q and k rows, rope divisors.

  make_gguf_logits.py FILE.gguf OUT.safetensors      ids [32] i32, logits [32, V] f32
"""
import sys

import numpy as np
import torch
import transformers
from gguf import GGUFReader, quants
from safetensors.torch import save_file

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
         "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
GLOBALS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}


def halves(w, heads):
    """Rows of a head from interleaved pairs to two halves."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def main():
    path, out = sys.argv[1:]
    r = GGUFReader(path)
    arch = r.fields["general.architecture"].contents()
    key = {k[len(arch) + 1:]: v.contents() for k, v in r.fields.items() if k.startswith(arch + ".")}
    heads, kv = key["attention.head_count"], key["attention.head_count_kv"]
    weights = {t.name: quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in r.tensors}
    divisors = weights.pop("rope_freqs.weight", None)
    kind = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[arch]
    cfg = getattr(transformers, kind + "Config")(
        vocab_size=weights["token_embd.weight"].shape[0], hidden_size=key["embedding_length"],
        intermediate_size=key["feed_forward_length"], num_hidden_layers=key["block_count"],
        num_attention_heads=heads, num_key_value_heads=kv,
        head_dim=key.get("attention.key_length", key["embedding_length"] // heads),
        max_position_embeddings=key["context_length"], rms_norm_eps=key["attention.layer_norm_rms_epsilon"],
        rope_parameters=dict(rope_type="default", rope_theta=float(key["rope.freq_base"])),
        tie_word_embeddings="output.weight" not in weights, attn_implementation="eager")
    state = {}
    for name, w in weights.items():
        if name in GLOBALS:
            state[GLOBALS[name]] = torch.from_numpy(w.copy())
            continue
        _, block, part, suffix = name.split(".")
        if arch == "llama" and part in ("attn_q", "attn_k"):
            w = halves(w, heads if part == "attn_q" else kv)
        state["model.layers.%s.%s.%s" % (block, NAMES[part], suffix)] = torch.from_numpy(np.ascontiguousarray(w))
    model = getattr(transformers, kind + "ForCausalLM")(cfg).float().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    if divisors is not None:
        model.model.rotary_emb.inv_freq /= torch.from_numpy(divisors.copy())
    ids = np.random.default_rng(3).integers(0, cfg.vocab_size, 32).tolist()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    save_file({"ids": torch.tensor(ids, dtype=torch.int32), "logits": logits.contiguous()}, out,
              metadata={"transformers": transformers.__version__, "torch": torch.__version__})
    print("%s: max |logit| %.3f, std %.3f" % (path, logits.abs().max(), logits.std()))


if __name__ == "__main__":
    main()
