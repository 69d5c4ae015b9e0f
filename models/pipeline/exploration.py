"""The exploration quota: the last places of a list, given by lot to items of which little is known.

In: a list as the blend made it, the user's history. Out: the same list with new items at its end, and the chance that
each of them had. Learns nothing.

A new item has had fewer events than a limit; where the catalogue topic has announced it, none are needed. What is drawn
depends on which items there are, the user's history and a stream of randomness that is keyed by the event's place in
its log, not on where an item stands: a restarted worker that is told the same catalogue draws the same. An item's
chance is proportional to 1 + the number of history items that it shares a category with: content brings a new item to
those whom it may concern, and nobody is ruled out, so that what is logged can be weighted by inverse propensity
(Horvitz, Thompson, JASA 1952).

Each item gets a key, -log(u) / weight with u uniform; the lowest keys are a weighted draw without replacement
(Efraimidis, Spirakis: Weighted Random Sampling with a Reservoir, IPL 2006). A catalogue may announce more items than a
list can look at: then a window of them, in the order of their hashes from a place that is drawn too, is looked at, and
what it holds has the chance to be in the window as a factor of its propensity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models.base import I32, U64
from models.kernels import inner
from models.pipeline import policy
from models.pipeline.candidates import Scratch
from models.pipeline.fixed import Fixed
from models.randomness import mix, uniform
from models.state.catalogue import ItemColumns
from models.state.learned import State

FIRST_DRAW = 1 << 21
"""Numbers of the draws, beyond those that the same event's learning takes from its stream."""

WINDOW = 4096
"""Announced items that one list looks at."""


@inner
def explore(
    state: State, fixed: Fixed, x: Scratch, slots: int, slot_of: I32, history: I32, n: int, mark: int,
    filled: int, stream: U64,
) -> tuple[int, int]:  # fmt: skip
    """Put up to `fixed.explored` new items at the end of `x.best`; how many places are filled now, and by new items.

    Args:
        filled: places of `x.best` that the blend filled; the first `k - explored` of them are kept in any case.
        stream: the randomness of this list.

    What is only announced stands in `x.best` as -1 - its row. `x.best_score` of a new item is its propensity: the
    chance to be drawn, given those drawn before it.
    """
    best, score, k = x.best, x.best_score, len(x.best)
    kept = min(filled, k - fixed.explored)
    for j in range(kept):
        x.blocked[best[j]] = mark
    drawn, total, seen_share = _draw(state, fixed, x, slots, slot_of, history, n, mark, stream)
    for d in range(drawn):
        if x.lot[d] >= 0:
            x.blocked[x.lot[d]] = mark
    at = kept
    for j in range(kept, filled):
        if at < k - drawn and x.blocked[best[j]] != mark:
            best[at], score[at] = best[j], score[j]
            at += 1
    for d in range(drawn):
        best[at + d] = x.lot[d]
        score[at + d] = x.lot_weight[d] / total * (seen_share if x.lot[d] < 0 else 1.0)
        total -= x.lot_weight[d]
    return at + drawn, drawn


@inner
def _draw(
    state: State, fixed: Fixed, x: Scratch, slots: int, slot_of: I32, history: I32, n: int, mark: int, stream: U64,
) -> tuple[int, float, float]:  # fmt: skip
    """Fill `x.lot`; how many were drawn, the weight of all that could be, the share of the announced looked at."""
    items, announced = state.items, state.announced
    known = _categories(items, slot_of, history, n)
    drawn, total = 0, 0.0
    for slot in range(slots):
        if (
            items.born[slot] < 0
            or items.events[slot] >= fixed.new_below
            or not policy.allowed(x.blocked, mark, items.available, slot)
        ):
            continue
        weight = _weight(items.categories[slot], known, items, slot_of, history, n)
        total += weight
        drawn = _offer(x, drawn, slot, weight, uniform(mix(stream ^ items.hash[slot]), FIRST_DRAW))
    rows = len(announced.order)
    window = min(rows, WINDOW)
    start = int(uniform(stream, FIRST_DRAW) * rows)
    for i in range(start, start + window):
        row = announced.order[i if i < rows else i - rows]
        slot = announced.slot[row]
        if slot >= 0 and items.born[slot] >= 0:
            continue
        weight = _weight(announced.categories[row], known, items, slot_of, history, n)
        total += weight
        drawn = _offer(x, drawn, -1 - row, weight, uniform(mix(stream ^ announced.hash[row]), FIRST_DRAW))
    return drawn, total, window / max(1, rows)


@inner
def _categories(items: ItemColumns, slot_of: I32, history: I32, n: int) -> Any:
    """All categories of the history's items."""
    known = np.uint64(0)
    for k in range(n):
        slot = slot_of[history[k]]
        if slot >= 0:
            known |= items.categories[slot]
    return known


@inner
def _weight(categories: Any, known: Any, items: ItemColumns, slot_of: I32, history: I32, n: int) -> float:
    weight = 1.0
    if categories & known != 0:
        for k in range(n):
            other = slot_of[history[k]]
            if other >= 0 and items.categories[other] & categories != 0:
                weight += 1.0
    return weight


@inner
def _offer(x: Scratch, drawn: int, item: int, weight: float, u: float) -> int:
    """Keep the item if its key is among the lowest; how many are kept."""
    full = drawn == len(x.lot)
    if full and u >= weight * x.lot_key[drawn - 1]:
        return drawn  # -log(1 - u) is not below u
    key = -math.log(1.0 - u) / weight
    if full and key >= x.lot_key[drawn - 1]:
        return drawn
    at = drawn - 1 if full else drawn
    while at > 0 and x.lot_key[at - 1] > key:
        x.lot[at], x.lot_key[at], x.lot_weight[at] = x.lot[at - 1], x.lot_key[at - 1], x.lot_weight[at - 1]
        at -= 1
    x.lot[at], x.lot_key[at], x.lot_weight[at] = item, key, weight
    return drawn if full else drawn + 1
