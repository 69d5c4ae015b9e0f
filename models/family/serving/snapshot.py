"""A model of the family as a snapshot: itself, and what its codes stand for; checked whole before it is used.

In: a model with the ids of its users and items. Out: a folder with a manifest that says which model of the family it
is, in `model/` what `models.family.storage` writes, and in `content/` what the model knew of items beside the events:
who scores with it need not have the catalogue. The manifest's SHA-256 is what a snapshot is announced with, and it
vouches for the rest. Never pickle.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.durable import ASIDE, sync_folder, write_durably
from models.family import storage
from models.family.contract import Content, Model
from models.sequence.snapshot import MANIFEST, SnapshotError

FORMAT = 1
MODEL = "model"
CONTENT = "content"
TOKENS, VECTORS = "tokens.json", "vectors.safetensors"
MAX_MANIFEST_BYTES = 2 << 30


class FamilyManifest(msgspec.Struct, kw_only=True, frozen=True):
    """Everything about a snapshot but the model.

    Attributes:
        family: name of the model, which tells such a manifest from the Transformer's.
        model: SHA-256 of the model's own manifest.
        item_ids, user_ids: of each code; "" for a user whose events are no longer held.
        actions: kinds of events (`models.vocabulary`) that the model learned from, by their code.
        cut: next offset of each topic-partition: what the model may have seen.
        refreshes, trained_to, learned_from: how often it was trained, up to which event, and from which one on.
        content: file of `content/` → SHA-256; empty for a model without.
    """

    format: int = FORMAT
    family: str
    version: str
    model: str
    item_ids: list[str]
    user_ids: list[str]
    actions: list[str]
    cut: dict[str, int]
    refreshes: int
    trained_to: int
    learned_from: int = 0
    content: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class FamilySnapshot:
    """A model that was read, with its manifest."""

    manifest: FamilyManifest
    model: Model


def of_family(folder: Path) -> bool:
    """Whether the snapshot in `folder` says that it is a model of the family."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            return b'"family":' in file.read(64)
    except OSError:
        return False


def write(folder: Path, model: Model, manifest: Mapping[str, object]) -> str:
    """Write a snapshot to `folder`, replacing what is there; the manifest's SHA-256.

    Args:
        manifest: fields of `FamilyManifest` beside the model's name and digest.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(folder.name + ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    storage.save_model(model, aside / MODEL)
    own = hashlib.sha256((aside / MODEL / storage.MANIFEST).read_bytes()).hexdigest()
    described = _write_content(aside / CONTENT, model.content)
    about = {**manifest, "family": model.name, "model": own, "content": described}
    whole = msgspec.convert(about, FamilyManifest)
    content = msgspec.json.encode(whole)
    write_durably(aside / MANIFEST, content)
    if folder.exists():
        shutil.rmtree(folder)
    aside.replace(folder)
    sync_folder(folder.parent)
    return hashlib.sha256(content).hexdigest()


def read(folder: Path, sha256: str | None = None) -> FamilySnapshot:
    """The snapshot in `folder`; `sha256` is what its manifest was announced with.

    Raises:
        SnapshotError: it is absent, half-written, damaged, of another format or not the announced one.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise SnapshotError(f"snapshot {folder}: {MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes")
        content = path.read_bytes()
        own = (folder / MODEL / storage.MANIFEST).read_bytes()
    except OSError as error:
        raise SnapshotError(f"snapshot {folder}: {error.filename} can't be read: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise SnapshotError(
            f"snapshot {folder}: {MANIFEST} is not the announced one: another snapshot lies here"
        )
    try:
        manifest = msgspec.json.decode(content, type=FamilyManifest)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"snapshot {folder}: {MANIFEST} is damaged ({error})") from error
    if manifest.format != FORMAT or hashlib.sha256(own).hexdigest() != manifest.model:
        raise SnapshotError(
            f"snapshot {folder}: {MANIFEST} is of another format, or of another model than lies there"
        )
    try:
        known = _read_content(folder / CONTENT, manifest.content)
        model = storage.load_model(folder / MODEL, known)
    except storage.StoredModelError as error:
        raise SnapshotError(f"snapshot {folder}: {error}") from error
    if model.n_items > len(manifest.item_ids) or model.n_users > len(manifest.user_ids):
        raise SnapshotError(f"snapshot {folder}: {MANIFEST} names fewer users or items than the model has")
    return FamilySnapshot(manifest, model)


def _write_content(folder: Path, content: Content | None) -> dict[str, str]:
    """Write what a model knows of items; the SHA-256 of each file."""
    if content is None:
        return {}
    folder.mkdir()
    files = {TOKENS: msgspec.json.encode(content.tokens)}
    if content.vectors is not None:
        files[VECTORS] = save({"vectors": np.ascontiguousarray(content.vectors, np.float32)})
    for name, data in files.items():
        write_durably(folder / name, data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _read_content(folder: Path, digests: Mapping[str, str]) -> Content | None:
    if not digests:
        return None
    files = {}
    for name in (TOKENS, VECTORS):
        if name not in digests:
            continue
        try:
            if (folder / name).stat().st_size > MAX_MANIFEST_BYTES:
                raise SnapshotError(
                    f"snapshot {folder.parent}: {CONTENT}/{name} is larger than {MAX_MANIFEST_BYTES} bytes"
                )
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise SnapshotError(
                f"snapshot {folder.parent}: {error.filename} can't be read: {error.strerror}"
            ) from error
        if hashlib.sha256(files[name]).hexdigest() != digests[name]:
            raise SnapshotError(f"snapshot {folder.parent}: {CONTENT}/{name} is damaged or half-written")
    try:
        tokens = msgspec.json.decode(files[TOKENS], type=list[list[str]])
        vectors = load(files[VECTORS])["vectors"] if VECTORS in files else None
    except (KeyError, msgspec.MsgspecError, SafetensorError) as error:
        raise SnapshotError(f"snapshot {folder.parent}: {CONTENT} is of another format ({error})") from error
    return Content(tokens, vectors)
