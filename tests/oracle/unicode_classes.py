#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the ranges of \\p{L} and \\p{N} in Hugging Face tokenizers' regexes that Unicode 14 (PCRE2 10.42)
does not have, as the PCRE2 class text of src/token/splitter.c, and what Digits takes beyond \\p{N}.
Run with a Python whose unicodedata is version 14 (3.11)."""
import unicodedata

from tokenizers import Regex, pre_tokenizers

BLOCKS = [[c for c in range(b, b + 256) if not 0xD800 <= c < 0xE000 and c != 10] for b in range(0, 0x110000, 256)]


def members(splitter):
    """Code points that the splitter sets apart from the line feeds around them."""
    out = set()
    for block in filter(None, BLOCKS):
        for piece, _ in splitter.pre_tokenize_str("".join("\n" + chr(c) for c in block)):
            if len(piece) == 1 and piece != "\n":
                out.add(ord(piece))
    return out


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def text(points):
    return "".join(f"\\x{{{a:x}}}" + (f"-\\x{{{b:x}}}" if a != b else "") for a, b in ranges(points))


def category(letter):
    return {c for c in range(0x110000) if unicodedata.category(chr(c))[0] == letter}


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    regex = {k: members(pre_tokenizers.Split(Regex(r"\p{%s}" % k), behavior="isolated", invert=False)) for k in "LN"}
    for k in "LN":
        gone = category(k) - regex[k]
        assert not gone, gone
        print(f"{k} since Unicode 14:", text(regex[k] - category(k)))
    digits = members(pre_tokenizers.Digits(individual_digits=True))
    print("Digits beyond N:", text(digits - regex["N"]), "without:", text(regex["N"] - digits))


if __name__ == "__main__":
    main()
