"""How sure a mean is, and a difference of means: bootstrap and randomisation over users.

In: for each user the sum of a metric over their lists, and how many lists. Out: intervals and p-values. Pure: draws are
keyed by a seed.

The user is the unit, because the lists of one user are not independent: users are resampled with all their lists
(cluster bootstrap: Efron and Tibshirani 1993, ch. 8), and it is a user's whole difference that changes its sign in the
paired test (Fisher's randomisation test, the one that Smucker, Allan and Carterette 2007 recommend for rankings).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.base import F64

RESAMPLES = 1000
ROUNDS = 10_000
AT_ONCE = 1 << 21
"""Draws held in memory at a time."""


def resampled(sums: F64, counts: F64, seed: int, resamples: int = RESAMPLES) -> F64:
    """Means of each metric over resampled users: float64 [resamples, m]; the same users for all metrics.

    Args:
        sums: per user and metric, [users, m].
        counts: lists of each user, [users].
    """
    n = len(counts)
    rng = np.random.Generator(np.random.SFC64(seed))
    means = np.empty((resamples, sums.shape[1]))
    step = max(1, AT_ONCE // max(n, 1))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        weight = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        means[start : start + rows] = (weight @ sums) / (weight @ counts)[:, None]
    return means


def intervals(sums: F64, counts: F64, seed: int = 0, confidence: float = 0.95) -> F64:
    """Percentile interval of each metric's mean: float64 [m, 2]; NaN without users."""
    if not len(counts):
        return np.full((sums.shape[1], 2), np.nan)
    tail = (1.0 - confidence) / 2.0
    return np.asarray(np.quantile(resampled(sums, counts, seed), [tail, 1.0 - tail], axis=0).T, np.float64)


def paired_p(difference: F64, seed: int = 0, rounds: int = ROUNDS) -> float:
    """Two-sided p-value of "which of the two models is which does not matter", by flipping users' signs at random.

    Args:
        difference: of the two models' sums, one a user, [users].

    Returns:
        (1 + flips at least as extreme) / (1 + rounds), so never 0 (Phipson and Smyth 2010).
    """
    difference = difference[difference != 0.0]
    n = len(difference)
    if not n:
        return 1.0
    rng = np.random.Generator(np.random.SFC64(seed))
    bound = abs(float(difference.sum())) * (1.0 - 1e-12)
    extreme = 0
    step = max(1, AT_ONCE // n)
    for start in range(0, rounds, step):
        rows = min(step, rounds - start)
        signs = rng.integers(0, 2, (rows, n), dtype=np.int8)
        flipped = 2.0 * (signs @ difference) - difference.sum()
        extreme += int((np.abs(flipped) >= bound).sum())
    return (1 + extreme) / (1 + rounds)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for there being several (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    floor = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = floor
    return corrected
