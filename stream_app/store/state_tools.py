"""A look into a stopped worker's state: one user, all of them, the offsets.

In: an open `StateStore` (read only is enough). Out: plain values for JSON. Never writes, and loads one
user at a time, so that a state of any size can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from models.state.item_rows import parse_id, parse_key
from models.state.user_rows import RowError, UserRow, unpack_row
from models.vocabulary import parted
from stream_app.errors import HeadraceError
from stream_app.store.state import StateStore
from stream_app.store.state_folder import StateError
from stream_app.store.state_identity import TOPICS

LAST_ITEMS = 20
"""Items of a user that `dump` tells, newest first."""


class UnknownUserError(HeadraceError):
    """The state holds no such user."""


class _Meta(msgspec.Struct):
    """What is used of `models.pipeline.recommender.Meta`."""

    actions: list[str]


@dataclass(frozen=True, slots=True)
class Names:
    """Ids of items and names of kinds of events, by the numbers that rows hold."""

    items: dict[int, str]
    actions: list[str]

    def item(self, number: int) -> str | None:
        """None for an item that was evicted since, or that had no number when it was listed."""
        return self.items.get(number)

    def action(self, code: int) -> dict[str, str | None]:
        """Type of an event, and its scenario where it has one; the type is None beyond the end of the vocabulary."""
        action, scenario = parted(self.actions[code - 1]) if 1 <= code <= len(self.actions) else (None, "")
        return {"type": action, **({"scenario": scenario} if scenario else {})}


def names(store: StateStore) -> Names:
    """The names that the rows of this state refer to."""
    items = {}
    for key, blob in store.items():
        kind, number = parse_key(key)
        if kind == b"i":
            items[number] = parse_id(blob)[1]
    meta = dict(store.model_meta()).get(b"recommender")
    actions = [] if meta is None else msgspec.msgpack.decode(meta, type=_Meta).actions
    return Names(items, actions)


def show(store: StateStore, user_id: str) -> dict[str, Any]:
    """All that is kept of a user, for people.

    Raises:
        UnknownUserError: no partition holds them.
    """
    # A row holds offsets by a topic's place among the inputs of the worker that wrote it.
    made_with = store.identity
    topics = [] if made_with is None else made_with.settings[TOPICS]
    for partition in store.partitions():
        (data,) = store.load_users(partition, [user_id])
        if data is not None:
            shown = _shown(user_id, partition, _row(data, user_id), names(store), topics)
            return {**shown, "bytes": len(data)}
    raise UnknownUserError(
        f"the state in {store.directory} holds no user {user_id!r}",
        "Ids are compared exactly; `headrace state dump` lists the users that there are.",
    )


def dump(store: StateStore) -> Iterator[dict[str, Any]]:
    """Each user: `user_id`, `events` accepted so far, `last_items` newest first, and their counters."""
    known = names(store)
    for partition in store.partitions():
        for user_id, data in store.users(partition):
            row = _row(data, user_id)
            yield {
                "user_id": user_id,
                "partition": partition,
                "events": row.events,
                "revision": row.revision,
                "seen": row.seen_n,
                "last_items": [known.item(int(n)) for n in row.items[::-1][:LAST_ITEMS]],
            }


def offsets(store: StateStore) -> dict[str, int]:
    """The next offset that the worker reads, by topic-partition."""
    return {f"{topic}-{partition}": offset for (topic, partition), offset in sorted(store.offsets.items())}


def _shown(user_id: str, partition: int, row: UserRow, known: Names, topics: Sequence[str]) -> dict[str, Any]:
    sequence = []
    for item, action, value, ts in zip(
        row.items.tolist(), row.actions.tolist(), row.values.tolist(), row.ts.tolist(), strict=True
    ):
        event = {"item_id": known.item(item), **known.action(action), "ts": ts}
        sequence.append(event if value != value else {**event, "value": value})
    return {
        "user_id": user_id,
        "partition": partition,
        "events": row.events,
        "revision": row.revision,
        "seen": row.seen_n,
        "sources": {
            f"{topic}-{partition}": offset
            for topic, offset in zip(topics, row.positions.tolist(), strict=False)
            if offset >= 0
        },
        "last_list": [known.item(n) for n in row.served.tolist() if n != -1],
        "sequence": sequence[::-1],
        "ratings": row.mf_n,
        "rating_bias": row.mf_bias,
    }


def _row(data: bytes, user_id: str) -> UserRow:
    try:
        return unpack_row(data)
    except RowError as error:
        raise StateError(
            f"the row of user {user_id!r} can't be read: {error}",
            "Read it with the version of headrace that wrote it.",
        ) from error
