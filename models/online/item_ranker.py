"""What the online models of items have in common on their own: ids, users' histories, room that grows.

In: events one at a time or many, ids as strings, `y` the event's teaching weight. Out: columns for a model's kernels,
and river's words around them (`river.reco`). Asking about an unknown user or item makes no entry.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from river import reco

from models.base import F64, I32, Arrays
from models.state.sequences import HISTORY

Scores = npt.NDArray[Any]
FIRST_ROOM = 64
"""Items that a new model has room for; it doubles."""


class Events(NamedTuple):
    """A batch for the kernels, one row an event.

    Attributes:
        slot: of the item, int32 [n].
        history: the user's items before the event, newest first, int32 [n, HISTORY]; -1 fills.
        length: of the history, int32 [n].
        weight: float64 [n]; negative for a dislike.
        start: events that the model has learned before.
    """

    slot: I32
    history: I32
    length: I32
    weight: F64
    start: int


class ItemRanker(reco.base.Ranker):
    """Slots of items, histories of users, room that grows; a model adds its tables and kernels."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self._slots: dict[str, int] = {}
        self._histories: dict[str, list[int]] = {}
        self._events = 0
        self._room = FIRST_ROOM

    @abstractmethod
    def _grow(self, room: int) -> None:
        """Make room for so many items."""

    @abstractmethod
    def _admit(self, item: str, slot: int) -> None:
        """Set the rows of an item to what they are before its first event."""

    @abstractmethod
    def _learn(self, events: Events) -> None: ...

    @abstractmethod
    def _score(self, history: I32, slots: I32) -> Scores:
        """The score of each of these items for a user with this history (newest first); learns nothing."""

    @abstractmethod
    def _learned(self) -> Arrays:
        """The model's own tables, a row an item slot in use."""

    def learn_one(self, user: str, item: str, y: float = 1.0, x: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Learn that `user` did something of weight `y` with `item`."""
        self.learn_many([user], [item], [y])

    def learn_many(
        self, users: Sequence[str], items: Sequence[str], y: Sequence[float] | None = None
    ) -> None:
        """Learn events in their order; the same as `learn_one` of each, to the byte."""
        n = len(users)
        weight = np.ones(n) if y is None else np.array(y, np.float64)
        slot = np.array([self._slot(item) for item in items], np.int32)
        history, length = np.full((n, HISTORY), -1, np.int32), np.zeros(n, np.int32)
        for row, user in enumerate(users):
            past = self._histories.get(user, [])
            length[row] = len(past)
            history[row, : len(past)] = past
            if weight[row] > 0.0:
                self._histories[user] = [int(slot[row]), *past][:HISTORY]
        self._learn(Events(slot, history, length, weight, self._events))
        self._events += n

    def predict_one(self, user: str, item: str, x: dict[str, float] | None = None) -> float:  # noqa: ARG002
        """How well `item` goes with `user`; 0 for an item without events."""
        return self._scores(user, [item])[item]

    def rank(self, user: str, items: set[str], x: dict[str, float] | None = None) -> list[str]:  # noqa: ARG002
        """The items by falling score; ties by id."""
        scores = self._scores(user, list(items))
        return sorted(items, key=lambda item: (-scores[item], item))

    def arrays(self) -> Arrays:
        """Everything learned, by name."""
        users = list(self._histories)
        history = np.full((len(users), HISTORY), -1, np.int32)
        for row, user in enumerate(users):
            past = self._histories[user]
            history[row, : len(past)] = past
        return {
            "items": np.array(list(self._slots), np.str_),
            "users": np.array(users, np.str_),
            "history": history,
            "events": np.array([self._events]),
            **self._learned(),
        }

    def _slot(self, item: str) -> int:
        slot = self._slots.get(item)
        if slot is None:
            slot = self._slots[item] = len(self._slots)
            if slot >= self._room:
                self._room *= 2
                self._grow(self._room)
            self._admit(item, slot)
        return slot

    def _scores(self, user: str, items: list[str]) -> dict[str, float]:
        known = [item for item in items if item in self._slots]
        slots = np.array([self._slots[item] for item in known], np.int32)
        history = np.array(self._histories.get(user, []), np.int32)
        return dict.fromkeys(items, 0.0) | dict(
            zip(known, map(float, self._score(history, slots)), strict=True)
        )
