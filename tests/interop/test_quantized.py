"""Quantized files. Exact path: logits as an independent forward pass on the decoded weights, 1e-3 of the largest.
Fast path (8-bit activations): its mean |difference| of the top-20 log-probabilities to that forward pass is not
above stock llama.cpp's on the same file.

64 positions of one text are a sample: where both round activations alike (blocks of 32), either side may come out
ahead by chance. A file fails when ours is above by more than two standard errors of the paired difference; the
mean over all files of a model has to be below stock's outright."""
import os

import numpy as np
from safetensors.numpy import load_file

import ours
import tap
from llama_numpy import LlamaNumpy
from stock import Stock

TOP, POSITIONS = 20, 64


def differences(truth, other):
    """[POSITIONS] mean |difference| over the TOP likeliest tokens of a position, and how many were compared.
    other: callable position -> {token: log-probability}."""
    rows, n = [], 0
    for p in range(len(truth) - POSITIONS, len(truth)):
        theirs = other(p)
        each = [abs(theirs[t] - truth[p, t]) for t in np.argsort(-truth[p])[:TOP] if t in theirs]
        rows.append(np.mean(each))
        n += len(each)
    return np.array(rows), n


def compare(path, ids):
    """Returns (ours, stock): mean |difference| of the fast paths, nats."""
    name = os.path.basename(path)
    truth = LlamaNumpy(path).logits(ids)
    model = ours.Model(path)
    exact = model.logits(ids, exact=True)
    error = float(np.abs(exact - truth).max() / np.abs(truth).max())
    tap.ok(error <= 1e-3, "%s: exact path against NumPy in f64" % name, "%.2e of the largest logit" % error)
    truth = ours.log_softmax(truth)
    fast = ours.log_softmax(model.logits(ids, exact=False))
    model.close()
    stock = Stock(path)
    cache = {p: dict(stock.top(ids[:p + 1], 100)) for p in range(len(ids) - POSITIONS, len(ids))}
    stock.close()
    # The same (position, token) pairs for both: those that stock names among its 100 likeliest.
    mine, n = differences(truth, lambda p: {t: fast[p, t] for t in cache[p]})
    theirs, _ = differences(truth, lambda p: cache[p])
    se = np.std(mine - theirs, ddof=1) / np.sqrt(POSITIONS)
    tap.ok(n > 0.9 * TOP * POSITIONS and np.mean(mine - theirs) <= 2 * se,
           "%s: fast path against stock, %d values" % (name, n),
           "mean |difference| %.5f nat, stock %.5f (ours - stock: standard error %.5f)" % (mine.mean(), theirs.mean(), se))
    return mine.mean(), theirs.mean()


def total(label, pairs):
    mine, theirs = np.mean(pairs, axis=0)
    tap.ok(mine <= theirs, "%s: fast path over %d files" % (label, len(pairs)), "mean %.5f nat, stock %.5f" % (mine, theirs))


def ids_of(name):
    return load_file(os.path.join(ours.GOLDEN, "logits", name + ".safetensors"))["ids"].tolist()


def tiny():
    pairs = []
    for preset in ours.names("presets"):
        code = ours.halftone("quantize", ours.tiny("f32"), "--format", preset, "--imatrix", ours.tiny_imatrix(),
                             "--dry-run", check=False)[0]
        if code == 0 and preset.upper() not in ("F32", "F16", "BF16", "Q2_0"):  # gguf-py cannot decode Q2_0
            pairs.append(compare(ours.quantized(ours.tiny("f32"), "tiny", preset, ours.tiny_imatrix()), ids_of("tiny")))
    total("tiny", pairs)


def references():
    for name in ("ref-57m", "ref-135m"):
        source = ours.ref_f16(name)
        if source is None:
            tap.skip(name, "HT_REF_DIR is not set")
            continue
        total(name, [compare(ours.quantized(source, name, preset), ids_of(name))
                     for preset in ("Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "IQ4_XS", "Q2_K")])


tap.run(tiny, references)
