"""The users' stored sequences as columns, and what new events are to them.

In: a user table, slots. Out: copies of the newest stored events, user after user, which later events don't
change; time gaps and order of new events. Never computes a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from models.base import F32, I32, I64, U8, Bool
from models.sequence.encode import Events, ragged
from models.state.users import UserTable


@dataclass(frozen=True, slots=True)
class RowsOf:
    """Rows of the model: `item` by item number, `action` by action code."""

    item: I32
    action: I32


@dataclass(frozen=True, slots=True)
class Stored:
    """Events, user after user, oldest first; user i's are `offsets[i]` to `offsets[i + 1]`."""

    item: I32
    action: U8
    value: F32
    ts: I64
    offsets: I64

    @classmethod
    def take(cls, users: UserTable, slots: I64, most: I64) -> Self:
        """The newest `most[i]` events of each user, or as many as there are."""
        c = users.columns
        held = c.seq_n[slots].astype(np.int64)
        lengths = np.minimum(held, most)
        row = np.repeat(slots, lengths)
        column = ragged(held - lengths, lengths)
        return cls(
            c.seq_item[row, column],
            c.seq_action[row, column],
            c.seq_value[row, column],
            c.seq_ts[row, column],
            np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
        )

    @property
    def lengths(self) -> I64:
        return np.diff(self.offsets)

    def events(self, rows: RowsOf) -> Events:
        """As a model reads them; the first gap of each user is unknown."""
        gaps = np.diff(self.ts, prepend=0)
        gaps[self.offsets[:-1][self.lengths > 0]] = -1
        return Events(rows.item[self.item], rows.action[self.action], self.value, gaps)

    def at(self, index: I64, offsets: I64) -> Stored:
        """Other sequences made of these events."""
        return Stored(self.item[index], self.action[index], self.value[index], self.ts[index], offsets)


def newest(users: UserTable, slots: I64) -> I64:
    """Time of each user's newest stored event, int64 [users]; -1 for one without events."""
    n = users.columns.seq_n[slots]
    times: I64 = np.where(n > 0, users.columns.seq_ts[slots, n - 1], -1)
    return times


def gaps_after(of: I64, ts: I64, last: I64) -> I64:
    """Time since the same user's previous event, 0 after a younger one; -1 where there is none.

    Args:
        last: time of the event before each user's first one here, int64 [users]; below 0 for none.

    >>> gaps_after(np.array([0, 1, 0]), np.array([50, 60, 70]), np.array([-1, 10])).tolist()
    [-1, 50, 20]
    """
    order = np.argsort(of, kind="stable")
    users, times = of[order], ts[order]
    first = np.diff(users, prepend=-1) != 0
    earlier = np.where(first, last[users], np.roll(times, 1))
    gaps = np.empty_like(ts)
    gaps[order] = np.where(earlier < 0, -1, np.maximum(times - earlier, 0))
    return gaps


def out_of_order(of: I64, ts: I64, last: I64) -> Bool:
    """Users some of whose events are older than one before them, bool [users].

    >>> out_of_order(np.array([0, 1, 0, 1]), np.array([5, 6, 5, 3]), np.array([5, -1])).tolist()
    [False, True]
    """
    found = np.zeros(len(last), np.bool_)
    order = np.argsort(of, kind="stable")
    users, times = of[order], ts[order]
    first = np.diff(users, prepend=-1) != 0
    found[users[np.where(first, last[users], np.roll(times, 1)) > times]] = True
    return found
