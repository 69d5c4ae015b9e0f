"""Records of the `items` topic → the catalogue: availability, categories, titles.

In: records as Kafka gives them, in log order. Out: what the recommender's catalogue is told, titles for
people, and dead letters. The catalogue keeps an item only once it has events, so what `items` says of the
others waits here, bounded. None of it is state, but for the ids of unavailable items: the topic is compacted, and is
read again from its beginning at every start, when the tombstones of retired items may be gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from stream_app.batch.refusals import (
    MISSING,
    WRONG_TYPE,
    DeadLetter,
    Record,
    RecordError,
    check_key,
    check_version,
    read_field,
    read_id,
    read_object,
    shown,
)

log = logging.getLogger(__name__)

MAX_TITLE = 200
MAX_CATEGORIES = 64


class RawItem(msgspec.Struct, gc=False):
    """The fields of an item that are used here."""

    v: msgspec.Raw = msgspec.Raw()
    item_id: msgspec.Raw = msgspec.Raw()
    title: msgspec.Raw = msgspec.Raw()
    categories: msgspec.Raw = msgspec.Raw()
    available: msgspec.Raw = msgspec.Raw()


class KnownItem(NamedTuple):
    """What the catalogue topic says of an item."""

    title: str
    categories: tuple[str, ...]
    available: bool


class Catalogue(Protocol):
    """Who is told; `models.state.catalogue.Catalogue`."""

    def set_item(self, item_id: str, *, available: bool, categories: Iterable[str]) -> bool: ...
    def retire(self, item_id: str) -> bool: ...


@dataclass(slots=True)
class AppliedItems:
    """What became of item records: how many were taken as upserts and tombstones, and the others."""

    updated: int = 0
    retired: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)


_DECODER = msgspec.json.Decoder(RawItem)


def read_item(record: Record) -> tuple[str, KnownItem | None]:
    """An item's id and what is said of it; None for a tombstone.

    Raises:
        RecordError: what is wrong with the record.
    """
    if record.value is None:
        return _tombstone_id(record.key), None
    raw = read_object(record.value, _DECODER)
    check_version(raw.v, "v")
    item_id = read_id(raw.item_id, "item_id")
    check_key(record.key, item_id, "item_id")
    title = _field(raw.title, "title", str, "")
    categories = _field(raw.categories, "categories", list, [])
    if not all(type(category) is str for category in categories):
        raise RecordError(WRONG_TYPE, "categories", "categories must all be strings")
    available = _field(raw.available, "available", bool, True)
    return item_id, KnownItem(title[:MAX_TITLE], tuple(categories[:MAX_CATEGORIES]), available)


class CatalogueFeed:
    """Keeps the recommender's catalogue in step with the `items` topic.

    Args:
        limit: items remembered; beyond it the ones that were told of first are forgotten.
    """

    def __init__(self, catalogue: Catalogue, limit: int) -> None:
        self.catalogue = catalogue
        self.limit = limit
        self._known: dict[str, KnownItem] = {}
        self._too_many = False

    def apply(self, records: Iterable[Record]) -> AppliedItems:
        """Take in records, in their order."""
        out = AppliedItems()
        for record in records:
            try:
                item_id, item = read_item(record)
            except RecordError as error:
                out.dead_letters.append(error.letter(record))
                continue
            if item is None:
                # The title stays: what a user had can still be named.
                known = self._known.get(item_id)
                if known is not None:
                    self._known[item_id] = known._replace(available=False)
                self._said(self.catalogue.retire(item_id))
                out.retired += 1
            else:
                self._remember(item_id, item)
                self._tell(item_id, item)
                out.updated += 1
        return out

    def admitted(self, item_ids: Iterable[str]) -> None:
        """Tell the catalogue what is known of items that it has just met in events."""
        for item_id in item_ids:
            item = self._known.get(item_id)
            if item is not None:
                self._tell(item_id, item)

    def title(self, item_id: str) -> str:
        """The item's title; "" when there is none."""
        item = self._known.get(item_id)
        return item.title if item is not None else ""

    def __len__(self) -> int:
        return len(self._known)

    def _tell(self, item_id: str, item: KnownItem) -> None:
        self._said(self.catalogue.set_item(item_id, available=item.available, categories=item.categories))

    def _said(self, remembered: bool) -> None:
        if not remembered and not self._too_many:
            self._too_many = True
            log.warning(
                "more items are unavailable than can be remembered (models.max_items, %d): others may be listed "
                "once they have events. Take what will never come back out of the catalogue, or raise the limit",
                self.limit,
            )

    def _remember(self, item_id: str, item: KnownItem) -> None:
        if item_id not in self._known and len(self._known) >= self.limit:
            del self._known[next(iter(self._known))]
        self._known[item_id] = item


def _tombstone_id(key: bytes | None) -> str:
    if not key:
        raise RecordError(MISSING, "", "a tombstone has no key that would say which item is retired")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise RecordError(WRONG_TYPE, "", f"the key {shown(key.hex())} (hex) is not UTF-8") from None


def _field(raw: msgspec.Raw, name: str, kind: type, default: Any) -> Any:
    value = read_field(raw, name)
    if value is None:
        return default
    if type(value) is not kind:
        wanted = {str: "a string", list: "a list of strings", bool: "true or false"}[kind]
        raise RecordError(WRONG_TYPE, name, f"{name} must be {wanted}, not {shown(value)}")
    return value
