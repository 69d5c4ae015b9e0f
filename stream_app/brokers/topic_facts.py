"""What a cluster says about topics: ids, partitions, offsets, settings, and the timestamps of its records.

In: broker settings and topic names. Out: plain facts. Never creates, changes or deletes anything, and never
takes a setting for a fact: some brokers repeat a setting that they do not act on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiokafka
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from kafka import TopicPartition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import AuthorizationError, UnknownTopicOrPartitionError, for_code

from stream_app.brokers.connection import BrokerUnreachableError, client_options, start_client
from stream_app.brokers.kafka_admin import TopicRefusedError, connect, not_allowed
from stream_app.settings import BrokerSettings

__all__ = ["TopicFacts", "connect", "offset_ranges", "read_facts", "topic_ids"]

TIMESTAMPS = "message.timestamp.type"
CREATE_TIME, LOG_APPEND_TIME = "CreateTime", "LogAppendTime"

READ_LAST_RECORD_S = 5.0
FETCH_WAIT_MS = 50
"""The embedded broker looks again only when this is over."""

Position = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic as the broker shows it.

    Attributes:
        topic_id: changes when the topic is deleted and made anew; empty where the broker has no ids.
        replication: copies of the partition that has the fewest.
        settings: name → value; what the broker does not show is absent.
        begins: first offset that there is, by partition.
        ends: offset after the last record, by partition.
        timestamps: "CreateTime" or "LogAppendTime", as its last record carries; None without any record.
    """

    name: str
    topic_id: str
    replication: int
    settings: Mapping[str, str] = field(default_factory=dict)
    begins: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)
    timestamps: str | None = None

    @property
    def partitions(self) -> int:
        return len(self.ends)

    @property
    def records(self) -> int:
        """Offsets in use; compaction and transactions leave holes, so there may be fewer records."""
        return sum(end - self.begins[number] for number, end in self.ends.items())


