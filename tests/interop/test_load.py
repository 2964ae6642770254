"""Stock llama.cpp loads every file we write, splits included, tokenizes as we do and predicts from it."""
import glob
import json
import math
import os

import ours
import tap
from stock import Stock

CORPUS = os.path.join(ours.GOLDEN, "token", "corpus.jsonl")
PROMPT = os.path.join(ours.ROOT, "tests", "oracle", "prompt.txt")


def lines(n):
    with open(CORPUS, encoding="ascii") as f:
        return [json.loads(line) for line in f][:n]


def check_file(path, n_lines):
    """Loads, compares the ids of n_lines, asks for predictions."""
    name = os.path.basename(path)
    try:
        stock = Stock(path)
    except Exception as e:
        tap.ok(False, "stock loads %s" % name, str(e)[:300])
        return
    model = ours.Model(path)
    corpus = lines(n_lines)
    wrong = [line for line in corpus if model.tokenize(line) != stock.tokenize(line)]
    top = stock.top(model.tokenize(open(PROMPT).read())[:64], 5)
    tap.ok(len(corpus) == n_lines and not wrong and all(math.isfinite(v) for _, v in top),
           "stock loads %s, same ids of %d lines" % (name, n_lines), ascii(wrong[:2]) if wrong else "")
    model.close()
    stock.close()


def floats():
    for dtype in ("f32", "f16", "bf16"):
        check_file(ours.tiny(dtype), 1000 if dtype == "f16" else 30)


RECIPE = """name: turned
summary: "rotation alone"
weights: {transform: [rotate], format: %s}
"""


def turned():
    """A rotation that folds leaves a plain file: stock computes with it what it computes with the source."""
    for dtype, limit in (("f32", 1e-3), ("f16", 2e-2)):
        recipe = os.path.join(ours.WORK, "turned-%s.yaml" % dtype)
        with open(recipe, "w", encoding="ascii") as f:
            f.write(RECIPE % dtype)
        path = ours.made("tiny-turned-%s.gguf" % dtype, "quantize", ours.tiny("f32"), "--recipe", recipe)
        check_file(path, 30)
        ids = ours.Model(path).tokenize(open(PROMPT).read())[:64]
        tops = []
        for file in (ours.tiny("f32"), path):
            stock = Stock(file, f32_cache=True)
            tops.append(dict(stock.top(ids, 50)))
            stock.close()
        both = [t for t in tops[0] if t in tops[1]]
        most = max(abs(tops[0][t] - tops[1][t]) for t in both)
        tap.ok(len(both) >= 45 and most < limit, "stock: %s turned predicts as its source" % dtype,
               "%d of 50 tokens, at most %.2e nat apart" % (len(both), most))


def presets():
    """Each preset of this build, with and without importance; those that need it refuse without."""
    for preset in ours.names("presets"):
        for imatrix in (None, ours.tiny_imatrix()):
            trial = os.path.join(ours.WORK, "trial.gguf")
            code, _, err = ours.halftone("quantize", ours.tiny("f32"), "--format", preset, "-o", trial, "--force",
                                         *(["--imatrix", imatrix] if imatrix else []), check=False)
            if code != 0:
                tap.ok(imatrix is None and code in (2, 3) and "imatrix" in err and not os.path.exists(trial), "%s without importance is refused" % preset,
                       err.strip()[:200])
                continue
            os.remove(trial)
            check_file(ours.quantized(ours.tiny("f32"), "tiny", preset, imatrix), 10)


def refused(path):
    """A type of our own: stock must not take the file for something else."""
    try:
        Stock(path).close()
        tap.ok(False, "stock refuses %s" % os.path.basename(path), "it loads")
    except Exception:
        tap.ok(True, "stock refuses %s" % os.path.basename(path))


def formats():
    """Each format that GGUF can carry, as the one format of the file."""
    done = {p.lower() for p in ours.names("presets")}
    for row in ours.halftone("list", "formats", "--json")[1]:
        if row["name"].lower() not in done and row["kind"] != "int":
            code, _, err = ours.halftone("quantize", ours.tiny("f32"), "--format", row["name"], "--dry-run", check=False)
            if code != 0:
                tap.skip("format %s" % row["name"], err.strip()[:160])
            elif row["gguf_type"] >= ours.PRIVATE:
                refused(ours.quantized(ours.tiny("f32"), "tiny", row["name"]))
            else:
                check_file(ours.quantized(ours.tiny("f32"), "tiny", row["name"], ours.tiny_imatrix()), 10)


def splits():
    for label, command in (("convert", ["convert", ours.TINY, "--dtype", "f16"]),
                           ("quantize", ["quantize", ours.tiny("f32"), "--format", "Q8_0"])):
        stem = os.path.join(ours.WORK, "split-%s" % label)
        for old in glob.glob(stem + "*"):
            os.unlink(old)
        ours.halftone(*command, "-o", stem + ".gguf", "--shard-size", "2M")
        parts = sorted(glob.glob(stem + "*.gguf"))
        tap.ok(len(parts) > 1 and parts[0].endswith("-00001-of-%05d.gguf" % len(parts)), "%s makes splits" % label,
               " ".join(map(os.path.basename, parts)))
        check_file(parts[0], 10)


def references():
    for name in ("ref-57m", "ref-135m"):
        source = ours.ref_f16(name)
        if source is None:
            tap.skip(name, "HT_REF_DIR is not set")
            continue
        check_file(source, 200)
        for preset in ("Q8_0", "Q4_K_M", "Q2_K"):
            check_file(ours.quantized(source, name, preset), 10)


tap.run(floats, turned, presets, formats, splits, references)
