"""A model on disk: weights as safetensors, everything else in a manifest; checked whole before it is used.

In: a trainer, or a folder. Out: a folder, or a `Snapshot`. The folder is written aside and renamed, and the
manifest holds the SHA-256 of the weights, so a half-written or damaged snapshot is told apart from a whole
one. Never announces anything, never unpickles.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from models.compression.packed import PackedError, unpack
from models.config import TransformerSettings
from models.durable import ASIDE, sync_folder, write_durably
from models.sequence.transformer import CausalTransformer
from models.training.train import Trainer

FORMAT, COMPRESSED = 1, 2
"""Weights as float32; weights as `models.compression.packed` writes them."""
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
MAX_MANIFEST_BYTES = 2 << 30
MAX_ITEMS, MAX_ACTIONS = 5_000_000, 255


class SnapshotError(Exception):
    """A snapshot can't be used: the folder, the file, and what is wrong with it."""


class FileMark(msgspec.Struct, frozen=True):
    """What a file must be like."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Everything about a snapshot but its weights.

    Attributes:
        item_ids: the item of each row, from row 1 on.
        actions: the kind of event (`models.vocabulary`) of each action row, from row 1 on.
        cut: next offset of each topic-partition: what the model may have seen.
        steps, refreshes: how long it was trained.
        compression: how the weights were made smaller, and of which snapshot they were; empty where they were not.
    """

    format: int
    version: str
    files: dict[str, FileMark]
    config: dict[str, Any]
    band: int
    scale: tuple[float, float]
    item_ids: list[str]
    actions: list[str]
    cut: dict[str, int]
    gate: dict[str, Any]
    steps: int
    refreshes: int
    compression: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model in eval mode on the CPU, and its manifest."""

    manifest: Manifest
    model: CausalTransformer

    @property
    def version(self) -> str:
        return self.manifest.version


def untaught(
    config: TransformerSettings, band: int, item_ids: Sequence[str], actions: Sequence[str]
) -> Snapshot:
    """A snapshot that was never on disk and has learned nothing: its weights are random."""
    manifest = Manifest(
        format=FORMAT, version="untaught", files={}, config=config.model_dump(mode="json"), band=band,
        scale=(1.0, 5.0), item_ids=list(item_ids), actions=list(actions), cut={}, gate={}, steps=0, refreshes=0,
    )  # fmt: skip
    model = CausalTransformer(config, len(item_ids), len(actions), band)
    return Snapshot(manifest, model.eval().requires_grad_(False))


def write(
    folder: Path,
    trainer: Trainer,
    version: str,
    cut: Mapping[str, int] | None = None,
    gate: Mapping[str, Any] | None = None,
) -> str:
    """Write the trainer's averaged weights to `folder`, replacing what is there; the manifest's SHA-256."""
    held = [row for row, name in enumerate(trainer.rows.ids, 1) if name is not None]
    state = {name: tensor.detach().cpu() for name, tensor in trainer.average.state_dict().items()}
    for name in ("item", "bias"):
        state[name] = state[name][[0, *held]]
    weights = save({name: tensor.contiguous() for name, tensor in state.items()})
    manifest = Manifest(
        format=FORMAT,
        version=version,
        files={WEIGHTS: mark_of(weights)},
        config=trainer.settings.model_dump(mode="json"),
        band=trainer.band,
        scale=trainer.scale,
        item_ids=[name for name in trainer.rows.ids if name is not None],
        actions=list(trainer.actions),
        cut=dict(cut or {}),
        gate=dict(gate or {}),
        steps=trainer.steps,
        refreshes=trainer.refreshes,
    )
    return put(folder, manifest, weights)


def put(folder: Path, manifest: Manifest, weights: bytes) -> str:
    """Write a snapshot's files, replacing what is there; the manifest's SHA-256."""
    content = msgspec.json.encode(manifest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(folder.name + ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    write_durably(aside / WEIGHTS, weights)
    write_durably(aside / MANIFEST, content)
    if folder.exists():
        shutil.rmtree(folder)
    aside.replace(folder)
    sync_folder(folder.parent)
    return hashlib.sha256(content).hexdigest()


def mark_of(weights: bytes) -> FileMark:
    """What a file with these bytes must be like."""
    return FileMark(len(weights), hashlib.sha256(weights).hexdigest())


def read(folder: Path, sha256: str | None = None) -> Snapshot:
    """The snapshot in `folder`; `sha256` is what its manifest was announced with.

    Raises:
        SnapshotError: it is absent, half-written, damaged, of another format or not the announced one.
    """
    content = _content(folder, MANIFEST, MAX_MANIFEST_BYTES)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise _wrong(folder, MANIFEST, "is not the announced one: another snapshot lies here")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
        config = TransformerSettings(**manifest.config)
    except (msgspec.DecodeError, ValidationError) as error:
        raise _wrong(folder, MANIFEST, f"is damaged or of another version of headrace ({error})") from error
    if manifest.format not in (FORMAT, COMPRESSED):
        reason = f"has format {manifest.format}, this version of headrace reads {FORMAT} and {COMPRESSED}"
        raise _wrong(folder, MANIFEST, reason)
    n_items, n_actions = len(manifest.item_ids), len(manifest.actions)
    if n_items > MAX_ITEMS or n_actions > MAX_ACTIONS or WEIGHTS not in manifest.files:
        raise _wrong(
            folder, MANIFEST, f"names {n_items} items and {n_actions} kinds of events, or no weights"
        )
    mark = manifest.files[WEIGHTS]
    weights = _content(folder, WEIGHTS, mark.bytes)
    if len(weights) != mark.bytes:
        raise _wrong(folder, WEIGHTS, f"has {len(weights)} bytes instead of {mark.bytes}: it is half-written")
    if hashlib.sha256(weights).hexdigest() != mark.sha256:
        raise _wrong(folder, WEIGHTS, "is damaged: its SHA-256 is not the manifest's")
    try:
        state = unpack(load(weights)) if manifest.format == COMPRESSED else load(weights)
        # a model as large as the manifest says is only made where the weights are
        if (shape := tuple(state["item"].shape)) != (n_items + 1, config.d_model):
            raise ValueError(f"the item table is {shape}, not {(n_items + 1, config.d_model)}")
        model = CausalTransformer(config, n_items, n_actions, manifest.band)
        model.load_state_dict(state, assign=True)
    except (SafetensorError, PackedError, RuntimeError, ValueError, KeyError) as error:
        raise _wrong(folder, WEIGHTS, f"does not fit the manifest ({error})") from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise _wrong(folder, WEIGHTS, "holds numbers that are not finite: its training diverged")
    return Snapshot(manifest, model.eval().requires_grad_(False))


def _content(folder: Path, name: str, limit: int) -> bytes:
    try:
        size = (folder / name).stat().st_size
        if size > limit:
            raise _wrong(folder, name, f"has {size} bytes where at most {limit} are expected")
        return (folder / name).read_bytes()
    except OSError as error:
        raise _wrong(folder, name, f"can't be read: {error.strerror or error}") from error


def _wrong(folder: Path, name: str, reason: str) -> SnapshotError:
    return SnapshotError(f"snapshot {folder}: {name} {reason}")
