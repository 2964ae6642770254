"""Importance matrices both ways with stock tools, and perplexity beside stock's llama-perplexity.

HT_PEER_BIN names the folder of a stock build (llama-quantize, llama-imatrix, llama-perplexity); without it only the
stored figures (tests/golden/interop/perplexity.json) are compared."""
import json
import os
import re
import subprocess

import numpy as np
from gguf import GGUFReader

import ours
import tap

PEER = os.environ.get("HT_PEER_BIN")
CALIB = os.path.join(ours.ROOT, "models", "text", "northanger-abbey.txt")
TEXT = os.path.join(ours.ROOT, "models", "text", "persuasion.txt")
LIMIT = 0.003  # of the perplexity


def peer(tool, *args):
    p = subprocess.run([os.path.join(PEER, tool)] + [str(a) for a in args], capture_output=True, text=True, errors="replace")
    return p.returncode, p.stdout + p.stderr


def entries(path):
    """{tensor: mean square per column} of an importance file in GGUF."""
    t = {t.name: t.data.astype(np.float64).ravel() for t in GGUFReader(path).tensors}
    return {k[:-len(".in_sum2")]: v / t[k[:-len(".in_sum2")] + ".counts"][0] for k, v in t.items() if k.endswith(".in_sum2")}


def fresh(name):
    path = os.path.join(ours.WORK, name)
    if os.path.exists(path):
        os.unlink(path)
    return path


def both_ways():
    if not PEER:
        tap.skip("importance with stock tools", "HT_PEER_BIN is not set")
        return
    model, mine = ours.tiny("f16"), ours.tiny_imatrix()
    dat = ours.made("tiny.imatrix.dat", "imatrix", "convert", mine)
    for path in (mine, dat):
        out = fresh("stock-with-ours.gguf")
        code, log = peer("llama-quantize", "--imatrix", path, model, out, "Q4_K_M", 2)
        used = re.search(r"loaded (\d+) importance matrix entries", log)
        tap.ok(code == 0 and os.path.exists(out) and used and int(used.group(1)) > 0,
               "llama-quantize takes our %s" % os.path.basename(path), used.group(0) if used else log[-300:])
    for ext, flag in ((".gguf", "gguf"), (".dat", "dat")):
        theirs = fresh("stock-imatrix" + ext)
        code, log = peer("llama-imatrix", "-m", model, "-f", CALIB, "-o", theirs, "-c", 512, "--chunks", 16, "-t", 2,
                         "--output-format", flag)
        if not tap.ok(code == 0 and os.path.exists(theirs), "llama-imatrix writes %s" % ext, "" if code == 0 else log[-300:]):
            continue
        out = fresh("ours-with-stock%s.gguf" % ext)
        code, doc, err = ours.halftone("quantize", model, "-o", out, "--format", "Q4_K_M", "--imatrix", theirs, "--json",
                                       check=False)
        tap.ok(code == 0, "we take llama-imatrix's %s" % ext, err.strip()[:200])
    # The same text, the same windows: the statistics themselves.
    mine16 = fresh("ours-16.imatrix.gguf")
    ours.halftone("imatrix", "collect", model, "--text", CALIB, "--tokens", 16 * 512, "-o", mine16)
    a, b = entries(mine16), entries(os.path.join(ours.WORK, "stock-imatrix.gguf"))
    worst = max(float(np.abs(a[k] - b[k]).max() / np.abs(b[k]).max()) for k in a) if a.keys() == b.keys() else 9.9
    tap.ok(a.keys() == b.keys() and worst < 0.01, "statistics of %d tensors as llama-imatrix's" % len(b),
           "largest difference %.2e of the tensor's largest; only in one: %s" % (worst, sorted(a.keys() ^ b.keys())[:4]))


def perplexity(model, text, tokens):
    doc = ours.halftone("eval", model, "--text", text, "--tokens", tokens, "--exact", "--json")[1]
    return doc["perplexity"]["mean"]


def stored():
    """Figures of llama-perplexity on the stock f16 files (ppl), and of transformers in f32 on the same windows."""
    with open(os.path.join(ours.GOLDEN, "interop", "perplexity.json")) as f:
        rows = json.load(f)["rows"]
    for row in rows:
        source, text = ours.ref_f16(row["model"]), ours.text(row["text"])
        if source is None or text is None:
            tap.skip("perplexity of %s" % row["model"], "HT_REF_DIR or HT_TEXT_DIR is not set")
            continue
        mine = perplexity(source, text, row["chunks"] * 512)
        off = abs(mine / row["llama_perplexity"] - 1)
        tap.ok(off <= LIMIT, "perplexity of %s, %d x 512 of %s" % (row["model"], row["chunks"], row["text"]),
               "ours %.4f, llama-perplexity %.4f (%.3f %% apart), transformers f32 %.4f"
               % (mine, row["llama_perplexity"], 100 * off, row["transformers_f32"]))


def live():
    if not PEER:
        tap.skip("perplexity of tiny, live", "HT_PEER_BIN is not set")
        return
    for dtype in ("f32", "f16"):
        code, log = peer("llama-perplexity", "-m", ours.tiny(dtype), "-f", TEXT, "-c", 512, "--chunks", 24, "-t", 2)
        m = re.search(r"Final estimate: PPL = ([0-9.]+)", log)
        mine = perplexity(ours.tiny(dtype), TEXT, 24 * 512)
        off = abs(mine / float(m.group(1)) - 1) if m else 9.9
        tap.ok(off <= LIMIT, "perplexity of tiny-%s, live" % dtype, "ours %.4f, stock %s (%.3f %% apart)"
               % (mine, m.group(1) if m else log[-200:], 100 * off))


tap.run(both_ways, stored, live)
