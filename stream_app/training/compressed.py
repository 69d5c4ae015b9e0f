"""A version of the snapshots folder in fewer bytes, as the next version of it.

In: settings, a version, a form. Out: a new folder, and where it is wanted its announcement. Never moves the live
pointer, and never touches the version that it is made of.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from models.compression.packed import Form
from models.compression.snapshots import compress
from models.sequence.snapshot import WEIGHTS, SnapshotError, read
from stream_app.errors import HeadraceError
from stream_app.events import Manifest
from stream_app.settings import Settings
from stream_app.training.model_versions import NAME, ModelsView, versions_on_disk
from stream_app.training.registry import Registry, ask


class CompressionError(HeadraceError):
    """A snapshot can't be made smaller; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Made:
    """The new version, and the bytes of its weights and of those that it was made of."""

    version: str
    bytes: int
    bytes_before: int


def compress_version(settings: Settings, version: str, form: Form, share: float, *, announce: bool) -> Made:
    """Compress `version` of the snapshots folder.

    Raises:
        CompressionError: there is no such version, or it is damaged or compressed already.
    """
    folder = settings.trainer.snapshots
    there = versions_on_disk(folder)
    if version not in there:
        raise CompressionError(
            f"snapshot {version} is not in {folder}", f"Versions there are: {', '.join(there) or 'none'}."
        )
    try:
        whole = read(folder / version)
    except SnapshotError as error:
        raise CompressionError(str(error), "Compress another version.") from error
    if whole.manifest.compression:
        raise CompressionError(
            f"snapshot {version} is {whole.manifest.compression.get('to')} already",
            f"Compress the one that it was made of, {whole.manifest.compression.get('of')}.",
        )
    if announce:
        return ask(settings, lambda registry: _announced(registry, settings, version, form, share))
    new = ModelsView().next_version(there)
    compress(whole, form, folder / new, new, share)
    return _made(settings, version, new)


async def _announced(registry: Registry, settings: Settings, version: str, form: Form, share: float) -> Made:
    folder = settings.trainer.snapshots
    whole = read(folder / version)
    new = registry.view.next_version(versions_on_disk(folder))
    sha256 = compress(whole, form, folder / new, new, share)
    made = read(folder / new, sha256).manifest
    await registry.announce(
        Manifest(
            name=NAME,
            version=new,
            sha256=sha256,
            cut=made.cut,
            created_ts=int(time.time() * 1000),
            gate=made.compression,
        )
    )
    return _made(settings, version, new)


def _made(settings: Settings, version: str, new: str) -> Made:
    size, before = ((settings.trainer.snapshots / v / WEIGHTS).stat().st_size for v in (new, version))
    return Made(new, size, before)
