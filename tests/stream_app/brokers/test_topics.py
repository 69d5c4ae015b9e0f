from __future__ import annotations

from collections.abc import Callable

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from stream_app.brokers.broker import Broker, EmbeddedBroker, KafkaBroker
from stream_app.brokers.kafka_admin import TopicRefusedError
from stream_app.brokers.topics import create, describe, plans
from stream_app.settings import BrokerSettings, TopicSettings

TopicsOf = Callable[..., TopicSettings]


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


def test_the_plan_has_every_topic_of_the_contract() -> None:
    planned = {plan.name: plan for plan in plans(TopicSettings(events=("clicks", "ratings")))}
    assert list(planned) == [
        "clicks",
        "ratings",
        "items",
        "recommendations",
        "events.dlq",
        "models",
        "control",
    ]
    compact = {name for name, plan in planned.items() if plan.settings["cleanup.policy"] == "compact"}
    assert compact == {"items", "recommendations", "models", "control"}
    assert {planned["models"].partitions, planned["control"].partitions} == {1}
    by_append_time = {name for name, plan in planned.items() if "message.timestamp.type" in plan.settings}
    assert by_append_time == {"clicks", "ratings", "recommendations"}


def test_a_dead_letter_may_be_twice_as_large_as_an_event() -> None:
    planned = {plan.name: plan.settings for plan in plans(TopicSettings(max_message_bytes=5000))}
    assert planned["events"]["max.message.bytes"] == "5000"
    assert int(planned["events.dlq"]["max.message.bytes"]) >= 10_000


def test_create_makes_what_is_missing_and_a_second_time_nothing(broker: Broker, topics_of: TopicsOf) -> None:
    topics = topics_of()
    first = create(settings_of(broker), topics, partitions=3)
    assert set(first.created) == {plan.name for plan in plans(topics)} == set(first.topics)
    assert not first.missing
    assert not first.differences
    assert {name: facts.partitions for name, facts in first.topics.items()} == {
        topics.events[0]: 3,
        topics.items: 3,
        topics.recommendations: 3,
        topics.dead_letters: 1,
        topics.models: 1,
        topics.control: 1,
    }
    second = create(settings_of(broker), topics, partitions=3)
    assert second.created == ()
    assert _ids(second.topics) == _ids(first.topics)


def test_what_was_created_is_read_back_as_planned(broker: Broker, topics_of: TopicsOf) -> None:
    topics = topics_of()
    report = create(settings_of(broker), topics, partitions=1)
    for plan in plans(topics):
        facts = report.topics[plan.name]
        assert {key: facts.settings.get(key) for key in plan.settings} == plan.settings
        assert facts.replication == 1
        assert facts.topic_id


def test_no_trial_topic_is_left_behind(broker: Broker, topics_of: TopicsOf) -> None:
    create(settings_of(broker), topics_of(), partitions=1)
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        assert not [name for name in admin.list_topics() if name.startswith("headrace.probe")]


def test_the_embedded_broker_is_reported_to_ignore_append_time(
    embedded_broker: EmbeddedBroker, topics_of: TopicsOf
) -> None:
    report = create(settings_of(embedded_broker), topics_of(), partitions=1)
    assert report.append_time is False
    assert "ignores it" in str(report)
    assert "CreateTime (tried)" in str(report)


@pytest.mark.kafka
def test_kafka_is_reported_to_act_on_append_time(kafka_broker: KafkaBroker, topics_of: TopicsOf) -> None:
    report = create(settings_of(kafka_broker), topics_of(), partitions=1)
    assert report.append_time is True
    assert not report.notes
    assert "LogAppendTime (tried)" in str(report)


def test_describe_tells_the_timestamps_that_records_carry(broker: Broker, topics_of: TopicsOf) -> None:
    topics = topics_of()
    create(settings_of(broker), topics, partitions=1)
    write(broker, topics.events[0], [b"1", b"2"], timestamp_ms=1000)
    report = describe(settings_of(broker), topics)
    seen = "LogAppendTime" if isinstance(broker, KafkaBroker) else "CreateTime"
    assert report.topics[topics.events[0]].timestamps == seen
    assert report.topics[topics.events[0]].records == 2
    assert report.topics[topics.items].timestamps is None
    assert any("newest record carries CreateTime" in note for note in report.notes) == (seen == "CreateTime")


def test_describe_names_what_is_missing_and_how_to_make_it(broker: Broker, topics_of: TopicsOf) -> None:
    topics = topics_of()
    make_topic(broker, topics.events[0])
    report = describe(settings_of(broker), topics)
    assert topics.items in report.missing
    assert topics.events[0] not in report.missing
    assert f"headrace topics create --broker {broker.address}" in str(report)


def test_the_table_has_a_line_for_each_topic_in_order(
    embedded_broker: EmbeddedBroker, topics_of: TopicsOf
) -> None:
    topics = topics_of()
    report = create(settings_of(embedded_broker), topics, partitions=2)
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["topic", *(plan.name for plan in plans(topics))]
    events = lines[1]
    assert report.topics[topics.events[0]].topic_id in events
    assert "7 days" in events
    assert "1,048,576 bytes" in events


def test_an_existing_topic_is_left_alone_and_what_matters_is_told(
    broker: Broker, topics_of: TopicsOf
) -> None:
    topics = topics_of()
    make_topic(
        broker, topics.events[0], partitions=2, cleanup_policy="compact", message_timestamp_type="CreateTime"
    )
    make_topic(broker, topics.dead_letters, max_message_bytes="1000")
    report = create(settings_of(broker), topics, partitions=1)
    assert topics.events[0] not in report.created
    facts = report.topics[topics.events[0]]
    assert facts.partitions == 2
    assert facts.settings["cleanup.policy"] == "compact"
    told = "\n".join(report.differences)
    assert f"{topics.events[0]} has 2 partitions, not 1" in told
    assert f"{topics.events[0]} has cleanup.policy=compact, not delete" in told
    assert f"{topics.events[0]} has message.timestamp.type=CreateTime, not LogAppendTime" in told
    assert f"{topics.dead_letters} has max.message.bytes=1000, not 2097152" in told
    assert f"--alter --topic {topics.dead_letters} --add-config max.message.bytes=2097152" in told


def test_longer_retention_and_larger_records_are_no_difference(broker: Broker, topics_of: TopicsOf) -> None:
    topics = topics_of()
    make_topic(
        broker,
        topics.events[0],
        retention_ms="-1",
        max_message_bytes="9000000",
        message_timestamp_type="LogAppendTime",
    )
    assert not create(settings_of(broker), topics, partitions=1).differences


def test_inputs_with_differing_partitions_are_told(broker: Broker, topics_of: TopicsOf) -> None:
    topics = topics_of(inputs=2)
    make_topic(broker, topics.events[0], partitions=2, message_timestamp_type="LogAppendTime")
    make_topic(broker, topics.events[1], partitions=3, message_timestamp_type="LogAppendTime")
    [told] = describe(settings_of(broker), topics).differences
    assert f"{topics.events[0]} 2, {topics.events[1]} 3" in told


@pytest.mark.kafka
def test_more_copies_than_brokers_are_refused_with_kafkas_own_words(
    kafka_broker: KafkaBroker, topics_of: TopicsOf
) -> None:
    with pytest.raises(
        TopicRefusedError, match=r"did not create topic(.|\n)*replication(.|\n)*--replication"
    ):
        create(settings_of(kafka_broker), topics_of(), partitions=1, replication=3)


def _ids(topics: object) -> dict[str, str]:
    assert isinstance(topics, dict)
    return {name: facts.topic_id for name, facts in topics.items()}
