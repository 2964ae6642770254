#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden data for the steps before BPE; writes into the folder that is given:

  repair.txt    hex of bytes, hex of what Python decodes with errors="replace"
  nfc.jsonl     [text, NFC of Hugging Face tokenizers]
  splits.txt    code point C, then for gpt-2, llama-bpe, qwen2 and smollm the bytes per piece of the text
                "aC C1CC'C  x", for C at the borders of the classes that the regexes name
"""
import json
import os
import random
import sys
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


SPLITTERS = [byte_level(), split(HEAD + r"\p{N}{1,3}" + TAIL), split(HEAD + r"\p{N}" + TAIL),
             pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])]


def chars():
    return (c for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def borders():
    """Code points where the class as the regexes see it changes, beyond the first planes' bulk."""
    last, out = None, []
    for c in chars():
        pieces = tuple(tuple(len(p) for p, _ in s.pre_tokenize_str(f"a{chr(c)} {chr(c)}1")) for s in SPLITTERS[:3:2])
        rel = tuple(tuple(n - len(chr(c).encode()) if n > 2 else n for n in p) for p in pieces)
        if rel != last:
            out += [c - 1, c] if c and c != 0xE000 else [c]
            last = rel
    return sorted(set(out))


def repair(path, rng):
    parts = [b"a", b"\x80", b"\xbf", b"\xc2", b"\xc1", b"\xe0", b"\xa0", b"\x9f", b"\xed", b"\xf0", b"\x90", b"\x8f",
             b"\xf4", b"\xf5", b"\xff", b"\xe4\xb8\xad", b"\xf0\x9f\x98\x80", b"\xc3\xa9", b"\xef\xbf\xbd", b"\0"]
    with open(path, "w", encoding="ascii", newline="\n") as f:
        for _ in range(1500):
            raw = b"".join(rng.choice(parts) for _ in range(1 + rng.randrange(9)))
            f.write(f"{raw.hex()} {raw.decode('utf-8', errors='replace').encode().hex()}\n")


def nfc(path, rng):
    norm = normalizers.NFC()
    marks = [c for c in chars() if unicodedata.combining(chr(c))]
    every = list(chars())
    composed = [c for c in every if unicodedata.decomposition(chr(c))[:1] not in ("", "<")]
    texts = [chr(m) + "\u0301a" + chr(m) + "e" + chr(m) + "\u0327\u0301" for m in marks]
    texts += ["a" + "".join(chr(rng.choice(marks)) for _ in range(rng.randrange(9))) + "z" for _ in range(800)]
    texts += [unicodedata.normalize("NFD", chr(c)) + "\u0301 " + chr(c) for c in rng.sample(composed, 500)]
    texts += ["".join(chr(rng.choice(rng.choice((every, marks, composed)))) for _ in range(10)) for _ in range(500)]
    texts += ["\u1100\u1161\u11a8\uac00\u11a8\u1100", "\U00011935\U00011930\u0301", "\u2126\u212b\u0340"]
    with open(path, "w", encoding="ascii", newline="\n") as f:
        f.writelines(json.dumps([t, norm.normalize_str(t)]) + "\n" for t in texts)


def splits(path):
    with open(path, "w", encoding="ascii", newline="\n") as f:
        for c in borders():
            ch = chr(c)
            text = f"a{ch} {ch}1{ch}{ch}'{ch}  x"
            sizes = [",".join(str(len(p)) for p, _ in s.pre_tokenize_str(text)) for s in SPLITTERS]
            f.write(f"{c:x} {' '.join(sizes)}\n")


def main():
    out, rng = sys.argv[1], random.Random(11)
    repair(os.path.join(out, "repair.txt"), rng)
    nfc(os.path.join(out, "nfc.jsonl"), rng)
    splits(os.path.join(out, "splits.txt"))


if __name__ == "__main__":
    main()
