#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden logits from `transformers` in f32 (eager attention, CPU).

  make_logits.py model (--hf DIR | --gguf FILE) --out X.safetensors [--tokens 96] [--seed 1]
                       [--full 8] [--top 64] [--k 20] [--text FILE --tokenizer tokenizer.json]
      ids [T] i32; positions [full] i32, logits [full, V] f32 at them;
      top_positions [top] i32, top_ids [top, k] i32, top_logprobs [top, k] f32 (natural logarithm);
      mean_nll [1] f64 over the ids 1 .. T-1.
      With --text the ids are the first tokens of the text, otherwise draws from the vocabulary.
      A GGUF file (arch llama) is dequantized to f32 by the `gguf` package and loaded into
      LlamaForCausalLM: what is measured is the weights, never the file's integer arithmetic.
  make_logits.py random --kind {qwen2-rand,qwen3-rand,llama3rope-rand} --out DIR
      Writes a small random model as a Hugging Face folder (config.json, model.safetensors) and
      logits.safetensors: ids [64] i32, logits [64, V] f32.
"""
import argparse
import json
import os

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

KINDS = {
    # GQA 4/2, bias on q, k, v, tied embedding, odd vocabulary; f16.
    "qwen2-rand": ("Qwen2", "float16", dict(
        vocab_size=151, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=1000000.0,
        tie_word_embeddings=True, use_sliding_window=False)),
    # GQA 4/1, norms on q and k, head_dim 32 where hidden / heads = 16, untied; bf16.
    "qwen3-rand": ("Qwen3", "bfloat16", dict(
        vocab_size=144, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=1000000.0,
        tie_word_embeddings=False, attention_bias=False)),
    # Llama 3 rope scaling; head_dim 16 meets its three zones (kept, blended, divided); GQA 4/2, untied; bf16.
    "llama3rope-rand": ("Llama", "bfloat16", dict(
        vocab_size=160, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=10000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=64),
        tie_word_embeddings=False, attention_bias=False)),
}


def made_with():
    # One key: with two their order in the file would change from run to run.
    return {"made_with": "transformers %s, torch %s" % (transformers.__version__, torch.__version__)}


def forward(model, ids):
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def top_k(logits, k):
    logp = torch.log_softmax(logits.double(), dim=-1)
    vals, idx = torch.topk(logp, k, dim=-1)
    return idx.to(torch.int32), vals.float()


def load_hf(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


def undo_permute(w, heads):
    """GGUF llama q/k rows are interleaved pairs; Hugging Face keeps two halves."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def load_gguf(path):
    from gguf import GGUFReader, quants
    r = GGUFReader(path)
    f = {k: v.contents() for k, v in r.fields.items() if k.startswith("llama.")}
    heads, kv = f["llama.attention.head_count"], f["llama.attention.head_count_kv"]
    hidden = f["llama.embedding_length"]
    weights = {}
    for t in r.tensors:
        weights[t.name] = quants.dequantize(t.data, t.tensor_type).astype(np.float32)
    cfg = transformers.LlamaConfig(
        vocab_size=weights["token_embd.weight"].shape[0], hidden_size=hidden,
        intermediate_size=f["llama.feed_forward_length"], num_hidden_layers=f["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=kv, head_dim=hidden // heads,
        max_position_embeddings=f["llama.context_length"],
        rms_norm_eps=f["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters=dict(rope_type="default", rope_theta=float(f["llama.rope.freq_base"])),
        tie_word_embeddings="output.weight" not in weights, attention_bias=False, attn_implementation="eager")
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj"}
    state = {}
    for name, w in weights.items():
        if name == "token_embd.weight":
            key = "model.embed_tokens.weight"
        elif name == "output_norm.weight":
            key = "model.norm.weight"
        elif name == "output.weight":
            key = "lm_head.weight"
        else:
            _, block, part, _ = name.split(".")
            key = "model.layers.%s.%s.weight" % (block, names[part])
            if part == "attn_q":
                w = undo_permute(w, heads)
            elif part == "attn_k":
                w = undo_permute(w, kv)
        state[key] = torch.from_numpy(np.ascontiguousarray(w))
    model = transformers.LlamaForCausalLM(cfg).float()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def cmd_model(args):
    model = load_hf(args.hf) if args.hf else load_gguf(args.gguf)
    if args.text:
        from tokenizers import Tokenizer
        with open(args.text, encoding="utf-8") as f:
            ids = Tokenizer.from_file(args.tokenizer).encode(f.read(20000), add_special_tokens=False).ids[:args.tokens]
    else:
        rng = np.random.Generator(np.random.PCG64(args.seed))
        ids = rng.integers(3, model.config.vocab_size, args.tokens).tolist()
    logits = forward(model, ids)
    n = len(ids)
    full = sorted(set(np.linspace(0, n - 1, args.full).round().astype(int).tolist())) if args.full else []
    top = list(range(n - args.top, n))
    top_ids, top_lp = top_k(logits[top], args.k)
    out = {"ids": torch.tensor(ids, dtype=torch.int32), "top_positions": torch.tensor(top, dtype=torch.int32),
           "top_ids": top_ids.contiguous(), "top_logprobs": top_lp.contiguous()}
    if full:
        out["positions"] = torch.tensor(full, dtype=torch.int32)
        out["logits"] = logits[full].contiguous()
    nll = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:])).item()
    out["mean_nll"] = torch.tensor([nll], dtype=torch.float64)
    save_file(out, args.out, metadata=made_with())
    print("%s: %d ids, mean nll %.6f (ppl %.4f)" % (args.out, n, nll, np.exp(nll)))


