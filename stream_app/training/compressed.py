"""A version of the snapshots folder in fewer bytes, as the next version of it.

In: settings, a version; a form, or the size of a smaller model and the trainer's history to teach it with. Out: a new
folder, and where it is wanted its announcement. Never moves the live pointer, and never touches the version that it is
made of.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import ValidationError

from models.compression.distil import Student
from models.compression.packed import Form
from models.compression.snapshots import compress
from models.config import TransformerSettings
from models.sequence import snapshot
from models.sequence.snapshot import WEIGHTS, Snapshot, SnapshotError, read
from models.training.event_log import EventLog
from models.training.event_segments import EventLogError
from stream_app.errors import HeadraceError, UsageError
from stream_app.settings import Settings
from stream_app.training.model_versions import versions_on_disk
from stream_app.training.new_version import Write, check_registry, put
from stream_app.training.ranker import TRANSFORMER, name_in


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
        CompressionError: there is no such version, or it is of another model, damaged or compressed already.
    """
    whole = _uncompressed(settings, version)
    return _put(
        settings, version, lambda folder, new: compress(whole, form, folder, new, share), announce=announce
    )


def distil_version(
    settings: Settings, version: str, *, width: int, tokens_per_event: float, share: float, announce: bool
) -> Made:
    """Teach a narrower model with `version` and the trainer's history.

    Args:
        width: of the new model's vectors.
        tokens_per_event: predictions to learn for each event of the history.
        share: the teacher's part of the loss.

    Raises:
        CompressionError: there is no such version or no history, one of them is damaged, or it is of another model.
        UsageError: a width that can't be.
    """
    whole = _uncompressed(settings, version)
    if not os.access(settings.trainer.snapshots, os.W_OK | os.X_OK):
        raise CompressionError(
            f"{settings.trainer.snapshots} can't be written to", "Ask as a user who may write there."
        )
    if announce:
        check_registry(settings)
    history = settings.trainer.state_dir / "log"
    try:
        log = EventLog.load(history, settings.trainer.history_events)
    except EventLogError as error:
        raise CompressionError(
            str(error), "Name the trainer's own --state-dir; where it runs, try again in a moment."
        ) from error
    try:
        config = TransformerSettings(**{**whole.manifest.config, "d_model": width})
        student = Student(
            config,
            settings.seed,
            whole,
            share,
            threads=settings.trainer.torch_threads,
            max_items=settings.models.max_items,
        )
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--width {width}: {wrong}") from error
    if not set(log.items_held()) & set(whole.manifest.item_ids):
        raise CompressionError(
            f"snapshot {version} knows no item of {history}",
            "Name the --state-dir of the trainer that made it.",
        )
    done = student.refresh(log, log.end, round(tokens_per_event * len(log)))
    if not done.steps:
        raise CompressionError(f"{history} holds no user with two events", "Let the trainer read some first.")
    seen = {**log.offsets, **whole.manifest.cut}
    seen |= {at: max(offset, seen[at]) for at, offset in log.offsets.items()}
    facts = {"to": "distilled", "of": version, "share": share}
    return _put(
        settings,
        version,
        lambda folder, new: snapshot.write(folder, student, new, seen, facts),
        announce=announce,
    )


def _uncompressed(settings: Settings, version: str) -> Snapshot:
    folder = settings.trainer.snapshots
    there = versions_on_disk(folder)
    if version not in there:
        raise CompressionError(
            f"snapshot {version} is not in {folder}", f"Versions there are: {', '.join(there) or 'none'}."
        )
    name = name_in(folder / version)
    if name != TRANSFORMER:
        raise CompressionError(
            f"snapshot {version} is of {name}; only the Transformer can be compressed or distilled",
            "Take a version that was trained with models.ranker=transformer.",
        )
    try:
        whole = read(folder / version)
    except SnapshotError as error:
        raise CompressionError(str(error), "Take another version.") from error
    if whole.manifest.compression:
        raise CompressionError(
            f"snapshot {version} is {whole.manifest.compression.get('to')} already",
            f"Take the one that it was made of, {whole.manifest.compression.get('of')}.",
        )
    return whole


def _put(settings: Settings, version: str, write: Write, *, announce: bool) -> Made:
    new = put(settings, write, announce=announce)
    size, before = ((settings.trainer.snapshots / v / WEIGHTS).stat().st_size for v in (new, version))
    return Made(new, size, before)
