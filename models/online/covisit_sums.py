"""Sums over the rows of a history: what the co-visitation matrices say of every item that it touches.

In: rows of item pairs, a history with coefficients. Out: eight sums an item, side by side. Reads state, and writes only
scratch. Which sums make a reading is in `models.online.covisit_readings`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import F32, I32, I64
from models.kernels import inner
from models.online.covisit_rows import HALF, LANES, Covisit

FEW = 8192
"""Up to so many items it is faster to clear all sums, and to look at them all, than to ask at every neighbour."""


class Sums(NamedTuple):
    """The sums of each slot, and the same memory in other shapes; before slot 0 lies a row that nobody reads."""

    of: F32  # [S, LANES]
    flat: F32  # [LANES * (1 + S)]
    words: I64  # [LANES / 2 * (1 + S)]: a word of 0 is two sums of 0, which no neighbour has in all words


def new_sums(slots: int) -> Sums:
    """Sums for so many slots."""
    flat = np.zeros(LANES * (1 + slots), np.float32)
    return Sums(flat[LANES:].reshape(slots, LANES), flat, flat.view(np.int64))


@inner
def _collect(c: Covisit, history: I32, items: int, flat: F32, stamp: I32, mark: int, touched: I32) -> int:
    """Fill `touched` with the neighbours of the history, their sums at 0; how many."""
    found = 0
    this = np.int32(mark)
    for k in range(items):
        row = history[k]
        if row < 0:
            continue
        for p in range(c.at[row], c.at[row] + c.n[row]):
            j = c.keys[p]
            if j >= 0 and stamp[j] != this:
                stamp[j] = this
                touched[found] = j
                found += 1
                flat[LANES * (j + 1) : LANES * (j + 2)] = np.float32(0.0)
    return found


@inner
def _touched(words: I64, slots: int, stamp: I32, mark: int, touched: I32) -> int:
    """Fill `touched` with the slots whose sums are not all 0; how many.

    No branch depends on a sum: about half of them are 0, and a processor that guesses wrong loses more than it does
    here for each.
    """
    found = np.uint64(0)
    this = np.int32(mark)
    half = LANES // 2
    for slot in range(np.uint64(slots)):
        at = np.uint64(half) * (slot + np.uint64(1))
        some = words[at] | words[at + np.uint64(1)] | words[at + np.uint64(2)] | words[at + np.uint64(3)]
        touched[found] = slot
        found += np.uint64(1) if some != 0 else np.uint64(0)
    for t in range(found):
        stamp[np.uint64(touched[t])] = this
    return int(np.int64(found))


@inner
def _add(
    keys: I32, weight: F32, fourth: F32, start: int, stop: int, flat: F32, lane: int,
    a0: float, a1: float, a2: float, a3: float,
) -> None:  # fmt: skip
    """Add a row's weights, those of the last lane from `fourth`, to four lanes, each times its coefficient.

    Unsigned indices spare the check for a negative one; all loads come before all stores, so that four lanes are one
    instruction. What is gone (-1) adds to the row before all slots, which nobody reads.
    """
    one, two, three = np.uint32(1), np.uint32(2), np.uint32(3)
    for p in range(np.uint64(start), np.uint64(stop)):
        j = np.uint32(keys[p] + 1) * np.uint32(LANES) + np.uint32(lane)
        w, last = weight[p], fourth[p]
        s0, s1, s2, s3 = flat[j], flat[j + one], flat[j + two], flat[j + three]
        flat[j] = s0 + a0 * w
        flat[j + one] = s1 + a1 * w
        flat[j + two] = s2 + a2 * w
        flat[j + three] = s3 + a3 * last


@inner
def accumulate(
    c: Covisit,
    history: I32,
    items: int,
    second_items: int,
    coefficient: F32,
    sums: Sums,
    slots: int,
    stamp: I32,
    mark: int,
    touched: I32,
) -> int:
    """Add up Σ_k coefficient · A[h_k, j] into `sums`; how many items are in `touched`.

    Args:
        history: slots, newest first; `items` of them are read, and `second_items` in the second matrix.
        coefficient: [items, LANES].
        slots: item slots in use.
        stamp: afterwards `stamp[j] == mark` says that item j has sums.
    """
    flat, found = sums.flat, 0
    few = slots <= FEW
    if few:
        flat[: LANES * (slots + 1)] = np.float32(0.0)
    else:
        flat[:LANES] = np.float32(0.0)
        found = _collect(c, history, items, flat, stamp, mark, touched)
    for k in range(items):
        row = history[k]
        if row < 0:
            continue
        start, stop = c.at[row], c.at[row] + c.n[row]
        a = coefficient[k]
        _add(c.keys, c.first, c.learned, start, stop, flat, 0, a[0], a[1], a[2], a[3])
        if k < second_items:
            _add(c.keys, c.second, c.second, start, stop, flat, HALF, a[4], a[5], a[6], a[7])
    if few:
        found = _touched(sums.words, slots, stamp, mark, touched)
    return found
