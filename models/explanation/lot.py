"""Which places of a list go by lot, and whom that costs theirs (`models.pipeline.exploration`).

In: what the blend would list. Out: what of it is listed in any case, and the places that are left to the lot. Never
draws: a draw is keyed by the place of the event in its log, and there is no such event here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.base import Bool
from models.pipeline.exploration import WINDOW
from models.pipeline.fixed import Fixed
from models.state.learned import State


@dataclass(frozen=True, slots=True)
class Lot:
    """Places `first` to `last`, from 1, are drawn among so many new items; each list draws anew.

    `at_most`: the catalogue announces more items than one list looks at, so that fewer may be drawn.
    """

    first: int
    last: int
    among: int
    at_most: bool = False


def new_items(state: State, fixed: Fixed, blocked: Bool) -> Bool:
    """Which slots hold an item that the lot may give a place to, if the list does not hold it already."""
    items = state.items
    new: Bool = (
        (items.born >= 0)
        & (items.events < fixed.new_below)
        & (items.available != 0)
        & ~blocked[: len(items.born)]
    )
    return new


def announced_only(state: State) -> int:
    """How many available items the catalogue has announced that had no event yet."""
    known = state.announced
    slot = known.slot[known.order]
    met = (slot >= 0) & (state.items.born[np.maximum(slot, 0)] >= 0)
    return int(np.count_nonzero(~met))


def share(state: State, fixed: Fixed, blended: list[int], new: Bool) -> tuple[list[int], Lot | None]:
    """The slots that keep a place on the list, in order, and what the lot has; None where it has nothing.

    Args:
        blended: slots of the blend's list.
        new: `new_items`.
    """
    listed = blended[: max(0, fixed.k - fixed.explored)]
    among = int(new.sum()) - sum(bool(new[slot]) for slot in listed) + announced_only(state)
    drawn = min(fixed.explored, among)
    if not drawn:
        return blended, None
    for slot in blended[len(listed) :]:
        if len(listed) < fixed.k - drawn and not new[slot]:  # there are fewer new items than places for them
            listed = [*listed, slot]
    at_most = len(state.announced.order) > WINDOW
    return listed, Lot(len(listed) + 1, len(listed) + drawn, among, at_most)
