#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the code points that normalization form C treats otherwise in Unicode 18 (pip package unicodedata2)
than in Hugging Face tokenizers (Unicode 9): marks and compositions that came later. src/token/normalize.c
leaves them alone, whichever version its library has."""
import unicodedata2
from tokenizers import normalizers

NFC, NFD = normalizers.NFC(), normalizers.NFD()


def differs(cp):
    ch = chr(cp)
    probe = ch + "\u0301a" + ch + "e" + ch + "\u0327\u0301"
    return NFC.normalize_str(probe) != unicodedata2.normalize("NFC", probe)


def main():
    late = set()
    for cp in filter(lambda c: not 0xD800 <= c < 0xE000, range(0x110000)):
        parts = [ord(c) for c in unicodedata2.normalize("NFD", chr(cp))]
        composed_late = NFD.normalize_str(chr(cp)) != "".join(map(chr, parts))
        if differs(cp) or composed_late:
            late.add(cp)
        if composed_late:  # keep the parts from meeting: cut at the last one, or at the base where that is old
            late.update(p for p in parts[1:] if p > 0x1000)
            late.update(parts[:1] if parts[1] < 0x1000 else [])
    ranges = []
    for cp in sorted(late):
        if ranges and ranges[-1][1] == cp - 1:
            ranges[-1][1] = cp
        else:
            ranges.append([cp, cp])
    line = "   "
    for a, b in ranges:
        item = f" {{0x{a:X}, 0x{b:X}}},"
        if len(line) + len(item) > 108:
            print(line)
            line = "   "
        line += item
    print(line)


if __name__ == "__main__":
    main()
