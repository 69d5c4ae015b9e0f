"""Incremental item-item co-visitation: two decayed matrices, sparse and bounded, read in several ways.

At an event of item i with history h_1 (newest), h_2, … a matrix learns ``A[h_g, i] += decay^(g-1)`` and
``A[i, h_g] += back · decay^(g-1)``. A reading scores an item j for a history as

    (Σ_k w_k (R[h_k] + s)^-a · A[h_k, j]  +  κ s pop[j] Σ_k w_k (R[h_k] + s)^-a) · (C[j] + s)^-b

with w_k = decay^(k-1) + tail, R and C the sums of rows and columns, s the shrinkage: an item-item neighbourhood with
power-normalised counts (Aiolli, RecSys 2013) that backs off to popularity.

A row keeps its neighbours in the order of their arrival (that order is state: sums over it are the same after a
restart) beside a small hash index. A full row drops the lightest eighth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models import arena
from models.base import F32, F64, I32, I64, U8
from models.config import CovisitSettings
from models.kernels import kernel

LANES = 8
"""Readings are computed side by side in this many lanes."""


class Covisit(NamedTuple):
    """S item slots; entries lie in arena blocks."""

    header: I64
    keys: I32  # item number of a neighbour
    weight: F32  # [entries, 2]
    index: np.ndarray  # type: ignore[type-arg]  # uint16, two cells an entry: position in the row, 65535 for none
    at: I64  # [S] offset of the row
    size_class: I32  # [S] -1 for no row
    n: I32  # [S] neighbours
    row_sum: F64  # [S, 2]
    column_sum: F64  # [S, 2]
    column_factor: F32  # [S, LANES] derived: (C + s)^-b, where `stale` says that it must be computed anew
    stale: U8  # [S]


class Readings(NamedTuple):
    """The readings as arrays, one lane each."""

    count: int
    matrix: I32
    items: I32
    row_power: F32
    column_power: F32
    position: F32  # [LANES, 50] weight of the k-th history item
    shrinkage: float
    popularity: float
    gain: F64  # [2, 50] what the g-th history item adds
    back: F64  # [2]
    max_neighbours: int


def create(slots: int, entries: int = 1 << 14) -> Covisit:
    """No neighbours yet, for `slots` items."""
    return Covisit(
        header=arena.new_header(),
        keys=np.full(entries, -1, np.int32),
        weight=np.zeros((entries, 2), np.float32),
        index=np.full(2 * entries, 65535, np.uint16),
        at=np.zeros(slots, np.int64),
        size_class=np.full(slots, -1, np.int32),
        n=np.zeros(slots, np.int32),
        row_sum=np.zeros((slots, 2)),
        column_sum=np.zeros((slots, 2)),
        column_factor=np.zeros((slots, LANES), np.float32),
        stale=np.ones(slots, np.uint8),
    )


def readings(settings: CovisitSettings) -> Readings:
    """The settings as arrays.

    Raises:
        ValueError: more readings than lanes, or a window longer than the history.
    """
    if len(settings.readings) > LANES:
        raise ValueError(
            f"models.covisit.readings: {len(settings.readings)} are more than the {LANES} allowed"
        )
    if max(settings.window) > 50:
        raise ValueError(f"models.covisit.window: {settings.window} goes beyond the 50 items of the history")
    position = np.zeros((LANES, 50), np.float32)
    for lane, reading in enumerate(settings.readings):
        weights = reading.decay ** np.arange(50) + reading.tail
        position[lane, : reading.items] = weights[: reading.items]
    gain = np.zeros((2, 50))
    for m in range(2):
        gain[m, : settings.window[m]] = settings.decay[m] ** np.arange(settings.window[m])
    pad = [0] * (LANES - len(settings.readings))
    return Readings(
        count=len(settings.readings),
        matrix=np.array([r.matrix for r in settings.readings] + pad, np.int32),
        items=np.array([r.items for r in settings.readings] + pad, np.int32),
        row_power=np.array([r.row_power for r in settings.readings] + pad, np.float32),
        column_power=np.array([r.column_power for r in settings.readings] + pad, np.float32),
        position=position,
        shrinkage=settings.shrinkage,
        popularity=settings.popularity,
        gain=gain,
        back=np.array(settings.back, np.float64),
        max_neighbours=settings.max_neighbours,
    )


@kernel
def _home(key: int, cells: int) -> int:
    return int((np.uint32(key) * np.uint32(2654435769)) >> np.uint32(7)) & (cells - 1)


@kernel
def _reindex(c: Covisit, slot: int) -> None:
    at, cells = c.at[slot], 2 * arena.block_size(c.size_class[slot])
    for cell in range(2 * at, 2 * at + cells):
        c.index[cell] = 65535
    for p in range(c.n[slot]):
        cell = _home(c.keys[at + p], cells)
        while c.index[2 * at + cell] != 65535:
            cell = (cell + 1) & (cells - 1)
        c.index[2 * at + cell] = p


@kernel
def _grow(c: Covisit, slot: int) -> None:
    old, size_class = c.at[slot], c.size_class[slot]
    new = arena.allocate(c.header, c.keys, size_class + 1)
    for p in range(c.n[slot]):
        c.keys[new + p] = c.keys[old + p]
        c.weight[new + p, 0] = c.weight[old + p, 0]
        c.weight[new + p, 1] = c.weight[old + p, 1]
    if size_class >= 0:
        arena.release(c.header, c.keys, old, size_class)
    c.at[slot] = new
    c.size_class[slot] = size_class + 1
    _reindex(c, slot)


@kernel
def _shed(c: Covisit, slot: int) -> None:
    """Drop the lightest eighth of a full row; of equals, those with the higher number."""
    at, n = c.at[slot], c.n[slot]
    mass = np.empty(n, np.float64)
    for p in range(n):
        mass[p] = float(c.weight[at + p, 0]) + float(c.weight[at + p, 1])
    drop = max(1, n // 8)
    bound = np.sort(mass)[drop - 1]
    below = 0
    for p in range(n):
        if mass[p] < bound:
            below += 1
    ties = drop - below
    tied = np.empty(n, np.int32)
    n_tied = 0
    for p in range(n):
        if mass[p] == bound:
            tied[n_tied] = c.keys[at + p]
            n_tied += 1
    lowest = np.sort(tied[:n_tied])[n_tied - ties]
    kept = 0
    for p in range(n):
        key = c.keys[at + p]
        if mass[p] < bound or (mass[p] == bound and key >= lowest):
            continue
        c.keys[at + kept] = key
        c.weight[at + kept, 0] = c.weight[at + p, 0]
        c.weight[at + kept, 1] = c.weight[at + p, 1]
        kept += 1
    for p in range(kept, n):
        c.keys[at + p] = -1
    c.n[slot] = kept
    _reindex(c, slot)


@kernel
def _find(c: Covisit, slot: int, key: int) -> int:
    """Position of a neighbour in its row, -1 where it is none."""
    size_class = c.size_class[slot]
    if size_class < 0:
        return -1
    at, cells = c.at[slot], 2 * arena.block_size(size_class)
    cell = _home(key, cells)
    while True:
        p = c.index[2 * at + cell]
        if p == 65535:
            return -1
        if c.keys[at + p] == key:
            return int(p)
        cell = (cell + 1) & (cells - 1)


@kernel
def _add(c: Covisit, slot: int, key: int, w0: float, w1: float, limit: int) -> None:
    p = _find(c, slot, key)
    if p < 0:
        if c.n[slot] >= limit:
            _shed(c, slot)
        if c.size_class[slot] < 0 or c.n[slot] >= arena.block_size(c.size_class[slot]):
            _grow(c, slot)
        at, cells = c.at[slot], 2 * arena.block_size(c.size_class[slot])
        p = c.n[slot]
        c.keys[at + p] = key
        c.weight[at + p, 0] = 0.0
        c.weight[at + p, 1] = 0.0
        cell = _home(key, cells)
        while c.index[2 * at + cell] != 65535:
            cell = (cell + 1) & (cells - 1)
        c.index[2 * at + cell] = p
        c.n[slot] = p + 1
    at = c.at[slot]
    c.weight[at + p, 0] += w0
    c.weight[at + p, 1] += w1


@kernel
def learn(
    c: Covisit, r: Readings, slot: int, number: I32, history: I32, n: int, weight: float, dirty: U8, flag: int
) -> float:
    """Learn one event: item `slot` after `history` (slots, newest first); the mass that it added.

    `dirty` gets `flag` for each row that changed. The caller made sure of room in the arena (`needs`).
    """
    mass = 0.0
    for g in range(n):
        other = history[g]
        w0, w1 = weight * r.gain[0, g], weight * r.gain[1, g]
        if other < 0 or other == slot or (w0 == 0.0 and w1 == 0.0):
            continue
        _add(c, other, number[slot], w0, w1, r.max_neighbours)
        c.row_sum[other, 0] += w0
        c.row_sum[other, 1] += w1
        c.column_sum[slot, 0] += w0
        c.column_sum[slot, 1] += w1
        b0, b1 = w0 * r.back[0], w1 * r.back[1]
        _add(c, slot, number[other], b0, b1, r.max_neighbours)
        c.row_sum[slot, 0] += b0
        c.row_sum[slot, 1] += b1
        c.column_sum[other, 0] += b0
        c.column_sum[other, 1] += b1
        c.stale[other] = 1
        dirty[other] |= flag
        mass += w0 + w1 + b0 + b1
    c.stale[slot] = 1
    dirty[slot] |= flag
    return mass


def needs(settings: CovisitSettings) -> int:
    """Entries of the arena that one event can use up at most: every row that it touches may double."""
    rows = max(settings.window) + 1
    size = arena.SMALLEST
    while size < settings.max_neighbours:
        size *= 2
    return rows * 2 * size


@kernel
def coefficients(c: Covisit, r: Readings, history: I32, n: int, out: F32, base: F32) -> None:
    """Fill `out` [50, LANES] with w_k (R + s)^-a, and `base` [LANES] with its sum over the history."""
    base[:] = 0.0
    for k in range(n):
        slot = history[k]
        for lane in range(r.count):
            if slot < 0 or k >= r.items[lane]:
                out[k, lane] = 0.0
                continue
            total = c.row_sum[slot, r.matrix[lane]] + r.shrinkage
            out[k, lane] = r.position[lane, k] * total ** -r.row_power[lane]
            base[lane] += out[k, lane]


@kernel(fastmath={"contract"})
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
    first, second = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    found = 0
    for k in range(n):
        row = history[k]
        if row < 0:
            continue
        any_weight = False
        for lane in range(r.count):
            first[lane] = coefficient[k, lane] if r.matrix[lane] == 0 else np.float32(0.0)
            second[lane] = coefficient[k, lane] if r.matrix[lane] == 1 else np.float32(0.0)
            any_weight |= coefficient[k, lane] != 0.0
        if not any_weight:
            continue
        at = c.at[row]
        for p in range(at, at + c.n[row]):
            j = slot_of[c.keys[p]]
            if j < 0:
                continue
            w0, w1 = c.weight[p, 0], c.weight[p, 1]
            if stamp[j] != mark:
                stamp[j] = mark
                touched[found] = j
                found += 1
                for lane in range(LANES):
                    sums[j, lane] = first[lane] * w0 + second[lane] * w1
            else:
                for lane in range(LANES):
                    sums[j, lane] += first[lane] * w0 + second[lane] * w1
    return found


@kernel
def column_factors(c: Covisit, r: Readings, slot: int) -> None:
    """Compute an item's (C + s)^-b anew where its column changed."""
    if c.stale[slot]:
        for lane in range(r.count):
            power = r.column_power[lane]
            total = c.column_sum[slot, r.matrix[lane]] + r.shrinkage
            c.column_factor[slot, lane] = total**-power if power > 0.0 else 1.0
        c.stale[slot] = 0


