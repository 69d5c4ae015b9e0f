"""Users' histories, kept to the event: what turns a stream of interactions into queries.

In: interactions, oldest first. Out: `Queries` for users as they stand (`Histories`, which follows a stream) or as they
stood at any moment (`Timeline`, of a stream that is known whole), and what each of them already had.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.base import I32, I64, Bool
from models.family.contract import COLUMNS, NOBODY, Interactions, Queries


class Histories:
    """The last `length` events of each user, and all items that they had.

    Args:
        length: events of a user that a query shows.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._events: dict[int, list[tuple[int, float, int, int, int]]] = {}
        self._had: dict[int, set[int]] = {}

    def add(self, events: Interactions) -> None:
        """Take in what users did."""
        columns = (getattr(events, name).tolist() for name in COLUMNS)
        for user, item, *rest in zip(*columns, strict=True):
            held = self._events.setdefault(user, [])
            held.append((item, *rest))
            self._had.setdefault(user, set()).add(item)
            if len(held) > 2 * self.length:
                del held[: -self.length]

    def had(self, user: int, item: int) -> bool:
        """Whether the user ever had the item."""
        return item in self._had.get(user, ())

    def knows(self, user: int) -> bool:
        """Whether the user did anything yet."""
        return user in self._events

    def queries(self, users: I32) -> Queries:
        """The users as they stand, in this order; one who did nothing has an empty history."""
        n, length = len(users), self.length
        queries = Queries(
            users,
            np.full((n, length), NOBODY, np.int32),
            np.full((n, length), np.nan, np.float32),
            np.zeros((n, length), np.int64),
        )
        shown: tuple[Any, ...] = (
            queries.items,
            queries.values,
            queries.ts,
            queries.actions,
            queries.scenarios,
        )
        for row, user in enumerate(users.tolist()):
            held = self._events.get(user, ())[-length:]
            if held:
                for column, values in zip(shown, zip(*held, strict=True), strict=True):
                    column[row, -len(held) :] = values
        return queries

    def blocked(self, users: I32, n_items: int) -> Bool:
        """What each user already had, bool [n, n_items]."""
        blocked = np.zeros((len(users), n_items), np.bool_)
        for row, user in enumerate(users.tolist()):
            had = [item for item in self._had.get(user, ()) if item < n_items]
            blocked[row, had] = True
        return blocked


class Timeline:
    """All events of a stream that is known whole, as each user saw them: what had happened before any of its rows.

    The same answers as `Histories` fed up to that row, for many users and rows at once.

    Args:
        events: the whole stream, oldest first.
        length: events of a user that a query shows.
    """

    def __init__(self, events: Interactions, length: int) -> None:
        self.length = length
        order = np.argsort(events.user, kind="stable")
        self._events = events.take(order)
        self._rows = len(events) + 1
        self._keys: I64 = events.user[order].astype(np.int64) * self._rows + order

    def counts(self, users: I32, before: I64) -> I64:
        """How many events each user had before each row, int64 [n]."""
        start, stop = self._spans(users, before)
        return stop - start

    def queries(self, users: I32, before: I64) -> Queries:
        """The users as they stood before those rows, row by row.

        Args:
            users: codes, int32 [n]; may repeat.
            before: rows of the stream, int64 [n]; the event in that row is not shown.
        """
        if not len(self._events):
            return Histories(self.length).queries(users)
        start, stop = self._spans(users, before)
        at = stop[:, None] + np.arange(-self.length, 0)
        shown = at >= start[:, None]
        at = np.where(shown, at, 0)
        return Queries(
            users,
            np.where(shown, self._events.item[at], NOBODY).astype(np.int32),
            np.where(shown, self._events.value[at], np.nan).astype(np.float32),
            np.where(shown, self._events.ts[at], 0),
            np.where(shown, self._events.action[at], 0).astype(np.int32),
            np.where(shown, self._events.scenario[at], 0).astype(np.int32),
        )

    def blocked(self, users: I32, before: I64, n_items: int) -> Bool:
        """What each user had before each row, bool [n, n_items]."""
        start, stop = self._spans(users, before)
        sizes = stop - start
        row = np.repeat(np.arange(len(users)), sizes)
        at = (
            np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(start, sizes)
        )
        item = self._events.item[at]
        blocked = np.zeros((len(users), n_items), np.bool_)
        blocked[row[item < n_items], item[item < n_items]] = True
        return blocked

    def _spans(self, users: I32, before: I64) -> tuple[I64, I64]:
        first = users.astype(np.int64) * self._rows
        start: I64 = np.searchsorted(self._keys, first).astype(np.int64)
        stop: I64 = np.searchsorted(self._keys, first + before).astype(np.int64)
        return start, stop
