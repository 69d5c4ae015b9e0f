"""An event log on disk: numbered segments that are written once, and a manifest that names them.

In: an `EventLog`. Out: a folder, and the log again. A save writes the events since the last one, and
rewrites at most one unfinished segment; a kill at any moment leaves the log as it was at the last save or
the one before.

Each segment has its own ids, so that it can be read, and dropped, by itself. The manifest is replaced as a
whole once its segments are on the disk; segments that it no longer names are deleted after that.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.durable import sync_folder, write_durably

if TYPE_CHECKING:
    from models.training.event_log import EventLog

MANIFEST = "log.json"
FORMAT = 1
SEGMENT = 65_536
"""Events a segment; segments begin at multiples of it."""


class EventLogError(Exception):
    """A saved event log can't be used: the file, and what is wrong with it."""


class Segment(msgspec.Struct, frozen=True):
    """A file of the held events from absolute number `start` (a multiple of SEGMENT) up to `stop`.

    Its name holds its hash, so that another version of it never overwrites what a manifest names.
    """

    start: int
    stop: int
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.start:015d}-{self.sha256[:16]}.safetensors"


class _Manifest(msgspec.Struct, kw_only=True):
    format: int
    first: int
    end: int
    offsets: dict[str, int]
    actions: list[str]
    segments: list[Segment]


def save_log(log: EventLog, folder: Path, saved: list[Segment], changed: set[int]) -> list[Segment]:
    """Bring the folder up to date and return its segments.

    Args:
        saved: the segments that the folder holds.
        changed: starts of the segments among them in which events were erased.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = {segment.start: segment for segment in saved}
    segments = []
    for begin in range(log.first - log.first % SEGMENT, log.end, SEGMENT):
        start, stop = max(begin, log.first), min(begin + SEGMENT, log.end)
        old = held.get(begin)
        if old is not None and old.stop == stop and begin not in changed:
            segments.append(old)
            continue
        content = _encode(log, start, stop)
        segment = Segment(begin, stop, hashlib.sha256(content).hexdigest())
        write_durably(folder / segment.name, content)
        segments.append(segment)
    manifest = _Manifest(
        format=FORMAT,
        first=log.first,
        end=log.end,
        offsets=log.offsets,
        actions=log.actions,
        segments=segments,
    )
    write_durably(folder / MANIFEST, msgspec.json.encode(manifest))
    named = {segment.name for segment in segments} | {MANIFEST}
    for path in folder.iterdir():
        if path.name not in named:
            path.unlink()
    sync_folder(folder)
    return segments


def load_log(log: EventLog, folder: Path) -> list[Segment]:
    """Fill an empty log from the folder; its segments.

    Raises:
        EventLogError: absent or damaged.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except OSError as error:
        raise EventLogError(f"{path} can't be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise _damaged(path, str(error)) from error
    if manifest.format != FORMAT:
        raise _damaged(path, f"its format is {manifest.format}, this version reads {FORMAT}")
    log.start_at(manifest.first, manifest.actions)
    for segment in manifest.segments:
        path = folder / segment.name
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != segment.sha256:
                raise _damaged(path, "its SHA-256 is not the manifest's")
            columns = load(content)
        except OSError as error:
            raise EventLogError(f"{path} can't be read: {error.strerror or error}") from error
        except SafetensorError as error:
            raise _damaged(path, str(error)) from error
        fresh = slice(max(manifest.first - (segment.stop - len(columns["ts"])), 0), None)
        users, items = _ids(columns, "user"), _ids(columns, "item")
        log.append(
            [users[code] for code in columns["user"][fresh]],
            [items[code] for code in columns["item"][fresh]],
            [manifest.actions[code] for code in columns["action"][fresh]],
            columns["value"][fresh],
            columns["weight"][fresh],
            columns["ts"][fresh],
            {},
        )
    log.offsets.update(manifest.offsets)
    return manifest.segments


def _encode(log: EventLog, start: int, stop: int) -> bytes:
    """The events of a segment with the ids that they use."""
    at = slice(start - log.first, stop - log.first)
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name in ("action", "value", "weight", "ts"):
        columns[name] = np.ascontiguousarray(log.column(name)[at])
    for name, names in (("user", log.users.ids), ("item", log.items.ids)):
        used, local = np.unique(log.column(name)[at], return_inverse=True)
        ids = [(names[code] or "").encode() for code in used]
        columns[name] = local.astype(np.int32)
        columns[f"{name}/bytes"] = np.frombuffer(b"".join(ids), np.uint8)
        columns[f"{name}/ends"] = np.cumsum([len(i) for i in ids], dtype=np.int64)
    content: bytes = save(columns)
    return content


def _ids(columns: dict[str, npt.NDArray[np.generic]], name: str) -> list[str]:
    text, ends = columns[f"{name}/bytes"].tobytes(), columns[f"{name}/ends"].tolist()
    return [text[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]


def _damaged(path: Path, reason: str) -> EventLogError:
    return EventLogError(
        f"{path} is damaged ({reason}); delete the folder {path.parent} to gather the history anew"
    )
