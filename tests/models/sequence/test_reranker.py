"""The re-ranker inside the recommender: however a stream is cut, the lists are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.base import EventBatch
from models.config import ModelSettings, SequenceSettings, TransformerSettings
from models.pipeline import recommender as recommender_module
from models.pipeline.recommender import Recommender
from models.sequence import snapshot
from models.sequence.reranker import Reranker
from models.sequence.transformer import band_for
from models.training.train import Trainer
from tests.event_logs import log_of

LENGTH, EVENTS, USERS, ITEMS = 12, 160, 6, 30
SETTINGS = ModelSettings(
    sequence=SequenceSettings(length=LENGTH), transformer=TransformerSettings(d_model=16, heads=2)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot that knows two thirds of the items."""
    log = log_of(
        300, lambda i: f"u{i % 7}", lambda i: f"item-{(i * i) % (2 * ITEMS // 3)}", value=4.0, kind="rating"
    )
    trainer = Trainer(SETTINGS.transformer, band_for(LENGTH, 2), seed=0)
    trainer.refresh(log, 0, 3000)
    path = tmp_path_factory.mktemp("snapshots") / "1"
    snapshot.write(path, trainer, "1")
    return path


def stream(recommender: Recommender) -> EventBatch:
    """A repeatable stream with duplicates and late events, interned in this recommender."""
    rng = np.random.default_rng(0)
    for user in range(USERS):
        recommender.users.admit(f"user-{user}", 0, None)
    items = recommender.catalogue.intern([f"item-{i}" for i in rng.integers(0, ITEMS, EVENTS)])
    late = np.where(rng.random(EVENTS) < 0.05, rng.integers(0, 30_000, EVENTS), 0)
    return EventBatch(
        user=rng.integers(0, USERS, EVENTS).astype(np.int32),
        item=items,
        action=np.full(EVENTS, recommender.actions.code("rating"), np.uint8),
        weight=np.ones(EVENTS, np.float32),
        value=rng.integers(1, 6, EVENTS).astype(np.float32),
        ts=10**12 + 1000 * np.arange(EVENTS) - late,
        event_id=np.where(rng.random(EVENTS) < 0.1, 7, 100 + np.arange(EVENTS)).astype(np.uint64),
        key=np.ones(EVENTS, np.uint64),
        offset=np.arange(EVENTS),
    )


def lists(folder: Path, size: int, cached_users: int) -> np.ndarray:
    """The lists after each accepted event, [n, k] item numbers, with the stream cut every `size` events."""
    recommender = Recommender(SETTINGS, seed=0)
    recommender.set_reranker(Reranker(snapshot.read(folder), cached_users=cached_users))
    batch = stream(recommender)
    parts = []
    for start in range(0, EVENTS, size):
        part = batch.slice(start, min(start + size, EVENTS))
        parts.append(recommender.process(part, np.ones(len(part), np.bool_)).lists.items)
    return np.concatenate(parts)


@pytest.mark.parametrize(("size", "cached_users"), [(1, 0), (1, 10), (7, 10), (50, 3)])
def test_cuts_and_caches_change_no_list(folder: Path, size: int, cached_users: int) -> None:
    np.testing.assert_array_equal(lists(folder, size, cached_users), lists(folder, EVENTS, 0))


@pytest.mark.parametrize("size", [1, 7])
def test_beside_the_frozen_first_model_a_cut_changes_neither_lists_nor_lessons(
    folder: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lists are made of the same candidates' features, which serve the user's next lesson afterwards."""
    monkeypatch.setattr(recommender_module, "SAMPLE", 1)
    seen = []
    for step in (size, EVENTS):
        recommender = Recommender(SETTINGS, seed=0)
        for _ in range(2):
            recommender.set_reranker(Reranker(snapshot.read(folder), cached_users=10))
        batch = stream(recommender)
        user = np.sort(batch.user)  # events of one user in a row
        batch = replace(batch, user=user)
        parts = [batch.slice(start, min(start + step, EVENTS)) for start in range(0, EVENTS, step)]
        lists = [recommender.process(part, np.ones(len(part), np.bool_)).lists.items for part in parts]
        blend = recommender.view().state.blend
        assert blend.lessons[0] > 10
        seen.append((np.concatenate(lists), recommender.users.columns.served_frozen[:USERS], blend))
    for one, other in zip(seen[0][:2], seen[1][:2], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(seen[0][2], seen[1][2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_current_vectors_are_those_after_the_last_event(folder: Path) -> None:
    recommender = Recommender(SETTINGS, seed=0)
    reranker = Reranker(snapshot.read(folder), cached_users=10)
    batch = stream(recommender)
    row_of = reranker.rows([f"item-{i}" for i in range(ITEMS)])
    plan = reranker.plan(recommender.users, batch, row_of, recommender.actions)
    status = recommender.process(batch, np.zeros(EVENTS, np.bool_)).status
    _, after = plan.finish(status != 1)
    slots = np.arange(USERS, dtype=np.int32)
    now = reranker.current(recommender.users, slots, row_of, recommender.actions)
    for user in range(USERS):
        newest = np.flatnonzero((batch.user == user) & (status != 1))[-1]
        np.testing.assert_allclose(now[user], after[newest], atol=1e-5)
