"""The state store: one RocksDB a worker, in which state and the offsets it stands for change together.

In: what changed (user rows, item rows, model figures) with the next offset of every topic-partition. Out:
rows of bytes. Never knows what a row means, and never lets a stored offset go back.

A column family for each partition *number* (`p0`, `p1`, …) holds user id → row; `items` and `meta` the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from rocksdict import AccessType, Checkpoint, Rdict, WriteBatch

from stream_app.settings import Settings
from stream_app.store.rocks import database_path, explained, family_names, family_options, open_database
from stream_app.store.state_folder import FolderLock, StateError
from stream_app.store.state_identity import READABLE, SCHEMA, Identity, check_settings, identity_of

_SCHEMA, _SETTINGS = b"schema", b"settings"
_OFFSET, _TOPIC, _MODEL = b"offset/", b"topic/", b"model/"
_INT = struct.Struct(">q")

Position = tuple[str, int]
"""A topic and a partition number."""


class OffsetWentBackError(StateError):
    """A commit would have lowered a stored offset: a bug, or two writers. Nothing was written."""


class Changes(Protocol):
    """What a commit writes; None erases the row."""

    @property
    def users(self) -> Sequence[tuple[int, str, bytes | None]]: ...
    @property
    def items(self) -> Sequence[tuple[bytes, bytes | None]]: ...
    @property
    def meta(self) -> Sequence[tuple[bytes, bytes]]: ...


class StateStore:
    """The open state of one worker.

    Attributes:
        directory: its folder.
        offsets: the next offset of each topic-partition, as stored.
        topic_ids: the id of each topic when its first offset was stored.
        changed_settings: settings that differ from those of the last commit, and may (see `state_identity`); they
            are stored with the next one.
        before_users: called before users are loaded (a failpoint's place).
    """

    def __init__(self, directory: Path, db: Rdict, lock: FolderLock | None) -> None:
        self.directory = directory
        self.offsets: dict[Position, int] = {}
        self.topic_ids: dict[str, str] = {}
        self.changed_settings: list[str] = []
        self._db = db
        self._lock = lock
        self._refused = False
        self._adopted: Identity | None = None
        self.before_users: Callable[[], None] = lambda: None
        self._families: dict[str, Rdict] = {}
        self._handles: dict[str, Any] = {}
        self._on_the_way: dict[tuple[int, str], bytes | None] = {}

    @classmethod
    def open(cls, directory: Path, settings: Settings, *, lock: FolderLock | None = None) -> Self:
        """Open for writing; a new folder becomes an empty state.

        Args:
            lock: the folder's lock where the caller holds it already; else it is taken here.

        Raises:
            StateError: another schema version, settings that the state can't serve, a folder in use, a full
                disk. The message says the ways out.
        """
        held = lock or FolderLock(directory)
        try:
            store = cls(directory, open_database(directory, AccessType.read_write()), None if lock else held)
            try:
                store._adopt(settings)
            except BaseException:
                store._close_database()
                raise
        except BaseException:
            if lock is None:
                held.release()
            raise
        return store

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Open the state of a stopped worker for reading, whatever its settings were.

        Raises:
            StateError: no state there, a worker has it open, another schema version.
        """
        if not database_path(directory).is_dir():
            raise StateError(
                f"{directory} holds no headrace state",
                "Name the one that `headrace worker --state-dir` has.",
            )
        held = FolderLock(directory)
        try:
            store = cls(directory, open_database(directory, AccessType.read_only(False)), held)
            try:
                store._load_meta()
            except BaseException:
                store._close_database()
                raise
        except BaseException:
            held.release()
            raise
        return store

    # -- reading ---------------------------------------------------------------------------------------------
    @property
    def identity(self) -> Identity | None:
        """Schema and settings that the state was made with; None for an empty one."""
        meta = self._db.get_column_family("meta")
        schema, stored = meta.get(_SCHEMA), meta.get(_SETTINGS)
        if schema is None:
            return None
        return Identity(int(schema), msgspec.json.decode(stored or b"{}"))

    def load_users(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        """The rows of these users in one multi-get; None where there is none. What is announced counts as written."""
        self.before_users()
        on_the_way = self._on_the_way  # before the database: a write may end in between
        family = self._families.get(f"p{partition}")
        if family is None:
            return [None] * len(user_ids)
        rows: list[bytes | None] = family.get([user_id.encode() for user_id in user_ids])
        if on_the_way:
            found = zip(user_ids, rows, strict=True)
            rows = [on_the_way.get((partition, user_id), row) for user_id, row in found]
        return rows

    def partitions(self) -> list[int]:
        """Partition numbers that have a column family, ascending."""
        return sorted(int(name[1:]) for name in self._families if name[0] == "p" and name[1:].isdigit())

    def users(self, partition: int) -> Iterator[tuple[str, bytes]]:
        """Every user of a partition with their row, in the order of the ids' bytes."""
        for key, row in self._families[f"p{partition}"].items():
            yield key.decode(), row

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every item row."""
        yield from self._families["items"].items()

    def model_meta(self) -> Iterator[tuple[bytes, bytes]]:
        """What the models keep beside the rows (`Changes.meta`)."""
        for key, blob in self._families["meta"].items(from_key=_MODEL):
            if not key.startswith(_MODEL):
                return
            yield key[len(_MODEL) :], blob

    # -- writing ---------------------------------------------------------------------------------------------
    def add_partitions(self, count: int) -> None:
        """Make sure that partitions 0 to `count` - 1 have a column family."""
        for number in range(count):
            if f"p{number}" not in self._families:
                with explained(self.directory):
                    self._db.create_column_family(f"p{number}", family_options())
                self._attach(f"p{number}")

    def announce(self, changes: Changes) -> None:
        """These changes are about to be committed, by whichever thread: their users are loaded as they will be."""
        self._on_the_way = {(partition, user_id): row for partition, user_id, row in changes.users}

    def commit(
        self,
        changes: Changes,
        offsets: Mapping[Position, int],
        topic_ids: Mapping[str, str] | None = None,
    ) -> int:
        """Write changes and offsets in ONE batch; what it weighed in bytes.

        Args:
            offsets: the next offset to read of each topic-partition that moved.
            topic_ids: ids of topics met for the first time, or made anew on purpose.

        Raises:
            OffsetWentBackError: an offset is below the stored one.
            StateError: the disk is full, or RocksDB refused. Nothing was written in either case.
        """
        for at, offset in offsets.items():
            if offset < self.offsets.get(at, 0):
                raise OffsetWentBackError(
                    f"{at[0]}-{at[1]}: a commit of offset {offset} after {self.offsets[at]} was refused",
                    f"Nothing was written. Does another program write to {self.directory}? Start again.",
                )
        batch = WriteBatch(raw_mode=True)
        for partition, user_id, row in changes.users:
            _put(batch, user_id.encode(), row, self._handles[f"p{partition}"])
        items, put = self._handles["items"], batch.put
        for key, blob in changes.items:  # thousands
            if blob is None:
                batch.delete(key, items)
            else:
                put(key, blob, items)
        meta = self._handles["meta"]
        for key, blob in changes.meta:
            batch.put(_MODEL + key, blob, meta)
        for (topic, number), offset in offsets.items():
            batch.put(_OFFSET + f"{topic}/{number}".encode(), _INT.pack(offset), meta)
        for topic, topic_id in (topic_ids or {}).items():
            batch.put(_TOPIC + topic.encode(), topic_id.encode(), meta)
        if self._adopted is not None:
            self._put_identity(batch, self._adopted)
        size = batch.size_in_bytes()
        self._write(batch)
        self._on_the_way = {}
        self._adopted = None
        self.offsets.update(offsets)
        self.topic_ids.update(topic_ids or {})
        return int(size)

    def checkpoint(self, directory: Path) -> None:
        """A consistent copy of the state in a new folder, by hard links."""
        directory.mkdir(parents=True)
        with explained(directory):
            Checkpoint(self._db).create_checkpoint(str(database_path(directory)))

    def bytes_on_disk(self) -> int:
        """Live SST bytes and the write buffers, over all column families."""
        names = ("rocksdb.live-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(
            int(family.property_int_value(name) or 0) for family in self._families.values() for name in names
        )

    def close(self) -> None:
        """Close the database and let the folder go."""
        self._close_database()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------------------
    def _adopt(self, settings: Settings) -> None:
        self._load_meta()
        mine = identity_of(settings)
        found = self.identity
        if found is not None:
            self.changed_settings = check_settings(self.directory, found.settings, mine.settings)
        if found is None:
            batch = WriteBatch(raw_mode=True)
            self._put_identity(batch, mine)
            self._write(batch)
        elif found != mine:
            # A start that fails must leave the way back open: they are the state's once something is learned.
            self._adopted = mine

    def _put_identity(self, batch: WriteBatch, identity: Identity) -> None:
        batch.put(_SCHEMA, str(identity.schema).encode(), self._handles["meta"])
        batch.put(_SETTINGS, msgspec.json.encode(identity.settings, order="sorted"), self._handles["meta"])

    def _load_meta(self) -> None:
        for name in family_names(database_path(self.directory)):
            self._attach(name)
        found = self.identity
        if found is not None and found.schema not in READABLE:
            raise StateError(
                f"the state in {self.directory} has schema version {found.schema}, this one has {SCHEMA}",
                "Go on with the version that wrote it, or start over in a new folder: the log is then read from its "
                "beginning. (`headrace state export` carries a state between machines and between versions of one "
                "schema.)",
            )
        for key, blob in self._families["meta"].items():
            if key.startswith(_OFFSET):
                topic, number = key[len(_OFFSET) :].decode().rsplit("/", 1)
                self.offsets[topic, int(number)] = _INT.unpack(blob)[0]
            elif key.startswith(_TOPIC):
                self.topic_ids[key[len(_TOPIC) :].decode()] = blob.decode()

    def _close_database(self) -> None:
        self._handles.clear()
        for database in (*self._families.values(), self._db):
            try:
                with explained(self.directory):
                    database.close()
            except StateError:
                if not self._refused:  # else it is the same trouble again, and was raised already
                    raise

    def _attach(self, name: str) -> None:
        self._families[name] = self._db.get_column_family(name)
        self._handles[name] = self._db.get_column_family_handle(name)

    def _write(self, batch: WriteBatch) -> None:
        self._refused = True
        with explained(self.directory):
            self._db.write(batch)
        self._refused = False


def _put(batch: WriteBatch, key: bytes, value: bytes | None, family: Any) -> None:
    if value is None:
        batch.delete(key, family)
    else:
        batch.put(key, value, family)
