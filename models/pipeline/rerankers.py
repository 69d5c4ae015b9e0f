"""The re-ranker that is in use, and the first one, which stays as a baseline: the frozen first model.

In: re-rankers, the catalogue. Out: their item sides, row by slot, and vectors of users. It scores nothing.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, I32, Bool, EventBatch
from models.pipeline.candidates import Reranked
from models.pipeline.reranking import Reranker, VectorPlan
from models.state import growth
from models.state.catalogue import Catalogue
from models.state.users import UserTable
from models.vocabulary import Actions

NONE = Reranked(False, np.zeros((1, 1), np.float32), np.zeros(1, np.float32), np.full(1, -1, np.int32))


class Aligned:
    """A re-ranker whose items are found by slot."""

    def __init__(self, reranker: Reranker, catalogue: Catalogue) -> None:
        self.reranker = reranker
        self._catalogue = catalogue
        row_of = np.full(len(catalogue.columns.number), -1, np.int32)
        ids = [(slot, i) for slot in range(catalogue.slots) if (i := catalogue.id_at(slot)) is not None]
        if ids:
            row_of[[slot for slot, _ in ids]] = reranker.rows([i for _, i in ids])
        vectors = np.ascontiguousarray(reranker.item_vectors, np.float32)
        self.side = Reranked(True, vectors, np.ascontiguousarray(reranker.item_bias, np.float32), row_of)
        self._rows: I32 | None = None  # of `rows`, until items come or go

    def fit(self) -> None:
        """Items came or went, or the catalogue has room for more of them."""
        self._rows = None
        if len(self.side.row_of) < len(self._catalogue.columns.number):
            self.side = growth.with_slots(self.side, len(self._catalogue.columns.number))

    def admit(self, slots: list[int]) -> None:
        """These slots have other items than before."""
        self.side.row_of[slots] = self.reranker.rows([self._catalogue.id_at(slot) or "" for slot in slots])

    def rows(self) -> I32:
        """Row of each item number, -1 where there is none."""
        if self._rows is None:
            slot_of = self._catalogue.slot_of
            self._rows = np.where(slot_of >= 0, self.side.row_of[slot_of], -1).astype(np.int32)
        return self._rows

    def plan(
        self, users: UserTable, batch: EventBatch, actions: Actions, wanted: Bool | None = None
    ) -> VectorPlan:
        return self.reranker.plan(users, batch, self.rows(), actions, wanted)

    def current(self, users: UserTable, slots: I32, actions: Actions) -> F32:
        """Vectors of these users as they are now, [n, d]."""
        return self.reranker.current(users, slots, self.rows(), actions)


class Rerankers:
    """One in use and one frozen, where there are such.

    Attributes:
        first: version of the first one ever used, which a state keeps over restarts; "" before it.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.live: Aligned | None = None
        self.frozen: Aligned | None = None
        self.first = ""

    def use(self, reranker: Reranker | None, first: Reranker | None) -> None:
        """Use this one from now on; the one used until now is frozen if it was the first.

        Args:
            first: the frozen first one, for when it is not the one used until now: after a restart.
        """
        if self.frozen is None:
            if self.live is not None and self.live.reranker.version == self.first:
                self.frozen = self.live
            elif first is not None and first.version == self.first:
                self.frozen = Aligned(first, self._catalogue)
        self.live = None if reranker is None else Aligned(reranker, self._catalogue)
        if reranker is not None and not self.first:
            self.first = str(reranker.version)

    @property
    def first_is_lost(self) -> bool:
        """Whether the first one's lists can't be made: it is neither in use nor at hand."""
        if not self.first or self.frozen is not None:
            return False
        return self.live is None or self.live.reranker.version != self.first

    def fit(self) -> None:
        for one in (self.live, self.frozen):
            if one is not None:
                one.fit()

    def admit(self, slots: list[int]) -> None:
        for one in (self.live, self.frozen):
            if one is not None:
                one.admit(slots)
