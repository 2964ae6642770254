#!/usr/bin/env python3
"""Golden logits of the tiny model with rounded activations and a rounded cache, in NumPy float64: written from the
formulas of docs/container.md, not from the program.

    make_runtime.py models/tiny OUT.json

Each case gives the logits of the last token at 48 columns of the vocabulary, for 24 tokens."""
import json
import struct
import sys

import numpy as np


def load(folder):
    with open(folder + "/model.safetensors", "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        data = f.read()
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            assert t["dtype"] == "BF16"
            u = np.frombuffer(data[a:b], "<u2").astype(np.uint32) << 16
            out[name] = u.view(np.float32).astype(np.float64).reshape(t["shape"])
    return out, json.load(open(folder + "/config.json"))


def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


def int_sym(x, bits):
    """Along the last axis: scale = max(hi / code_max, lo / code_min), codes to nearest, half to even."""
    lo, hi = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    scale = f32(np.maximum(np.maximum(hi, 0) / (2 ** (bits - 1) - 1), np.minimum(lo, 0) / -(2 ** (bits - 1))))
    return scale * np.clip(np.rint(f32(x) / np.where(scale > 0, scale, 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def int_asym(x, bits):
    lo, hi = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    scale = f32((hi - lo) / (2**bits - 1))
    zero = np.clip(np.rint(-lo / np.where(scale > 0, scale, 1)), 0, 2**bits - 1)
    return scale * (np.clip(np.rint(f32(x) / np.where(scale > 0, scale, 1)) + zero, 0, 2**bits - 1) - zero)


def e4m3(x):
    """Values of FP8 E4M3FN nearest to x, ties to even, saturating at 448."""
    a = np.abs(x)
    e = np.floor(np.log2(np.where(a > 0, a, 1)))
    step = np.exp2(np.maximum(e, -6) - 3)
    return np.sign(x) * np.minimum(np.rint(a / step) * step, 448)


def fp8(x):
    scale = f32(np.abs(x).max(-1, keepdims=True) / 448)
    return scale * e4m3(x / np.where(scale > 0, scale, 1))


def in_groups(x, n, fn):
    return np.concatenate([fn(x[..., i:i + n]) for i in range(0, x.shape[-1], n)], -1)


def threshold(x, t):
    """LLM.int8(), token by token: what is larger than t in magnitude is not rounded, the rest is on its own scale."""
    large = np.abs(x) > t
    return np.where(large, x, int_sym(np.where(large, 0, x), 8))


def hadamard(n):
    h = np.ones((1, 1))
    while h.shape[0] < n:
        h = np.block([[h, h], [h, -h]])
    return h / np.sqrt(n)


class Model:
    def __init__(self, folder):
        self.w, self.c = load(folder)

    def rope(self, x):
        d, half = x.shape[-1], x.shape[-1] // 2
        angle = np.arange(x.shape[0])[:, None] * self.c["rope_theta"] ** (-np.arange(0, d, 2) / d)[None, :]
        cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + self.c["rms_norm_eps"]) * self.w[name]

    def logits(self, ids, act, kv, turn):
        """act rounds the input of every linear of a layer; kv the rows of keys and values; turn: rotate heads."""
        c, w = self.c, self.w
        heads, n_kv, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        h = hadamard(d) if turn else np.eye(d)
        x, t = w["model.embed_tokens.weight"][ids], len(ids)
        for i in range(c["num_hidden_layers"]):
            b = "model.layers.%d." % i
            lin = lambda v, name: act(v) @ w[b + name + ".weight"].T
            y = self.norm(x, b + "input_layernorm.weight")
            q = self.rope(lin(y, "self_attn.q_proj").reshape(t, heads, d)) @ h
            k = kv(self.rope(lin(y, "self_attn.k_proj").reshape(t, n_kv, d)) @ h)
            v = kv(lin(y, "self_attn.v_proj").reshape(t, n_kv, d) @ h)
            k, v = np.repeat(k, heads // n_kv, 1), np.repeat(v, heads // n_kv, 1)
            s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(d)
            s = np.where(np.triu(np.ones((t, t), bool), 1)[None], -np.inf, s)
            p = np.exp(s - s.max(-1, keepdims=True))
            o = np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v) @ h.T
            x = x + lin(o.reshape(t, -1), "self_attn.o_proj")
            y = self.norm(x, b + "post_attention_layernorm.weight")
            gate, up = lin(y, "mlp.gate_proj"), lin(y, "mlp.up_proj")
            x = x + lin(gate / (1 + np.exp(-gate)) * up, "mlp.down_proj")
        return self.norm(x, "model.norm.weight")[-1] @ w["model.embed_tokens.weight"].T


same = lambda x: x
CASES = {
    "none": (same, same, False),
    "act int8:token": (lambda x: int_sym(x, 8), same, False),
    "act uint8:token": (lambda x: int_asym(x, 8), same, False),
    "act fp8_e4m3:token": (fp8, same, False),
    "act int8:token threshold 1.5": (lambda x: threshold(x, 1.5), same, False),
    "kv int8:token": (same, lambda x: int_sym(x, 8), False),
    "kv int4:token": (same, lambda x: int_sym(x, 4), False),
    "kv uint4:token": (same, lambda x: int_asym(x, 4), False),
    "kv int4:token+hadamard": (same, lambda x: int_sym(x, 4), True),
    "kv uint4:g32:scale=f32": (same, lambda x: in_groups(x, 32, lambda g: int_asym(g, 4)), False),
}


def main():
    m = Model(sys.argv[1])
    rng = np.random.default_rng(5)
    ids = rng.integers(0, m.c["vocab_size"], 24)
    columns = rng.choice(m.c["vocab_size"], 48, replace=False)
    out = {"ids": ids.tolist(), "columns": columns.tolist(), "cases": {}}
    for name, (act, kv, turn) in CASES.items():
        out["cases"][name] = [round(float(v), 6) for v in m.logits(ids, act, kv, turn)[columns]]
    with open(sys.argv[2], "w") as f:
        json.dump(out, f, indent=1)


main()
