"""The `items` topic as the trainer reads it: what there is to say of each item, for models that learn from content.

In: settings. Out: descriptions by item id, of the items that are there now. A bad record is skipped: the worker keeps
it as a dead letter. Never keeps an offset: the topic is compacted, and is read from its beginning each time.
"""

from __future__ import annotations

import msgspec
import numpy as np

from models.base import F32
from models.family.descriptions import Description, tokens_of
from stream_app.batch.catalogue_feed import read_item
from stream_app.batch.refusals import Record, RecordError
from stream_app.brokers.topic_reader import open_reader
from stream_app.settings import Settings


class _Told(msgspec.Struct):
    title: str | None = None
    text: str | None = None
    categories: list[str] | None = None
    tags: list[str] | None = None
    price: float | None = None
    embeddings: dict[str, list[float]] | None = None


_decode = msgspec.json.Decoder(_Told).decode


async def read_descriptions(settings: Settings) -> dict[str, Description]:
    """What the topic says now; of more than `models.max_items` items, of those that were told of last.

    Raises:
        HeadraceError: no broker, no such topic.
    """
    known: dict[str, Description] = {}
    async with open_reader(settings) as reader:
        async for record in reader.to_end(reader.partitions(settings.topics.items)):
            take(known, record, settings.models.max_items)
    return known


def take(known: dict[str, Description], record: Record, limit: int) -> None:
    """Let one record of the topic change what is known of at most `limit` items."""
    try:
        item_id, item = read_item(record)
        told = None if item is None else _decode(record.value or b"")
    except (RecordError, msgspec.MsgspecError):
        return
    known.pop(item_id, None)
    if told is None:
        return
    known[item_id] = Description(
        tokens_of(told.title, told.text, told.categories or (), told.tags or (), told.price),
        {
            name: vector
            for name, given in (told.embeddings or {}).items()
            if (vector := _finite(given)) is not None
        },
    )
    if len(known) > limit:
        del known[next(iter(known))]


def _finite(given: list[float]) -> F32 | None:
    with np.errstate(over="ignore"):
        vector = np.array(given, np.float32)
    return vector if np.isfinite(vector).all() else None
