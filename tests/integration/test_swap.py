"""A model goes live under a running worker: lists are refreshed, and a corrupt one changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.config import TransformerSettings
from models.sequence import snapshot
from models.training.event_log import EventLog
from models.training.train import Trainer
from stream_app.brokers.broker import Broker
from stream_app.settings import TopicSettings
from tests.integration.harness import Stage

USERS, ITEMS = 20, 15


@pytest.fixture
def stage(broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path) -> Iterator[Stage]:
    options = {"models.transformer.enabled": True, "worker.snapshots": str(tmp_path / "snapshots")}
    stage = Stage(broker, topics_of(), tmp_path, partitions=2, options=options)
    yield stage
    stage.close()


def clicks(first: int, count: int) -> list[tuple[bytes, bytes]]:
    made = []
    for number in range(first, first + count):
        user = f"u{number % USERS}"
        event = {"user_id": user, "item_id": f"i{number * 7 % ITEMS}", "type": "click", "ts": number * 1000}
        made.append((user.encode(), json.dumps(event).encode()))
    return made


def trained() -> Trainer:
    trainer = Trainer(TransformerSettings(d_model=16, heads=2), band=50, seed=0)
    log = EventLog(1000)
    numbers = np.arange(300)
    log.append(
        [f"u{n % USERS}" for n in numbers], [f"i{n * 7 % ITEMS}" for n in numbers], ["click"] * 300,
        np.full(300, np.nan, np.float32), np.ones(300, np.float32), numbers * 1000, {},
    )  # fmt: skip
    trainer.refresh(log, 0, 600)
    return trainer


def test_lists_are_refreshed_after_a_swap_and_a_corrupt_snapshot_changes_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    stage.send(clicks(0, 200))
    worker = stage.worker()
    worker.until_events(200)
    folder = tmp_path / "snapshots" / "000001"
    stage.go_live("000001", snapshot.write(folder, trained(), "000001"))
    worker.until(lambda: (sample := worker.sample()) is not None and sample.refreshes == USERS, "refreshes")
    stage.send(clicks(200, 100))
    worker.until_events(300)
    broken = tmp_path / "snapshots" / "000002"
    sha256 = snapshot.write(broken, trained(), "000002")
    (broken / snapshot.WEIGHTS).write_bytes(b"half")
    stage.go_live("000002", sha256)
    worker.until_said("stays with the model it has")
    assert "half-written" in worker.said
    stage.send(clicks(300, 100))
    worker.until_events(400)
    assert worker.stop() == 0, worker.said

    lists = [json.loads(record.value) for record in stage.records(stage.topics.recommendations)]
    refreshed = [one for one in lists if one["reason"] == "refresh"]
    assert {one["user_id"] for one in refreshed} == {f"u{n}" for n in range(USERS)}
    assert all(one["models"] == {"transformer": "000001"} for one in refreshed)
    newest = {one["user_id"]: one for one in sorted(lists, key=lambda one: one["revision"])}
    assert all(one["models"] == {"transformer": "000001"} for one in newest.values())
    assert all(one["revision"] == one["events"] + 1 for one in newest.values())
    coverage = stage.coverage()
    assert coverage.complete, coverage.examples
    assert coverage.accepted == coverage.counted == 400


def test_a_restarted_worker_scores_with_the_live_snapshot_from_its_first_event(
    stage: Stage, tmp_path: Path
) -> None:
    stage.go_live("000001", snapshot.write(tmp_path / "snapshots" / "000001", trained(), "000001"))
    stage.send(clicks(0, 100))
    worker = stage.worker()
    worker.until_events(100)
    assert worker.stop() == 0, worker.said
    lists = [json.loads(record.value) for record in stage.records(stage.topics.recommendations)]
    assert lists
    assert all(one["models"] == {"transformer": "000001"} for one in lists)