def cmd_random(args):
    arch, dtype, params = KINDS[args.kind]
    torch.manual_seed(args.seed)
    params = dict(params)
    theta = params.pop("rope_theta")
    scaling = params.pop("rope_scaling", dict(rope_type="default"))
    cfg = getattr(transformers, arch + "Config")(
        **params, rope_parameters=dict(scaling, rope_theta=theta), attn_implementation="eager", bos_token_id=0, eos_token_id=0)
    model = getattr(transformers, arch + "ForCausalLM")(cfg).float()
    gen = torch.Generator().manual_seed(args.seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("norm.weight"):
                p.copy_(1.0 + 0.2 * torch.randn(p.shape, generator=gen))
            elif name.endswith("bias"):
                p.copy_(0.5 * torch.randn(p.shape, generator=gen))
            elif "embed_tokens" in name:
                p.copy_(0.5 * torch.randn(p.shape, generator=gen))
            elif "lm_head" in name:
                p.copy_(0.35 * torch.randn(p.shape, generator=gen))
            else:
                # A little over 1 / sqrt(K), so that attention is sharp enough to show rope errors.
                p.copy_(1.5 / p.shape[1] ** 0.5 * torch.randn(p.shape, generator=gen))
    model.tie_weights()
    with torch.no_grad():  # parameters only: the rope frequencies (a buffer) stay f32
        for p in model.parameters():
            p.copy_(p.to(getattr(torch, dtype)).float())
    os.makedirs(args.out, exist_ok=True)
    state = {k: v.to(getattr(torch, dtype)).contiguous() for k, v in model.state_dict().items()
             if not (cfg.tie_word_embeddings and k == "lm_head.weight")}
    save_file(state, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})
    doc = {"architectures": [arch + "ForCausalLM"], "model_type": cfg.model_type, "torch_dtype": dtype,
           "hidden_act": "silu", "bos_token_id": 0, "eos_token_id": 0, "rope_theta": theta}
    doc.update({k: v for k, v in params.items()})
    doc["rope_scaling"] = scaling if scaling["rope_type"] != "default" else None
    with open(os.path.join(args.out, "config.json"), "w", encoding="ascii") as f:
        json.dump(doc, f, indent=1)
        f.write("\n")
    # The golden comes from the folder as read back, so it also checks config.json.
    again = load_hf(args.out)
    ids = torch.randint(0, cfg.vocab_size, (64,), generator=gen).tolist()
    logits = forward(again, ids)
    err = (logits - forward(model, ids)).abs().max().item()
    assert err < 1e-5 * logits.abs().max().item(), err
    save_file({"ids": torch.tensor(ids, dtype=torch.int32), "logits": logits.contiguous()},
              os.path.join(args.out, "logits.safetensors"), metadata=made_with())
    p = torch.softmax(logits, -1)
    print("%s: logits std %.3f, max %.2f, mean entropy %.3f nats of %.3f, mean top p %.3f" % (
        args.kind, logits.std(), logits.abs().max(), -(p * p.log()).sum(-1).mean(), np.log(cfg.vocab_size), p.max(-1)[0].mean()))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    p = sub.add_parser("model")
    src = p.add_mutually_exclusive_group(required=True)
    src.add_argument("--hf")
    src.add_argument("--gguf")
    p.add_argument("--out", required=True)
    p.add_argument("--tokens", type=int, default=96)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--full", type=int, default=8)
    p.add_argument("--top", type=int, default=64)
    p.add_argument("--k", type=int, default=20)
    p.add_argument("--text")
    p.add_argument("--tokenizer")
    p.set_defaults(fn=cmd_model)
    p = sub.add_parser("random")
    p.add_argument("--kind", choices=sorted(KINDS), required=True)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--out", required=True)
    p.set_defaults(fn=cmd_random)
    args = ap.parse_args()
    torch.set_num_threads(2)
    args.fn(args)


if __name__ == "__main__":
    main()
