"""full: transformers loads the folders that we convert back, with equal logits and ids; architectures by way of
stock llama.cpp; quantized files against transformers on the decoded weights. Needs torch and transformers."""
import json
import os
import shutil

import numpy as np

import ours
import tap

try:
    import torch
    import transformers
except ImportError:
    tap.skip("transformers", "torch and transformers are not in this environment (make interop FULL=1)")
    raise SystemExit(0)

from llama_numpy import LlamaNumpy
from safetensors.numpy import load_file
from stock import Stock

LOOSE = 1e-4  # relative, f32


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].double().numpy()


def relative(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def folder_of(name, source, dtype):
    path = os.path.join(ours.WORK, name)
    shutil.rmtree(path, ignore_errors=True)
    ours.halftone("convert", source, "-o", path, "--to", "hf", "--dtype", dtype)
    return path


def round_trip():
    """tiny: folder -> GGUF -> folder."""
    ids = load_file(os.path.join(ours.GOLDEN, "logits", "tiny.safetensors"))["ids"].tolist()
    before = logits(load(ours.TINY), ids)
    for dtype in ("f32", "bf16"):
        back = folder_of("tiny-back-" + dtype, ours.tiny(dtype), dtype)
        error = relative(logits(load(back), ids), before)
        tap.ok(error <= LOOSE, "tiny, folder -> %s GGUF -> folder: logits" % dtype, "%.1e" % error)
    corpus = [json.loads(line) for line in open(os.path.join(ours.GOLDEN, "token", "corpus.jsonl"))]
    a, b = (transformers.AutoTokenizer.from_pretrained(f) for f in (ours.TINY, back))
    wrong = [line for line in corpus if a(line, add_special_tokens=False).input_ids != b(line, add_special_tokens=False).input_ids]
    tap.ok(not wrong, "tiny: AutoTokenizer of the new folder, %d lines" % len(corpus), ascii(wrong[:2]) if wrong else "")


def quantized_to_folder():
    """A quantized file decoded to a folder: transformers against NumPy on gguf-py's weights, and our exact path."""
    ids = load_file(os.path.join(ours.GOLDEN, "logits", "tiny.safetensors"))["ids"].tolist()
    for preset in ("Q8_0", "Q4_K_M", "IQ4_XS", "Q2_K"):
        path = ours.quantized(ours.tiny("f32"), "tiny", preset, ours.tiny_imatrix())
        theirs = logits(load(folder_of("tiny-%s-hf" % preset, path, "f32")), ids)
        model = ours.Model(path)
        mine = model.logits(ids, exact=True)
        model.close()
        independent = relative(theirs, LlamaNumpy(path).logits(ids))
        error = relative(mine, theirs)
        tap.ok(independent <= LOOSE and error <= 1e-3, "tiny-%s: transformers on the decoded folder" % preset,
               "to NumPy %.1e, ours (exact) to transformers %.1e" % (independent, error))


def references():
    for name in ("ref-57m", "ref-135m"):
        source = ours.ref_f16(name)
        if source is None:
            tap.skip(name, "HT_REF_DIR is not set")
            continue
        ids = load_file(os.path.join(ours.GOLDEN, "logits", name + ".safetensors"))["ids"].tolist()
        theirs = logits(load(folder_of(name + "-hf", source, "f16")), ids)
        mine = ours.Model(source)
        error = relative(mine.logits(ids, exact=True), theirs)
        mine.close()
        tap.ok(error <= 1e-3, "%s: folder in transformers, our exact path" % name, "%.1e" % error)


def architectures():
    """Random models of other architectures with a borrowed tokenizer: folder -> GGUF -> ours and stock, against
    transformers' golden logits."""
    golden = os.path.join(ours.GOLDEN, "models")
    for kind in sorted(os.listdir(golden)) if os.path.isdir(golden) else []:
        if not os.path.exists(os.path.join(golden, kind, "logits.safetensors")):
            continue
        g = load_file(os.path.join(golden, kind, "logits.safetensors"))
        ids, want = g["ids"].tolist(), g["logits"].astype(np.float64)
        folder = os.path.join(ours.WORK, kind)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(os.path.join(golden, kind), folder)
        with_tokenizer(folder, want.shape[1])
        path = ours.made(kind + ".gguf", "convert", folder, "--dtype", "f32")
        model = ours.Model(path)
        error = relative(model.logits(ids, exact=True), want)
        model.close()
        tap.ok(error <= 1e-3, "%s: our exact path against transformers" % kind, "%.1e of the largest logit" % error)
        stock, truth, apart = Stock(path, f32_cache=True), ours.log_softmax(want), 0.0
        for p in range(0, len(ids), 4):
            apart = max([apart] + [abs(v - truth[p, t]) for t, v in stock.top(ids[:p + 1], 20)])
        stock.close()
        tap.ok(apart <= 0.01, "%s: stock llama.cpp on our file against transformers" % kind, "%.5f nat" % apart)
        back = relative(logits(load(folder_of(kind + "-back", path, "f32")), ids), want)
        tap.ok(back <= LOOSE, "%s: folder -> GGUF -> folder in transformers" % kind, "%.1e" % back)


def with_tokenizer(folder, vocab):
    """Gives the folder a byte-level tokenizer of as many tokens as the model has: bytes it lacks are left out."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:vocab - 2]
    tok = Tokenizer(BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(["<|s|>", "<|e|>"] + ["<|x%d|>" % i for i in range(vocab - 2 - len(letters))])
    tok.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<|s|>", eos_token="<|e|>"), f)


tap.run(round_trip, quantized_to_folder, references, architectures)
