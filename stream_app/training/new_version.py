"""A snapshot made by a command, as the next version in the snapshots folder.

In: settings, a function that writes a snapshot. Out: its version, and where it is wanted its announcement. Never moves
the live pointer: an operator does, by `headrace models rollback --to VERSION`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from models.sequence.snapshot import read
from stream_app.errors import HeadraceError
from stream_app.events import Manifest
from stream_app.settings import Settings
from stream_app.training.model_versions import NAME, ModelsView, take_version
from stream_app.training.registry import Registry, ask

Write = Callable[[Path, str], str]
"""Writes a snapshot to a folder as a version; the SHA-256 of its manifest."""


class NotWrittenError(HeadraceError):
    """A snapshot could not be written; the message says why."""


def put(settings: Settings, write: Write, *, announce: bool) -> str:
    """Write a snapshot as the version after all others; announced, its number is above every announced one too.

    Raises:
        NotWrittenError: a full disk, or a folder that can't be written to.
    """
    folder = settings.trainer.snapshots
    if announce:
        return ask(settings, lambda registry: _announced(registry, folder, write))
    return _written(folder, ModelsView(), write)[0]


def check_registry(settings: Settings) -> None:
    """Before long work: could its snapshot be announced? HeadraceError: no broker, or no `models` topic there."""
    ask(settings, _nothing)


async def _nothing(registry: Registry) -> None:
    """Opening the registry is what is tried."""


def _written(folder: Path, view: ModelsView, write: Write) -> tuple[str, str]:
    """The version and the SHA-256 of its manifest."""
    try:
        version = take_version(folder, view)
        try:
            return version, write(folder / version, version)
        except OSError:
            (folder / version).rmdir()
            raise
    except OSError as error:
        raise NotWrittenError(
            f"a snapshot can't be written to {folder}: {error.strerror or error}",
            "See to the disk and try again.",
        ) from error


async def _announced(registry: Registry, folder: Path, write: Write) -> str:
    version, sha256 = _written(folder, registry.view, write)
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
