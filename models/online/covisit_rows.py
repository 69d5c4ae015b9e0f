"""Rows of item pairs: the co-visitation matrices and what lessons made of the pairs, sparse and bounded.

A row keeps its neighbours in the order of their arrival (that order is state: sums over it are the same after a
restart) beside a small hash index. A full row drops the lightest quarter. What is learned is in
`models.online.covisit` and `models.online.slim`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models import selection
from models.base import F32, F64, I32, I64, U8, U16
from models.kernels import inner, kernel
from models.state import arena

HALF = 4
LANES = 2 * HALF
"""Readings are computed side by side: those of the first matrix in lanes 0 to 2, of the second in 4 to 7."""
SLIM = HALF - 1
"""The lane of what was learned of pairs (`models.online.slim`)."""


GONE = -1
"""The key of a neighbour that was evicted: it keeps its place in the row until the row sheds."""


class Covisit(NamedTuple):
    """S item slots; entries lie in arena blocks.

    The two matrices' weights lie apart, and keys are slots: a list reads thousands of neighbours, most of them in the
    first matrix alone, and reads nothing that it does not need.
    """

    header: I64
    keys: I32  # slot of a neighbour, or GONE
    first: F32  # [entries] weight in the first matrix
    second: F32  # [entries] ... and in the second
    learned: F32  # [entries] what lessons made of the pair (`models.online.slim`)
    cells: U16  # two an entry: position in the row, 65535 for none
    at: I64  # [S] offset of the row
    size_class: I32  # [S] -1 for no row
    n: I32  # [S] neighbours
    row_sum: F64  # [S, 2]
    column_sum: F64  # [S, 2]
    column_factor: F32  # [S, LANES] derived: (C + s)^-b, where `stale` says that it must be computed anew
    stale: U8  # [S]


def create(slots: int, entries: int = 1 << 14) -> Covisit:
    """No neighbours yet, for `slots` items."""
    return Covisit(
        header=arena.new_header(),
        keys=np.full(entries, -1, np.int32),
        first=np.zeros(entries, np.float32),
        second=np.zeros(entries, np.float32),
        learned=np.zeros(entries, np.float32),
        cells=np.full(2 * entries, 65535, np.uint16),
        at=np.zeros(slots, np.int64),
        size_class=np.full(slots, -1, np.int32),
        n=np.zeros(slots, np.int32),
        row_sum=np.zeros((slots, 2)),
        column_sum=np.zeros((slots, 2)),
        column_factor=np.zeros((slots, LANES), np.float32),
        stale=np.ones(slots, np.uint8),
    )


@inner
def home(key: int, cells: int) -> int:
    return int((np.uint32(key) * np.uint32(2654435769)) >> np.uint32(7)) & (cells - 1)


@inner
def _reindex(c: Covisit, slot: int) -> None:
    at, size = c.at[slot], arena.block_size(c.size_class[slot])
    cells, keys = c.cells[2 * at : 2 * (at + size)], c.keys[at : at + size]
    cells[:] = 65535
    for p in range(c.n[slot]):
        cell = home(keys[p], 2 * size)
        while cells[cell] != 65535:
            cell = (cell + 1) & (2 * size - 1)
        cells[cell] = p


@inner
def _grow(c: Covisit, slot: int) -> None:
    old, size_class = c.at[slot], c.size_class[slot]
    new = arena.allocate(c.header, c.keys, size_class + 1)
    for p in range(c.n[slot]):
        c.keys[new + p] = c.keys[old + p]
        c.first[new + p] = c.first[old + p]
        c.second[new + p] = c.second[old + p]
        c.learned[new + p] = c.learned[old + p]
    if size_class >= 0:
        arena.release(c.header, c.keys, old, size_class)
    c.at[slot] = new
    c.size_class[slot] = size_class + 1
    _reindex(c, slot)


@inner(allocates=True)
def _shed(c: Covisit, slot: int) -> None:
    """Drop the lightest quarter of a full row; those that are gone before all, and of equals those of higher slots."""
    at, n = c.at[slot], c.n[slot]
    mass = np.empty(n, np.float32)
    for p in range(n):
        mass[p] = c.first[at + p] + c.second[at + p] if c.keys[at + p] != GONE else np.float32(0.0)
    # the bits of positive floats are in the order of the floats
    order = mass.view(np.uint32).astype(np.uint64)
    for p in range(n):
        order[p] = (order[p] << np.uint64(32)) | np.uint64(np.uint32(0xFFFFFFFF) - np.uint32(c.keys[at + p]))
    last = selection.nth(order.copy(), max(1, n // 4) - 1)
    kept = 0
    for p in range(n):
        if order[p] > last:
            c.keys[at + kept] = c.keys[at + p]
            c.first[at + kept] = c.first[at + p]
            c.second[at + kept] = c.second[at + p]
            c.learned[at + kept] = c.learned[at + p]
            kept += 1
    for p in range(kept, n):
        c.keys[at + p] = -1
    c.n[slot] = kept
    _reindex(c, slot)


@inner
def find(c: Covisit, slot: int, key: int) -> int:
    """Position of a neighbour in its row, -1 where it is none."""
    size_class = c.size_class[slot]
    if size_class < 0:
        return -1
    at, cells = np.uint64(c.at[slot]), 2 * arena.block_size(size_class)
    table, last = np.uint64(2) * at, np.uint64(cells - 1)
    cell = np.uint64(home(key, cells))
    while True:
        p = c.cells[table + cell]
        if p == 65535:
            return -1
        if c.keys[at + np.uint64(p)] == key:
            return int(np.int64(p))
        cell = (cell + np.uint64(1)) & last


@inner
def add(c: Covisit, slot: int, key: int, w0: float, w1: float, limit: int) -> None:
    """Let a neighbour of a row grow, or add it."""
    p = find(c, slot, key)
    if p < 0:
        append(c, slot, key, w0, w1, limit)
    else:
        c.first[c.at[slot] + p] += w0
        c.second[c.at[slot] + p] += w1


@inner
def append(c: Covisit, slot: int, key: int, w0: float, w1: float, limit: int) -> None:
    """Add a neighbour that the row does not have."""
    if c.n[slot] >= limit:
        _shed(c, slot)
    if c.size_class[slot] < 0 or c.n[slot] >= arena.block_size(c.size_class[slot]):
        _grow(c, slot)
    at, cells = c.at[slot], 2 * arena.block_size(c.size_class[slot])
    p = c.n[slot]
    c.keys[at + p] = key
    c.first[at + p] = w0
    c.second[at + p] = w1
    c.learned[at + p] = 0.0
    cell = home(key, cells)
    while c.cells[2 * at + cell] != 65535:
        cell = (cell + 1) & (cells - 1)
    c.cells[2 * at + cell] = p
    c.n[slot] = p + 1


def row(c: Covisit, slot: int) -> tuple[I32, F32]:
    """A row's neighbours (slots, or GONE) and their weights [n, 3], in the order of arrival.

    The weights are that in the first matrix, that in the second, and what was learned of the pair.
    """
    at, n = int(c.at[slot]), int(c.n[slot])
    weights = np.empty((n, 3), np.float32)
    weights[:, 0], weights[:, 1] = c.first[at : at + n], c.second[at : at + n]
    weights[:, 2] = c.learned[at : at + n]
    return c.keys[at : at + n], weights


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
        c.first[at + p] = weight[p, 0]
        c.second[at + p] = weight[p, 1]
        c.learned[at + p] = weight[p, 2]
    _reindex(c, slot)


@kernel
def clear(c: Covisit, slot: int) -> None:
    """Give a row's block back."""
    if c.size_class[slot] >= 0:
        arena.release(c.header, c.keys, c.at[slot], c.size_class[slot])
    c.size_class[slot] = -1
    c.n[slot] = 0


@kernel
def forget(c: Covisit, gone: U8) -> None:
    """Clear the rows of evicted items (`gone` [S] is not 0), and mark them GONE in the rows of the others."""
    for slot in range(len(c.n)):
        if gone[slot] != 0:
            clear(c, slot)
            continue
        at = c.at[slot]
        for p in range(at, at + c.n[slot]):
            if c.keys[p] >= 0 and gone[c.keys[p]] != 0:
                c.keys[p] = GONE


def with_room(c: Covisit, entries: int) -> Covisit:
    """The same rows in an arena with room for at least `entries` more."""
    size = len(c.keys)
    if size - int(c.header[0]) >= entries:
        return c
    new = max(2 * size, int(c.header[0]) + entries)
    keys = np.full(new, -1, np.int32)
    keys[:size] = c.keys
    first, second, learned = (np.zeros(new, np.float32) for _ in range(3))
    first[:size], second[:size], learned[:size] = c.first, c.second, c.learned
    cells = np.full(2 * new, 65535, np.uint16)
    cells[: 2 * size] = c.cells
    return c._replace(keys=keys, first=first, second=second, learned=learned, cells=cells)
