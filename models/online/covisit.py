"""Incremental item-item co-visitation: two decayed matrices learn which items are taken together.

At an event of item i with history h_1 (newest), h_2, … a matrix learns ``A[h_g, i] += decay^(g-1)`` and
``A[i, h_g] += back · decay^(g-1)``. How they are read is in `models.online.covisit_readings`.

The matrices' rows are in `models.online.covisit_rows`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import F32, F64, I32, I64, U8
from models.config import CovisitSettings
from models.kernels import inner, part
from models.online.covisit_rows import Covisit, add, append, find, home
from models.state import arena
from models.state.sequences import HISTORY

LATER = -2
"""The place of a neighbour that is new to a full row."""


class Rates(NamedTuple):
    """Settings of the learning, as a kernel takes them."""

    gain: F64  # [2, 50] what the g-th history item adds
    back: F64  # [2]
    window: int  # history items that an event is learned with
    max_neighbours: int
    slim: F32  # [50] what an error of 1 adds to the k-th history item's pair
    slim_items: int


def rates(settings: CovisitSettings) -> Rates:
    """The settings as arrays.

    Raises:
        ValueError: a window longer than the history.
    """
    if max(settings.window) > HISTORY:
        raise ValueError(
            f"models.covisit.window: {settings.window} goes beyond the {HISTORY} items of the history"
        )
    gain = np.zeros((2, HISTORY))
    for m in range(2):
        gain[m, : settings.window[m]] = settings.decay[m] ** np.arange(settings.window[m])
    window, slim = max(settings.window), settings.slim
    items = min(slim.items, window)
    return Rates(
        gain,
        np.array(settings.back, np.float64),
        window,
        settings.max_neighbours,
        (slim.lr * slim.decay ** np.arange(HISTORY)).astype(np.float32),
        items,
    )


@inner
def _learn_full(
    c: Covisit, r: Rates, slot: int, history: I32, window: int, weight: float, places: I64
) -> None:
    """The new neighbours of rows that were full, once all that they have has grown."""
    for g in range(window):
        other = history[g]
        for side in range(2):
            if places[2 * g + side] != LATER:
                continue
            w0, w1 = weight * r.gain[0, g], weight * r.gain[1, g]
            row, key = (other, slot) if side == 0 else (slot, other)
            if side == 1:
                w0, w1 = w0 * r.back[0], w1 * r.back[1]
            add(c, row, key, w0, w1, r.max_neighbours)


@part
def learn(
    c: Covisit,
    r: Rates,
    slot: int,
    history: I32,
    n: int,
    weight: float,
    dirty: U8,
    flag: int,
    probe: I64,
) -> float:
    """Learn one event: item `slot` after `history` (slots, newest first); the mass that it added.

    `dirty` gets `flag` for each row that changed. The caller made sure of room in the arena (`needs`). `probe`
    [2, 2 * 50] is scratch.

    Passes: where each pair's first cell is, the sums and what is found there, the pairs that lie further on or are
    new, and last the new ones of full rows. So all that a row has grows before it sheds, wherever its hash index
    happened to put it: a restored row has another index, and must learn the same.
    """
    keys, first, second, learned, table = c.keys, c.first, c.second, c.learned, c.cells
    cells, places = probe[0], probe[1]
    window = min(n, r.window)
    mass = 0.0
    for side in range(2):
        for g in range(window):
            other = history[g]
            cells[2 * g + side] = -1
            row = other if side == 0 else slot
            if other < 0 or other == slot or c.size_class[row] < 0:
                continue
            key = slot if side == 0 else other
            cells[2 * g + side] = 2 * c.at[row] + home(key, 16 << c.size_class[row])
    for i in range(2 * window):
        places[i] = 65535 if cells[i] < 0 else table[cells[i]]
    for g in range(window):
        other = history[g]
        for side in range(2):
            i = 2 * g + side
            if places[i] == 65535:
                places[i] = -1
                continue
            row = other if side == 0 else slot
            places[i] += c.at[row]
            if keys[places[i]] != (slot if side == 0 else other):
                places[i] = -1
    row0, row1, column0, column1 = (
        c.row_sum[slot, 0],
        c.row_sum[slot, 1],
        c.column_sum[slot, 0],
        c.column_sum[slot, 1],
    )
    for g in range(window):
        other = history[g]
        if other < 0 or other == slot:
            continue
        w0, w1 = weight * r.gain[0, g], weight * r.gain[1, g]
        b0, b1 = w0 * r.back[0], w1 * r.back[1]
        there, here = places[2 * g], places[2 * g + 1]
        if there >= 0:
            first[there] += w0
            if w1 != 0.0:  # most of the window is the first matrix's alone
                second[there] += w1
        if here >= 0:
            first[here] += b0
            if b1 != 0.0:
                second[here] += b1
        c.row_sum[other, 0] += w0
        c.row_sum[other, 1] += w1
        c.column_sum[other, 0] += b0
        c.column_sum[other, 1] += b1
        column0, column1, row0, row1 = column0 + w0, column1 + w1, row0 + b0, row1 + b1
        c.stale[other] = 1
        dirty[other] |= flag
        mass += w0 + w1 + b0 + b1
    c.row_sum[slot, 0], c.row_sum[slot, 1], c.column_sum[slot, 0], c.column_sum[slot, 1] = (
        row0,
        row1,
        column0,
        column1,
    )
    full = False
    for g in range(window):
        other = history[g]
        if other < 0 or other == slot:
            continue
        for side in range(2):
            if places[2 * g + side] >= 0:
                continue
            w0, w1 = weight * r.gain[0, g], weight * r.gain[1, g]
            row, key = (other, slot) if side == 0 else (slot, other)
            if side == 1:
                w0, w1 = w0 * r.back[0], w1 * r.back[1]
            # a call that hands on all these arrays costs more than what follows, so the common cases are written out
            size, used = 0 if c.size_class[row] < 0 else 8 << c.size_class[row], c.n[row]
            if size > 0:
                start = c.at[row]
                mask = 2 * size - 1
                cell = home(key, 2 * size)
                p = table[2 * start + cell]
                found = False
                while p != 65535:
                    if keys[start + p] == key:
                        first[start + p] += w0
                        second[start + p] += w1
                        found = True
                        break
                    cell = (cell + 1) & mask
                    p = table[2 * start + cell]
                if found:
                    continue
                if used >= r.max_neighbours:
                    places[2 * g + side] = LATER
                    full = True
                    continue
                if used < size:
                    keys[start + used] = key
                    first[start + used] = w0
                    second[start + used] = w1
                    learned[start + used] = 0.0
                    table[2 * start + cell] = used
                    c.n[row] = used + 1
                    continue
            append(c, row, key, w0, w1, r.max_neighbours)
    if full:
        _learn_full(c, r, slot, history, window, weight, places)
    c.stale[slot] = 1
    dirty[slot] |= flag
    return mass


@inner(allocates=True)
def learn_again(
    c: Covisit, r: Rates, slot: int, history: I32, n: int, weight: float, done: U8, dirty: U8, flag: int
) -> None:
    """What `learn` did to the rows, sums apart, in those not `done` [S] (`models.online.covisit_journal`)."""
    for g in range(n):
        other = history[g]
        if other >= 0 and other != slot and done[other] == 0:
            add(c, other, slot, weight * r.gain[0, g], weight * r.gain[1, g], r.max_neighbours)
            dirty[other] |= flag
    if done[slot] != 0:
        return
    dirty[slot] |= flag
    full = np.zeros(n, np.bool_)
    for later in range(2):
        for g in range(n):
            other = history[g]
            if other < 0 or other == slot or (later == 1 and not full[g]):
                continue
            full[g] = c.n[slot] >= r.max_neighbours and find(c, slot, other) < 0
            if later == 1 or not full[g]:
                w0, w1 = weight * r.gain[0, g] * r.back[0], weight * r.gain[1, g] * r.back[1]
                add(c, slot, other, w0, w1, r.max_neighbours)


def needs(settings: CovisitSettings) -> int:
    """Entries of the arena that one event can use up at most: every row that it touches may double."""
    rows = max(settings.window) + 1
    size = arena.SMALLEST
    while size < settings.max_neighbours:
        size *= 2
    return rows * 2 * size
