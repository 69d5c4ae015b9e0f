"""The record that breaks the worker every time: the marker that outlives a crash, and the search for the
culprit.

In: what is about to be processed, and how often the worker came back to the same place. Out: culprits, each
with its traceback, to be dead-lettered. The search runs on a copy of the state; it never touches the state
itself."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import ConsumerRecord

from stream_app.errors import HeadraceError
from stream_app.store.state import Position

MARKER_FILE = "marker.json"
MAX_CULPRITS = 16
DIED = "the process died while this record was processed (no Python traceback)"


class NotTheDataError(HeadraceError):
    """So many records fail that it can't be the records."""


class _Marked(msgspec.Struct):
    committed: dict[str, int] = {}
    restarts: int = 0
    upto: dict[str, int] = {}
    trying: str = ""
    culprits: dict[str, str] = {}


class Marker:
    """A small file in the state folder, written before each batch and taken away by a clean stop.

    It is not synced: it needs to survive the process, not the machine.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / MARKER_FILE
        try:
            self._said = msgspec.json.decode(self._path.read_bytes(), type=_Marked)
        except (FileNotFoundError, msgspec.MsgspecError):
            self._said = _Marked()
        self._file = -1

    @property
    def restarts(self) -> int:
        """How often in a row the worker started at the place where it starts now."""
        return self._said.restarts

    @property
    def culprits(self) -> Mapping[str, str]:
        """`place(record)` → traceback, of records that are not to be processed."""
        return self._said.culprits

    def start(self, committed: Mapping[Position, int]) -> None:
        """The worker starts, from these offsets."""
        here = _named(committed)
        before = self._said
        if self._path.exists() and before.committed == here:
            before.restarts += 1
            if before.trying:
                before.culprits[before.trying] = DIED
                before.trying = ""
        else:
            self._said = _Marked(committed=here, culprits=before.culprits)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._write()

    def batch(self, ends: Mapping[Position, int]) -> None:
        """A batch that ends at these offsets is about to be processed."""
        self._said.upto.update(_named(ends))
        self._write()

    def is_suspect(self, record: ConsumerRecord) -> bool:
        """Whether the record was in a batch that was being processed when the worker ended."""
        end = self._said.upto.get(f"{record.topic}/{record.partition}", 0)
        return bool(record.offset < end)

    def missing(self, offsets: Mapping[Position, int]) -> bool:
        """Whether suspects lie beyond these offsets."""
        here = _named(offsets)
        return any(here.get(at, end) < end for at, end in self._said.upto.items())

    def trying(self, at: str) -> None:
        """One record is about to be tried; "" for none any more."""
        self._said.trying = at
        self._write()

    def blame(self, at: str, why: str) -> None:
        """From now on this record goes to the dead letters."""
        self._said.culprits[at] = why
        self._said.trying = ""
        self._write()

    def forgive(self) -> None:
        """Nobody is to blame after all."""
        self._said.culprits = {}
        self._write()

    def committed(self, offsets: Mapping[Position, int]) -> None:
        """A commit has passed these offsets; what lies beyond them stays marked."""
        here = _named(offsets)
        beyond = {at: end for at, end in self._said.upto.items() if here.get(at, 0) < end}
        culprits = {at: why for at, why in self._said.culprits.items() if not _before(at, here)}
        self._said = _Marked(committed=here, upto=beyond, culprits=culprits)
        self._write()

    def clean(self) -> None:
        """The worker stops, and not because of what it processed. Culprits are kept until a commit passes
        them."""
        if self._said.culprits:
            self._said = _Marked(culprits=dict(self._said.culprits))
            self._write()
        else:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """The worker stops; the marker stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self) -> None:
        data = msgspec.json.encode(self._said)
        os.pwrite(self._file, data + b" " * 64, 0)
        os.ftruncate(self._file, len(data))


def place(record: ConsumerRecord) -> str:
    """A record's topic, partition and offset as one word."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def find_culprits(
    marker: Marker, records: Sequence[ConsumerRecord], trial: Callable[[], Callable[[ConsumerRecord], Any]]
) -> None:
    """Try the records one by one on copies of the state; blame those that raise, or that ended the process
    before.

    Args:
        trial: makes a fresh copy and gives what processes one record on it.

    Raises:
        NotTheDataError: more than `MAX_CULPRITS` fail.
    """
    while _blamed_one(marker, records, trial()):
        if len(marker.culprits) > MAX_CULPRITS:
            tried = len(marker.culprits)
            last = list(marker.culprits.values())[-1].strip().splitlines()[-1]
            marker.forgive()
            raise NotTheDataError(
                f"{tried} of {len(records)} records can't be processed (the last: {last})",
                "That is a fault of the program or its settings, not of the records: nothing was dead-lettered "
                "or written. See the log.",
            )


def _blamed_one(
    marker: Marker, records: Sequence[ConsumerRecord], process: Callable[[ConsumerRecord], Any]
) -> bool:
    for record in records:
        at = place(record)
        if at in marker.culprits:
            continue
        marker.trying(at)
        try:
            process(record)
        except Exception:
            # The copy may be half-changed now, so the search goes on with a fresh one.
            marker.blame(at, traceback.format_exc())
            return True
    marker.trying("")
    return False


def _named(offsets: Mapping[Position, int]) -> dict[str, int]:
    return {f"{topic}/{number}": offset for (topic, number), offset in sorted(offsets.items())}


def _before(at: str, offsets: Mapping[str, int]) -> bool:
    partition, offset = at.rsplit("/", 1)
    return int(offset) < offsets.get(partition, 0)
