#!/usr/bin/env python3
"""Golden data of the small float formats and of bitsandbytes' 4-bit storage: tests/golden/formats/codes.safetensors.

    pip install numpy safetensors ml_dtypes torch bitsandbytes
    python tests/oracle/make_codes.py

Per small float F: F.levels (value of every pattern), F.x (f32 inputs: every value, every tie and the floats next to
it, beyond the largest, tiny, random bits), F.code (ml_dtypes, not saturating), F.sat (inputs clamped first).
tf32.x, tf32.y: rounding in exact rational arithmetic. bnb.*: what bitsandbytes stores for a flat tensor.
"""
import gc
import os
import types
from fractions import Fraction

import bitsandbytes.functional as B
import ml_dtypes
import numpy as np
import torch
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "golden", "formats", "codes.safetensors")
rng = np.random.default_rng(20261122)
out = {}

REALS = {
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, 8), "fp8_e5m2": (ml_dtypes.float8_e5m2, 8),
    "fp6_e2m3": (ml_dtypes.float6_e2m3fn, 6), "fp6_e3m2": (ml_dtypes.float6_e3m2fn, 6),
    "fp4_e2m1": (ml_dtypes.float4_e2m1fn, 4), "e8m0": (ml_dtypes.float8_e8m0fnu, 8),
}


def random_floats(n):
    bits = rng.integers(0, 2**32, n, dtype=np.uint32)
    x = bits.view(np.float32)
    return x[np.isfinite(x)]


for name, (dtype, bits) in REALS.items():
    levels = np.arange(2**bits, dtype=np.uint8).view(dtype).astype(np.float32)
    finite = np.unique(levels[np.isfinite(levels)].astype(np.float64))
    ties = (finite[:-1] + finite[1:]) / 2
    top = finite[-1] + (finite[-1] - finite[-2]) / 2
    x = np.concatenate([finite, ties, [top, 2 * top, 1e30, 3e38, 1e-30, 1e-45, 0.0, np.inf]]).astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    if name != "e8m0":
        x = np.concatenate([x, -x, rng.normal(0, 1, 500).astype(np.float32), random_floats(300)])
    else:
        x = np.concatenate([x[x > 0], np.abs(random_floats(800))])
        # subnormal f32: ml_dtypes takes everything above 2^-127 to 2^-126, not to the nearest
        x = x[(x >= np.float32(2.0**-126)) | (x == np.float32(2.0**-127))]
    x = x[~np.isnan(x)].astype(np.float32)
    largest = np.float32(finite[-1])
    out[name + ".levels"] = levels
    out[name + ".x"] = x
    out[name + ".code"] = x.astype(dtype).view(np.uint8)
    out[name + ".sat"] = np.clip(x, -largest, largest).astype(dtype).view(np.uint8)


def tf32(x):
    """Nearest value with 10 mantissa bits (quantum 2^-136 below the normal range), ties to even."""
    if x == 0 or not np.isfinite(x):
        return x
    f = Fraction(float(x))
    e = max(int(np.frexp(np.float64(abs(x)))[1]) - 1, -126)
    q = Fraction(2) ** (e - 10)
    n = f / q
    low = n.numerator // n.denominator
    rest = n - low
    low += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1)
    v = float(low * q)
    return np.float32(v) if abs(v) < 2.0**128 else np.float32(np.copysign(np.inf, v))


x = random_floats(2000)
x = np.concatenate([x, (x.view(np.uint32) & 0xFFFFF000).view(np.float32),
                    np.array([0, -0.0, 3.4028235e38, 1e-45, 1.1754944e-38, np.inf], np.float32)])
out["tf32.x"] = x
out["tf32.y"] = np.array([tf32(v) for v in x], np.float32)

# bitsandbytes' generic quantize_blockwise: registered without a name, and hidden by the CPU kernel
generic_blockwise, = [f for f in gc.get_objects() if isinstance(f, types.FunctionType)
                      and f.__module__ == "bitsandbytes.backends.default.ops"
                      and f.__code__.co_varnames[:3] == ("A", "code", "blocksize")]

# bitsandbytes: a flat tensor whose length no block divides; zero blocks, ties, one-sided blocks, wide ranges
n = 64 * 300 + 40
w = rng.standard_t(5, n).astype(np.float32) * np.exp(rng.normal(-4, 1, n // 64 + 1)).repeat(64)[:n].astype(np.float32)
w[64:128] = 0
w[128:192] = np.abs(w[128:192])
w[192:256] = w[192]
w[256:320] = np.tile(np.array([1, -1, 0, -0.0, 1e-3, -1e-3, 0.002604167, -0.002604167], np.float32), 8)
for i, quant_type in enumerate(("nf4", "fp4")):
    levels = np.unique(B.get_4bit_type(quant_type, device="cpu").numpy())
    ties = ((levels[:-1] + levels[1:]) / 2).astype(np.float32)
    base = 320 + 64 * i
    w[base:base + 64] = 0
    w[base] = 1
    w[base + 1:base + 1 + len(ties)] = ties
    w[base + 20:base + 20 + len(ties)] = np.nextafter(ties, np.float32(1))
t = torch.from_numpy(w)
out["bnb.x"] = w
for quant_type in ("nf4", "fp4"):
    for block in (64, 256):
        packed, state = B.quantize_4bit(t, blocksize=block, quant_type=quant_type)
        key = f"bnb.{quant_type}.{block}"
        out[key + ".packed"] = packed.reshape(-1).numpy()
        out[key + ".absmax"] = state.absmax.numpy()
        if block == 64:
            out[key + ".values"] = B.dequantize_4bit(packed, state).reshape(-1).numpy()
    packed, state = B.quantize_4bit(t, blocksize=64, quant_type=quant_type, compress_statistics=True)
    key = f"bnb.{quant_type}.nested"
    # The compiled CPU kernel of 0.50.2 looks second-level codes up on a coarse grid and misses the nearest level near
    # zero; the CUDA kernel and bitsandbytes' own generic kernel find it.
    _, single = B.quantize_4bit(t, blocksize=64, quant_type=quant_type)
    coarse = state.absmax
    state.absmax, state.state2.absmax = generic_blockwise(single.absmax - state.offset, B.create_dynamic_map(), 256)
    print(quant_type, "second-level codes that the compiled kernel misses:", int((coarse != state.absmax).sum()))
    out[key + ".packed"] = packed.reshape(-1).numpy()
    out[key + ".absmax"] = state.absmax.numpy()
    out[key + ".nested_absmax"] = state.state2.absmax.numpy()
    out[key + ".offset"] = state.offset.reshape(1).numpy()
    out[key + ".values"] = B.dequantize_4bit(packed, state).reshape(-1).numpy()
    out[f"bnb.{quant_type}.levels"] = B.get_4bit_type(quant_type, device="cpu").numpy()
out["bnb.dynamic"] = B.create_dynamic_map().numpy()

save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, OUT)
os.chmod(OUT, 0o644)
