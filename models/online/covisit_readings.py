"""The readings of the co-visitation matrices: what a user's history says of every item that it touches.

A reading scores an item j for a history h_1 (newest), h_2, … as

    (Σ_k w_k (R[h_k] + s)^-a · A[h_k, j]  +  κ s pop[j] Σ_k w_k (R[h_k] + s)^-a) · (C[j] + s)^-b

with w_k = decay^(k-1) + tail, R and C the sums of rows and columns, s the shrinkage: an item-item neighbourhood with
power-normalised counts (Aiolli, RecSys 2013) that backs off to popularity.

Beside them, in a lane of its own, lies the sum of what SLIM learned of the pairs (`models.online.slim`), as it is.

In: the matrices, a history, sums over its rows (`models.online.covisit_sums`). Out: all readings, side by side. Reads
state, and writes only scratch and derived column factors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.base import F32, F64, I32, U8
from models.config import CovisitSettings
from models.kernels import inner
from models.online.covisit_rows import HALF, LANES, SLIM, Covisit, find
from models.state.sequences import HISTORY


class Readings(NamedTuple):
    """The readings as arrays, one lane each."""

    lanes: I32  # [readings] lane of each reading
    any_items: int  # history items that any reading looks at
    second_items: int  # ... that readings of the second matrix do
    matrix: I32  # by lane, as all that follow
    items: I32
    row_power: F32
    column_power: F32
    position: F32  # [LANES, 50] weight of the k-th history item
    shrinkage: float
    popularity: float


def readings(settings: CovisitSettings) -> Readings:
    """The settings as arrays."""
    of_matrix = [[r for r in settings.readings if r.matrix == m] for m in range(2)]
    lanes = np.array([HALF * r.matrix + of_matrix[r.matrix].index(r) for r in settings.readings], np.int32)
    position = np.zeros((LANES, HISTORY), np.float32)
    items, powers = np.zeros(LANES, np.int32), np.zeros((2, LANES), np.float32)
    for lane, reading in zip(lanes, settings.readings, strict=True):
        weights = reading.decay ** np.arange(HISTORY) + reading.tail
        position[lane, : reading.items] = weights[: reading.items]
        items[lane], powers[:, lane] = reading.items, (reading.row_power, reading.column_power)
    slim = settings.slim
    items[SLIM] = min(slim.items, max(settings.window))
    position[SLIM, : items[SLIM]] = slim.decay ** np.arange(items[SLIM])
    return Readings(
        lanes=lanes,
        any_items=max([int(items[SLIM]), *(r.items for r in settings.readings)]),
        second_items=max([r.items for r in of_matrix[1]], default=0),
        matrix=np.repeat(np.arange(2, dtype=np.int32), HALF),
        items=items,
        row_power=powers[0],
        column_power=powers[1],
        position=position,
        shrinkage=settings.shrinkage,
        popularity=settings.popularity,
    )


@inner
def coefficients(c: Covisit, r: Readings, history: I32, n: int, out: F32, base: F32) -> None:
    """Fill `out` [50, LANES] with w_k (R + s)^-a (SLIM: w_k), `base` [LANES] with its sum over k (SLIM: 0)."""
    base[:] = 0.0
    out[:n, :] = 0.0
    for k in range(n):
        slot = history[k]
        if slot < 0:
            continue
        first = _log(c.row_sum[slot, 0] + r.shrinkage)
        second = _log(c.row_sum[slot, 1] + r.shrinkage) if k < r.second_items else np.float32(0.0)
        for lane in r.lanes:
            if k < r.items[lane]:
                out[k, lane] = r.position[lane, k] * _power(
                    first if lane < HALF else second, r.row_power[lane]
                )
                base[lane] += out[k, lane]
        out[k, SLIM] = r.position[SLIM, k]


@inner
def _log(total: float) -> np.float32:
    return np.float32(math.log(np.float32(total)))


@inner
def _power(logarithm: np.float32, power: np.float32) -> np.float32:
    """x^-power, of the logarithm of x: one logarithm serves all readings of a sum."""
    return np.float32(math.exp(-power * logarithm)) if power > 0.0 else np.float32(1.0)


@inner
def finish(
    c: Covisit,
    r: Readings,
    slots: I32,
    n: int,
    mass: F64,
    total: float,
    base: F32,
    sums: F32,
    stamp: I32,
    mark: int,
) -> None:
    """Turn the sums of `n` items into readings: the back-off to popularity, then the column's power.

    Args:
        slots: the items, int32 [>= n]; one without `mark` had no sums.
        mass: popularity of each slot, of `total`, float64 [S].
        base: of `coefficients`.
    """
    _renew(c, r, slots, n)
    scale = _back_off(r, total)
    b = (base[0], base[1], base[2], base[3], base[4], base[5], base[6], base[7])
    this = np.int32(mark)
    for t in range(np.uint64(n)):
        slot = np.uint64(slots[t])
        if stamp[slot] != this:
            stamp[slot] = this
            for lane in range(LANES):
                sums[slot, lane] = 0.0
        _finish_one(c, slot, np.float32(scale * mass[slot]), b, sums)


@inner
def finish_and_share(
    c: Covisit,
    r: Readings,
    slots: I32,
    n: int,
    mass: F64,
    total: float,
    base: F32,
    sums: F32,
    blocked: I32,
    mark: int,
    available: U8,
    allowed: I32,
    shares: F32,
) -> int:
    """`finish` for `n` items that have sums; of those that may be shown, the shares of all readings together.

    Args:
        blocked: [S] of `mark` for what may not be shown, and so may nothing that is not `available` [S].
        allowed: filled with those that may; shares: with their shares, added up.

    Returns:
        How many those are.
    """
    _renew(c, r, slots, n)
    scale = _back_off(r, total)
    b = (base[0], base[1], base[2], base[3], base[4], base[5], base[6], base[7])
    this, found = np.int32(mark), np.uint64(0)
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = np.float32(0.0)
    for t in range(np.uint64(n)):
        slot = np.uint64(slots[t])
        s0, s1, s2, s3, s4, s5, s6, s7 = _finish_one(c, slot, np.float32(scale * mass[slot]), b, sums)
        if blocked[slot] != this and available[slot] != 0:
            allowed[found] = slot
            found += np.uint64(1)
            t0, t1, t2, t3 = t0 + s0, t1 + s1, t2 + s2, t3 + s3
            t4, t5, t6, t7 = t4 + s4, t5 + s5, t6 + s6, t7 + s7
    t0, t1, t2, t3 = _inverse(t0), _inverse(t1), _inverse(t2), np.float32(0.0)  # SLIM's lane is no reading
    t4, t5, t6, t7 = _inverse(t4), _inverse(t5), _inverse(t6), _inverse(t7)
    for i in range(found):
        slot = np.uint64(allowed[i])
        shares[i] = (
            (sums[slot, 0] * t0 + sums[slot, 4] * t4) + (sums[slot, 2] * t2 + sums[slot, 6] * t6)
        ) + ((sums[slot, 1] * t1 + sums[slot, 5] * t5) + (sums[slot, 3] * t3 + sums[slot, 7] * t7))
    return int(np.int64(found))


@inner
def _inverse(total: np.float32) -> np.float32:
    return np.float32(1.0) / total if total > 0.0 else np.float32(0.0)


@inner
def _back_off(r: Readings, total: float) -> float:
    """What a mass of 1 adds; masses of a half-life may be too large for float32, their shares are not."""
    return r.popularity * r.shrinkage / total if total > 0.0 else 0.0


@inner(here=True)
def _finish_one(
    c: Covisit, slot: np.uint64, back: np.float32, base: tuple[np.float32, ...], sums: F32
) -> tuple[np.float32, ...]:
    """One item's readings. All loads come before all stores: then eight lanes are one instruction."""
    f = c.column_factor
    s0, s1, s2, s3 = sums[slot, 0], sums[slot, 1], sums[slot, 2], sums[slot, 3]
    s4, s5, s6, s7 = sums[slot, 4], sums[slot, 5], sums[slot, 6], sums[slot, 7]
    f0, f1, f2, f3 = f[slot, 0], f[slot, 1], f[slot, 2], f[slot, 3]
    f4, f5, f6, f7 = f[slot, 4], f[slot, 5], f[slot, 6], f[slot, 7]
    s0, s1, s2, s3 = (
        (s0 + back * base[0]) * f0,
        (s1 + back * base[1]) * f1,
        (s2 + back * base[2]) * f2,
        (s3 + back * base[3]) * f3,
    )
    s4, s5, s6, s7 = (
        (s4 + back * base[4]) * f4,
        (s5 + back * base[5]) * f5,
        (s6 + back * base[6]) * f6,
        (s7 + back * base[7]) * f7,
    )
    sums[slot, 0], sums[slot, 1], sums[slot, 2], sums[slot, 3] = s0, s1, s2, s3
    sums[slot, 4], sums[slot, 5], sums[slot, 6], sums[slot, 7] = s4, s5, s6, s7
    return s0, s1, s2, s3, s4, s5, s6, s7


