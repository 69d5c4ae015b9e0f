"""Vectors of users and items for factorisations without a network: one row a code, more rows as codes are met.

In: how many rows are wanted. Out: an array of that many. A row begins small and random, keyed by (seed, side, row)
alone, so that it does not matter in how many steps an array grew.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import sposv

from models.base import F32
from models.kernels import kernel
from models.online.biased_mf import initialise
from models.randomness import hash64, mix


@kernel
def _draw(rows: F32, start: int, stream: np.uint64, std: float) -> None:
    for row in range(start, len(rows)):
        initialise(rows[row], mix(stream + np.uint64(row)), std)


def grown(rows: F32, count: int, *, seed: int, side: str, std: float) -> F32:
    """`rows` with at least `count` of them: the old ones as they are, the new ones drawn, float32 [count, factors].

    Args:
        side: whose they are, such as "user"; sides of the same seed are unlike.
        std: of the new entries.

    >>> none = np.zeros((0, 2), np.float32)
    >>> at_once = grown(none, 5, seed=1, side="user", std=0.1)
    >>> in_steps = grown(grown(none, 3, seed=1, side="user", std=0.1), 5, seed=1, side="user", std=0.1)
    >>> bool((at_once == in_steps).all())
    True
    """
    if count <= len(rows):
        return rows
    more = np.empty((count, rows.shape[1]), np.float32)
    more[: len(rows)] = rows
    _draw(more, len(rows), np.uint64(hash64(f"{seed} {side}")), std)
    return more


def least_squares(every: F32, others: F32, weight: F32, pull: F32, l2: float) -> F32:
    """The vector x that is best while the others stay, float32 [factors]: (A + Σ w y yᵀ + l2) x = Σ v y.

    Args:
        every: A, what all of the other side weighs, symmetric [factors, factors].
        others: vectors y of those that are paired with it, [n, factors].
        weight, pull: w and v of each of these, [n].

    Raises:
        ValueError: the system has no single solution; more regularisation gives it one.
    """
    left = every + (weight[:, None] * others).T @ others
    left.flat[:: len(every) + 1] += l2
    _, solved, failed = sposv(left.T, pull @ others, overwrite_a=True)
    if failed:
        raise ValueError(f"a vector could not be solved for with l2 = {l2:g}: a higher one is needed")
    found: F32 = solved
    return found


def restored(rows: F32, count: int, factors: int, name: str) -> F32:
    """Rows that were stored.

    Raises:
        ValueError: they are not [count, factors].
    """
    if rows.shape != (count, factors):
        raise ValueError(f"{name} has shape {rows.shape}, not {(count, factors)}")
    return rows.astype(np.float32)
