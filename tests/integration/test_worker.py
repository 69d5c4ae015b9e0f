from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from producers.simulate import Simulation
from producers.traffic import send
from stream_app.brokers.broker import Broker
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


def test_topics_of_every_compression_are_read_from_the_start_and_as_they_grow(stage: Stage) -> None:
    async def write(codec: str, user: str) -> None:
        event = {"v": 1, "user_id": user, "item_id": codec, "type": "click", "ts": 5}
        async with AIOKafkaProducer(
            bootstrap_servers=stage.broker.address, compression_type=codec
        ) as producer:
            for _ in range(20):
                await producer.send(stage.topics.events[0], json.dumps(event).encode(), key=user.encode())
            await producer.flush()

    codecs = ("gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        asyncio.run(write(codec, f"before-{codec}"))
    worker = stage.worker()
    worker.until_events(80)
    for codec in codecs:
        asyncio.run(write(codec, f"after-{codec}"))
    worker.until_events(160)
    assert worker.stop() == 0, worker.said
    assert stage.accepted() == {f"{when}-{codec}": 20 for codec in codecs for when in ("before", "after")}
