"""What the `models` topic says: a pure fold over its records, and the versions in the snapshots folder.

In: keys and values of the topic, in log order; folder names. Out: manifests, the live pointer, which version
was live before it, the next free version, the versions to delete. Never talks to a broker or deletes a thing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stream_app.events import VERSION, Live, Manifest

NAME = "transformer"


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
        """Fold one record in; returns the pointer if it is one. What can't be read is counted."""
        name, _, version = (key or b"").decode("utf-8", "replace").partition("/")
        if name != self.name or not version:
            return None
        try:
            if version == "live":
                pointer = None if value is None else msgspec.json.decode(value, type=Live)
                if pointer is not None and pointer.v > VERSION:
                    self.unreadable += 1
                    return None
                self.live = pointer
                return self.live
            if value is None:
                self.manifests.pop(version, None)
            else:
                manifest = msgspec.json.decode(value, type=Manifest)
                if manifest.v > VERSION:
                    self.unreadable += 1
                else:
                    self.manifests[version] = manifest
        except msgspec.MsgspecError:
            self.unreadable += 1
        return None

    def previous(self, version: str | None) -> str | None:
        """The version that was live before `version`, or None where there was none or it is forgotten."""
        manifest = self.manifests.get(version or "")
        before = manifest.gate.get("against") if manifest else None
        return before if before in self.manifests else None

    def next_version(self, on_disk: list[str]) -> str:
        """A version above every one that is known here or lies in the snapshots folder."""
        known = [*self.manifests, *on_disk, *([self.live.version] if self.live else [])]
        numbers = [int(v) for v in known if v.isdecimal()]
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
            for version, m in sorted(self.manifests.items())
        ]

    def expired(self, on_disk: list[str], keep: int) -> list[str]:
        """Versions to delete: all but the newest `keep`, the live one and the one before it."""
        live = self.live.version if self.live else None
        kept = {live, self.previous(live)}
        known = sorted({*self.manifests, *on_disk})
        return [v for v in known[: max(0, len(known) - keep)] if v not in kept]


def versions_on_disk(snapshots: Path) -> list[str]:
    """Versions of the finished snapshots in the folder, oldest first."""
    return [version for version in versions_taken(snapshots) if _holds_something(snapshots / version)]


def versions_taken(snapshots: Path) -> list[str]:
    """Versions that have a folder: finished ones, and empty ones that somebody is at work for; oldest first."""
    if not snapshots.is_dir():
        return []
    return sorted(p.name for p in snapshots.iterdir() if p.is_dir() and p.name.isdecimal())


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
