"""Vectors of users whose events come out of order.

In: stored sequences and new events, in arrival order. Out: the vectors before and after each new event. It
does what the user table does: an event is put where its time belongs, the oldest leaves a full sequence, and
one that is older than all of a full sequence changes nothing. Rare, so it is written for exactness: each
state of a sequence is encoded by itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from models.base import F32, I64
from models.sequence.stored_events import Stored

STATES = 256
"""States that are encoded together: bounds memory."""


def vectors_by_time(
    held: Stored, new: Stored, of: I64, length: int, reach: int, encode: Callable[[Stored], F32]
) -> tuple[F32, F32]:
    """The vectors [n, d] of each new event's user before and after it.

    Args:
        held: the whole stored sequences.
        new: the new events in arrival order (their offsets are not read); `of` [n] gives each one's user.
        length: of a full sequence.
        reach: how many events a vector depends on.
        encode: gives the vectors after each event of sequences.
    """
    both = Stored(
        np.concatenate((held.item, new.item)),
        np.concatenate((held.action, new.action)),
        np.concatenate((held.value, new.value)),
        np.concatenate((held.ts, new.ts)),
        held.offsets,
    )
    states: list[list[int]] = []
    before, after = np.empty(len(of), np.int64), np.empty(len(of), np.int64)
    sequence: dict[int, list[int]] = {}
    newest: dict[int, int] = {}
    for at, user in enumerate(of.tolist()):
        if user not in sequence:
            sequence[user] = list(range(held.offsets[user], held.offsets[user + 1]))
            newest[user] = len(states)
            states.append(sequence[user][-reach - 1 :])
        mine = sequence[user]
        before[at] = newest[user]
        place = bisect_right(mine, both.ts[len(held.ts) + at], key=lambda index: both.ts[index])
        if len(mine) < length or place > 0:
            mine.insert(place, len(held.ts) + at)
            del mine[: max(len(mine) - length, 0)]
            newest[user] = len(states)
            states.append(mine[-reach - 1 :])
        after[at] = newest[user]
    parts = [_last(both, states[a : a + STATES], encode) for a in range(0, len(states), STATES)]
    vectors = np.concatenate(parts)
    return vectors[before], vectors[after]


def _last(events: Stored, states: list[list[int]], encode: Callable[[Stored], F32]) -> F32:
    """The vector of each state [states, d]; zero for an empty one."""
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum([len(s) for s in states], dtype=np.int64)))
    index = np.array([i for state in states for i in state], np.int64)
    every = encode(events.at(index, offsets))
    last = np.zeros((len(states), every.shape[1]), np.float32)
    some = np.diff(offsets) > 0
    last[some] = every[offsets[1:][some] - 1]
    return last
