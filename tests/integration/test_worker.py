from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from producers.simulate import Simulation
from producers.traffic import send
from stream_app.broker import Broker
from stream_app.settings import TopicSettings
from tests.integration.harness import Stage


@pytest.fixture
def stage(broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(broker, topics_of(), tmp_path)
    yield stage
    stage.close()


def test_every_event_is_accepted_once_and_covered(stage: Stage) -> None:
    simulation = Simulation(
        users=200,
        items=100,
        events=3000,
        duplicates=0.02,
        late=0.02,
        broken=0.02,
        bots=0.02,
        largest_bytes=200_000,
    )
    ledger = send(simulation, stage.settings.broker, stage.topics).ledger
    worker = stage.worker()
    worker.until_events(ledger.events_accepted)
    assert worker.stop() == 0
    assert stage.accepted() == ledger.accepted
    assert stage.figures()["events"] == ledger.events_accepted
    assert stage.figures()["duplicates"] == ledger.duplicates
    assert sum(stage.dead_letters().values()) == ledger.dead_letters
    coverage = stage.coverage()
    assert coverage.complete, coverage.examples
    assert coverage.accepted == ledger.events_accepted
