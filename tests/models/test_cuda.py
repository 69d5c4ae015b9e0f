"""A GPU gives what the CPU gives: training, vectors, lists, models of the family. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.base import EventBatch
from models.config import ModelSettings, SequenceSettings, TransformerSettings
from models.family.registry import make
from models.family.storage import load_model, save_model
from models.pipeline.recommender import Recommender
from models.sequence import snapshot
from models.sequence.reranker import Reranker
from models.sequence.transformer import band_for
from models.training.train import Trainer
from tests.event_logs import log_of
from tests.models.family import planted

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICES = ("cpu", "cuda")
SETTINGS = ModelSettings(
    sequence=SequenceSettings(length=12), transformer=TransformerSettings(d_model=16, heads=2)
)


def trained(device: str, tokens: int = 6000) -> tuple[Trainer, float]:
    log = log_of(600, lambda i: f"u{i % 7}", lambda i: f"item-{(i * i) % 20}", value=4.0, kind="rating")
    trainer = Trainer(SETTINGS.transformer, band_for(12, 2), seed=0, device=device)
    return trainer, trainer.refresh(log, 0, tokens).loss


def test_training_takes_the_same_course() -> None:
    (cpu, loss), (gpu, again) = (trained(device) for device in DEVICES)
    assert next(gpu.model.parameters()).is_cuda
    assert again == pytest.approx(loss, rel=0.01)
    for a, b in zip(cpu.average.parameters(), gpu.average.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), atol=0.02, rtol=0.05)


@pytest.mark.parametrize("cached_users", [0, 10])
def test_lists_are_the_same(tmp_path: Path, cached_users: int) -> None:
    snapshot.write(tmp_path / "1", trained("cuda")[0], "1")
    cpu, gpu = (lists(tmp_path / "1", device, cached_users) for device in DEVICES)
    assert (cpu == gpu).mean() > 0.99


def lists(folder: Path, device: str, cached_users: int) -> np.ndarray:
    recommender = Recommender(SETTINGS, seed=0)
    recommender.set_reranker(Reranker(snapshot.read(folder), device, cached_users=cached_users))
    rng, n = np.random.default_rng(0), 160
    for user in range(6):
        recommender.users.admit(f"user-{user}", 0, None)
    batch = EventBatch(
        user=rng.integers(0, 6, n).astype(np.int32),
        item=recommender.catalogue.intern([f"item-{i}" for i in rng.integers(0, 25, n)]),
        action=np.full(n, recommender.actions.code("rating"), np.uint8),
        weight=np.ones(n, np.float32),
        value=rng.integers(1, 6, n).astype(np.float32),
        ts=10**12 + 1000 * np.arange(n),
        event_id=np.arange(1, n + 1).astype(np.uint64),
        key=np.ones(n, np.uint64),
        offset=np.arange(n),
    )
    parts = []
    for start in range(0, n, 5):
        part = batch.slice(start, start + 5)
        parts.append(recommender.process(part, np.ones(len(part), np.bool_)).lists.items)
    return np.concatenate(parts)


@pytest.mark.parametrize("name", ["unified", "sasrec", "gru4rec", "neumf", "two-tower", "youtube-dnn"])
def test_models_of_the_family_learn_alike(name: str, tmp_path: Path) -> None:
    events = planted.checkerboard()
    queries = planted.asked(events, list(range(40)))
    scores = {}
    for device in DEVICES:
        model = make(name, {"device": device, "epochs": 1, "least_steps": 60, "dropout": 0.0}, seed=0)
        model.fit(events)
        scores[device] = model.score(queries)
    save_model(model, tmp_path / "model")  # the one on the GPU
    np.testing.assert_allclose(load_model(tmp_path / "model").score(queries), scores["cuda"], atol=1e-4)
    spread = float(scores["cpu"].std())
    assert np.abs(scores["cpu"] - scores["cuda"]).mean() < 0.05 * spread
