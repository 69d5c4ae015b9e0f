"""Carries a state in one file: from one machine to another, or over an upgrade.

In: a stopped worker's state, or a file that `export_state` wrote. Out: such a file, or a new state
folder. JSON lines: a header, one line a row, an end with the number of rows and the SHA-256 of every line
before it. Neither leaves anything half done: the file and the folder are made aside and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from stream_app.settings import Settings
from stream_app.store.rocks import database_path
from stream_app.store.state import StateStore
from stream_app.store.state_folder import LOCK_FILE, StateError
from stream_app.store.state_identity import READABLE, SCHEMA, check_settings, identity_of

FORMAT = 1
ROWS_PER_BATCH = 2000


class Header(msgspec.Struct, tag="headrace-state", tag_field="kind"):
    """First line: what the rows belong to. `schema` names the layout and the codecs of the rows."""

    format: int
    schema: int
    settings: dict[str, Any]
    offsets: list[tuple[str, int, int]]
    topic_ids: dict[str, str]
    partitions: list[int]


class UserLine(msgspec.Struct, tag="user", tag_field="kind"):
    partition: int
    id: str
    row: bytes


class ItemLine(msgspec.Struct, tag="item", tag_field="kind"):
    key: bytes
    row: bytes


class MetaLine(msgspec.Struct, tag="meta", tag_field="kind"):
    key: bytes
    row: bytes


class End(msgspec.Struct, tag="end", tag_field="kind"):
    """Last line."""

    rows: int
    sha256: str


Line = Header | UserLine | ItemLine | MetaLine | End
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


@dataclass(slots=True)
class Carried:
    """How much an export or an import carried."""

    users: int = 0
    items: int = 0
    meta: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Rows:
    users: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    items: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    meta: list[tuple[bytes, bytes]] = field(default_factory=list)


def export_state(store: StateStore, path: Path) -> Carried:
    """Write a state to a file.

    Raises:
        StateError: the file is already there, or can't be written.
    """
    if path.exists():
        raise StateError(f"{path} is already there", "Name another file, or move that one away.")
    identity = store.identity
    if identity is None:
        raise StateError(f"the state in {store.directory} is empty", "There is nothing to export.")
    header = Header(
        format=FORMAT,
        schema=identity.schema,
        settings=dict(identity.settings),
        offsets=sorted((topic, partition, offset) for (topic, partition), offset in store.offsets.items()),
        topic_ids=store.topic_ids,
        partitions=store.partitions(),
    )
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as file:
            carried = _write(file, header, _lines(store))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StateError(
            f"can't write {path}: {error.strerror}", "Nothing was left behind; name a file on another disk."
        ) from error
    return carried


def import_state(path: Path, settings: Settings) -> Carried:
    """Make the state folder of `settings.worker.state_dir` from a file.

    Raises:
        StateError: the folder holds a state; the file is damaged, of another format or schema, or was made
            with settings that these can't stand in for.
    """
    target = settings.worker.state_dir
    _check_target(target)
    header = _verify(path)
    check_settings(path, header.settings, identity_of(settings).settings)
    aside = target.with_name(target.name + ".importing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with StateStore.open(aside, settings) as store:
            store.add_partitions(max(header.partitions, default=-1) + 1)
            carried = _fill(store, _read(path))
            offsets = {(topic, partition): offset for topic, partition, offset in header.offsets}
            store.commit(_Rows(), offsets, header.topic_ids)
        carried.bytes = path.stat().st_size
        (target / LOCK_FILE).unlink(missing_ok=True)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return carried


def _lines(store: StateStore) -> Iterator[UserLine | ItemLine | MetaLine]:
    for partition in store.partitions():
        for user_id, row in store.users(partition):
            yield UserLine(partition, user_id, row)
    for key, row in store.items():
        yield ItemLine(key, row)
    for key, row in store.model_meta():
        yield MetaLine(key, row)


def _write(file: IO[bytes], header: Header, lines: Iterable[UserLine | ItemLine | MetaLine]) -> Carried:
    digest, carried = hashlib.sha256(), Carried()

    def put(line: Line) -> None:
        data = _encode(line) + b"\n"
        digest.update(data)
        carried.bytes += file.write(data)

    put(header)
    for line in lines:
        put(line)
        _count(carried, line)
    put(End(_rows(carried), digest.hexdigest()))
    return carried


def _read(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            try:
                yield _decode(data)
            except msgspec.MsgspecError as error:
                raise _damaged(path, f"line {number} is no line of an export ({error})") from None


def _verify(path: Path) -> Header:
    """Read a file to its end and check it; its header."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise StateError(f"can't read {path}: {error.strerror}", "Name a file that was exported.") from error
    with file:
        first = file.readline()
        header = _header(path, first)
        digest, rows, last = hashlib.sha256(), -1, first
        for data in file:
            digest.update(last)
            rows += 1
            last = data
    try:
        end = _decode(last)
    except msgspec.MsgspecError:
        end = None
    if not isinstance(end, End):
        raise _damaged(path, "it has no end: it was cut short")
    if end.sha256 != digest.hexdigest() or end.rows != rows:
        raise _damaged(path, f"its {rows} rows do not match the checksum of {end.rows}")
    return header


def _header(path: Path, data: bytes) -> Header:
    try:
        header = _decode(data)
    except msgspec.MsgspecError:
        header = None
    if not isinstance(header, Header):
        raise StateError(f"{path} is no export of a headrace state", "Make one with `headrace state export`.")
    if header.format != FORMAT or header.schema not in READABLE:
        raise StateError(
            f"{path} has format {header.format} and schema {header.schema}; this headrace imports format "
            f"{FORMAT} and schema {SCHEMA}",
            "Import it with the version that wrote it, or start over in a new folder from the log.",
        )
    return header


def _fill(store: StateStore, lines: Iterator[Line]) -> Carried:
    carried = Carried()
    while some := list(islice(lines, ROWS_PER_BATCH)):
        rows = _Rows()
        for line in some:
            if isinstance(line, UserLine):
                rows.users.append((line.partition, line.id, line.row))
            elif isinstance(line, ItemLine):
                rows.items.append((line.key, line.row))
            elif isinstance(line, MetaLine):
                rows.meta.append((line.key, line.row))
            _count(carried, line)
        store.commit(rows, {})
    return carried


def _count(carried: Carried, line: Line) -> None:
    carried.users += isinstance(line, UserLine)
    carried.items += isinstance(line, ItemLine)
    carried.meta += isinstance(line, MetaLine)


def _rows(carried: Carried) -> int:
    return carried.users + carried.items + carried.meta


def _check_target(target: Path) -> None:
    if database_path(target).exists():
        raise StateError(
            f"{target} already holds a state", "Name a new folder with --state-dir, or move that one away."
        )
    if target.is_dir() and any(entry.name != LOCK_FILE for entry in target.iterdir()):
        raise StateError(f"{target} is not empty", "Name a new folder with --state-dir.")


def _damaged(path: Path, why: str) -> StateError:
    return StateError(f"{path} is damaged: {why}", "Nothing was imported. Export the state again.")
