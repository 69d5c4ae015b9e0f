"""Training: it learns what is planted, gives the same weights again, and goes on after a kill."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import TransformerSettings
from models.sequence.encode import Events, encode
from models.training.checkpoint import FILE, CheckpointError
from models.training.event_log import EventLog
from models.training.train import InterruptedTrainingError, Trainer

SETTINGS = TransformerSettings(d_model=16, heads=2, batch_tokens=128, window=20, lr=5e-3)


def trainer(max_items: int = 1000, seed: int = 0) -> Trainer:
    return Trainer(SETTINGS, band=8, seed=seed, max_items=max_items)


def chains(log: EventLog, events: int, start: int = 0, items: int = 12) -> None:
    """Four users, each of whom goes round and round over the same ring of items."""
    numbers = np.arange(start, start + events)
    log.append(
        [f"user-{i % 4}" for i in numbers],
        [f"item-{(i // 4 + i % 4) % items}" for i in numbers],
        ["click"] * events,
        np.full(events, np.nan, np.float32),
        np.ones(events, np.float32),
        numbers * 60_000,
        {},
    )


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: Trainer, b: Trainer) -> bool:
    pairs = zip(weights(a.model) + weights(a.average), weights(b.model) + weights(b.average), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_learns_the_next_item() -> None:
    log, trained = EventLog(1000), trainer()
    chains(log, 600)
    first = trained.refresh(log, 0, 1000)
    last = trained.refresh(log, 600, 12_000)
    assert last.loss < 0.7 * first.loss
    assert (trained.steps, trained.refreshes) == (first.steps + last.steps, 2)
    assert abs(last.tokens - 12_000) < 500

    ids = [f"item-{i}" for i in range(6)]
    events = Events(
        trained.rows.of(ids), np.ones(6, np.int32), np.full(6, np.nan, np.float32), np.full(6, 240_000)
    )
    query = encode(trained.average, events, np.array([0, 6]), trained.scale)[-1]
    scores = trained.average.item_vectors().numpy() @ query + trained.average.bias.numpy()
    assert 1 + int(np.argmax(scores[1:])) == trained.rows.of(["item-6"])[0]


def test_same_history_gives_the_same_weights() -> None:
    runs = [trainer(), trainer(), trainer(seed=1)]
    for run in runs:
        log = EventLog(300)
        torch.rand(3)  # nobody else's draws count
        chains(log, 200)
        run.refresh(log, 0, 1000)
        chains(log, 200, start=200, items=15)
        run.refresh(log, 200, 1000)
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    through, log = trainer(), EventLog(300)
    chains(log, 200)
    through.refresh(log, 0, 1000)
    through.save(tmp_path / "checkpoint")
    log.save(tmp_path / "log")

    resumed, reread = trainer(), EventLog.load(tmp_path / "log", 300)
    resumed.load(tmp_path / "checkpoint")
    assert same(through, resumed)
    assert resumed.trained_to == 200
    for run, its in ((through, log), (resumed, reread)):
        chains(its, 200, start=200, items=15)
        run.refresh(its, 200, 1000)
    assert same(through, resumed)
    assert through.item_ids == resumed.item_ids


def test_interrupted_refresh_is_repeated_from_the_checkpoint(tmp_path: Path) -> None:
    through, log = trainer(), EventLog(300)
    chains(log, 200)
    through.refresh(log, 0, 600)
    through.save(tmp_path)
    half = trainer()
    half.load(tmp_path)
    asked = iter([False, False, True])
    with pytest.raises(InterruptedTrainingError, match="after 2 steps of refresh 1"):
        half.refresh(log, 200, 600, stop=lambda: next(asked))
    half = trainer()
    half.load(tmp_path)
    half.refresh(log, 200, 600)
    through.refresh(log, 200, 600)
    assert same(through, half)


def test_new_items_grow_the_table_and_keep_the_others() -> None:
    trained, log = trainer(), EventLog(1000)
    chains(log, 200)
    trained.refresh(log, 0, 300)
    before = trained.model.item.detach().clone()
    moments = trained.optimizer.state[trained.model.item]["exp_avg"].clone()
    chains(log, 200, start=200, items=30)
    trained.refresh(log, 200, 0)
    assert trained.model.n_items == len(trained.item_ids) == 30
    assert torch.equal(trained.model.item.detach()[:13], before)
    state = trained.optimizer.state[trained.model.item]["exp_avg"]
    assert torch.equal(state[:13], moments)
    assert not state[13:].any()


def test_items_that_left_the_history_give_their_rows_up() -> None:
    trained, log = trainer(max_items=20), EventLog(200)
    chains(log, 200)
    trained.refresh(log, 0, 300)
    chains(log, 200, start=200, items=1)
    log.append(
        ["user-0"] * 14,
        [f"new-{i}" for i in range(14)],
        ["click"] * 14,
        np.full(14, np.nan, np.float32),
        np.ones(14, np.float32),
        np.full(14, 10**9),
        {},
    )
    trained.refresh(log, 400, 300)
    assert trained.model.n_items <= 20
    assert set(trained.item_ids) >= {f"new-{i}" for i in range(14)}
    assert trained.rows.of(["item-5"]).tolist() == [0]


def test_nothing_to_learn_from() -> None:
    trained = trainer()
    done = trained.refresh(EventLog(10), 0, 1000)
    assert (done.steps, done.tokens) == (0, 0)
    assert math.isnan(done.loss)


def test_only_disliked_events_teach_nothing() -> None:
    log, trained = EventLog(100), trainer()
    log.append(
        ["u"] * 50,
        [str(i) for i in range(50)],
        ["skip"] * 50,
        np.full(50, np.nan, np.float32),
        np.full(50, -1.0, np.float32),
        np.arange(50),
        {},
    )
    assert trained.refresh(log, 0, 1000).steps == 0


def test_bad_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="can't be read"):
        trainer().load(tmp_path)
    trainer().save(tmp_path)
    with pytest.raises(CheckpointError, match="made with another seed; go back"):
        trainer(seed=1).load(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        trainer().load(tmp_path)


def test_event_types_beyond_the_most_are_unknown() -> None:
    trained = trainer()
    for run in ("a", "b"):
        other = EventLog(1000)
        n = 200
        other.append(
            ["u"] * n,
            [str(i % 9) for i in range(n)],
            [f"{run}-{i}" for i in range(n)],
            np.full(n, np.nan, np.float32),
            np.ones(n, np.float32),
            np.arange(n),
            {},
        )
        trained.refresh(other, 0, 100)
    assert trained.model.n_actions == len(trained.actions) == 255
