"""One event, checked field by field: what takes time, and can say what is the matter.

In: a record of an input topic. Out: its fields, or a `RecordError`. `stream_app.batch.decode` sends here whatever
is not plain at first sight. Never looks at the state or the clock.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from models.vocabulary import IN, kind_of
from stream_app.batch.refusals import (
    MISSING,
    TS_RANGE,
    WRONG_TYPE,
    Record,
    RecordError,
    check_key,
    check_version,
    read_field,
    read_id,
    read_object,
    shown,
)
from stream_app.errors import UsageError
from stream_app.settings import EventSettings

ERASE = "erase"
RATING = "rating"
DAY_MS = 86_400_000
FIELDS = ("v", "event_id", "user_id", "item_id", "type", "value", "ts", "scenario", "context")

UNREAD = {"scenario": "(no scenario)", "context": "(no context)"}
"""Fields that are read under a map only where it names them, and their names where it does not."""

_SHORT_NAMES = {"user": "user_id", "item": "item_id", "id": "event_id"}
_ABSENT = (msgspec.Raw(), msgspec.Raw(b"null"))  # an optional field that is null is absent
_NOWHERE = (*_ABSENT, msgspec.Raw(b'""'))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TS_TYPES: dict[str, tuple[type, ...]] = {"ms": (int,), "s": (int, float), "iso": (str,)}
_TS_WANTED = {"ms": "an integer of milliseconds", "s": "a number of seconds", "iso": "an ISO 8601 string"}


class CheckedEvent(NamedTuple):
    """An event that keeps the contract; `item` is "" for an erase, `value` NaN where there is none.

    `kind` is the type with the scenario (`models.vocabulary`).
    """

    user: str
    item: str
    kind: str
    value: float
    ts: int
    event_id: str | None


class CarefulReader:
    """Reads one event at a time.

    Args:
        settings: field names, unit of the time, scale of the ratings.

    Raises:
        UsageError: `settings.map` names a field that events don't have, or one of theirs for two of ours.
    """

    def __init__(self, settings: EventSettings) -> None:
        self.settings = settings
        self.names = field_names(settings.map)
        struct = msgspec.defstruct(
            "RawEvent", [(name, msgspec.Raw, msgspec.Raw()) for name in FIELDS], rename=self.names, gc=False
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)
        self._context = context_decoder(settings.context)

    def read(self, record: Record, append_ms: float) -> CheckedEvent:
        """The event in a record.

        Args:
            append_ms: when the record was appended; an event may be a day ahead of it.

        Raises:
            RecordError: the first thing that is wrong.
        """
        names = self.names
        raw = read_object(record.value, self._decoder)
        check_version(raw.v, names["v"])
        user = read_id(raw.user_id, names["user_id"])
        check_key(record.key, user, names["user_id"])
        action = self._action(raw)
        return CheckedEvent(
            user,
            "" if action == ERASE else read_id(raw.item_id, names["item_id"]),
            action if action == ERASE else kind_of(action, self._scenario(raw)),
            self._rating(raw.value) if action == RATING else math.nan,
            self._ts(raw.ts, append_ms),
            None if raw.event_id in _ABSENT else read_id(raw.event_id, names["event_id"]),
        )

    def _action(self, raw: Any) -> str:
        name = self.names["type"]
        if not raw.type:
            if self.settings.map:
                return type_of_untyped(None if raw.value in _ABSENT else raw.value)
            raise RecordError(MISSING, name, f"{name} is missing; it says what happened, for example click")
        kind = read_field(raw.type, name)
        if type(kind) is not str:
            raise RecordError(WRONG_TYPE, name, f"{name} must be a string, not {shown(kind)}")
        return _clean(read_id(raw.type, name))

    def _scenario(self, raw: Any) -> str | None:
        name = self.names["scenario"]
        if raw.scenario not in _NOWHERE:
            return _clean(read_id(raw.scenario, name))
        name = self.names["context"]
        if self._context is None or raw.context in _ABSENT:
            return None
        try:
            where = self._context.decode(raw.context).where
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RecordError(WRONG_TYPE, name, f"{name} must be an object: {error}") from None
        return None if where in _NOWHERE else _clean(read_id(where, f"{name}.{self.settings.context}"))

    def _rating(self, raw: msgspec.Raw) -> float:
        name = self.names["value"]
        value = read_field(raw, name)
        if value is None:
            return math.nan
        if type(value) not in (int, float) or value != value:
            raise RecordError(WRONG_TYPE, name, f"{name} of a rating must be a number, not {shown(value)}")
        return float(min(max(value, self.settings.rating_low), self.settings.rating_high))

    def _ts(self, raw: msgspec.Raw, append_ms: float) -> int:
        name, unit = self.names["ts"], self.settings.ts_unit
        if not raw:
            raise RecordError(MISSING, name, f"{name} is missing")
        value = read_field(raw, name)
        if type(value) not in _TS_TYPES[unit]:
            raise RecordError(
                WRONG_TYPE, name, f"{name} must be {_TS_WANTED[unit]} (UTC), not {shown(value)}"
            )
        try:
            ts = milliseconds(value, unit)
        except (ValueError, OverflowError):
            raise RecordError(WRONG_TYPE, name, f"{name}: {shown(value)} is not {_TS_WANTED[unit]}") from None
        if not 0 <= ts <= append_ms + DAY_MS:
            when = "before 1970" if ts < 0 else "more than a day after the record was appended"
            raise RecordError(TS_RANGE, name, f"{name} {shown(value)} is {when}; is it really in {unit}?")
        return ts


def context_decoder(field: str) -> msgspec.json.Decoder[Any] | None:
    """Reads this field of a `context` as `where`; None if no field is asked for."""
    if not field:
        return None
    struct = msgspec.defstruct(
        "RawContext", [("where", msgspec.Raw, msgspec.Raw())], rename={"where": field}, gc=False
    )
    return msgspec.json.Decoder(struct)


def _clean(name: str) -> str:
    """The name of a type or a scenario, which can't have what stands between the two."""
    return name.replace(IN, " ")


def milliseconds(value: Any, unit: str) -> int:
    """A time in ms UTC; without a time zone it is taken as UTC.

    >>> milliseconds(1.5, "s"), milliseconds("1970-01-01T00:00:02Z", "iso")
    (1500, 2000)
    """
    if unit == "ms":
        return int(value)
    if unit == "s":
        return value * 1000 if value.__class__ is int else round(value * 1000)
    when = datetime.fromisoformat(value)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - _EPOCH) // _MILLISECOND


def type_of_untyped(value: object) -> str:
    """The type of an event from a topic of others that has no types."""
    return "click" if value is None else RATING


def field_names(mapping: dict[str, str]) -> dict[str, str]:
    """Our field → its name in the record, for every field that is read.

    >>> field_names({"user": "userId"})["user_id"]
    'userId'
    """
    names = {name: name for name in FIELDS}
    for ours, theirs in mapping.items():
        name = _SHORT_NAMES.get(ours, ours)
        if name not in names:
            raise UsageError(
                f"events.map: {ours!r} is not a field of an event",
                "The fields are user, item, type, value, ts, event_id, scenario, context and v.",
            )
        names[name] = theirs
    for name, none in UNREAD.items():
        if mapping and name not in mapping:
            names[name] = none  # a field of that name in somebody else's records means something else
    every = list(names.values())
    twice = sorted({theirs for theirs in every if every.count(theirs) > 1})
    if twice:
        raise UsageError(
            f"events.map: {', '.join(twice)} would be read as two fields at once",
            "Give each field a name of its own, for example --map user=userId,item=movieId.",
        )
    return names
