"""Retrieval: which items may come next for a user.

In: the learned state and one user's history. Out: a few hundred candidate slots, their co-visitation read. It reads
state and writes only scratch (and derived column factors).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models import selection
from models.base import F32, F64, I32, I64, U8
from models.kernels import inner
from models.logarithms import Logarithms, new_logarithms
from models.online import asymmetric_mf, blend, covisit_readings, covisit_sums, slim
from models.online.blend import BlendScratch
from models.online.covisit_rows import LANES
from models.online.covisit_sums import Sums
from models.online.popularity import TOP
from models.pipeline.fixed import Fixed
from models.state.catalogue import ItemColumns
from models.state.learned import State

NO_ROWS = np.empty(0, np.int32)


class Scratch(NamedTuple):
    """Buffers of one thread; nothing in them outlives a call. `C` candidates at most, F features."""

    mark: I32  # [1] the last mark given
    stamp: I32  # [S] sums are of this mark
    blocked: I32  # [S]
    chosen: I32  # [S] among the candidates of this mark
    touched: I32  # [S]
    sums: Sums
    dense: F32  # [S]
    history: I32  # [50] slots
    coefficient: F32  # [50, LANES]
    base: F32  # [LANES]
    allowed: I32  # [S] the items looked at, and their values
    values: F32
    heap: I32  # [candidates]
    heap_score: F32
    maxima: F32  # [GROUPS times candidates or k]
    taken: I32  # [candidates] the best of those looked at
    slots: I32  # [C]
    features: F32  # [C, F]
    scores: F32  # [C]
    logarithms: Logarithms  # [C]
    blend: BlendScratch
    user: F32  # [d] of asymmetric MF
    user_gradient: F32
    drawn: I32
    logit: F32
    probe: I64  # [2, 100] of the co-visitation
    best: I32  # [k]
    best_score: F32
    best_mass: F64  # [k]
    lot: I32  # [explored] what was drawn for the last places: slots, or -1 - row of what is only announced
    lot_key: F64
    lot_weight: F64
    listed: U8  # [1 + S] 0 but while some items are looked for in rows
    strength: F32  # [k]
    cause: I32  # [k]
    taught: I32  # [MOST] of the lesson in hand (`models.online.slim`)
    step: F32  # [MOST]
    lesson: I32  # [1] how many they are


class Reranked(NamedTuple):
    """The re-ranker's item side: rows [V, d], a bias each, and each slot's row (-1: none)."""

    on: bool
    items: F32
    bias: F32
    row_of: I32  # [S]


def new_scratch(slots: int, fixed: Fixed, features: int, factors: int) -> Scratch:
    """Buffers for `slots` items."""
    most = max(fixed.candidates, fixed.dense)
    popular = min(fixed.popular, TOP) * (1 + fixed.half_lives)
    c = fixed.candidates + popular + 2 * fixed.dense + 4 * fixed.k + 8
    return Scratch(
        mark=np.zeros(1, np.int32), stamp=np.zeros(slots, np.int32), blocked=np.zeros(slots, np.int32),
        chosen=np.zeros(slots, np.int32), touched=np.zeros(slots, np.int32),
        sums=covisit_sums.new_sums(slots), dense=np.zeros(slots, np.float32),
        history=np.zeros(50, np.int32), coefficient=np.zeros((50, LANES), np.float32),
        base=np.zeros(LANES, np.float32), allowed=np.zeros(slots, np.int32), values=np.zeros(slots, np.float32),
        heap=np.zeros(most, np.int32), heap_score=np.zeros(most, np.float32),
        maxima=np.zeros(selection.GROUPS * max(most, fixed.k), np.float32),
        taken=np.zeros(most, np.int32), slots=np.zeros(c, np.int32),
        features=np.zeros((c, features), np.float32), scores=np.zeros(c, np.float32),
        logarithms=new_logarithms(c),
        blend=blend.new_scratch(c, features, fixed.blend_hidden), user=np.zeros(factors, np.float32),
        user_gradient=np.zeros(factors, np.float32), drawn=np.zeros(fixed.amf.negatives + 1, np.int32),
        logit=np.zeros(fixed.amf.negatives + 1, np.float32), probe=np.zeros((2, 100), np.int64),
        best=np.zeros(fixed.k, np.int32),
        best_score=np.zeros(fixed.k, np.float32), best_mass=np.zeros(fixed.k),
        lot=np.zeros(fixed.explored, np.int32), lot_key=np.zeros(fixed.explored), lot_weight=np.zeros(fixed.explored),
        listed=np.zeros(1 + slots, np.uint8),
        strength=np.zeros(fixed.k, np.float32), cause=np.zeros(fixed.k, np.int32),
        taught=np.zeros(slim.MOST, np.int32), step=np.zeros(slim.MOST, np.float32), lesson=np.zeros(1, np.int32),
    )  # fmt: skip


@inner
def products(
    x: Scratch,
    items: ItemColumns,
    vectors: F32,
    bias: F32,
    vector: F32,
    row_of: I32,
    slots: int,
    mark: int,
) -> int:
    """Fill `x.allowed` with the items that may be shown, `x.values` with `vectors[row] · vector + bias[row]`; how many.

    Items without an event are left out; an empty `row_of` says that rows are slots.
    """
    born, available, blocked, allowed, values = items.born, items.available, x.blocked, x.allowed, x.values
    n = 0
    by_slot = len(row_of) == 0
    for slot in range(slots):
        row = slot if by_slot else row_of[slot]
        if row < 0 or born[slot] < 0 or blocked[slot] == mark or available[slot] == 0:
            continue
        allowed[n] = slot
        values[n] = asymmetric_mf.dot(vectors[row], vector) + bias[row]
        n += 1
    return n


@inner
def _best(x: Scratch, items: ItemColumns, n: int, k: int) -> int:
    return selection.best(x.allowed, x.values, n, items.order, k, x.heap, x.heap_score, x.maxima, x.taken)


@inner
def _choose(x: Scratch, kept: int, count: int, mark: int) -> int:
    """Append what of `x.taken` is not yet among the candidates; how many candidates there are."""
    for j in range(kept):
        slot = x.taken[j]
        if x.chosen[slot] != mark:
            x.chosen[slot] = mark
            x.slots[count] = slot
            count += 1
    return count


@inner
def _popular(x: Scratch, items: ItemColumns, top: I32, most: int, count: int, mark: int) -> int:
    """Append the first `most` of a `top` that may be shown; how many candidates there are."""
    taken = 0
    for j in range(TOP):
        slot = top[j]
        if slot < 0 or taken == most:
            break
        if x.blocked[slot] != mark and items.available[slot] != 0:
            taken += 1
            if x.chosen[slot] != mark:
                x.chosen[slot] = mark
                x.slots[count] = slot
                count += 1
    return count


@inner(here=True)
def retrieve(
    state: State,
    fixed: Fixed,
    x: Scratch,
    slots: int,
    slot_of: I32,
    history: I32,
    n: int,
    vector: F32,
    reranked: Reranked,
    mark: int,
    scenario: int,
) -> tuple[int, int]:
    """Fill `x.slots` with candidates whose readings are done in `x.sums`.

    Args:
        slots: item slots in use.
        history: item numbers, newest first, `n` of them.
        vector: the user's vector of the re-ranker, [d].
        mark: of this call; `x.blocked` carries it already.
        scenario: where the user is, 0 for nowhere in particular.

    Returns:
        The number of candidates, and of items that the history touched (`x.touched`).
    """
    items, r, pop = state.items, fixed.readings, state.popularity
    available, blocked, chosen, out, sums = items.available, x.blocked, x.chosen, x.slots, x.sums.of
    for k in range(n):
        x.history[k] = slot_of[history[k]]
    covisit_readings.coefficients(state.covisit, r, x.history, n, x.coefficient, x.base)
    touched = covisit_sums.accumulate(
        state.covisit, x.history, min(n, r.any_items), r.second_items,
        x.coefficient, x.sums, slots, x.stamp, mark, x.touched,
    )  # fmt: skip
    mass, total = pop.mass[:, fixed.plain], pop.total[fixed.plain]
    found = covisit_readings.finish_and_share(
        state.covisit, r, x.touched, touched, mass, total, x.base, sums, blocked, mark, available, x.allowed, x.values
    )  # fmt: skip
    count = _choose(x, _best(x, items, found, fixed.candidates), 0, mark)
    for p in range(len(pop.total)):
        count = _popular(x, items, pop.top[p], fixed.popular, count, mark)
    if scenario > 0:
        count = _popular(x, items, state.here.top[scenario - 1], fixed.popular, count, mark)
    if fixed.dense > 0 and slots <= fixed.dense_limit:
        length = asymmetric_mf.user_vector(state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user)
        if length > 0.0:
            found = products(x, items, state.amf.y, state.amf.bias, x.user, NO_ROWS, slots, mark)
            count = _choose(x, _best(x, items, found, fixed.dense), count, mark)
        if reranked.on:
            found = products(x, items, reranked.items, reranked.bias, vector, reranked.row_of, slots, mark)
            count = _choose(x, _best(x, items, found, fixed.dense), count, mark)
    if count < fixed.k:
        for slot in range(slots):
            if count >= 4 * fixed.k:
                break
            if (
                items.born[slot] >= 0
                and blocked[slot] != mark
                and available[slot] != 0
                and chosen[slot] != mark
            ):
                chosen[slot] = mark
                out[count] = slot
                count += 1
    fresh = 0
    for j in range(count):
        if x.stamp[out[j]] != mark:
            x.touched[touched + fresh] = out[j]
            fresh += 1
    covisit_readings.finish(
        state.covisit,
        r,
        x.touched[touched : touched + fresh],
        fresh,
        mass,
        total,
        x.base,
        sums,
        x.stamp,
        mark,
    )
    return count, touched
