"""The broker's process killed as by kill -9, and started again: the worker waits, says so once, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from producers.simulate import Simulation
from stream_app.brokers.broker import EmbeddedBroker, KafkaBroker
from stream_app.settings import TopicSettings
from tests.integration.harness import Feeder, Stage

pytestmark = pytest.mark.slow


@pytest.fixture
def stage(
    kafka_available: None,  # noqa: ARG001
    topics_of: Callable[..., TopicSettings],
    tmp_path: Path,
) -> Iterator[Stage]:
    with KafkaBroker(tmp_path / "kafka", heap="384m") as broker:
        stage = Stage(broker, topics_of(), tmp_path)
        yield stage
        stage.close()


def simulation() -> Simulation:
    return Simulation(users=200, items=100, events=4000, duplicates=0.03, late=0.03, broken=0.03, seed=3)


@pytest.mark.kafka
@pytest.mark.parametrize("pause_s", [1, 12], ids=["at-once", "after-the-lease-has-expired"])
def test_kafka_is_killed_and_comes_back(stage: Stage, pause_s: float) -> None:
    feeder = Feeder(stage, simulation())
    feeder.send(2000)
    worker = stage.worker()
    worker.until_said("ready:")
    stage.broker.kill()
    worker.until_said("does not answer: waiting for it")
    threading.Event().wait(pause_s)  # how long it is away is what this test varies
    stage.broker.start()
    worker.until_said("the broker answers again")
    feeder.send(2000)
    worker.until_events(feeder.ledger.events_accepted)
    assert worker.said.count("does not answer") == 1
    assert worker.said.count("answers again") == 1
    assert worker.stop() == 0, worker.said
    assert stage.accepted() == feeder.ledger.accepted
    assert sum(stage.dead_letters().values()) == feeder.ledger.dead_letters
    coverage = stage.coverage()
    assert coverage.complete, coverage.examples


@pytest.mark.kafka
def test_a_worker_can_be_stopped_while_kafka_is_away_and_loses_nothing(stage: Stage) -> None:
    feeder = Feeder(stage, simulation())
    feeder.send(2000)
    worker = stage.worker()
    worker.until_said("ready:")
    stage.broker.kill()
    worker.until_said("does not answer: waiting for it")
    assert worker.stop() == 0, worker.said
    assert "Traceback" not in worker.said
    stage.broker.start()
    worker = stage.worker()
    worker.until_events(feeder.ledger.events_accepted)
    assert worker.stop() == 0, worker.said
    assert stage.accepted() == feeder.ledger.accepted
    assert stage.coverage().complete


def test_an_embedded_broker_that_comes_back_empty_stops_the_worker_with_the_ways_out(
    topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    with EmbeddedBroker() as broker:
        stage = Stage(broker, topics_of(), tmp_path)
        worker = stage.worker()
        worker.until_said("ready:")
        broker.kill()
        worker.until_said("does not answer: waiting for it")
        broker.start()
        assert worker.wait() == 1
        assert "error: " in worker.said
        assert "--state-dir" in worker.said or "headrace topics create" in worker.said
        stage.close()
