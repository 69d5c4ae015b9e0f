"""The readings of the co-visitation matrices: what a user's history says of every item that it touches.

A reading scores an item j for a history h_1 (newest), h_2, … as

    (Σ_k w_k (R[h_k] + s)^-a · A[h_k, j]  +  κ s pop[j] Σ_k w_k (R[h_k] + s)^-a) · (C[j] + s)^-b

with w_k = decay^(k-1) + tail, R and C the sums of rows and columns, s the shrinkage: an item-item neighbourhood with
power-normalised counts (Aiolli, RecSys 2013) that backs off to popularity.

In: the matrices of `models.covisit`, a history. Out: sums of all readings, side by side. Reads state, and writes only
scratch and derived column factors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import F32, F64, I32
from models.config import CovisitSettings
from models.covisit import HALF, LANES, Covisit, find
from models.kernels import inner
from models.sequences import HISTORY


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
    """The settings as arrays.

    Raises:
        ValueError: more than four readings of a matrix.
    """
    of_matrix = [[r for r in settings.readings if r.matrix == m] for m in range(2)]
    if max(map(len, of_matrix)) > HALF:
        raise ValueError(f"models.covisit.readings: at most {HALF} readings of each matrix are possible")
    lanes = np.array([HALF * r.matrix + of_matrix[r.matrix].index(r) for r in settings.readings], np.int32)
    position = np.zeros((LANES, HISTORY), np.float32)
    items, powers = np.zeros(LANES, np.int32), np.zeros((2, LANES), np.float32)
    for lane, reading in zip(lanes, settings.readings, strict=True):
        weights = reading.decay ** np.arange(HISTORY) + reading.tail
        position[lane, : reading.items] = weights[: reading.items]
        items[lane], powers[:, lane] = reading.items, (reading.row_power, reading.column_power)
    return Readings(
        lanes=lanes,
        any_items=max([r.items for r in settings.readings], default=0),
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
    """Fill `out` [50, LANES] with w_k (R + s)^-a, and `base` [LANES] with its sum over the history."""
    base[:] = 0.0
    out[:n, :] = 0.0
    for k in range(n):
        slot = history[k]
        if slot < 0:
            continue
        for lane in r.lanes:
            if k < r.items[lane]:
                total = c.row_sum[slot, r.matrix[lane]] + r.shrinkage
                out[k, lane] = r.position[lane, k] * total ** -r.row_power[lane]
                base[lane] += out[k, lane]


@inner
def accumulate(
    c: Covisit,
    r: Readings,
    slot_of: I32,
    history: I32,
    n: int,
    coefficient: F32,
    sums: F32,
    stamp: I32,
    mark: int,
    touched: I32,
) -> int:
    """Add up Σ_k coefficient · A[h_k, j] into `sums` [S, LANES]; how many items are in `touched`.

    `stamp[j] == mark` says that item j's sums are of this call.
    """
    found = 0
    this = np.int32(mark)
    for k in range(min(n, r.any_items)):
        row = history[k]
        if row < 0:
            continue
        a0, a1, a2, a3 = coefficient[k, 0], coefficient[k, 1], coefficient[k, 2], coefficient[k, 3]
        b0, b1, b2, b3 = coefficient[k, 4], coefficient[k, 5], coefficient[k, 6], coefficient[k, 7]
        both = k < r.second_items
        # unsigned indices spare the check for a negative one; written out, four lanes are one instruction
        start = np.uint64(c.at[row])
        for p in range(start, start + np.uint64(c.n[row])):
            signed = slot_of[np.uint32(c.keys[p])]
            if signed < 0:
                continue
            j = np.uint32(signed)
            w0 = c.weight[p, np.uint32(0)]
            if stamp[j] != this:
                stamp[j] = this
                touched[found] = signed
                found += 1
                for lane in range(LANES):
                    sums[j, np.uint32(lane)] = np.float32(0.0)
            sums[j, 0] += a0 * w0
            sums[j, 1] += a1 * w0
            sums[j, 2] += a2 * w0
            sums[j, 3] += a3 * w0
            if both:
                w1 = c.weight[p, np.uint32(1)]
                sums[j, 4] += b0 * w1
                sums[j, 5] += b1 * w1
                sums[j, 6] += b2 * w1
                sums[j, 7] += b3 * w1
    return found


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
    stale, factor, column_sum = c.stale, c.column_factor, c.column_sum
    scale = np.float32(r.popularity * r.shrinkage / total) if total > 0.0 else np.float32(0.0)
    b0, b1, b2, b3 = base[0], base[1], base[2], base[3]
    b4, b5, b6, b7 = base[4], base[5], base[6], base[7]
    for t in range(n):
        slot = slots[t]
        if stale[slot]:
            for lane in r.lanes:
                power = r.column_power[lane]
                column = column_sum[slot, r.matrix[lane]] + r.shrinkage
                factor[slot, lane] = column**-power if power > 0.0 else 1.0
            stale[slot] = 0
        if stamp[slot] != mark:
            stamp[slot] = mark
            for lane in range(LANES):
                sums[slot, lane] = 0.0
        back = scale * np.float32(mass[slot])
        # all loads before all stores: then eight lanes are one instruction
        s0, s1, s2, s3 = sums[slot, 0], sums[slot, 1], sums[slot, 2], sums[slot, 3]
        s4, s5, s6, s7 = sums[slot, 4], sums[slot, 5], sums[slot, 6], sums[slot, 7]
        f0, f1, f2, f3 = factor[slot, 0], factor[slot, 1], factor[slot, 2], factor[slot, 3]
        f4, f5, f6, f7 = factor[slot, 4], factor[slot, 5], factor[slot, 6], factor[slot, 7]
        sums[slot, 0] = (s0 + back * b0) * f0
        sums[slot, 1] = (s1 + back * b1) * f1
        sums[slot, 2] = (s2 + back * b2) * f2
        sums[slot, 3] = (s3 + back * b3) * f3
        sums[slot, 4] = (s4 + back * b4) * f4
        sums[slot, 5] = (s5 + back * b5) * f5
        sums[slot, 6] = (s6 + back * b6) * f6
        sums[slot, 7] = (s7 + back * b7) * f7


@inner
def strongest(c: Covisit, history: I32, n: int, number: int, coefficient: F32) -> int:
    """Position in the history of the item that speaks loudest for item `number`; -1 where none does."""
    best, best_value = -1, 0.0
    for k in range(n):
        if history[k] < 0:
            continue
        p = find(c, history[k], number)
        if p < 0:
            continue
        entry = c.at[history[k]] + p
        value = coefficient[k, 0] * c.weight[entry, 0] + coefficient[k, HALF] * c.weight[entry, 1]
        if value > best_value:
            best, best_value = k, value
    return best
