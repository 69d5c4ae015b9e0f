"""A snapshot made by a command, as the next version in the snapshots folder.

In: settings, a function that writes a snapshot. Out: its version, and where it is wanted its announcement. Never moves
the live pointer: an operator does, by `headrace models rollback --to VERSION`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from models.sequence.snapshot import read
from stream_app.events import Manifest
from stream_app.settings import Settings
from stream_app.training.model_versions import NAME, ModelsView, take_version
from stream_app.training.registry import Registry, ask

Write = Callable[[Path, str], str]
"""Writes a snapshot to a folder as a version; the SHA-256 of its manifest."""


def put(settings: Settings, write: Write, *, announce: bool) -> str:
    """Write a snapshot as the version after all others; announced, its number is above every announced one too."""
    folder = settings.trainer.snapshots
    if announce:
        return ask(settings, lambda registry: _announced(registry, folder, write))
    version = take_version(folder, ModelsView())
    write(folder / version, version)
    return version


def check_registry(settings: Settings) -> None:
    """Before long work: could its snapshot be announced? HeadraceError: no broker, or no `models` topic there."""
    ask(settings, _nothing)


async def _nothing(registry: Registry) -> None:
    """Opening the registry is what is tried."""


async def _announced(registry: Registry, folder: Path, write: Write) -> str:
    version = take_version(folder, registry.view)
    sha256 = write(folder / version, version)
    made = read(folder / version, sha256).manifest
    await registry.announce(
        Manifest(
            name=NAME,
            version=version,
            sha256=sha256,
            cut=made.cut,
            created_ts=int(time.time() * 1000),
            gate=made.compression or made.gate,
        )
    )
    return version
