#!/usr/bin/env python3
"""The trellis formats tr2, tr3, tr4 in numpy: where their levels come from, and golden vectors for decoding.

    make_trellis.py levels                       trains the level tables of src/format/private/format_trellis.c and prints them
    make_trellis.py golden OUT.safetensors       random blocks of tr2, tr3, tr4 and ovp4, decoded here

Levels start at the quantiles of the normal distribution; a few rounds of "best path through the trellis (Viterbi),
mean of what each level stands for" on normal values follow, symmetric about 0, with the largest level 127."""
import statistics
import sys

import numpy as np

STATES, WINDOW = 4096, 12
FACTOR = {2: 0xC27D, 3: 0xA051, 4: 0x105F}


def index(window, k):
    """Level index of a window, the oldest bits lowest."""
    old, new = window & ((1 << WINDOW - k) - 1), window >> (WINDOW - k)
    return (FACTOR[k] * old & 0xFFFF) >> (16 - (k + 4)) ^ new << 4


def best_path(x, values, k):
    """x [B, T], values [STATES] by window: the windows of the paths of least squared error, [B, T]."""
    rows, n = x.shape
    heads = STATES >> k
    cost, choice = np.zeros((rows, heads)), []
    for t in range(n):
        # window = head | new << (12 - k); the next head drops the k lowest bits
        total = np.tile(cost, (1, 1 << k)) + (x[:, t:t + 1] - values) ** 2
        total = total.reshape(rows, heads, 1 << k)
        choice.append(total.argmin(2))
        cost = total.min(2)
    head, path = cost.argmin(1), np.zeros((rows, n), int)
    for t in range(n - 1, -1, -1):
        path[:, t] = head << k | choice[t][np.arange(rows), head]
        head = path[:, t] & (heads - 1)
    return path


def train(k):
    n = 1 << (k + 4)
    normal = statistics.NormalDist()
    levels = np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])
    by_window = index(np.arange(STATES), k)
    for turn in range(6):
        x = np.random.default_rng(turn).standard_normal((32, 640))
        i = by_window[best_path(x, levels[by_window], k)]
        error = ((x - levels[i]) ** 2).sum() / (x ** 2).sum()
        s, c = np.bincount(i.ravel(), x.ravel(), n), np.bincount(i.ravel(), minlength=n)
        half = (s - s[::-1] + 3 * levels) / (c + c[::-1] + 3)
        levels = (half - half[::-1]) / 2
        print(f"# {k} bits, round {turn}: relative error {error:.5f}", file=sys.stderr)
    levels = np.maximum.accumulate(levels)
    levels = (levels - levels[::-1]) / 2
    return np.rint(levels * 127 / levels[-1]).astype(int), levels[-1] / 127


def decode(blocks, k, levels):
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.int64)
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    at = np.arange(256)[:, None] * k + np.arange(WINDOW)
    window = (bits[:, at % (256 * k)] << np.arange(WINDOW)).sum(2)
    return np.ascontiguousarray(d * levels[index(window, k)].astype(np.float32))


def decode_ovp4(blocks):
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    out = np.zeros((len(blocks), 64), np.float32)
    for b, block in enumerate(blocks):
        for p, byte in enumerate(block[2:]):
            codes = [int(byte) & 15, int(byte) >> 4]

            def outlier(c):
                return (-1 if c & 8 else 1) * ((2 + (c & 1)) << ((c >> 1 & 3) + 2))

            def normal(c):
                return c - 16 if c & 8 else c
            if codes[0] == 8:
                pair = [0, outlier(codes[1])]
            elif codes[1] == 8:
                pair = [outlier(codes[0]), 0]
            else:
                pair = [normal(codes[0]), normal(codes[1])]
            out[b, 2 * p:2 * p + 2] = pair
    return d * out


def c_levels(k):
    """The table as it stands in the C source."""
    import os
    import re
    src = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/format/private/format_trellis.c")
    body = re.search(r"levels_%d\[\d+\] = \{([^}]*)\}" % k, open(src).read()).group(1)
    return np.array([int(v) for v in body.replace("\n", " ").split(",") if v.strip()])


def golden(path):
    from safetensors.numpy import save_file
    rng, out = np.random.default_rng(7), {}
    for name, size in ("TR2", 66), ("TR3", 98), ("TR4", 130), ("OVP4", 34):
        blocks = rng.integers(0, 256, (16, size)).astype(np.uint8)
        scale = (rng.standard_normal(16) * 0.01).astype("<f2")
        blocks[:, :2] = scale.view(np.uint8).reshape(16, 2)
        out[name + ".codes.blocks"] = blocks
        out[name + ".codes.decoded"] = decode_ovp4(blocks) if name == "OVP4" else decode(
            blocks, int(name[2]), c_levels(int(name[2])))
    save_file(out, path)


if __name__ == "__main__":
    if sys.argv[1] == "levels":
        for bits in (2, 3, 4):
            table, unit = train(bits)
            print(f"{bits} bits: unit {unit:.6f}")
            for at in range(0, len(table), 16):
                print("    " + " ".join(f"{v}," for v in table[at:at + 16]))
    else:
        golden(sys.argv[2])
