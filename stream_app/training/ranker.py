"""What re-ranks, by the setting `models.ranker`: the Transformer, or any model of the family in its place.

In: settings, a folder. Out: a trainer, a snapshot that it wrote, or the re-ranker that one is read into. What a
snapshot holds says its manifest, not the settings: a worker obeys whatever version is live.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from pydantic import ValidationError

from models.family.serving import snapshot as family
from models.sequence import snapshot
from models.sequence.transformer import band_for
from models.training.train import Trainer
from stream_app.model_settings import wrong_setting
from stream_app.settings import Settings

if TYPE_CHECKING:
    import torch

    from models.family.serving.reranker import FamilyReranker
    from models.family.serving.trainer import FamilyTrainer
    from models.sequence.reranker import Reranker

TRANSFORMER = "transformer"

AnyTrainer: TypeAlias = "Trainer | FamilyTrainer"
AnyReranker: TypeAlias = "Reranker | FamilyReranker"


class _Named(msgspec.Struct):
    family: str


def make_trainer(settings: Settings, seed: int, device: str) -> AnyTrainer:
    """A trainer of `models.ranker` that has learned nothing.

    Raises:
        UsageError: the model has not these settings.
    """
    name, t = settings.models.ranker, settings.trainer
    scale = (settings.events.rating_low, settings.events.rating_high)
    if name == TRANSFORMER:
        model = settings.models.transformer
        return Trainer(
            model,
            band_for(settings.models.sequence.length, model.layers),
            seed,
            device=device,
            threads=t.torch_threads,
            scale=scale,
            replay_share=t.replay_share,
            max_items=settings.models.max_items,
        )
    from models.family.serving.trainer import FamilyTrainer

    try:
        return FamilyTrainer(name, settings.models.ranker_settings, seed, device, t.torch_threads, scale)
    except ValidationError as error:
        given = settings.models.ranker_settings
        raise wrong_setting(error, "models.ranker_settings", name, given) from None


def write(folder: Path, trainer: AnyTrainer, version: str, cut: Mapping[str, int]) -> str:
    """Write a snapshot of what was trained; the SHA-256 of its manifest."""
    if isinstance(trainer, Trainer):
        return snapshot.write(folder, trainer, version=version, cut=cut)
    return trainer.write(folder, version, cut)


def name_in(folder: Path) -> str:
    """Which model the snapshot in `folder` is of, by its manifest; the Transformer where that names none."""
    if not family.of_family(folder):
        return TRANSFORMER
    try:
        return msgspec.json.decode((folder / snapshot.MANIFEST).read_bytes(), type=_Named).family
    except (OSError, msgspec.MsgspecError):
        return "a model of the family"


def read(settings: Settings, folder: Path, sha256: str | None, device: str | torch.device) -> AnyReranker:
    """The re-ranker in `folder`; models.sequence.snapshot.SnapshotError where it can't be used."""
    if family.of_family(folder):
        from models.family.serving.reranker import FamilyReranker

        return FamilyReranker(family.read(folder, sha256), settings.models.sequence.length)
    from models.sequence.reranker import Reranker

    return Reranker(snapshot.read(folder, sha256), device)
