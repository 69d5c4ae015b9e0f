"""The exploration quota: the last places of a list, given by lot to items of which little is known.

In: a list as the blend made it, the user's history. Out: the same list with new items at its end, and the chance that
each of them had. Learns nothing.

A new item has had at least one event and fewer than a limit. What is drawn depends on the state, the user's history and
a stream of randomness that is keyed by the event's place in its log: a restarted worker draws the same. An item's
chance is proportional to 1 + the number of history items that it shares a category with: content brings a new item to
those whom it may concern, and nobody is ruled out, so that what is logged can be weighted by inverse propensity
(Horvitz, Thompson, JASA 1952).
"""

from __future__ import annotations

from models.base import I32, U64
from models.kernels import inner
from models.pipeline import policy
from models.pipeline.candidates import Scratch
from models.pipeline.fixed import Fixed
from models.randomness import uniform
from models.state.catalogue import ItemColumns

FIRST_DRAW = 1 << 21
"""Numbers of the draws, beyond those that the same event's learning takes from its stream."""


@inner
def explore(
    x: Scratch, items: ItemColumns, fixed: Fixed, slots: int, slot_of: I32, history: I32, n: int, mark: int,
    filled: int, stream: U64,
) -> tuple[int, int]:  # fmt: skip
    """Put up to `fixed.explored` new items at the end of `x.best`; how many places are filled now, and by new items.

    Args:
        filled: places of `x.best` that the blend filled; the first `k - explored` of them are kept in any case.
        stream: the randomness of this list.

    `x.best_score` of a new item is its propensity: the chance to be drawn, given those drawn before it.
    """
    best, score, k = x.best, x.best_score, len(x.best)
    kept = min(filled, k - fixed.explored)
    for j in range(kept):
        x.blocked[best[j]] = mark
    found, total = _new_items(x, items, fixed, slots, slot_of, history, n, mark)
    drawn = min(found, fixed.explored)
    rest = found
    for d in range(drawn):
        point = uniform(stream, FIRST_DRAW + d) * total
        at = 0
        while at < rest - 1 and point >= x.values[at]:
            point -= x.values[at]
            at += 1
        slot, weight = x.allowed[at], x.values[at]
        rest -= 1  # what was drawn moves behind what can still be drawn
        x.allowed[at], x.values[at] = x.allowed[rest], x.values[rest]
        x.allowed[rest], x.values[rest] = slot, weight / total
        x.blocked[slot] = mark
        total -= weight
    at = kept
    for j in range(kept, filled):
        if at < k - drawn and x.blocked[best[j]] != mark:
            best[at], score[at] = best[j], score[j]
            at += 1
    for d in range(drawn):
        best[at + d], score[at + d] = x.allowed[found - 1 - d], x.values[found - 1 - d]
    return at + drawn, drawn


@inner
def _new_items(
    x: Scratch, items: ItemColumns, fixed: Fixed, slots: int, slot_of: I32, history: I32, n: int, mark: int
) -> tuple[int, float]:
    """Fill `x.allowed` with the new items that may be shown and `x.values` with their weights; how many, the sum."""
    found, total = 0, 0.0
    for slot in range(slots):
        if (
            items.born[slot] < 0
            or items.events[slot] >= fixed.new_below
            or not policy.allowed(x.blocked, mark, items.available, slot)
        ):
            continue
        weight = 1.0
        for k in range(n):
            other = slot_of[history[k]]
            if other >= 0 and items.categories[other] & items.categories[slot] != 0:
                weight += 1.0
        x.allowed[found], x.values[found] = slot, weight
        found += 1
        total += weight
    return found, total
