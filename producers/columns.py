"""A data set as columns: what every source of events is turned into before it is replayed or backtested.

In: a polars frame with one row an event. Out: a `Dataset`, sorted by event time, ids dictionary-encoded,
with a hash of its content. Never reads a file, talks to a broker or checks the wire contract's limits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

ITEMS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "item_id": pl.String,
    "title": pl.String,
    "text": pl.String,
    "categories": pl.List(pl.String),
    "tags": pl.List(pl.String),
    "price": pl.Float64,
    "available": pl.Boolean,
    "embeddings": pl.List(pl.Struct({"name": pl.String, "vector": pl.List(pl.Float64)})),
}
"""Columns of `Dataset.items`: what the `items` contract says of an item."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Events in stable timestamp order: rows that share a timestamp keep the order of their file.

    Attributes:
        name: what it was asked for by, such as `ml-1m` or a path.
        source: where the rows came from.
        note: what a reader of its figures should know, or empty.
        sha256: hash of the columns below (not of `items`): the same events give the same hash,
            whatever file format they came in.
        user, item, type: codes into `user_ids`, `item_ids`, `types`, int32 [n], numbered by first appearance.
        value: float64 [n]; NaN where the event has none.
        ts: event time in ms UTC, int64 [n].
        event_id: the source's own ids [n], or None where it has none.
        scenario: codes into `scenarios`, int32 [n]; -1 for an event without one.
        items: the catalogue, columns as in `ITEMS_SCHEMA`; may be empty.
    """

    name: str
    source: str
    note: str
    sha256: str
    user: I32
    user_ids: list[str]
    item: I32
    item_ids: list[str]
    type: I32
    types: list[str]
    value: F64
    ts: I64
    event_id: list[str | None] | None
    items: pl.DataFrame
    scenario: I32
    scenarios: list[str]

    def __len__(self) -> int:
        return len(self.ts)


def from_frame(
    frame: pl.DataFrame, *, name: str, source: str, note: str = "", items: pl.DataFrame | None = None
) -> Dataset:
    """The columns `user`, `item`, `type` (strings), `ts` (ms); where they are, `value`, `event_id`, `scenario`.

    `item` may be null (an `erase` has none): its code is then -1.
    """
    frame = frame.sort("ts", maintain_order=True)
    user, user_ids = _encode(frame["user"])
    item, item_ids = _encode(frame["item"])
    kind, types = _encode(frame["type"])
    if "value" in frame.columns:
        value = frame["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    else:
        value = np.full(len(frame), np.nan)
    ts = frame["ts"].cast(pl.Int64).to_numpy().copy()
    event_id: list[str | None] | None = None
    if "event_id" in frame.columns:
        event_id = frame["event_id"].cast(pl.String).to_list()

    scenario, scenarios = np.full(len(frame), -1, np.int32), list[str]()
    if "scenario" in frame.columns:
        scenario, scenarios = _encode(frame["scenario"].cast(pl.String).replace("", None))

    digest = hashlib.sha256()
    for column in (user, item, kind, value, ts):
        digest.update(np.ascontiguousarray(column).tobytes())
    digest.update(msgspec.json.encode([user_ids, item_ids, types, event_id]))
    if scenarios:
        digest.update(scenario.tobytes() + msgspec.json.encode(scenarios))
    return Dataset(
        name=name,
        source=source,
        note=note,
        sha256=digest.hexdigest(),
        user=user,
        user_ids=user_ids,
        item=item,
        item_ids=item_ids,
        type=kind,
        types=types,
        value=value,
        ts=ts,
        event_id=event_id,
        items=catalogue() if items is None else items,
        scenario=scenario,
        scenarios=scenarios,
    )


def catalogue(items: Iterable[Mapping[str, Any]] = ()) -> pl.DataFrame:
    """A frame for `Dataset.items`, one row an item; what is not said of one is null, and it is available."""
    rows = [
        [item.get(name, True if name == "available" else None) for name in ITEMS_SCHEMA] for item in items
    ]
    return pl.DataFrame(rows, schema=ITEMS_SCHEMA, orient="row")


def _encode(column: pl.Series) -> tuple[I32, list[str]]:
    """Codes by first appearance (-1 for null), and the distinct values in that order."""
    distinct = column.drop_nulls().unique(maintain_order=True)
    numbers = pl.Series(range(len(distinct)), dtype=pl.Int32)
    codes = column.replace_strict(distinct, numbers, default=-1, return_dtype=pl.Int32)
    return codes.to_numpy().copy(), distinct.to_list()