async def topic_ids(
    bootstrap: str,
    names: Sequence[str],
    security: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> dict[str, str]:
    """The id of each topic; a topic that does not exist is left out.

    Raises:
        TimeoutError: no broker answers within `timeout_s`.
        TopicRefusedError: the broker does not let us see a topic.
    """
    settings = BrokerSettings(url=bootstrap, security=dict(security or {}), connect_timeout_s=timeout_s)

    def ask() -> dict[str, str]:
        try:
            with connect(settings) as admin:
                return {
                    topic["name"]: topic["topic_id"] or "" for topic in _described(admin, settings, names)
                }
        except BrokerUnreachableError as error:
            raise TimeoutError(str(error)) from error

    return await asyncio.to_thread(ask)


async def offset_ranges(
    bootstrap: str, names: Sequence[str], security: Mapping[str, str] | None = None
) -> dict[Position, tuple[int, int]]:
    """(topic, partition) → (first offset that there is, offset after the last record).

    Raises:
        BrokerUnreachableError: no broker answers, or it refuses the log-in.
        TopicRefusedError: the broker does not let us see a topic.
    """
    settings = BrokerSettings(url=bootstrap, security=dict(security or {}))

    def ask() -> dict[Position, tuple[int, int]]:
        with connect(settings) as admin:
            numbers = {t["name"]: len(t["partitions"]) for t in _described(admin, settings, names)}
            begins, ends = _offsets(admin, numbers)
        _, ends = asyncio.run(_last_records(settings, begins, ends))
        return {at: (begins[at], end) for at, end in ends.items()}

    return await asyncio.to_thread(ask)


def read_facts(broker: BrokerSettings, names: Sequence[str]) -> dict[str, TopicFacts]:
    """Everything about each topic; a topic that does not exist is left out.

    Raises:
        BrokerUnreachableError: no broker answers, or it refuses the log-in.
        TopicRefusedError: the broker does not let us see a topic.
    """
    with connect(broker) as admin:
        found = {topic["name"]: topic for topic in _described(admin, broker, names)}
        begins, ends = _offsets(admin, {name: len(topic["partitions"]) for name, topic in found.items()})
        shown = _settings(admin, list(found))
    timestamps, ends = asyncio.run(_last_records(broker, begins, ends))
    return {
        name: TopicFacts(
            name=name,
            topic_id=topic["topic_id"] or "",
            replication=min((len(part["replica_nodes"]) for part in topic["partitions"]), default=0),
            settings=shown.get(name, {}),
            begins={number: begins[at, number] for at, number in begins if at == name},
            ends={number: ends[at, number] for at, number in ends if at == name},
            timestamps=timestamps.get(name),
        )
        for name, topic in found.items()
    }


def _described(admin: Any, broker: BrokerSettings, names: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for topic in admin.describe_topics(list(names)):
        error = for_code(topic["error_code"])
        if issubclass(error, AuthorizationError):
            raise not_allowed(broker, f"see topic {topic['name']!r}")
        if topic["error_code"] == 0:
            found.append(topic)
        elif error is not UnknownTopicOrPartitionError:
            raise TopicRefusedError(
                f"topic {topic['name']!r} at {broker.url} can't be read: {error.__name__}", error.description
            )
    return found


def _offsets(admin: Any, numbers: Mapping[str, int]) -> tuple[dict[Position, int], dict[Position, int]]:
    partitions = [TopicPartition(name, number) for name, count in numbers.items() for number in range(count)]

    def ask(spec: OffsetSpec) -> dict[Position, int]:
        answer = admin.list_partition_offsets(dict.fromkeys(partitions, spec))
        return {(at.topic, at.partition): found.offset for at, found in answer.items()}

    return ask(OffsetSpec.EARLIEST), ask(OffsetSpec.LATEST)


def _settings(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    shown = admin.describe_configs([ConfigResource("TOPIC", name) for name in names], config_filter="all")
    return {
        name: {key: entry["value"] for key, entry in entries.items() if entry["value"] is not None}
        for name, entries in shown.get("topic", {}).items()
    }


async def _last_records(
    broker: BrokerSettings, begins: Mapping[Position, int], ends: Mapping[Position, int]
) -> tuple[dict[str, str], dict[Position, int]]:
    """The timestamp type of a late record of each topic that has one, and the ends as reading shows them.

    A broker may understate an end when asked for it (Tansu 0.6 says: the last batch's first offset, plus one);
    what comes with the records is right. They are read with aiokafka, the client that reads every compression here.
    """
    timestamps: dict[str, str] = {}
    seen_ends = dict(ends)
    waiting = {aiokafka.TopicPartition(*at) for at, end in ends.items() if end > begins[at]}
    if not waiting:
        return timestamps, seen_ends
    consumer = aiokafka.AIOKafkaConsumer(
        auto_offset_reset="none",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        **client_options(broker),
    )
    try:
        await start_client(consumer, broker)
        consumer.assign(list(waiting))
        for at in waiting:
            # The very last offsets may be transaction markers, which are no records.
            consumer.seek(at, max(begins[at.topic, at.partition], ends[at.topic, at.partition] - 10))
        deadline = time.monotonic() + READ_LAST_RECORD_S
        while waiting and time.monotonic() < deadline:
            for at, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                timestamps[at.topic] = LOG_APPEND_TIME if records[-1].timestamp_type == 1 else CREATE_TIME
                position = (at.topic, at.partition)
                seen_ends[position] = max(seen_ends[position], consumer.highwater(at) or 0)
                waiting.discard(at)
    except TopicAuthorizationFailedError as error:
        raise not_allowed(broker, str(error)) from error
    except KafkaError as error:
        raise BrokerUnreachableError(
            f"the broker at {broker.url} stopped answering: {error}", "Try again when it is well."
        ) from error
    finally:
        await consumer.stop()
    return timestamps, seen_ends
