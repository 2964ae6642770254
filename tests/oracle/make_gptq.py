#!/usr/bin/env python3
"""Golden codes of GPTQ: tests/golden/round/gptq.txt, read by tests/unit/test_round_codes.c.

    make_gptq.py OUT.txt

GPTQ in float64 as the paper writes it (arXiv 2210.17323, algorithm 1): H^-1 by numpy, U its upper Cholesky factor,
e = (w_i - q_i) / U_ii, w_j -= e U_ij for j > i. It shares nothing with the C code, which works on H = R R^T and hands
errors on by its columns. Inputs are whole numbers from a linear congruential generator that both sides run, so H is
exact. Scales are rounded to float16, as stored. Cases whose decision comes closer than MARGIN of a step to a tie are
refused, and those whose zero does (0.01: it may be found before the scale is rounded): there float32 may decide
otherwise.
"""
import sys

import numpy as np

ROWS, COLS, TOKENS, DAMPING, MARGIN = 6, 96, 160, 0.01, 2e-4


def generator(seed):
    x = seed
    while True:
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        yield x >> 33


def data(seed):
    g = generator(seed)
    X = np.zeros((TOKENS, COLS))
    for t in range(TOKENS):
        walk = 0
        for j in range(COLS):
            walk = walk // 2 + next(g) % 41 - 20
            X[t, j] = walk * (1 + j * 7919 % 5)
    W = np.array([[next(g) % 4001 - 2000 for _ in range(COLS)] for _ in range(ROWS)]) / 4096.0
    H = (X.T @ X).astype(np.float64) / 4096.0
    return W, H


def grid(x, asym):
    """Scale and zero from the smallest and largest value."""
    lo, hi = x.min(), x.max()
    if asym:
        lo, hi = min(lo, 0), max(hi, 0)
        s = np.float64(np.float16(np.float32(hi - lo) / np.float32(15)))
        z = -lo / s
        return s, float(np.clip(np.rint(z), 0, 15)), abs(z - np.floor(z) - 0.5) > 0.01
    return np.float64(np.float16(np.float32(max(hi / 7, lo / -8)))), 0.0, True


def gptq(W, H, group, asym, order, dynamic):
    d = np.diag(H).copy()
    n = COLS
    if order == "natural":
        perm = np.arange(n)
    elif order == "falling":
        perm = np.argsort(-d, kind="stable")
    else:  # groups
        firsts = sorted(range(0, n, group), key=lambda f: (-d[f:f + group].sum(), f))
        perm = np.concatenate([np.array(sorted(range(f, f + group), key=lambda j: (-d[j], j))) for f in firsts])
    Hd = H + np.eye(n) * DAMPING * d.mean()
    inv = np.linalg.inv(Hd[np.ix_(perm, perm)])
    U = np.linalg.cholesky(inv).T
    lo, hi = (0, 15) if asym else (-8, 7)
    codes = np.zeros((ROWS, n), int)
    scales = np.zeros((ROWS, n // group))
    margin = 1.0
    for r in range(ROWS):
        w = W[r].copy()
        grids = [grid(W[r, f:f + group], asym) for f in range(0, n, group)]
        for i, col in enumerate(perm):
            k = col // group
            if dynamic and (i == 0 or perm[i - 1] // group != k):
                grids[k] = grid(w[k * group:(k + 1) * group], asym)
            s, z, clear = grids[k]
            margin = margin if clear else 0.0
            x = w[col] / s + z
            if lo - 0.5 < x < hi + 0.5:
                margin = min(margin, abs(x - np.floor(x) - 0.5))
            c = int(np.clip(np.rint(x), lo, hi))
            codes[r, col] = c
            e = (w[col] - s * (c - z)) / U[i, i]
            w[perm[i + 1:]] -= e * U[i, i + 1:]
        scales[r] = [g[0] for g in grids]
    return codes, scales, margin


def main():
    with open(sys.argv[1], "w") as out:
        out.write(f"# tests/oracle/make_gptq.py: rows {ROWS}, columns {COLS}, tokens {TOKENS}, damping {DAMPING}\n"
                  "# case: scheme order static|dynamic seed; then per row its codes, then its scales\n")
        for scheme, group, asym in [("int4:g32", 32, False), ("uint4:g32:asym", 32, True), ("int4:channel:scale=f16", 96, False)]:
            for order, dynamic in [("natural", False), ("falling", False), ("natural", True), ("groups", True)]:
                for seed in range(1, 400):
                    W, H = data(seed)
                    codes, scales, margin = gptq(W, H, group, asym, order, dynamic)
                    if margin > MARGIN:
                        break
                else:
                    raise SystemExit(f"{scheme} {order}: every seed comes too close to a tie")
                out.write(f"case {scheme} {order} {'dynamic' if dynamic else 'static'} {seed}\n")
                for r in range(ROWS):
                    out.write(" ".join(map(str, codes[r])) + "\n" + " ".join(f"{s:.9g}" for s in scales[r]) + "\n")


main()
