"""A model of the family on disk: arrays as safetensors, the rest in a manifest; checked whole before it is used.

In: a model, a folder. Out: `weights.safetensors` and `manifest.json` (name, settings, seed, counts, SHA-256). Never
pickle; content is not stored, since it belongs to the catalogue.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.durable import write_durably
from models.family.contract import Content, Model
from models.family.registry import MODELS, make

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
FORMAT = 1


class StoredModelError(Exception):
    """A folder does not hold a model that can be used: which file, and what is wrong with it."""


class _Manifest(msgspec.Struct, kw_only=True):
    format: int
    name: str
    settings: dict[str, Any]
    seed: int
    n_users: int
    n_items: int
    sha256: str


def save_model(model: Model, folder: Path) -> None:
    """Write the model to `folder`; the manifest comes last, so a half-written folder is not taken for a model."""
    weights = save({name: np.ascontiguousarray(array) for name, array in model.arrays().items()})
    manifest = _Manifest(
        format=FORMAT,
        name=model.name,
        settings=model.settings.model_dump(mode="json"),
        seed=model.seed,
        n_users=model.n_users,
        n_items=model.n_items,
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / WEIGHTS, weights)
    write_durably(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))


def load_model(folder: Path, content: Content | None = None) -> Model:
    """The model in `folder`, as it was saved.

    Raises:
        StoredModelError: absent, half-written, damaged, or of another format.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise StoredModelError(f"{error.filename} can't be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise StoredModelError(f"{folder / MANIFEST} is damaged ({error})") from error
    if manifest.format != FORMAT or manifest.name not in MODELS:
        raise StoredModelError(
            f"{folder / MANIFEST} holds {manifest.name!r} in format {manifest.format}; this version of headrace "
            f"reads format {FORMAT} of {', '.join(MODELS)}"
        )
    if hashlib.sha256(weights).hexdigest() != manifest.sha256:
        raise StoredModelError(
            f"{folder / WEIGHTS} is damaged or half-written: its SHA-256 is not the manifest's"
        )
    try:
        model = make(manifest.name, manifest.settings, seed=manifest.seed, content=content)
        model.n_users, model.n_items = manifest.n_users, manifest.n_items
        model.restore(load(weights))
    except (SafetensorError, ValidationError, ValueError, KeyError) as error:
        raise StoredModelError(f"{folder} does not fit together ({error})") from error
    return model
