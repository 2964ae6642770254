#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden ids for added tokens: lstrip, rstrip, single_word, normalized, special or not, one inside another.

  make_added.py OUT     writes OUT/{plain,nfc}/tokenizer.json, OUT/cases.jsonl,
                        OUT/{plain,nfc}.ids and OUT/{plain,nfc}-literal.ids (Hugging Face tokenizers)
"""
import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# text, special, lstrip, rstrip, single_word, normalized
TOKENS = [("<s>", 1, 0, 0, 0, 0), ("<left>", 1, 1, 0, 0, 0), ("<right>", 1, 0, 1, 0, 0),
          ("<both>", 0, 1, 1, 0, 0), ("word", 0, 0, 0, 1, 0), ("<norm>", 0, 0, 0, 0, 1),
          ("caf\u00e9", 0, 0, 0, 0, 1), ("<s", 0, 0, 0, 0, 0), ("<s>>", 0, 0, 0, 0, 0),
          ("  ", 0, 0, 0, 0, 0), ("wordy", 0, 0, 0, 1, 0), ("<l\u0301>", 1, 0, 0, 0, 0)]
PARTS = ["<s>", "<left>", "<right>", "<both>", "word", "<norm>", "caf\u00e9", "cafe\u0301", "<s", "<s>>", "  ",
         " ", "\n", "\t ", "\u3000", "a", "1", "_", "\u0301", "wordy", "words", "e", "<", ">", "\u00e9", "-",
         "<l\u0301>", "\u200b", "\u0661", "\u4e2d", "\u2460", "\u0345", "."]


def build(normalizer):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = [("w", "o"), ("wo", "r"), ("wor", "d"), ("\u0120", "a"), ("c", "a"), ("\u00c3", "\u00a9"), ("\u0120", "\u0120")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    tok = Tokenizer(BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    if normalizer:
        tok.normalizer = normalizer
    for text, special, lstrip, rstrip, single, normalized in TOKENS:
        token = AddedToken(text, special=bool(special), lstrip=bool(lstrip), rstrip=bool(rstrip),
                           single_word=bool(single), normalized=bool(normalized))
        (tok.add_special_tokens if special else tok.add_tokens)([token])
    return tok


def main():
    out = sys.argv[1]
    rng = random.Random(7)
    cases = ["".join(PARTS[int(rng.random() * len(PARTS))] for _ in range(1 + int(rng.random() * 7)))
             for _ in range(600)]
    with open(os.path.join(out, "cases.jsonl"), "w", encoding="ascii", newline="\n") as f:
        f.writelines(json.dumps(c) + "\n" for c in cases)
    for name, normalizer in (("plain", None), ("nfc", normalizers.NFC())):
        tok = build(normalizer)
        os.makedirs(os.path.join(out, name), exist_ok=True)
        with open(os.path.join(out, name, "tokenizer.json"), "w", encoding="ascii", newline="\n") as f:
            json.dump(json.loads(tok.to_str()), f, separators=(",", ":"))
            f.write("\n")
        for suffix, literal in (("", False), ("-literal", True)):
            tok.encode_special_tokens = literal
            with open(os.path.join(out, name + suffix + ".ids"), "w", encoding="ascii", newline="\n") as f:
                f.writelines(" ".join(map(str, tok.encode(c, add_special_tokens=False).ids)) + "\n" for c in cases)


if __name__ == "__main__":
    main()
