"""Items that a user did not take, for losses that compare pairs.

In: a lesson, users, a generator. Out: items drawn uniformly among the others. Never an item that the user has among
the kept events, unless a few attempts found no other.
"""

from __future__ import annotations

import numpy as np

from models.base import I64, Bool
from models.family.parts.training import Lesson

ATTEMPTS = 4


class NotTaken:
    """What each user of a lesson has, to be looked up."""

    def __init__(self, lesson: Lesson, n_items: int) -> None:
        self.n_items = n_items
        self._pairs = np.unique(lesson.events.user.astype(np.int64) * n_items + lesson.events.item)

    def draw(self, users: I64, each: int, rng: np.random.Generator) -> I64:
        """Items for each user, int64 [m, each]."""
        items = rng.integers(0, self.n_items, (len(users), each))
        for _ in range(ATTEMPTS - 1):
            taken = self.has(np.broadcast_to(users[:, None], items.shape), items)
            if not taken.any():
                break
            items[taken] = rng.integers(0, self.n_items, int(taken.sum()))
        return items

    def has(self, users: I64, items: I64) -> Bool:
        """Whether each user has the item."""
        pairs = users * self.n_items + items
        at = np.minimum(np.searchsorted(self._pairs, pairs), len(self._pairs) - 1)
        found: Bool = self._pairs[at] == pairs
        return found
