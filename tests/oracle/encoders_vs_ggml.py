#!/usr/bin/env python3
"""Encoders against ggml's quantizer: error and CPU time per weight, type by type.

    encoders_vs_ggml.py LIBGGML [MODEL] [--rows N] [--types T,T]

LIBGGML: a shared library that exports ggml_quantize_chunk; that of the pip package xllamacpp does
(site-packages/xllamacpp/xllamacpp.abi3.so). The encoders of src/format are compiled with cc into a temporary
shared object. Rows: Gaussian, Student t with 5 degrees of freedom (both with log-normal importance), and up to
N rows of each matrix of a model, a bf16 safetensors file (models/tiny) or a GGUF file (needs the package gguf). Both sides are decoded by our decoder, which is bit
for bit ggml's (tests/unit/test_format_golden.c). Printed per type and rows: sum of squared error, ours over
ggml's (w: weighted by importance), and ns per weight of both. Exit status 1 when a ratio is above 1. Needs numpy."""
import argparse
import ctypes
import glob
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEED_WEIGHTS = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs")
GLUE = r"""
#include <time.h>
#include "format/format.h"
static double now(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
typedef size_t (*chunk_fn)(int, const float *, void *, int64_t, int64_t, int64_t, const float *);
double ours(const char *name, const float *x, const float *w, void *dst, size_t rows, size_t n) {
    const struct ht_format *f = ht_format_find(name);
    double start = now();
    for (size_t r = 0; r < rows; r++) { f->encode(x + r * n, w, (uint8_t *)dst + r * ht_format_row_bytes(f, n), n); }
    return now() - start;
}
double theirs(void *fn, int type, const float *x, const float *w, void *dst, size_t rows, size_t n) {
    double start = now();
    ((chunk_fn)fn)(type, x, dst, 0, (int64_t)rows, (int64_t)n, w);
    return now() - start;
}
int row(size_t i, const char **name, int *type, unsigned *elems, unsigned *bytes) {
    const struct ht_format *f = ht_format_at(i);
    if (!f) { return -1; }
    *name = f->name; *type = f->gguf_type; *elems = f->block_elems; *bytes = f->block_bytes;
    return f->fit != 0;
}
void decode(const char *name, const void *src, float *x, size_t n) { ht_format_find(name)->decode(src, x, n); }
"""


def build(folder):
    glue, lib = os.path.join(folder, "glue.c"), os.path.join(folder, "format.so")
    with open(glue, "w") as f:
        f.write(GLUE)
    src = os.path.join(ROOT, "src")
    files = sorted(glob.glob(os.path.join(src, "format", "**", "*.c"), recursive=True))
    files += [os.path.join(src, "base", n) for n in ("mem.c", "error.c", "nearest.c")]
    subprocess.check_call(["cc", "-std=c11", "-O3", "-D_GNU_SOURCE", "-ffp-contract=off", "-fno-math-errno",
                           "-fno-trapping-math", "-shared", "-fPIC", "-I" + src, "-I" + os.path.join(ROOT, "include"),
                           "-o", lib, glue] + files + ["-lm"])
    return ctypes.CDLL(lib)


def formats(lib):
    lib.row.argtypes = [ctypes.c_size_t] + [ctypes.c_void_p] * 4
    i, out = 0, {}
    while True:
        name, kind, elems, size = ctypes.c_char_p(), ctypes.c_int(), ctypes.c_uint(), ctypes.c_uint()
        grid = lib.row(i, *(ctypes.byref(v) for v in (name, kind, elems, size)))
        if grid < 0:
            return out
        if grid and 0 <= kind.value < 0x48540000:
            out[name.value.decode()] = (kind.value, elems.value, size.value)
        i += 1


def bf16_matrices(path, limit):
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    for name, t in sorted(json.loads(data[8:8 + n]).items()):
        if name != "__metadata__" and t["dtype"] == "BF16" and len(t["shape"]) == 2:
            a, b = t["data_offsets"]
            u = np.frombuffer(data[8 + n + a:8 + n + b], "<u2").astype(np.uint32) << 16
            yield u.view(np.float32).reshape(t["shape"])[:limit]


def gguf_matrices(path, limit):
    from gguf import GGUFReader, dequantize
    for t in GGUFReader(path).tensors:
        if len(t.shape) == 2 and t.shape[1] > 1:
            yield dequantize(t.data[:limit], t.tensor_type).astype(np.float32)


def address(a):
    return None if a is None else a.ctypes.data_as(ctypes.c_void_p)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("libggml")
    p.add_argument("model", nargs="?")
    p.add_argument("--rows", type=int, default=64)
    p.add_argument("--types", default="")
    a = p.parse_args()
    ggml = ctypes.CDLL(a.libggml)
    chunk = ctypes.cast(ggml.ggml_quantize_chunk, ctypes.c_void_p)
    rng = np.random.default_rng(5)
    sets = {"gauss": [0.02 * rng.standard_normal((256, 1024))], "t5": [0.02 * rng.standard_t(5, (256, 1024))]}
    if a.model:
        sets["model"] = list((gguf_matrices if a.model.endswith(".gguf") else bf16_matrices)(a.model, a.rows))
    worse = 0
    with tempfile.TemporaryDirectory() as folder:
        lib = build(folder)
        lib.ours.restype = lib.theirs.restype = ctypes.c_double
        lib.ours.argtypes = [ctypes.c_char_p] + [ctypes.c_void_p] * 3 + [ctypes.c_size_t] * 2
        lib.theirs.argtypes = [ctypes.c_void_p, ctypes.c_int] + [ctypes.c_void_p] * 3 + [ctypes.c_size_t] * 2
        lib.decode.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        for name, (kind, elems, size) in formats(lib).items():
            if a.types and name not in a.types.split(","):
                continue
            ggml.ggml_quantize_init(kind)
            line = f"{name:7s}"
            for label, mats in sets.items():
                for weighted in (True, False):
                    err, sec, count = [0.0, 0.0], [0.0, 0.0], 0
                    for m in mats:
                        rows, n = m.shape
                        if n % elems:
                            continue
                        x = np.ascontiguousarray(m, np.float32)
                        h = np.exp(np.random.default_rng(n).standard_normal(n)).astype(np.float32)
                        w = h if weighted else None
                        y = np.empty_like(x)
                        energy = ((x.astype(np.float64) ** 2) * (h if weighted else 1)).sum()
                        for side in (0, 1):
                            dst = np.zeros(rows * n // elems * size, np.uint8)
                            v = np.ones_like(h) if side == 1 and w is None and name in NEED_WEIGHTS else w
                            args = (address(x), address(v), address(dst), rows, n)
                            sec[side] += lib.ours(name.encode(), *args) if side == 0 else lib.theirs(chunk, kind, *args)
                            lib.decode(name.encode(), address(dst), address(y), rows * n)
                            err[side] += (((x.astype(np.float64) - y) ** 2) * (h if weighted else 1)).sum() / energy
                        count += rows * n
                    if count:
                        ratio = err[0] / err[1]
                        worse += ratio > 1
                        line += (f" | {label}{'.w' if weighted else '  '} {ratio:.3f} {sec[0] / count * 1e9:5.1f}/"
                                 f"{sec[1] / count * 1e9:5.1f} ns")
            print(line, flush=True)
    print(f"{worse} ratios above 1")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
