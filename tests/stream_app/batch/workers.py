"""A pipeline over a state in memory, for tests: what a worker is without its broker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from models.pipeline.recommender import Recommender
from stream_app.batch.pipeline import Pipeline, Processed
from stream_app.settings import load
from tests.records import APPENDED, Read, event


class Stored:
    """A state in memory: what commits wrote, and what the pipeline loads."""

    def __init__(self) -> None:
        self.users: dict[tuple[int, str], bytes] = {}
        self.items: dict[bytes, bytes] = {}
        self.meta: dict[bytes, bytes] = {}
        self.loaded: list[str] = []

    def load_users(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        self.loaded += user_ids
        return [self.users.get((partition, user)) for user in user_ids]

    def commit(self, recommender: Recommender) -> None:
        delta = recommender.take_dirty()
        for partition, user, row in delta.users:
            _put(self.users, (partition, user), row)
        for key, row in delta.items:
            _put(self.items, key, row)
        self.meta.update(delta.meta)
        recommender.mark_clean()


def _put(rows: dict[Any, bytes], key: Any, row: bytes | None) -> None:
    if row is None:
        rows.pop(key, None)
    else:
        rows[key] = row


class Worker:
    """A pipeline over a state; `restart` forgets all that was not committed."""

    def __init__(self, partitions: int = 1, **overrides: Any) -> None:
        self.settings = load({f"{name.replace('__', '.')}": value for name, value in overrides.items()})
        self.partitions = partitions
        self.state = Stored()
        self.restart()

    def restart(self) -> None:
        s = self.settings
        self.recommender = Recommender(s.models, weights=s.events.weights, seed=s.seed)
        self.recommender.load(self.state.items.items(), self.state.meta.items())
        self.pipeline = Pipeline(
            s, self.recommender, self.state.load_users, partitions=self.partitions, clock=lambda: 50.0
        )

    def process(self, *records: Read, **options: Any) -> Processed:
        return self.pipeline.process(records, received_ms=40.0, **options)

    def commit(self) -> None:
        self.state.commit(self.recommender)


def at(offset: int, user: str, item: str | None = None, kind: str = "click", **more: Any) -> Read:
    place = {name: more.pop(name) for name in ("partition", "topic", "key") if name in more}
    value = event(user, item, kind, ts=more.pop("ts", offset), **more)
    return Read(value, offset=offset, timestamp=APPENDED + offset, **place)


def read_lists(out: Processed) -> list[dict[str, Any]]:
    return [json.loads(one.value) for one in out.recommendations if one.value is not None]


def brief(out: Processed) -> list[tuple[Any, ...]]:
    """(user, revision, events, sources) of each list; (user,) of each tombstone."""
    return [
        (one.user_id,)
        if one.value is None
        else (one.user_id, (r := json.loads(one.value))["revision"], r["events"], r["sources"])
        for one in out.recommendations
    ]
