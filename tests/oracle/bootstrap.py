"""Golden intervals for tests/unit/test_stats.c from scipy: BCa bootstrap of a ratio of sums over blocks, at the
widened confidence level of docs/evaluation.md. Usage: bootstrap.py > tests/golden/bootstrap.txt

Each line: name n mean low high tolerance_of_low tolerance_of_high, then n pairs "sum count". The tolerance is
six standard errors of an interval end with 20,000 resamples, estimated by repeating scipy's with that many."""
import numpy as np
from scipy import stats


def ratio(s, c, axis=-1):
    return np.sum(s, axis=axis) / np.sum(c, axis=axis)


def case(name, sums, counts):
    n = len(sums)
    alpha = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))

    def run(resamples, seed):
        r = stats.bootstrap((sums, counts), ratio, paired=True, vectorized=True, method="BCa", batch=1000,
                            confidence_level=1 - 2 * alpha, n_resamples=resamples,
                            random_state=np.random.default_rng(seed))
        return r.confidence_interval.low, r.confidence_interval.high

    low, high = run(400_000, 0)
    ends = np.array([run(20_000, 1 + i) for i in range(12)])
    tol = 6 * ends.std(axis=0, ddof=1)
    print(name, n, repr(float(ratio(sums, counts))), repr(float(low)), repr(float(high)), repr(float(tol[0])),
          repr(float(tol[1])))
    print(" ".join(f"{float(s)!r} {float(c)!r}" for s, c in zip(sums, counts)))


rng = np.random.default_rng(20260)
case("normal24", rng.normal(800, 90, 24).round(3), np.full(24, 255.0))
case("lognormal24", (255 * rng.lognormal(-4, 0.8, 24)).round(4), np.full(24, 255.0))
case("gamma60", rng.gamma(3.0, 2.0, 60).round(4), np.full(60, 127.0))
counts = rng.integers(50, 300, 40).astype(float)
case("unequal40", (counts * rng.gamma(4, 0.25, 40)).round(3), counts)
