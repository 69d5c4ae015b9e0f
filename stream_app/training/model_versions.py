"""What the `models` topic says: a fold over its records, and the versions in the snapshots folder.

In: keys and values of the topic, in log order; folder names. Out: manifests, the live pointer, which version
was live before it, the next free version, the versions to delete. Never talks to a broker or deletes a thing,
and never takes for a version what could name another folder than one of a snapshot.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stream_app.events import VERSION, Live, Manifest

log = logging.getLogger(__name__)

NAME = "transformer"
LIVE = "live"
SAID = 20
"""Records that can't be used are warned of one by one up to so many, and only counted beyond."""

_VERSION = re.compile(r"[0-9]{6}|[1-9][0-9]{6,17}")


def is_version(name: str) -> bool:
    """Whether the registry could have given this name: six decimal digits, or more without a leading zero.

    A version becomes a folder's name, which is read and, in the end, deleted; whoever may write to the topic
    has no say in which folder that is.

    >>> [is_version(name) for name in ("000001", "1000000", "1", "0000001", "../000001", "/etc", "٠٠٠٠٠١")]
    [True, True, False, False, False, False, False]
    """
    return _VERSION.fullmatch(name) is not None


def by_number(version: str) -> tuple[int, str]:
    """What versions are sorted by: "1000000" comes after "999999"."""
    return len(version), version


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One snapshot as `headrace models list` shows it."""

    version: str
    created_ts: int
    sha256: str
    cut: dict[str, int]
    gate: dict[str, Any]
    live: bool
    pinned: bool
    previous: bool


@dataclass(slots=True)
class ModelsView:
    """What the `models` topic says when it is read from its beginning; a pure fold over its records.

    The topic is compacted, so the pointer's history is not kept there. Which version was live before another
    one is read from the manifests instead: `gate["against"]` names the version that was live when a candidate
    was judged. After a rollback the chain goes on from the older version, so a second rollback goes further
    back, never forward again.
    """

    name: str = NAME
    manifests: dict[str, Manifest] = field(default_factory=dict)
    live: Live | None = None
    unreadable: int = 0

    def apply(self, key: bytes | None, value: bytes | None) -> Live | None:
        """Fold one record in; returns the pointer if it is one. What can't be used is counted, and warned of."""
        name, _, version = (key or b"").decode("utf-8", "replace").partition("/")
        if name != self.name or not version:
            return None
        try:
            if version == LIVE:
                self.live = None if value is None else _pointer(value)
                return self.live
            if value is None:
                self.manifests.pop(version, None)
            else:
                self.manifests[version] = _manifest(version, value)
        except (msgspec.MsgspecError, ValueError) as error:
            self.unreadable += 1
            if self.unreadable <= SAID:
                last = " (further ones are only counted)" if self.unreadable == SAID else ""
                log.warning("a record on the models topic is ignored: key %r: %s%s", key, error, last)
        return None

    def previous(self, version: str | None) -> str | None:
        """The version that was live before `version`, or None where there was none or it is forgotten."""
        manifest = self.manifests.get(version or "")
        before = manifest.gate.get("against") if manifest else None
        return before if isinstance(before, str) and before in self.manifests else None

    def next_version(self, on_disk: list[str]) -> str:
        """A version above every one that is known here or lies in the snapshots folder."""
        known = [*self.manifests, *on_disk, *([self.live.version] if self.live else [])]
        numbers = [int(v) for v in known if is_version(v)]
        return f"{max(numbers, default=0) + 1:06d}"

    def rows(self) -> list[ModelRow]:
        """Every snapshot, oldest first."""
        live = self.live.version if self.live else None
        before = self.previous(live)
        return [
            ModelRow(
                version=version,
                created_ts=m.created_ts,
                sha256=m.sha256,
                cut=m.cut,
                gate=m.gate,
                live=version == live,
                pinned=bool(version == live and self.live and self.live.pinned),
                previous=version == before,
            )
            for version, m in sorted(self.manifests.items(), key=lambda row: by_number(row[0]))
        ]

    def expired(self, on_disk: list[str], keep: int) -> list[str]:
        """Versions to delete: all but the newest `keep`, the live one and the one before it."""
        live = self.live.version if self.live else None
        kept = {live, self.previous(live)}
        known = sorted({*self.manifests, *on_disk}, key=by_number)
        return [v for v in known[: max(0, len(known) - keep)] if v not in kept]


def _pointer(value: bytes) -> Live:
    pointer = msgspec.json.decode(value, type=Live)
    if pointer.v > VERSION:
        raise ValueError(f"it has v {pointer.v}")
    if not is_version(pointer.version):
        raise ValueError(f"it points to {pointer.version!r}, which is no version")
    return pointer


def _manifest(version: str, value: bytes) -> Manifest:
    if not is_version(version):
        raise ValueError(f"{version!r} is no version")
    manifest = msgspec.json.decode(value, type=Manifest)
    if manifest.v > VERSION:
        raise ValueError(f"it has v {manifest.v}")
    if manifest.version != version:
        raise ValueError(f"its manifest is of version {manifest.version!r}")
    return manifest


def versions_on_disk(snapshots: Path) -> list[str]:
    """Versions of the finished snapshots in the folder, oldest first."""
    return [version for version in versions_taken(snapshots) if _holds_something(snapshots / version)]


def versions_taken(snapshots: Path) -> list[str]:
    """Versions that have a folder: finished ones, and empty ones that somebody is at work for; oldest first."""
    if not snapshots.is_dir():
        return []
    return sorted((p.name for p in snapshots.iterdir() if p.is_dir() and is_version(p.name)), key=by_number)


def take_version(snapshots: Path, view: ModelsView) -> str:
    """The next version, whose folder is made, so that nobody else takes it before it is written."""
    while True:
        version = view.next_version(versions_taken(snapshots))
        try:
            (snapshots / version).mkdir(parents=True)
        except FileExistsError:
            continue
        return version


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:  # it was deleted meanwhile
        return False
