"""What the recommender asks of whatever re-ranks: the Transformer, or a model of the family in its place.

In: users and events as they are stored. Out: vectors, whose products with the items' are scores. Contracts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from models.base import F32, I32, Bool, EventBatch
from models.state.users import UserTable
from models.vocabulary import Actions


class VectorPlan(Protocol):
    """The encoding of one batch, begun before the user table advances and finished after it."""

    def finish(self, accepted: Bool) -> tuple[F32, F32]:
        """Each event's user before and after it, [n, d]; rows of events that were not accepted mean nothing."""
        ...


class Reranker(Protocol):
    """A snapshot as the recommender uses it; see `models.sequence.reranker`."""

    version: str
    item_vectors: F32  # [V, d]
    item_bias: F32  # [V]

    def rows(self, item_ids: Sequence[str]) -> I32:
        """Row of each item, -1 for one that the snapshot lacks."""
        ...

    def plan(
        self, users: UserTable, batch: EventBatch, row_of: I32, actions: Actions, wanted: Bool | None = None
    ) -> VectorPlan:
        """Take what is needed of the users as they are now; `row_of` [item numbers] gives each item's row.

        `wanted` [n] restricts the plan to some users: all of their events, and nobody else's.
        """
        ...

    def current(self, users: UserTable, slots: I32, row_of: I32, actions: Actions) -> F32:
        """The users' vectors as they are now, [n, d]."""
        ...
