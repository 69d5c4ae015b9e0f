"""The `items` topic as the trainer reads it: what there is to say of each item, for models that learn from content.

In: settings. Out: descriptions by item id, of the items that are there now. A record that the worker refuses is skipped
here; of one whose text, tags, price or embeddings are of a wrong type, title and categories count. Never keeps an
offset: the topic is compacted, and is read from its beginning each time.
"""

from __future__ import annotations

import msgspec

from models.family.parts.descriptions import Description, embedding_of, tokens_of
from stream_app.batch.catalogue_feed import read_item
from stream_app.batch.refusals import Record, RecordError
from stream_app.brokers.topic_reader import open_reader
from stream_app.settings import Settings


class _Told(msgspec.Struct):
    text: str | None = None
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
    except RecordError:
        return
    known.pop(item_id, None)
    if item is None:
        return
    try:
        told = _decode(record.value or b"")
    except msgspec.MsgspecError:
        told = _Told()
    given = told.embeddings or {}
    known[item_id] = Description(
        tokens_of(item.title, told.text, item.categories, told.tags or (), told.price),
        {name: vector for name in given if (vector := embedding_of(given[name])) is not None},
    )
    if len(known) > limit:
        del known[next(iter(known))]
