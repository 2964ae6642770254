"""Token ids equal those of Hugging Face `tokenizers`, live, on 10,000 lines of mixed text; and stock llama.cpp's."""
import json
import os
import subprocess
import sys

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, normalizers

import ours
import tap
from stock import Stock

ORACLE = os.path.join(ours.ROOT, "tests", "oracle")
sys.path.insert(0, ORACLE)
import make_tokens  # noqa: E402

LINES = 10000
# SmolLM's vocabulary has no token for these bytes and no unknown token: they vanish, in `tokenizers` before merging, in
# llama.cpp (and here) after it.
SMOLLM_GAPS = set("\x04\x06\x13\x14\x16\x1d")


def corpus():
    path = os.path.join(ours.WORK, "corpus10k.jsonl")
    if not os.path.exists(path):
        subprocess.run([sys.executable, os.path.join(ORACLE, "make_token_corpus.py"), "--out", path, "--lines", str(LINES)],
                       check=True)
    return make_tokens.read_corpus(path)


def compare(name, path, hf, excused=None):
    """excused: a line that may differ from hf (it must then equal stock)."""
    lines, model = corpus(), ours.Model(path)
    hf.encode_special_tokens = False
    want = [e.ids for e in hf.encode_batch(lines, add_special_tokens=False)]
    have = [model.tokenize(line, special=True) for line in lines]
    wrong = [i for i in range(len(lines)) if have[i] != want[i] and not (excused and excused(lines[i]))]
    others = sum(h != w for h, w in zip(have, want)) - len(wrong)
    ids = sum(map(len, want))
    tap.ok(len(lines) == LINES and not wrong, "%s: %d lines, %d ids as tokenizers" % (name, len(lines), ids),
           "; ".join("%s: ours %s, theirs %s" % (ascii(lines[i])[:80], have[i][:12], want[i][:12]) for i in wrong[:3]) +
           (" (%d lines with bytes that the vocabulary lacks differ)" % others if others else ""))
    hf.encode_special_tokens = True
    want = [e.ids for e in hf.encode_batch(lines[:2000], add_special_tokens=False)]
    wrong = [i for i in range(2000) if model.tokenize(lines[i]) != want[i] and not (excused and excused(lines[i]))]
    tap.ok(not wrong, "%s: special tokens as plain text, 2000 lines" % name,
           "; ".join(ascii(lines[i])[:80] for i in wrong[:3]))
    stock = Stock(path)
    sample = lines[::10]
    wrong = [line for line in sample if stock.tokenize(line, special=True) != model.tokenize(line, special=True)]
    tap.ok(not wrong, "%s: %d lines as stock llama.cpp" % (name, len(sample)), ascii(wrong[:2]) if wrong else "")
    back = [i for i in range(len(lines)) if not (excused and excused(lines[i])) and
            hf.normalizer is None and model.detokenize(have[i]) != lines[i].encode("utf-8")]
    tap.ok(not back, "%s: ids give the text back" % name, "; ".join(ascii(lines[i])[:80] for i in back[:3]))
    stock.close()
    model.close()


def tiny():
    compare("tiny (gpt-2)", ours.tiny("f16"), Tokenizer.from_file(os.path.join(ours.TINY, "tokenizer.json")))


def toy_model(name, tokenizer_json, special):
    """A Hugging Face folder with a random one-block model around a tokenizer; returns its GGUF."""
    folder = os.path.join(ours.WORK, name)
    os.makedirs(folder, exist_ok=True)
    with open(tokenizer_json, encoding="utf-8") as f:
        doc = json.load(f)
    vocab = max(list(doc["model"]["vocab"].values()) + [t["id"] for t in doc["added_tokens"]]) + 1
    h, rng = 32, np.random.default_rng(7)
    shapes = {"model.embed_tokens.weight": (vocab, h), "model.norm.weight": (h,), "lm_head.weight": (vocab, h)}
    for part, shape in {"input_layernorm": (h,), "post_attention_layernorm": (h,), "self_attn.q_proj": (h, h),
                        "self_attn.k_proj": (h, h), "self_attn.v_proj": (h, h), "self_attn.o_proj": (h, h),
                        "mlp.gate_proj": (64, h), "mlp.up_proj": (64, h), "mlp.down_proj": (h, 64)}.items():
        shapes["model.layers.0.%s.weight" % part] = shape
    save_file({k: (0.05 * rng.standard_normal(s) + (len(s) == 1)).astype(np.float16) for k, s in shapes.items()},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=vocab, hidden_size=h,
                  intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
                  hidden_act="silu", max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
                  tie_word_embeddings=False, torch_dtype="float16")
    ids = {t["content"]: t["id"] for t in doc["added_tokens"]}
    config.update(bos_token_id=ids[special[0]], eos_token_id=ids[special[1]])
    for file, content in (("config.json", config), ("tokenizer.json", doc),
                          ("tokenizer_config.json", dict(bos_token=special[0], eos_token=special[1],
                                                         tokenizer_class="PreTrainedTokenizerFast"))):
        with open(os.path.join(folder, file), "w") as f:
            json.dump(content, f)
    return ours.made(name + ".gguf", "convert", folder, "--dtype", "f16")


def llama_bpe():
    path = os.path.join(ours.GOLDEN, "token", "llama-bpe", "tokenizer.json")
    gguf = toy_model("llama-bpe-toy", path, ("<|begin_of_text|>", "<|end_of_text|>"))
    compare("llama-bpe", gguf, Tokenizer.from_file(path))


def smollm():
    path = ours.ref("ref-135m.gguf")
    if path is None:
        tap.skip("smollm", "HT_REF_DIR is not set")
        return
    compare("smollm", path, make_tokens.from_gguf(path), lambda line: bool(SMOLLM_GAPS & set(line)))


def qwen2():
    path = os.environ.get("HT_QWEN2_GGUF")
    if not path:
        tap.skip("qwen2", "HT_QWEN2_GGUF names no Qwen2.5 model")
        return
    hf = make_tokens.from_gguf(path)
    nfc = normalizers.NFC()
    hf.normalizer = normalizers.Sequence([])
    compare("qwen2", path, hf, lambda line: nfc.normalize_str(line) != line)


tap.run(tiny, llama_bpe, smollm, qwen2)
