"""User-user collaborative filtering: what those who are like you took.

A query is compared with every user that was learned from, by the cosine of the history, in which the newest weighs
most, with the set of items that the user took (collaborative filtering by neighbours: Resnick, Iacovou, Suchak,
Bergstrom, Riedl: GroupLens, CSCW 1994; the nearest so many, not all above a threshold: Herlocker, Konstan, Borchers,
Riedl: An Algorithmic Framework for Performing Collaborative Filtering, SIGIR 1999). An item's score is the sum of the
similarities of the nearest users who took it.

The history of the query is what counts, so a new user has neighbours from the first click on, and no one is their own
neighbour. Ratings are not looked at.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from models.base import F32, I32
from models.config import Section
from models.family.contract import NOBODY, Arrays, Interactions, Model, Queries, best, chosen
from models.family.parts.taken import Taken, fading, newest, or_popularity


class UserKNNSettings(Section):
    """Which users are neighbours, and how long a history counts."""

    neighbours: int = Field(100, ge=1, description="users whose items are counted")
    half_life: float = Field(4.0, ge=0, description="of the weight in the history, in events; 0 for never")


class UserKNN(Model):
    """Cosine of the history with users' sets of items, nearest users only (Resnick 1994; Herlocker 1999)."""

    name = "user-user"
    Settings: ClassVar[type[Section]] = UserKNNSettings
    settings: UserKNNSettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.taken = Taken()
        self._index()
        self.partial_fit(events)

    def partial_fit(self, events: Interactions) -> None:
        if not len(events):
            return
        self.n_users = max(self.n_users, int(events.user.max()) + 1)
        self.n_items = max(self.n_items, int(events.item.max()) + 1)
        self.taken.add(events)
        self._index()

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self._index()

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        alike = self.similarity(queries)
        users, weight = best(np.where(alike > 0.0, alike, np.float32(-np.inf)), self.settings.neighbours)
        row, column = np.nonzero(users != NOBODY)
        near = csr_array((weight[row, column], (row, users[row, column])), shape=alike.shape)
        return chosen(or_popularity((near @ self.sets).toarray(), self.counts), items)

    def similarity(self, queries: Queries) -> F32:
        """How alike each query and each user are, float32 [n, n_users]; 0 for the user who asks."""
        history = newest(queries, self.n_items)
        weight = fading(history.age, self.settings.half_life)
        length = np.sqrt(np.bincount(history.row, weight**2, minlength=len(queries)))
        unit = history.matrix(weight / length[history.row], (len(queries), self.n_items))
        alike: F32 = (unit @ self.sets.T).toarray() / self.lengths
        own = np.flatnonzero(queries.user < self.n_users)
        alike[own, queries.user[own]] = 0.0
        return alike

    def arrays(self) -> Arrays:
        return self.taken.arrays()

    def restore(self, arrays: Arrays) -> None:
        self.taken = Taken.restored(arrays, self.n_users, self.n_items)
        self._index()

    def _index(self) -> None:
        self.sets = self.taken.matrix(self.n_users, self.n_items)
        sizes = np.bincount(self.taken.user, minlength=self.n_users)
        self.lengths = np.sqrt(np.maximum(sizes, 1)).astype(np.float32)
        self.counts = np.bincount(self.taken.item, minlength=self.n_items)
