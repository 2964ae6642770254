#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden token ids from the Hugging Face `tokenizers` package.

  make_tokens.py train --text DIR_OR_FILE... --corpus corpus.jsonl --vocab 6144 --out tokenizer.json
      Trains a byte-level BPE with the Llama 3 splitter (ignore_merges on, as Llama 3 has it).
  make_tokens.py ids (--tokenizer tokenizer.json | --gguf model.gguf) --corpus x.jsonl --out x.ids
      One line of space-separated ids per JSON string of the corpus; nothing added around the text.
      --special parse|literal: special tokens written in the text become their id (default) or are
      treated as plain text. --no-normalizer drops the normalizer (Qwen2: NFC).

With --gguf the tokenizer is rebuilt from tokenizer.ggml.tokens, .merges, .token_type; the splitter
comes from the table PRE below by tokenizer.ggml.pre. It is the one of the original tokenizer.json.
"""
import argparse
import glob
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL


def split_by(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# tokenizer.ggml.pre -> (splitter, normalizer)
PRE = {
    "smollm": lambda: (pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]), None),
    "gpt-2": lambda: (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), None),
    "qwen2": lambda: (split_by(QWEN2), normalizers.NFC()),
    "llama-bpe": lambda: (split_by(LLAMA3), None),
}


def from_gguf(path):
    from gguf import GGUFReader
    fields = GGUFReader(path).fields

    def get(key):
        return fields["tokenizer.ggml." + key].contents()

    tokens = get("tokens")
    merges = [tuple(m.split(" ")) for m in get("merges")]
    types = get("token_type")
    pre = get("pre")
    tok = Tokenizer(BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges,
                        ignore_merges=pre == "llama-bpe"))
    tok.pre_tokenizer, normalizer = PRE[pre]()
    if normalizer is not None:
        tok.normalizer = normalizer
    tok.decoder = decoders.ByteLevel()
    # 3 control, 4 user-defined
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False)
                            for t, k in zip(tokens, types) if k == 3])
    tok.add_tokens([AddedToken(t, special=False, normalized=False)
                    for t, k in zip(tokens, types) if k == 4])
    return tok


def read_corpus(path):
    with open(path, encoding="ascii") as f:
        return [json.loads(line) for line in f]


def train(args):
    def texts():
        for place in args.text:
            names = sorted(glob.glob(os.path.join(place, "*.py"))) if os.path.isdir(place) else [place]
            for name in names:
                with open(name, encoding="utf-8", errors="replace") as f:
                    yield f.read()
        for path in args.corpus:
            for line in read_corpus(path):
                yield line

    tok = Tokenizer(BPE())
    tok.pre_tokenizer = split_by(LLAMA3)
    tok.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    trainer = trainers.BpeTrainer(vocab_size=args.vocab - len(special), min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(texts(), trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    doc = json.loads(tok.to_str())
    doc["model"]["ignore_merges"] = True
    with open(args.out, "w", encoding="ascii", newline="\n") as f:
        json.dump(doc, f, ensure_ascii=True, indent=None, separators=(",", ":"))
        f.write("\n")


def ids(args):
    tok = Tokenizer.from_file(args.tokenizer) if args.tokenizer else from_gguf(args.gguf)
    if args.no_normalizer:
        tok.normalizer = normalizers.Sequence([])
    tok.encode_special_tokens = args.special == "literal"
    with open(args.out, "w", encoding="ascii", newline="\n") as f:
        for line in read_corpus(args.corpus):
            f.write(" ".join(map(str, tok.encode(line, add_special_tokens=False).ids)) + "\n")
    if args.save_tokenizer:
        tok.encode_special_tokens = False
        tok.save(args.save_tokenizer, pretty=False)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    p = sub.add_parser("train")
    p.add_argument("--text", nargs="*", default=[])
    p.add_argument("--corpus", nargs="*", default=[])
    p.add_argument("--vocab", type=int, default=6144)
    p.add_argument("--out", required=True)
    p.set_defaults(fn=train)
    p = sub.add_parser("ids")
    src = p.add_mutually_exclusive_group(required=True)
    src.add_argument("--tokenizer")
    src.add_argument("--gguf")
    p.add_argument("--corpus", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--special", choices=["parse", "literal"], default="parse")
    p.add_argument("--no-normalizer", action="store_true")
    p.add_argument("--save-tokenizer", help="also save the (rebuilt) tokenizer.json here")
    p.set_defaults(fn=ids)
    args = ap.parse_args()
    args.fn(args)


if __name__ == "__main__":
    main()
