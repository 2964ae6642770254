"""The llama architecture in NumPy, float64, on the weights that gguf-py decodes: an independent computation.

Follows the GGUF conventions of llama: rows of q and k lie so that RoPE turns neighbouring pairs; W is [rows, cols],
y = W x; RMS norm; SwiGLU; the head is the token embedding when output.weight is absent."""
import numpy as np
from gguf import GGUFReader, quants


class LlamaNumpy:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        f = {k: v.contents() for k, v in self.reader.fields.items() if k.startswith("llama.")}
        self.heads = f["llama.attention.head_count"]
        self.kv = f["llama.attention.head_count_kv"]
        self.blocks = f["llama.block_count"]
        self.eps = f["llama.attention.layer_norm_rms_epsilon"]
        self.base = float(f["llama.rope.freq_base"])
        self.tensors = {t.name: t for t in self.reader.tensors}

    def weight(self, name):
        t = self.tensors[name + ".weight"]
        return quants.dequantize(t.data, t.tensor_type).astype(np.float64)

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weight(name)

    def rope(self, x):
        """x: [T, heads, d]; pair i of a head turns by position * base^(-2 i / d)."""
        t, _, d = x.shape
        angle = np.arange(t)[:, None] * self.base ** (-np.arange(0, d, 2) / d)[None, :]
        c, s = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
        out[..., 1::2] = x[..., 0::2] * s + x[..., 1::2] * c
        return out

    def attention(self, x, b):
        t = x.shape[0]
        q = self.rope((x @ self.weight(b + "attn_q").T).reshape(t, self.heads, -1))
        k = self.rope((x @ self.weight(b + "attn_k").T).reshape(t, self.kv, -1))
        v = (x @ self.weight(b + "attn_v").T).reshape(t, self.kv, -1)
        k, v = (np.repeat(m, self.heads // self.kv, axis=1) for m in (k, v))
        score = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        score[:, np.triu_indices(t, 1)[0], np.triu_indices(t, 1)[1]] = -np.inf
        p = np.exp(score - score.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return np.einsum("hij,jhd->ihd", p, v).reshape(t, -1) @ self.weight(b + "attn_output").T

    def logits(self, ids):
        """[T, V] of token ids."""
        embedding = self.weight("token_embd")
        x = embedding[np.asarray(ids)]
        for i in range(self.blocks):
            b = "blk.%d." % i
            x = x + self.attention(self.norm(x, b + "attn_norm"), b)
            h = self.norm(x, b + "ffn_norm")
            gate, up = h @ self.weight(b + "ffn_gate").T, h @ self.weight(b + "ffn_up").T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ self.weight(b + "ffn_down").T
        x = self.norm(x, "output_norm")
        return x @ (self.weight("output") if "output.weight" in self.tensors else embedding).T
