"""Events for the models without the wire: plain rows → batches, and a state in memory.

In: `Event`s. Out: what `Recommender.process` said. Users are admitted from a `Store` where one is given, as the worker
does it from its state.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.base import EventBatch, Lists
from models.config import ModelSettings
from models.pipeline.recommender import Recommender
from models.state.users import UserTable
from models.vocabulary import kind_of

KEY = 17
WEIGHTS = {"click": 1.0, "rating": 1.0, "dislike": -0.5}
PLACES = ("", "home", "shop")


@dataclass(frozen=True, slots=True)
class Event:
    user: str
    item: str
    ts: int = 0
    offset: int = 0
    kind: str = "click"
    weight: float = 1.0
    value: float = math.nan
    event_id: int = 0


SETTINGS = ModelSettings()


def new(settings: ModelSettings = SETTINGS, **options: Any) -> Recommender:
    """A recommender that has seen nothing."""
    return Recommender(settings, weights=WEIGHTS, seed=3, **options)


def clicks(*pairs: tuple[str, str], start: int = 0) -> list[Event]:
    """One click for each (user, item), in order."""
    return [
        Event(user, item, ts=start + n, offset=start + n, event_id=start + n + 1)
        for n, (user, item) in enumerate(pairs)
    ]


@dataclass
class Store:
    """What commits wrote."""

    users: dict[str, bytes] = field(default_factory=dict)
    items: dict[bytes, bytes] = field(default_factory=dict)
    meta: dict[bytes, bytes] = field(default_factory=dict)

    def commit(self, recommender: Recommender, *, whole: bool = True) -> int:
        """Bytes of the item rows that were written."""
        delta = recommender.take_dirty(whole=whole)
        for _, user, row in delta.users:
            put(self.users, user, row)
        for key, row in delta.items:
            put(self.items, key, row)
        self.meta.update(delta.meta)
        recommender.mark_clean()
        return sum(len(row or b"") for _, row in delta.items)

    def into(self, recommender: Recommender) -> Recommender:
        recommender.load(self.items.items(), self.meta.items())
        return recommender


def traffic(n: int, users: int = 12, items: int = 40, seed: int = 1) -> list[Event]:
    """Clicks, ratings and dislikes in two places and nowhere, with ties in time, some events twice or out of order."""
    rng = random.Random(seed)
    events: list[Event] = []
    for offset in range(n):
        if events and rng.random() < 0.05:
            again = rng.choice(events[-20:])
            events.append(replace(again, offset=offset))
            continue
        kind = rng.choice(["click", "click", "rating", "dislike"])
        events.append(
            Event(
                user=f"u{rng.randrange(users)}",
                item=f"i{min(rng.randrange(items), rng.randrange(items))}",
                ts=1000 * (offset // 3) - (50_000 if rng.random() < 0.05 else 0),
                offset=offset,
                kind=kind_of(kind, PLACES[offset * offset % 7 % 3]),
                weight=WEIGHTS[kind],
                value=float(rng.randint(1, 5)) if kind == "rating" else float("nan"),
                event_id=offset + 1,
            )
        )
    return events


def put(rows: dict[Any, bytes], key: Any, row: bytes | None) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row


def slots_of(users: UserTable, ids: Iterable[str], store: Store | None = None) -> np.ndarray[Any, Any]:
    """Slots of these users, who are brought into memory."""
    slots = []
    for user in ids:
        slot = users.slot(user)
        if slot < 0:
            slot = users.admit(user, 0, store.users.get(user) if store else None)
        slots.append(slot)
    return np.array(slots, np.int32)


def batch_of(
    events: Sequence[Event], users: np.ndarray[Any, Any], items: np.ndarray[Any, Any], actions: Any
) -> EventBatch:
    return EventBatch(
        user=users,
        item=items,
        action=np.array([actions.code(e.kind) for e in events], np.uint8),
        weight=np.array([e.weight for e in events], np.float32),
        value=np.array([e.value for e in events], np.float32),
        ts=np.array([e.ts for e in events], np.int64),
        event_id=np.array([e.event_id for e in events], np.uint64),
        key=np.full(len(events), KEY, np.uint64),
        offset=np.array([e.offset for e in events], np.int64),
    )


def feed(
    recommender: Recommender,
    events: Sequence[Event],
    *,
    size: int = 1000,
    lists: bool = True,
    store: Store | None = None,
) -> list[tuple[str, int, list[str]]]:
    """Process the events in batches of `size`; (user, revision, items) of each list, one after each event."""
    made = []
    start = 0
    while start < len(events):
        some = events[start : start + size - start % size]
        items = recommender.catalogue.intern([e.item for e in some])
        if len(items) < len(some):
            some = some[: len(items)]
        start += len(some)
        if not some:
            recommender.make_room()
            continue
        users = slots_of(recommender.users, (e.user for e in some), store)
        batch = batch_of(some, users, items, recommender.actions)
        outcome = recommender.process(batch, np.full(len(some), lists))
        made += named(recommender, outcome.lists)
    return made


def named(recommender: Recommender, lists: Lists) -> list[tuple[str, int, list[str]]]:
    """(user, revision, item ids) of each list."""
    names = {number: item for item, number in recommender.catalogue.numbers.items()}
    return [
        (
            recommender.users.id_of(int(lists.user[m])),
            int(lists.revision[m]),
            [names.get(int(i), f"?{i}") for i in lists.items[m] if i != -1],
        )
        for m in range(len(lists))
    ]
