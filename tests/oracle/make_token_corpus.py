#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the mixed text corpus of the tokenizer goldens.

Every line is generated from the word lists in token_words.json and from random draws with a fixed
seed; no foreign text enters. The output holds one JSON string (ASCII, \\uXXXX escapes) per line, so
that lines may contain CR, LF, U+2028 and control characters.

Code points drawn at random come from the assigned set of Unicode 3.2 with an unchanged general
category, so that the Unicode version of a tokenizer does not decide a test. What does depend on it,
and other spiteful input (NUL, U+017F after an apostrophe, unassigned code points, very long runs),
stands in a list of its own: --edge.

The main list is cyclic over the categories: any prefix has the same mix as the whole.
"""
import argparse
import json
import os
import random
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))

SPACES = ["\t", "  ", "   ", "    ", "        ", "\t\t", " \t ", "\u00a0", "\u3000", "\u2003",
          "\u2009", "\u202f", "\u205f", "\u1680", "\r\n", "\n", "\n\n", "\r", "\n\n\n", " \n",
          "\n ", "\r\n\r\n", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\n\t", "\u200a ",
          " \u00a0", "\u3000\u3000", "    \n    ", "\n        "]
ODD = ["\u200b", "\u200c", "\u200d", "\ufeff", "\u00ad", "\u200e", "\u200f", "\u2060"]


def stable_code_points():
    """Assigned in Unicode 3.2, same general category now, by first letter of the category."""
    by_cat = {}
    old = unicodedata.ucd_3_2_0
    for cp in list(range(0x80, 0xD800)) + list(range(0xF900, 0x11000)) + list(range(0x1D000, 0x1D800)):
        ch = chr(cp)
        cat = old.category(ch)
        if cat in ("Cn", "Cs", "Co") or cat != unicodedata.category(ch):
            continue
        by_cat.setdefault(cat[0], []).append(ch)
    return by_cat


class Maker:
    def __init__(self, seed, words):
        self.rng = random.Random(seed)
        self.words = words
        self.cps = stable_code_points()
        self.scripts = [(0x0370, 0x03FF), (0x0400, 0x04FF), (0x0531, 0x0586), (0x05D0, 0x05EA),
                        (0x0621, 0x064A), (0x0905, 0x0939), (0x0E01, 0x0E30), (0x1780, 0x17B3),
                        (0x1200, 0x1340), (0x3041, 0x3094), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
                        (0xAC00, 0xD7A3)]
        self.kinds = [self.prose, self.code, self.contraction, self.chinese, self.numbers,
                      self.cyrillic, self.python_block, self.white, self.japanese, self.emoji,
                      self.prose, self.european, self.c_line, self.arabic, self.punct, self.mixed,
                      self.scatter, self.indic, self.jsonish, self.control, self.korean, self.case,
                      self.marks, self.script_run, self.url]

    # Draws. Only random(), so that the sequence does not depend on library changes.
    def n(self, lo, hi):
        return lo + int(self.rng.random() * (hi - lo + 1))

    def pick(self, seq):
        return seq[int(self.rng.random() * len(seq))]

    def chance(self, p):
        return self.rng.random() < p

    def w(self, *names):
        return self.pick(self.words[self.pick(names)])

    def recase(self, word):
        c = self.n(0, 5)
        return word.capitalize() if c == 0 else word.upper() if c == 1 else word

    def digits(self, k):
        return "".join(self.pick("0123456789") for _ in range(k))

    def ident(self):
        parts = [self.w("english", "code", "english2") for _ in range(self.n(1, 3))]
        c = self.n(0, 3)
        if c == 0:
            return "_".join(parts)
        if c == 1:
            return "".join(p.capitalize() for p in parts)
        return parts[0] + (self.digits(self.n(1, 2)) if c == 2 else "")

    # Kinds of lines.
    def prose(self):
        out = []
        for _ in range(self.n(4, 14)):
            out.append(self.recase(self.w("english", "english", "english", "english2")))
            if self.chance(0.12):
                out[-1] += self.pick([",", ".", ";", ":", "!", "?", "...", ")", "\"", " -"])
        return " ".join(out).capitalize() + self.pick([".", "!", "?", "", " ", ".\n"])

    def code(self):
        a, b, c = self.ident(), self.ident(), self.ident()
        return self.pick([
            "for (int %s = 0; %s < %s; %s++) {" % (a, a, self.digits(2), a),
            "    return %s(%s, %s);" % (a, b, self.digits(self.n(1, 6))),
            "\t%s->%s = %s[%s];" % (a, b, c, self.digits(1)),
            "if (%s != NULL && %s >= %s) goto done;" % (a, b, c),
            "#define %s(x) ((x) << %s)" % (a.upper(), self.digits(1)),
            "%s = {'%s': %s, \"%s\": [%s]}" % (a, b, self.digits(3), c, self.digits(2)),
            "<div class=\"%s\" id='%s'>&nbsp;%s</div>" % (a, b, c),
            "$ %s --%s=%s | grep -v '%s' > /dev/null 2>&1" % (a, b, self.digits(2), c),
            "SELECT %s, COUNT(*) FROM %s WHERE %s LIKE '%%%s%%';" % (a, b, c, self.digits(1)),
            "// %s: %s isn't %s" % (a, b, c),
            "let %s = (%s) => %s?.%s ?? 0x%sFF;" % (a, b, b, c, self.digits(2)),
        ])

    def c_line(self):
        return "    " * self.n(0, 3) + self.code() + self.pick(["", " /* %s */" % self.prose().strip(), "  "])

    def python_block(self):
        name, arg = self.ident(), self.ident()
        eol = self.pick(["\n", "\n", "\r\n"])
        tab = self.pick(["    ", "\t", "  "])
        return eol.join(["def %s(%s):" % (name, arg), tab + "if %s:" % arg,
                         tab * 2 + "return %s" % self.digits(self.n(1, 4)),
                         "", tab + "raise ValueError(f\"{%s!r}\")" % arg])

    def contraction(self):
        out = []
        for _ in range(self.n(3, 9)):
            tail = self.pick(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve",
                              "'M", "'lL", "'D", "\u2019s", "\u2019ll", "'", "''", "'x", "'sx", "'r"])
            out.append(self.recase(self.w("english", "english2")) + tail)
        return self.pick([" ", " ", "", "  "]).join(out)

    def numbers(self):
        out = []
        for _ in range(self.n(2, 8)):
            out.append(self.pick([
                self.digits(self.n(1, 12)), "%s.%s" % (self.digits(self.n(1, 4)), self.digits(self.n(1, 5))),
                "-%se-%s" % (self.digits(1), self.digits(2)), "%s,%s,%s" % (self.digits(1), self.digits(3), self.digits(3)),
                "20%s-0%s-1%s" % (self.digits(2), self.digits(1), self.digits(1)), "0x" + self.digits(4) + "abEF",
                "$" + self.digits(3), self.digits(2) + "%", "v" + ".".join(self.digits(1) for _ in range(3)),
                "".join(chr(self.pick([0x660, 0x966, 0xFF10, 0x6F0, 0xE50]) + self.n(0, 9)) for _ in range(self.n(1, 5))),
                self.pick(["\u00bd", "\u00b2", "\u2163", "\u2460", "\u2157", "\u3007", "\u4e09\u5341"]) + self.digits(1)]))
        return self.pick([" ", " ", "", ", ", "\n"]).join(out)

    def foreign(self, names, seps, lo=3, hi=10):
        return self.pick(seps).join(self.w(*names) for _ in range(self.n(lo, hi)))

    def chinese(self):
        return self.foreign(["chinese"], ["", "", "", " "])

    def japanese(self):
        return self.foreign(["japanese"], ["", "", " ", "\u3000"])

    def korean(self):
        return self.foreign(["korean"], [" "])

    def cyrillic(self):
        return self.foreign(["russian", "russian", "ukrainian"], [" ", " ", ", "]).capitalize()

    def arabic(self):
        return self.foreign(["arabic", "arabic", "persian", "hebrew"], [" "])

    def indic(self):
        return self.foreign(["hindi", "thai", "other"], [" ", " ", ""], 2, 6)

    def european(self):
        return self.foreign(["european", "greek", "european"], [" ", " ", ", ", "-"])

    def emoji(self):
        out = []
        for _ in range(self.n(2, 7)):
            out.append(self.pick([self.w("emoji"), self.w("emoji"), self.w("english"), self.w("symbols")]))
        return self.pick(["", " ", " "]).join(out)

    def white(self):
        out = []
        for _ in range(self.n(2, 8)):
            out.append(self.pick(SPACES))
            if self.chance(0.3):
                out.append(self.pick(SPACES + ODD))
            if self.chance(0.75):
                out.append(self.w("english", "punct", "english", "chinese", "symbols"))
            if self.chance(0.1):
                out.append(self.digits(self.n(1, 4)))
        return "".join(out)

    def punct(self):
        return "".join(self.pick([self.w("punct"), self.w("punct"), self.w("symbols"), " ", self.w("english")])
                       for _ in range(self.n(3, 14)))

    def mixed(self):
        names = [k for k in self.words]
        return self.pick(["", " ", " "]).join(self.w(*names) for _ in range(self.n(3, 12)))

    def scatter(self):
        cats = ["L", "L", "L", "M", "N", "P", "S", "Z"]
        return "".join(self.pick([self.pick(self.cps[self.pick(cats)]), self.pick("abcXYZ 019.,'\n")])
                       for _ in range(self.n(4, 24)))

    def script_run(self):
        lo, hi = self.pick(self.scripts)
        old = unicodedata.ucd_3_2_0
        out = []
        while len(out) < 12:
            ch = chr(self.n(lo, hi))
            if old.category(ch)[0] == "L" and old.category(ch) == unicodedata.category(ch):
                out.append(ch)
                if self.chance(0.2):
                    out.append(" ")
        return "".join(out)

    def marks(self):
        out = []
        for _ in range(self.n(3, 12)):
            out.append(self.pick("aeiouncAEIOU xyz"))
            for _ in range(self.n(0, 2)):
                out.append(chr(self.n(0x300, 0x315)))
        return "".join(out)

    def control(self):
        out = []
        for _ in range(self.n(2, 8)):
            out.append(chr(self.pick([self.n(1, 31), self.n(1, 31), 127, self.n(128, 159)])))
            out.append(self.w("english", "punct"))
        return "".join(out)

    def case(self):
        word = self.w("english2") + self.w("english")
        return "".join(c.upper() if self.chance(0.5) else c for c in word) + " " + self.ident() + self.digits(self.n(0, 3))

    def jsonish(self):
        obj = {self.ident(): self.n(-999, 99999), self.w("english"): [self.prose(), None, True], "x": {"y": self.w("chinese")}}
        return json.dumps(obj, ensure_ascii=self.chance(0.3), indent=self.pick([None, None, 2]))

    def url(self):
        return self.pick(["https://example.org/%s/%s?id=%s&q=%s#%s", "/usr/%s/%s-%s.%s/%s", "<%s.%s+%s@%s.example> %s"]) % (
            self.ident(), self.w("english"), self.digits(self.n(1, 8)), self.w("english"), self.w("english2"))

    def line(self, i):
        text = self.kinds[i % len(self.kinds)]()
        if self.chance(0.05):
            text = " " + text
        if self.chance(0.05):
            text = text + self.pick([" ", "  ", "\n", "\t"])
        return text[:160]


def edge_lines():
    """Input that a tokenizer may legitimately be asked to survive; each line has one subject."""
    return [
        "", " ", "  ", "\n", "\r", "\r\n", "\t", "\u00a0", "\u3000", "\u0000", "a\u0000b", "\u0000\u0000 x",
        "it'\u017f x", "it'\u017fx", "we'lL\u017f", "IT'\u017f", "'\u017f'\u017f", "K\u212a\u212bk", "\u0130'\u0131", "\u1e9e\u00df",
        "\u0378\u0379", "\u2065", "\ue000\uf8ff", "\U000f0000\U0010fffd", "\ufffd", "\ufffe\uffff", "\U0001ffff",
        "\U0010ffff", "\U0001fae8\U0001fadf", "\U00010d40\U00010d41", "\u20c0", "\U0001e4d0", "\U000323af",
        "\u180e x \u180e", "a\u180eb", "\u1c80\u1c88", "\u10d0\u1c90", "\u13a0\uab70", "\u19da\u19d0", "\u0345",
        "\x1c\x1d\x1e\x1f", "a\x1cb \x1d c", "\x85x\x85", "\u2028\u2029", "x\u200b y\u200b", "\ufeffx", "\u2060",
        "a" * 300, " " * 300, "\n" * 120, "\t" * 65, "1" * 200, "." * 200, "=" * 129, "\u6c49" * 90,
        "\U0001f600" * 40, "a\u0301" * 60, "\u0301" * 40, "ab " * 60, "'" * 50, "'s" * 40, "\r\n" * 30, " \n" * 30,
        "e\u0301", "\u00e9", "\u1100\u1161\u11a8", "\uac01", "\u212b", "\u2126", "\ufb01", "\u0958", "\u0344",
        "\u1e0b\u0323", "\u0064\u0323\u0307", "q\u0307\u0323", "\u304b\u3099", "\u304c", "\uf900\uf901",
        " \u0301", "\n\u0301", "1\u20e3", "\u0661\u0662\u0663\u0664", "\uff11\uff12\uff13\uff14", "\u00b2\u00b3\u00b9\u00bd",
        "x  y", "x   y", "x    \n    y", " \n\n \n x", "x \t y", "x\u00a0\u00a0y", "x \u3000 y", "x\r\r\ny", "\n x", "x ",
        "x  ", "x\n", "x \n", "x\n ", "!\n", "!\r\n\r\n!", " !\n\n x", "!!\n !!", "a'b'c", "''''s", " 's", " ' s", "'S'T'RE'VE'M'LL'D",
        "12345678901234567890", "1 2  3", "a1b22c333d4444", "1a", "-1", " 1", "  1", "3.14", "\u0967\u0968a", "\u2163\u2164",
    ]


def special_lines():
    """Texts with special tokens written out; a vocabulary knows only some of them."""
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    out = []
    for s in names:
        out += [s, s + s, " " + s, s + " ", "a" + s + "b", "hello " + s + " world", s + "\n", "\n" + s, s + "'s",
                s[:-1], s[1:], s.upper(), s.replace("_", " "), "<" + s + ">"]
    out += ["<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|>",
            "<|fim_prefix|>def f():\n<|fim_suffix|>\n<|fim_middle|>", "<repo_name>x<file_sep>y<|file_sep|>",
            "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "<|im_start|><|im_end|><|im_start|>", "x<|im_end|", "|im_end|>x",
            "\u4f60\u597d<|im_end|>\u4e16\u754c", "  <|im_start|>  user", "<|im_start|>user<|im_sep|>"]
    return out


def write(path, lines):
    with open(path, "w", encoding="ascii", newline="\n") as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True, help="main list")
    ap.add_argument("--lines", type=int, default=1000)
    ap.add_argument("--seed", type=int, default=20240229)
    ap.add_argument("--edge", help="also write the list of edge cases")
    ap.add_argument("--special", help="also write the list of texts with special tokens")
    args = ap.parse_args()
    with open(os.path.join(HERE, "token_words.json"), encoding="ascii") as f:
        words = json.load(f)
    maker = Maker(args.seed, words)
    write(args.out, [maker.line(i) for i in range(args.lines)])
    if args.edge:
        write(args.edge, edge_lines())
    if args.special:
        write(args.special, special_lines())


if __name__ == "__main__":
    main()
