"""Users' histories, kept to the event: what turns a stream of interactions into queries.

In: interactions, oldest first. Out: `Queries` for users as they stand, and what each of them already had.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, I32, I64, Bool
from models.family.contract import NOBODY, Interactions, Queries


class Histories:
    """The last `length` events of each user, and all items that they had.

    Args:
        length: events of a user that a query shows.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._items: dict[int, list[int]] = {}
        self._values: dict[int, list[float]] = {}
        self._ts: dict[int, list[int]] = {}
        self._had: dict[int, set[int]] = {}

    def add(self, events: Interactions) -> None:
        """Take in what users did."""
        columns = zip(
            events.user.tolist(), events.item.tolist(), events.value.tolist(), events.ts.tolist(), strict=True
        )
        for user, item, value, ts in columns:
            self._items.setdefault(user, []).append(item)
            self._values.setdefault(user, []).append(value)
            self._ts.setdefault(user, []).append(ts)
            self._had.setdefault(user, set()).add(item)
            if len(self._items[user]) > 2 * self.length:
                del self._items[user][: -self.length]
                del self._values[user][: -self.length]
                del self._ts[user][: -self.length]

    def had(self, user: int, item: int) -> bool:
        """Whether the user ever had the item."""
        return item in self._had.get(user, ())

    def knows(self, user: int) -> bool:
        """Whether the user did anything yet."""
        return user in self._items

    def queries(self, users: I32) -> Queries:
        """The users as they stand, in this order; one who did nothing has an empty history."""
        n, length = len(users), self.length
        items = np.full((n, length), NOBODY, np.int32)
        values: F32 = np.full((n, length), np.nan, np.float32)
        ts: I64 = np.zeros((n, length), np.int64)
        for row, user in enumerate(users.tolist()):
            held = self._items.get(user, ())[-length:]
            if held:
                items[row, -len(held) :] = held
                values[row, -len(held) :] = self._values[user][-length:]
                ts[row, -len(held) :] = self._ts[user][-length:]
        return Queries(users, items, values, ts)

    def blocked(self, users: I32, n_items: int) -> Bool:
        """What each user already had, bool [n, n_items]."""
        blocked = np.zeros((len(users), n_items), np.bool_)
        for row, user in enumerate(users.tolist()):
            had = [item for item in self._had.get(user, ()) if item < n_items]
            blocked[row, had] = True
        return blocked
