"""The wire contract: one msgspec struct for the value of each topic (version 1).

In and out: bytes ↔ structs. Unknown fields are ignored; what is checked beyond types is in `stream_app.batch.decode`.
Never talks to a broker.
"""

from __future__ import annotations

from typing import Any

import msgspec

VERSION = 1
Id = str | int


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that a user did; the value of a record on `events`, keyed by the user's id."""

    v: int = VERSION
    event_id: Id | None = None
    user_id: Id
    item_id: Id | None = None
    type: str
    value: float | None = None
    ts: int
    scenario: str | None = None
    context: dict[str, Any] | None = None


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A catalogue upsert; the value of a record on `items`, keyed by the item's id."""

    v: int = VERSION
    item_id: Id
    title: str | None = None
    text: str | None = None
    categories: list[str] = []
    tags: list[str] = []
    price: float | None = None
    available: bool = True
    embeddings: dict[str, list[float]] = {}


class Because(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why an item is on a list: the history item that spoke loudest for it, if any."""

    item_id: str | None = None
    text: str = ""


class RecommendedItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An item of a list. `propensity` is that of an item tried out: the chance that it was drawn for its place."""

    item_id: str
    score: float
    source: str
    because: Because
    propensity: float | None = None


class Recommendation(msgspec.Struct, kw_only=True):
    """A user's newest list; the value of a record on `recommendations`, keyed by the user's id."""

    v: int = VERSION
    user_id: str
    revision: int
    items: list[RecommendedItem]
    sources: dict[str, int]
    events: int
    event_ts: int
    published_ts: int
    latency_ms: float
    models: dict[str, str]
    arm: str
    reason: str


class Manifest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A snapshot announced on `models` under the key NAME/VERSION."""

    v: int = VERSION
    name: str
    version: str
    sha256: str
    cut: dict[str, int]
    created_ts: int
    gate: dict[str, Any] = {}


class Live(msgspec.Struct, kw_only=True):
    """The pointer that workers obey, on `models` under the key NAME/live."""

    v: int = VERSION
    version: str
    pinned: bool = False
    by: str = ""
    at: int = 0


class Control(msgspec.Struct, kw_only=True):
    """Pause or resume the worker, on `control`."""

    v: int = VERSION
    action: str
    by: str = ""
    at: int = 0
