"""Records of the input topics → checked columns, or a dead letter with its reason.

In: records as Kafka gives them. Out: `Decoded`: parallel lists, one entry for each event that may be learned
from, and the dead letters of the others. The clock comes in as `received_ms`. Never looks at the state, never
raises on a bad record, and drops none: each record is in the columns or among the dead letters.

There are two ways through. The optimistic one lets msgspec check a whole record in C and takes what is plain;
all else (an erase, a long id, a value of a type that has none, anything that is wrong) goes to
`stream_app.batch.careful`. Both read the same record alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from models.base import U64
from models.randomness import hash64
from models.vocabulary import IN, kind_of
from stream_app.batch.careful import DAY_MS, ERASE, RATING, CarefulReader, milliseconds, type_of_untyped
from stream_app.batch.refusals import DeadLetter, Record, RecordError
from stream_app.events import VERSION
from stream_app.settings import EventSettings

_PLAIN_LENGTH = 64  # as many characters are 256 bytes at most
_NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)
_NO_ID = bytes(8)
_BLAKE = blake2b(digest_size=8)


@dataclass(frozen=True, slots=True)
class Lane:
    """One partition of one input topic.

    Attributes:
        topic_index: where the topic stands in `settings.topics.events`.
        name: as in `sources`, for example "events-0".
        key: what randomness is keyed by, together with the offset.
    """

    topic_index: int
    partition: int
    name: str
    key: int


@dataclass(slots=True)
class Decoded:
    """Events in log order, as columns; an `erase` has the item "". `kind` is type and scenario (`models.vocabulary`).

    Attributes:
        erases: rows of the events that erase their user.
    """

    record: list[Record] = field(default_factory=list)
    lane: list[Lane] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    user: list[str] = field(default_factory=list)
    item: list[str] = field(default_factory=list)
    kind: list[str] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    id_hash: list[bytes] = field(default_factory=list)
    erases: list[int] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.user)

    def event_ids(self) -> U64:
        """Hashes of the event ids as `models.randomness.hash64` makes them; 0 where an event has none."""
        hashes = np.frombuffer(b"".join(self.id_hash), "<u8").astype(np.uint64)
        for row in np.flatnonzero(hashes == 0):
            hashes[row] = self.id_hash[row] is not _NO_ID
        return hashes


def _hash(event_id: str) -> bytes:
    state = _BLAKE.copy()  # a third cheaper than a new one
    state.update(event_id.encode())
    return state.digest()


def partition_key(topic: str, partition: int) -> int:
    """64-bit name of a partition, which randomness is keyed by."""
    return hash64(f"{topic}-{partition}")


class EventDecoder:
    """Reads the records of the input topics.

    Args:
        settings: field names, unit of the time, scale of the ratings, what of the context is read.
        topics: the input topics, in the order of their index.

    Raises:
        UsageError: `settings.map` names a field that events don't have, or one of theirs for two of ours.
    """

    def __init__(self, settings: EventSettings, topics: Sequence[str]) -> None:
        self.settings = settings
        self.topics = tuple(topics)
        self.careful = CarefulReader(settings)
        self._lanes: dict[tuple[str, int], Lane] = {}
        text: Any = Annotated[str, msgspec.Meta(min_length=1, max_length=_PLAIN_LENGTH)]
        ts: Any = {"ms": int, "s": int | float, "iso": str}[settings.ts_unit]
        self._reads_context = bool(settings.context)
        where = Annotated[str, msgspec.Meta(max_length=_PLAIN_LENGTH)] | None
        context: Any = msgspec.defstruct(
            "PlainContext", [("where", where, None)], rename={"where": settings.context or "where"}, gc=False
        )
        struct = msgspec.defstruct(
            "PlainEvent",
            [
                ("user_id", int | text),
                ("item_id", int | text),
                ("ts", ts),
                ("type", text, "" if settings.map else msgspec.NODEFAULT),
                ("event_id", int | text | None, None),
                ("value", float | None, None),
                ("scenario", where, None),
                *([("context", context | None, None)] if settings.context else []),
                ("v", Literal[VERSION], VERSION),
            ],
            rename=self.careful.names,
            kw_only=True,
            gc=False,
        )
        self._plain: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)

    def lane(self, topic: str, partition: int) -> Lane:
        """The lane of a topic's partition."""
        lane = self._lanes.get((topic, partition))
        if lane is None:
            name = f"{topic}-{partition}"
            lane = Lane(self.topics.index(topic), partition, name, partition_key(topic, partition))
            self._lanes[topic, partition] = lane
        return lane

    def decode(self, records: Sequence[Record], received_ms: float) -> Decoded:
        """Check the records of a batch, in their order.

        Args:
            received_ms: the worker's clock; stands for the append time of a record that carries none.
        """
        out = Decoded()
        low, high = self.settings.rating_low, self.settings.rating_high
        unit = self.settings.ts_unit
        read, reads_context = self._plain.decode, self._reads_context
        topic, partition, lane = "", -1, Lane(-1, -1, "", 0)
        for record in records:
            if record.partition != partition or record.topic != topic:
                topic, partition = record.topic, record.partition
                lane = self.lane(topic, partition)
            append_ms = record.timestamp if record.timestamp >= 0 else received_ms
            raw = record.value or b""
            try:
                if not raw.isascii():
                    raw.decode()  # msgspec does not look into fields that it skips
                event = read(raw)
                user, item, event_id, kind = event.user_id, event.item_id, event.event_id, event.type
                if user.__class__ is int:
                    user = str(user)
                if item.__class__ is int:
                    item = str(item)
                if event_id.__class__ is int:
                    event_id = str(event_id)
                id_hash = _NO_ID if event_id is None else _hash(event_id)
                if not kind:
                    kind = type_of_untyped(event.value)
                value = math.nan
                erase = kind == ERASE
                if kind == RATING and event.value is not None:
                    value = event.value
                    value = low if value < low else high if value > high else value
                where = event.scenario
                if reads_context and not where and event.context is not None:
                    where = event.context.where
                odd = IN in kind or (where is not None and IN in where)
                if where:
                    kind = kind_of(kind, where)
                ts = event.ts if unit == "ms" else milliseconds(event.ts, unit)
                plain = (
                    record.key == user.encode()
                    and 0 <= ts <= append_ms + DAY_MS
                    and not erase
                    and not odd
                    # An integer may have more digits than msgspec allowed a string.
                    and len(user) <= _PLAIN_LENGTH
                    and len(item) <= _PLAIN_LENGTH
                    and (event_id is None or len(event_id) <= _PLAIN_LENGTH)
                )
            except _NOT_PLAIN:
                plain = False
            if not plain:
                try:
                    user, item, kind, value, ts, event_id = self.careful.read(record, append_ms)
                except RecordError as error:
                    out.dead_letters.append(error.letter(record))
                    continue
                id_hash = _NO_ID if event_id is None else _hash(event_id)
                if kind == ERASE:
                    out.erases.append(len(out.user))
            out.record.append(record)
            out.lane.append(lane)
            out.offset.append(record.offset)
            out.user.append(user)
            out.item.append(item)
            out.kind.append(kind)
            out.value.append(value)
            out.ts.append(ts)
            out.id_hash.append(id_hash)
        return out
