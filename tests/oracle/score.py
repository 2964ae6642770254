"""Golden scores for tests/unit/test_eval_score.c, in Python's floats with exactly rounded sums (math.fsum).
Usage: score.py. Each printed row: vocab, spread, noise, nll, reference nll, KL divergence."""
import math
import struct


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def rows(vocab, spread, noise):
    ref = [f32(((i * 7919 + 104729) % 20011) / 20011 * spread) for i in range(vocab)]
    q = [f32(r + ((i * 104729 + 7919) % 10007 / 10007 - 0.5) * noise) for i, r in enumerate(ref)]
    return ref, q


def lse(x):
    m = max(x)
    return m + math.log(math.fsum(math.exp(v - m) for v in x))


for vocab, spread, noise in ((2, 5, 1), (7, 30, 0.5), (1000, 12, 3), (49152, 25, 0.01), (151936, 8, 2), (511, 900, 50)):
    ref, q = rows(vocab, spread, noise)
    lr, lq = lse(ref), lse(q)
    target = vocab // 3
    kld = math.fsum(math.exp(r - lr) * ((r - lr) - (v - lq)) for r, v in zip(ref, q))
    print(f"        {{{vocab}, {spread}, {noise}, {lq - q[target]!r}, {lr - ref[target]!r}, {kld!r}}},")
