"""What every single source would have listed: for each user in memory the last lists, and how many hits they were.

In: how many users there is room for, who is where. Out: `Baselines`, which the event loop fills. None of it is state:
backtests ask for it, and begin anew each time.
"""

from __future__ import annotations

import numpy as np

from models.base import I32
from models.pipeline.evaluation import Baselines
from models.state.users import UserTable


class SingleSources:
    """The baselines of one recommender.

    Args:
        sources: names of what speaks for an item; () where none of this is wanted.
        k: length of a list.
    """

    def __init__(self, users: UserTable, sources: tuple[str, ...], k: int) -> None:
        self._users, self._sources, self._k = users, sources, k
        self.columns = self._with_room(len(users.columns.partition) if sources else 1)

    def _with_room(self, users: int) -> Baselines:
        sources = max(1, len(self._sources))
        return Baselines(
            on=bool(self._sources),
            owner=np.zeros(users, np.uint64),
            lists=np.full((users, sources, self._k), -1, np.int32),
            hits=np.zeros(sources),
            ndcg=np.zeros(sources),
        )

    def fit(self) -> None:
        """The user table may have grown."""
        old = self.columns
        if old.on and len(old.lists) < len(self._users.columns.partition):
            self.columns = new = self._with_room(len(self._users.columns.partition))
            new.owner[: len(old.owner)], new.lists[: len(old.lists)] = old.owner, old.lists
            new.hits[:], new.ndcg[:] = old.hits, old.ndcg

    def own(self, slots: I32) -> None:
        """Take away the lists of users who had these slots before."""
        if self.columns.on:
            hashes = self._users.hashes
            others = slots[self.columns.owner[slots] != hashes[slots]]
            self.columns.lists[others] = -1
            self.columns.owner[others] = hashes[others]

    def counts(self) -> dict[str, tuple[float, float]]:
        """Hits and sum of NDCG of each single source, over the events scored so far.

        Raises:
            RuntimeError: none of this was wanted.
        """
        if not self.columns.on:
            raise RuntimeError("this recommender was made without baselines")
        hits, ndcg = self.columns.hits.tolist(), self.columns.ndcg.tolist()
        return dict(zip(self._sources, zip(hits, ndcg, strict=True), strict=True))
