from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from producers.delivery import DeliveryError, partition_of
from producers.replay import Progress
from producers.resume import true_ends
from producers.simulate import Simulation
from producers.traffic import send
from stream_app.brokers.broker import Broker
from stream_app.settings import BrokerSettings, TopicSettings


@pytest.fixture
def topics(broker: Broker, topics_of: Callable[..., TopicSettings]) -> TopicSettings:
    names = topics_of()
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics([NewTopic(names.events[0], 3, 1), NewTopic(names.items, 1, 1)])
    admin.close()
    return names


def read(broker: Broker, topic: str, partitions: int) -> list[tuple[int, bytes | None, bytes | None]]:
    consumer = KafkaConsumer(bootstrap_servers=broker.address, fetch_max_wait_ms=20)
    parts = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(parts)
    ends = true_ends(consumer, parts)
    consumer.seek_to_beginning(*parts)
    found = []
    while any(consumer.position(p) < ends[p] for p in parts):
        for part, records in consumer.poll(timeout_ms=10_000).items():
            found += [(part.partition, r.key, r.value) for r in records]
    consumer.close()
    return found


def simulation(events: int = 2000) -> Simulation:
    return Simulation(
        users=30, items=60, events=events, new_items=0.2, duplicates=0.1, late=0.1, broken=0.1, bots=0.1
    )


def test_the_whole_stream_is_in_the_topics_in_order(broker: Broker, topics: TopicSettings) -> None:
    made = simulation()
    summary = send(made, BrokerSettings(url=broker.address), topics)
    assert (summary.acknowledged, summary.items, summary.finished) == (2000, 60, True)
    assert summary.ledger == simulation().account()
    expected: dict[int, list[tuple[bytes | None, bytes | None]]] = {0: [], 1: [], 2: []}
    for record in simulation().records():
        if record.kind != "item":
            place = record.number % 3 if record.key is None else partition_of(record.key, 3)
            expected[place].append((record.key, record.value))
    found: dict[int, list[tuple[bytes | None, bytes | None]]] = {0: [], 1: [], 2: []}
    for partition, key, value in read(broker, topics.events[0], 3):
        found[partition].append((key, value or None))
    assert found == expected
    assert len(read(broker, topics.items, 1)) == 60


def test_a_rate_is_kept_on_a_fixed_schedule(broker: Broker, topics: TopicSettings) -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    summary = send(
        simulation(100),
        BrokerSettings(url=broker.address),
        topics,
        rate=10.0,
        clock=lambda: clock[0],
        sleep=sleep,
    )
    assert summary.seconds == pytest.approx(9.9)
    assert summary.finished


def test_a_stop_ends_it_with_what_was_sent_acknowledged(broker: Broker, topics: TopicSettings) -> None:
    stop = threading.Event()
    stop.set()
    last: list[Progress] = []
    summary = send(
        simulation(), BrokerSettings(url=broker.address), topics, stop=stop, on_progress=last.append
    )
    assert not summary.finished
    assert summary.acknowledged == last[-1].sent == len(read(broker, topics.events[0], 3)) == 256


def test_a_missing_topic_is_named(broker: Broker, topics: TopicSettings) -> None:
    with pytest.raises(DeliveryError, match="topic nowhere is not on the broker"):
        send(simulation(), BrokerSettings(url=broker.address), topics, topic="nowhere")
