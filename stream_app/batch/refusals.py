"""Why a record can't be used: the reasons for dead letters, and the checks that give them.

In: the raw JSON of single fields. Out: a checked value, or a `RecordError` with a reason, a field and a
sentence for people. Never drops anything: who catches the error makes a `DeadLetter`, which keeps the record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from stream_app.events import VERSION

MAX_ID_BYTES = 256

EMPTY = "empty"
NOT_UTF8 = "not_utf8"
NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"
WRONG_VERSION = "version"
MISSING = "missing"
WRONG_TYPE = "wrong_type"
ID_LENGTH = "id_length"
TS_RANGE = "ts_range"
MISROUTED = "misrouted"


LOG_APPEND_TIME = 1
"""The `timestamp_type` of records whose topic stamps them on append."""


class Record(Protocol):
    """What is read of a Kafka record; `aiokafka.ConsumerRecord` is one."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


def append_time(record: Record) -> int | None:
    """When the broker appended it, in ms; None where its timestamp is the producer's."""
    return record.timestamp if record.timestamp_type == LOG_APPEND_TIME else None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can't be used, as it was read, and why.

    Attributes:
        field: the field at fault, by its name in the record; empty when it is the record as a whole.
        detail: one sentence for people.
    """

    record: Record
    reason: str
    field: str
    detail: str

    def __str__(self) -> str:
        at = f"{self.record.topic}-{self.record.partition} offset {self.record.offset}"
        return f"{at}: {self.reason}: {self.detail}"


class RecordError(Exception):
    """A record breaks the contract."""

    def __init__(self, reason: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.field = field
        self.detail = detail

    def letter(self, record: Record) -> DeadLetter:
        return DeadLetter(record, self.reason, self.field, self.detail)


def read_object(value: bytes | None, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The JSON object in `value` as the decoder's struct, whose fields are all `msgspec.Raw`.

    Raises:
        RecordError: no value, not UTF-8, not one JSON object.
    """
    if not value:
        raise RecordError(EMPTY, "", "the record has no value" if value is None else "the value has no bytes")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise RecordError(NOT_UTF8, "", f"byte {error.start} of the value is not UTF-8") from None
    if value.startswith(b"\xef\xbb\xbf"):
        raise RecordError(NOT_JSON, "", "the value begins with a byte order mark; send plain UTF-8")
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        raise RecordError(NOT_AN_OBJECT, "", f"the value is no JSON object: {error}") from None
    except msgspec.DecodeError as error:
        raise RecordError(NOT_JSON, "", str(error)) from None
    except RecursionError:
        raise RecordError(NOT_JSON, "", "the JSON is nested too deeply to be read") from None


def read_field(raw: msgspec.Raw, field: str) -> Any:
    """The value of one field; null when it is absent.

    Raises:
        RecordError: a number that no float or integer holds.
    """
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise RecordError(WRONG_TYPE, field, f"{field}: {error}") from None


def check_version(raw: msgspec.Raw, field: str) -> None:
    """Refuse a record of another version; one that names none is of version 1."""
    version = read_field(raw, field) if raw else VERSION
    if type(version) is not int:
        raise RecordError(WRONG_TYPE, field, f"{field} must be the integer {VERSION}, not {shown(version)}")
    if version != VERSION:
        raise RecordError(
            WRONG_VERSION, field, f"{field} is {shown(version)}; this headrace reads version {VERSION}"
        )


def read_id(raw: msgspec.Raw, field: str) -> str:
    """An id: a string of 1–256 bytes, or an integer, which becomes its decimal string."""
    if not raw:
        raise RecordError(MISSING, field, f"{field} is missing")
    value = read_field(raw, field)
    if type(value) is int:
        try:
            value = str(value)
        except ValueError:  # Python's limit on the digits of an integer, far above 256
            raise RecordError(ID_LENGTH, field, f"{field} is an integer of thousands of digits") from None
    if type(value) is not str:
        raise RecordError(WRONG_TYPE, field, f"{field} must be a string or an integer, not {shown(value)}")
    size = len(value.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        raise RecordError(ID_LENGTH, field, f"{field} has {size} bytes; 1 to {MAX_ID_BYTES} are allowed")
    return value


def check_key(key: bytes | None, wanted: str, field: str) -> None:
    """Refuse a record whose key is not the id it speaks of."""
    if key is None:
        raise RecordError(MISROUTED, field, f"the record has no key; it must be the {field}, {shown(wanted)}")
    if key != wanted.encode():
        got = shown(key.decode(errors="replace"))
        raise RecordError(
            MISROUTED, field, f"the record's key is {got}; it must be the {field}, {shown(wanted)}"
        )


def shown(value: object) -> str:
    """A value as a message shows it: as JSON, and short."""
    try:
        text = msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, OverflowError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"
