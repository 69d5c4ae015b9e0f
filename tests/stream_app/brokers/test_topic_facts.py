from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaConnectionError

from stream_app.brokers.broker import HOST, Broker, EmbeddedBroker, free_port
from stream_app.brokers.connection import BrokerUnreachableError
from stream_app.brokers.topic_facts import CREATE_TIME, offset_ranges, read_facts, topic_ids
from stream_app.settings import BrokerSettings, TopicSettings

TopicsOf = Callable[..., TopicSettings]


def ids_of(broker: BrokerSettings, names: Sequence[str]) -> dict[str, str]:
    return asyncio.run(topic_ids(broker.url, names, broker.security, broker.connect_timeout_s))


def settings_of(broker: Broker) -> BrokerSettings:
    return BrokerSettings(url=broker.address)


def make_topic(broker: Broker, name: str, partitions: int = 1, **settings: str) -> None:
    configs = {key.replace("_", "."): value for key, value in settings.items()}
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        wanted = {name: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}}
        admin.create_topics(wanted, wait_for_metadata=True)


def write(broker: Broker, topic: str, values: list[bytes], timestamp_ms: int | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, acks="all", enable_idempotence=False)
    for sent in [producer.send(topic, value, timestamp_ms=timestamp_ms, partition=0) for value in values]:
        sent.get(30)
    producer.close()


def test_a_topic_made_anew_has_another_id(broker: Broker, topics_of: TopicsOf) -> None:
    name = topics_of().events[0]
    make_topic(broker, name)
    before = ids_of(settings_of(broker), [name])
    assert ids_of(settings_of(broker), [name]) == before
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        admin.delete_topics([name])
    while ids_of(settings_of(broker), [name]):
        continue
    make_topic(broker, name)
    after = ids_of(settings_of(broker), [name])
    assert set(before) == set(after) == {name}
    assert before[name] != after[name]


def test_a_topic_that_does_not_exist_has_no_id(broker: Broker, topics_of: TopicsOf) -> None:
    assert ids_of(settings_of(broker), [topics_of().events[0]]) == {}


def test_ids_of_a_broker_that_is_away_time_out() -> None:
    with pytest.raises(TimeoutError, match=r"no Kafka broker answered within 0\.2 s"):
        ids_of(BrokerSettings(url=f"{HOST}:{free_port()}", connect_timeout_s=0.2), ["events"])


def test_offsets_of_a_broker_that_goes_away_meanwhile_are_an_error_for_people(
    monkeypatch: pytest.MonkeyPatch, embedded_broker: EmbeddedBroker
) -> None:
    def lost(*_: object) -> None:
        raise KafkaConnectionError("socket disconnected")

    monkeypatch.setattr(KafkaAdminClient, "describe_topics", lost)
    with pytest.raises(BrokerUnreachableError, match=r"stopped answering.*socket disconnected"):
        asyncio.run(offset_ranges(embedded_broker.address, ["events"]))
    with pytest.raises(TimeoutError, match="stopped answering"):
        ids_of(settings_of(embedded_broker), ["events"])


def test_offset_ranges_show_begin_and_end(broker: Broker, topics_of: TopicsOf) -> None:
    name = topics_of().events[0]
    make_topic(broker, name, partitions=2)
    write(broker, name, [b"1", b"2", b"3"])
    ranges = asyncio.run(offset_ranges(broker.address, [name]))
    assert ranges == {(name, 0): (0, 3), (name, 1): (0, 0)}


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_topic_of_compressed_records_has_its_ends_and_timestamps(
    broker: Broker, topics_of: TopicsOf, codec: str
) -> None:
    name = topics_of().events[0]
    make_topic(broker, name)

    async def write_some() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=broker.address, compression_type=codec, linger_ms=20
        ) as producer:
            await asyncio.gather(*[await producer.send(name, b"a value " * 20) for _ in range(50)])

    asyncio.run(write_some())
    assert asyncio.run(offset_ranges(broker.address, [name])) == {(name, 0): (0, 50)}
    facts = read_facts(settings_of(broker), [name])[name]
    assert (facts.records, facts.timestamps) == (50, CREATE_TIME)