@kernel
def strongest(c: Covisit, r: Readings, history: I32, n: int, number: int, coefficient: F32) -> int:
    """Position in the history of the item that speaks loudest for item `number`; -1 where none does."""
    best, best_value = -1, 0.0
    for k in range(n):
        if history[k] < 0:
            continue
        p = _find(c, history[k], number)
        if p < 0:
            continue
        entry = c.at[history[k]] + p
        value = coefficient[k, 0] * c.weight[entry, 0]
        for lane in range(1, r.count):
            if r.matrix[lane] == 1:
                value += coefficient[k, lane] * c.weight[entry, 1]
                break
        if value > best_value:
            best, best_value = k, value
    return best


def row(c: Covisit, slot: int) -> tuple[I32, F32]:
    """A row's neighbours (item numbers) and their weights [n, 2], in the order of arrival."""
    at, n = int(c.at[slot]), int(c.n[slot])
    return c.keys[at : at + n], c.weight[at : at + n]


@kernel
def restore(c: Covisit, slot: int, keys: I32, weight: F32) -> None:
    """Put a row back as `row` gave it; the caller made sure of room."""
    clear(c, slot)
    n = len(keys)
    size_class = 0
    while arena.block_size(size_class) < n:
        size_class += 1
    at = arena.allocate(c.header, c.keys, size_class)
    c.at[slot], c.size_class[slot], c.n[slot] = at, size_class, n
    for p in range(n):
        c.keys[at + p] = keys[p]
        c.weight[at + p, 0] = weight[p, 0]
        c.weight[at + p, 1] = weight[p, 1]
    _reindex(c, slot)


@kernel
def clear(c: Covisit, slot: int) -> None:
    """Give a row's block back."""
    if c.size_class[slot] >= 0:
        arena.release(c.header, c.keys, c.at[slot], c.size_class[slot])
    c.size_class[slot] = -1
    c.n[slot] = 0


def with_room(c: Covisit, entries: int) -> Covisit:
    """The same rows in an arena with room for at least `entries` more."""
    size = len(c.keys)
    if size - int(c.header[0]) >= entries:
        return c
    new = max(2 * size, int(c.header[0]) + entries)
    keys = np.full(new, -1, np.int32)
    keys[:size] = c.keys
    weight = np.zeros((new, 2), np.float32)
    weight[:size] = c.weight
    index = np.full(2 * new, 65535, np.uint16)
    index[: 2 * size] = c.index
    return c._replace(keys=keys, weight=weight, index=index)
