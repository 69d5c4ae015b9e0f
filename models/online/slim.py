"""SLIM, learned online: what the item-item weights should have said more, or less, of each pair.

Co-visitation counts; it can't know that two items which often go together need not both speak for a third. Here each
pair that it keeps has one more weight, learned by gradient (a sparse linear method, Ning and Karypis, ICDM 2011, with
the softmax loss and the recency weights of a session in place of their least squares). An item's sum

    Σ_k decay^(k-1) · W[h_k, j]    over the history h_1 (newest), h_2, …

is a feature of the blend, and each lesson of the blend is one of W too: with g_j = [j came next] - p_j, its error at
candidate j, ``W[h_k, j] += lr · decay^(k-1) · g_j``. So W learns what all other sources together get wrong.

In: rows of `models.online.covisit`, which hold W, and the blend's errors. Pairs that co-visitation does not keep have
none. Reading is a lane of `models.online.covisit_readings`.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, I32, U8
from models.kernels import inner
from models.online.covisit import Rates
from models.online.covisit_rows import Covisit, find

LEAST = np.float32(0.01)
"""Smaller errors teach nothing: there are many, and together they change little."""
MOST = 128
"""More than there can be of LEAST or above: they add up to 2 at most, and the target's is one of them."""


@inner
def learn(
    c: Covisit, r: Rates, history: I32, n: int, slots: I32, error: F32, count: int, listed: U8,
    taught: I32, step: F32, dirty: U8, flag: int,
) -> int:  # fmt: skip
    """One lesson; how many candidates were in it: `taught` [MOST] and `step` [MOST] say which, and their errors.

    Rows are read from end to end, once for all candidates.

    Args:
        history: slots, newest first, `n` of them.
        slots: the candidates, `count` of them; error: [count].
        listed: by slot + 1, 0 everywhere, and so again afterwards.
        dirty: gets `flag` for each row that was read.
    """
    m = 0
    for j in range(count):
        if abs(error[j]) >= LEAST and m < MOST:
            taught[m], step[m] = slots[j], error[j]
            m += 1
            listed[slots[j] + 1] = m
    for k in range(min(n, r.slim_items)):
        row = history[k]
        if row < 0:
            continue
        gain = r.slim[k]
        for p in range(np.uint64(c.at[row]), np.uint64(c.at[row] + c.n[row])):
            place = listed[np.uint32(c.keys[p] + 1)]  # what is gone (-1) is in the first cell
            if place != 0:
                c.learned[p] += gain * step[place - 1]
        dirty[row] |= flag
    for j in range(m):
        listed[taught[j] + 1] = 0
    return m


@inner
def learn_again(
    c: Covisit, r: Rates, history: I32, n: int, taught: I32, step: F32, m: int, done: U8, dirty: U8, flag: int
) -> None:
    """What `learn` did to the rows that are not `done` [S] (`models.online.covisit_journal`)."""
    for k in range(min(n, r.slim_items)):
        row = history[k]
        if row < 0 or done[row] != 0:
            continue
        gain = r.slim[k]
        for j in range(m):
            p = find(c, row, taught[j])
            if p >= 0:
                c.learned[c.at[row] + p] += gain * step[j]
        dirty[row] |= flag
