from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient, NewTopic

from producers.delivery import OVERHEAD_BYTES, Delivery, DeliveryError, Outcome, partition_of
from stream_app.brokers.broker import Broker, free_port
from stream_app.settings import BrokerSettings, TopicSettings

Names = Callable[..., TopicSettings]


@pytest.fixture
def topic(broker: Broker, topics_of: Names) -> str:
    """A topic of four partitions that takes records of up to 100,000 bytes."""
    (name,) = topics_of().events
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics([NewTopic(name, 4, 1, topic_configs={"max.message.bytes": "100000"})])
    admin.close()
    return name


@pytest.fixture
def delivery(broker: Broker, topic: str) -> Iterator[Delivery]:
    """A delivery to the topic, with a window of 50 records."""
    made = Delivery(BrokerSettings(url=broker.address), [topic], in_flight=50)
    yield made
    made.close()


def values(broker: Broker, topic: str, count: int) -> dict[int, list[bytes]]:
    """Partition → values, of the first `count` records of a topic."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.address, auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    found: dict[int, list[bytes]] = {}
    while sum(map(len, found.values())) < count:
        for part, records in consumer.poll(timeout_ms=10_000).items():
            found.setdefault(part.partition, []).extend(r.value for r in records)
    consumer.close()
    return found


def test_every_record_is_acknowledged_at_its_offset_and_in_order(
    broker: Broker, topic: str, delivery: Delivery
) -> None:
    assert delivery.partitions == {topic: 4}
    outcomes: list[Outcome] = []
    for number in range(1000):
        delivery.send(topic, b"key", str(number).encode(), number % 4, number)
        assert delivery.unacknowledged <= 50
        if number % 100 == 0:
            outcomes += delivery.outcomes()
    outcomes += delivery.drain()
    assert delivery.unacknowledged == 0
    for partition in range(4):
        mine = [o for o in outcomes if o.partition == partition]
        assert [o.number for o in mine] == list(range(partition, 1000, 4))
        assert [o.offset for o in mine] == list(range(250))
    written = values(broker, topic, 1000)
    assert written == {p: [str(n).encode() for n in range(p, 1000, 4)] for p in range(4)}


def test_a_record_above_the_topics_limit_is_refused_in_its_place_and_the_others_go_on(
    broker: Broker, topic: str, delivery: Delivery
) -> None:
    largest = 100_000 - OVERHEAD_BYTES - len(b"key")
    for number, size in enumerate((10, largest + 1, largest, 3_000_000, 10)):
        delivery.send(topic, b"key", b"x" * size, 1, number)
    outcomes = delivery.drain()
    assert [o.number for o in outcomes] == [0, 1, 2, 3, 4]
    refused = f"too large: {largest + 4} bytes; {topic} takes 100000"
    assert [o.error for o in outcomes[:3]] == ["", refused, ""]
    assert outcomes[3].error.startswith("too large: 3000003 bytes")
    assert outcomes[4].error == ""
    assert [len(v) for v in values(broker, topic, 3)[1]] == [10, largest, 10]


def test_a_topic_that_is_not_there_is_named_and_not_made(broker: Broker, topic: str) -> None:
    for _ in range(2):
        with pytest.raises(
            DeliveryError, match=r"topic nowhere is not on the broker[^~]*headrace topics create"
        ):
            Delivery(BrokerSettings(url=broker.address), [topic, "nowhere"])


def test_where_no_broker_answers_the_error_says_what_to_do() -> None:
    settings = BrokerSettings(url=f"127.0.0.1:{free_port()}", connect_timeout_s=0.3)
    with pytest.raises(
        DeliveryError, match=r"no broker answers at 127\.0\.0\.1:\d+ within 0\.3 s[^~]*headrace broker"
    ):
        Delivery(settings, [])


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_partitions_are_those_of_kafkas_own_clients(key: bytes, hashed: int) -> None:
    """The hashes are those that Apache Kafka's own test of murmur2 expects."""
    for partitions in (1, 3, 12):
        assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions
