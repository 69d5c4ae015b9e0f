"""Which snapshot is loaded when, with the clock in the test's hand."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stream_app.events import Live
from stream_app.training.model_versions import ModelsView
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.live_snapshot import LiveSnapshot, Swap

FOLDER = Path("snapshots")


@dataclass
class World:
    """A pointer, and snapshots that can be loaded or raise."""

    broken: dict[str, str] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.models = ModelsView()
        self.metrics = WorkerMetrics()
        self.live = LiveSnapshot(FOLDER, self.load, self.metrics, lambda: self.now)

    def load(self, folder: Path, _sha256: str | None) -> str:
        self.tried.append(folder.name)
        if folder.name in self.broken:
            raise ValueError(self.broken[folder.name])
        return f"re-ranker {folder.name}"

    def follow(self, version: str | None, at: float) -> Swap | None:
        """What is to be used after a look at this time, while `version` is live."""
        self.now = at
        self.models.live = None if version is None else Live(version=version)
        asyncio.run(self.live.follow(self.models))
        return self.live.take()


def swap(version: str) -> Swap:
    return Swap(version, f"re-ranker {version}")


def test_what_is_live_is_loaded_once() -> None:
    world = World()
    assert [world.follow("000001", at) for at in (0, 1)] == [swap("000001"), None]
    assert world.follow("000002", 2) == swap("000002")
    assert world.follow(None, 3) == Swap("", None)
    assert world.tried == ["000001", "000002"]


def test_a_snapshot_that_cannot_be_loaded_is_tried_at_growing_intervals_until_it_can() -> None:
    world = World(broken={"000001": "half-written"})
    loaded = [world.follow("000001", at) for at in range(200)]
    assert loaded == [None] * 200
    assert len(world.tried) == 1 + 6 + 2, "after 1, 2, 4, … 32 s, then once a minute"
    assert world.metrics.registry.get_sample_value("headrace_snapshot_errors_total") == 9
    del world.broken["000001"]
    assert world.follow("000001", 260) == swap("000001")
    assert world.follow("000001", 999) is None


def test_each_reason_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.ERROR):
        for at, why in ((0, "no folder"), (10, "no folder"), (20, "no weights"), (40, "no folder")):
            world.broken = {"000001": why}
            world.follow("000001", at)
    assert len(world.tried) == 4
    said = [why for message in caplog.messages for why in ("no folder", "no weights") if why in message]
    assert said == ["no folder", "no weights"]


def test_another_version_is_not_kept_waiting_by_one_that_failed() -> None:
    world = World(broken={"000001": "half-written"})
    assert world.follow("000001", 0) is None
    assert world.follow("000002", 0) == swap("000002")


def test_a_pointer_that_goes_back_to_what_is_in_use_changes_nothing() -> None:
    world = World(broken={"000002": "half-written"})
    assert world.follow("000001", 0) == swap("000001")
    assert world.follow("000002", 1) is None
    assert world.follow("000001", 2) is None
    assert world.tried == ["000001", "000002"]


def test_a_worker_without_snapshots_goes_on_without_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.live = LiveSnapshot(None, world.load, world.metrics, lambda: world.now)
    assert [world.follow("000001", at) for at in range(3)] == [None] * 3
    assert world.tried == []
    assert len(caplog.messages) == 1
