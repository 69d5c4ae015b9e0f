"""What travels between the models, and the contract that each of them keeps.

Ids are interned before they come here: an item is a *number* (int32, never reused), a user is a *slot* of the
`Recommender`'s user table. Everything is columnar. No module of this package imports Kafka, Faust or RocksDB,
reads a clock or the environment; randomness is keyed by (seed, partition key, offset).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Arrays = dict[str, npt.NDArray[Any]]

ACCEPTED, DUPLICATE, LATE = 0, 1, 2
"""Status of an event: LATE was counted and taught item statistics, but did not enter the full sequence."""


@dataclass(slots=True)
class EventBatch:
    """Decoded events in log order, one row each.

    Attributes:
        user: slot in the user table, int32 [n].
        item: item number, int32 [n].
        action: code of the kind of event, uint8 [n] (see `models.vocabulary.Actions`).
        weight: teaching weight of its type, float32 [n]; negative for a dislike.
        value: rating clamped to the scale, float32 [n]; NaN where the event has none.
        ts: event time in ms UTC, int64 [n].
        event_id: 64-bit hash of the event's id, uint64 [n]; 0 where it has none.
        key: 64-bit hash of (topic, partition), uint64 [n]: with `offset`, what randomness is keyed by.
        offset: offset in its partition, int64 [n].
    """

    user: I32
    item: I32
    action: U8
    weight: F32
    value: F32
    ts: I64
    event_id: U64
    key: U64
    offset: I64

    def __len__(self) -> int:
        return len(self.user)

    def slice(self, start: int, stop: int) -> EventBatch:
        """Rows `start` to `stop`, as views."""
        return EventBatch(*(getattr(self, f.name)[start:stop] for f in fields(self)))


@dataclass(slots=True)
class Lists:
    """Recommendation lists, one row each; `k` items in a row, best first.

    Attributes:
        event: row of the batch after which the list was made, int64 [m]; -1 for a refresh.
        user: user slot, int32 [m].
        revision: int64 [m].
        items: item numbers, int32 [m, k]; -1 fills a row that is short of candidates.
        scores: the item's share of the blend's softmax, float32 [m, k]; of an explored item, its propensity.
        source: index into `Recommender.credits`, uint8 [m, k].
        because: number of the history item that spoke loudest, int32 [m, k]; -1 where none did.
    """

    event: I64
    user: I32
    revision: I64
    items: I32
    scores: F32
    source: U8
    because: I32

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Served:
    """What a user is shown once a list is published, int32 [k] each: the list, popularity's and the frozen model's."""

    served: I32
    popular: I32
    frozen: I32


@dataclass(slots=True)
class Outcome:
    """What became of a batch: a status for each event, and the lists that were asked for."""

    status: U8
    lists: Lists


@runtime_checkable
class OnlineModel(Protocol):
    """A model that learns event by event, in river's words (`river.reco`).

    `learn_many` over any cutting of a stream leaves the same state, to the byte, as `learn_one` over its
    events. `predict_one` and `rank` change nothing: asking about an unknown user or item creates no entry.
    """

    def learn_one(self, user: str, item: str, y: float = 1.0, x: dict[str, float] | None = None) -> None: ...

    def learn_many(
        self, users: Sequence[str], items: Sequence[str], y: Sequence[float] | None = None
    ) -> None: ...

    def predict_one(self, user: str, item: str, x: dict[str, float] | None = None) -> float: ...

    def rank(self, user: str, items: set[str], x: dict[str, float] | None = None) -> list[str]: ...

    def arrays(self) -> Arrays:
        """Everything learned, by name."""
        ...