@inner
def _renew(c: Covisit, r: Readings, slots: I32, n: int) -> None:
    """Compute the column factors of `n` items anew where they are stale."""
    for t in range(np.uint64(n)):
        slot = np.uint64(slots[t])
        if c.stale[slot] == 0:
            continue
        first, second = _log(c.column_sum[slot, 0] + r.shrinkage), _log(c.column_sum[slot, 1] + r.shrinkage)
        for lane in r.lanes:
            c.column_factor[slot, lane] = _power(first if lane < HALF else second, r.column_power[lane])
        c.column_factor[slot, SLIM] = 1.0
        c.stale[slot] = 0


@inner
def strongest(
    c: Covisit, r: Readings, history: I32, n: int, items: I32, count: int, coefficient: F32, strength: F32, out: I32
) -> None:  # fmt: skip
    """Fill `out` with the position in the history of the item that speaks loudest for each item; -1 where none does.

    Args:
        items: slots, `count` of them.
        strength: scratch.
    """
    for j in range(count):
        strength[j], out[j] = 0.0, -1
    for k in range(min(n, r.any_items)):
        row = history[k]
        if row < 0:
            continue
        one, two, start = coefficient[k, 0], coefficient[k, HALF], c.at[row]
        for j in range(count):
            place = find(c, row, items[j])
            if place >= 0:
                p = np.uint64(start + place)
                value = one * c.first[p]
                # elsewhere its coefficient is 0, and looking the weight up takes longer than all else
                if k < r.second_items:
                    value += two * c.second[p]
                if value > strength[j]:
                    strength[j], out[j] = value, k
