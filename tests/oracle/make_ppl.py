#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reference perplexity in f32 by `transformers`, windows without overlap, per-window figures.

  make_ppl.py (--hf DIR | --gguf FILE) --tokenizer tokenizer.json --text FILE --out X.json
              [--ctx 512] [--chunks 24]
The whole text is tokenized at once without special tokens, then cut. Per window two sums of negative
log likelihood (nats): "half": of the tokens ctx/2+1 .. ctx-1, as llama-perplexity scores (it skips
the first half); "all": of the tokens 1 .. ctx-1.
"""
import argparse
import json

import numpy as np
import torch
from tokenizers import Tokenizer

from make_logits import load_gguf, load_hf


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    src = ap.add_mutually_exclusive_group(required=True)
    src.add_argument("--hf")
    src.add_argument("--gguf")
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--text", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--ctx", type=int, default=512)
    ap.add_argument("--chunks", type=int, default=24)
    args = ap.parse_args()
    torch.set_num_threads(2)
    with open(args.text, encoding="utf-8", newline="") as f:
        ids = Tokenizer.from_file(args.tokenizer).encode(f.read(), add_special_tokens=False).ids
    model = (load_hf(args.hf) if args.hf else load_gguf(args.gguf)).eval()
    c, half, every = args.ctx, [], []
    for i in range(min(args.chunks, len(ids) // c)):
        x = torch.tensor([ids[i * c:(i + 1) * c]])
        with torch.no_grad():
            nll = torch.nn.functional.cross_entropy(model(input_ids=x).logits[0, :-1].double(), x[0, 1:], reduction="none")
        half.append(nll[c // 2:].sum().item())
        every.append(nll.sum().item())
    n = len(half)
    doc = {"ctx": c, "chunks": n, "tokens_in_text": len(ids), "first_ids": ids[:16],
           "ppl_half": float(np.exp(sum(half) / (n * (c - 1 - c // 2)))), "ppl_all": float(np.exp(sum(every) / (n * (c - 1)))),
           "nll_half": [round(v, 6) for v in half], "nll_all": [round(v, 6) for v in every]}
    with open(args.out, "w", encoding="ascii") as f:
        json.dump(doc, f)
        f.write("\n")
    print(args.out, "half %.5f all %.5f" % (doc["ppl_half"], doc["ppl_all"]))


if __name__ == "__main__":
    main()
