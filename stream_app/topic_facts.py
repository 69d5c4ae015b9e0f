"""What a cluster says about topics: ids, partitions, offsets, settings, and the timestamps of its records.

In: broker settings and topic names. Out: plain facts. Never creates, changes or deletes anything, and never
takes a setting for a fact: some brokers repeat a setting that they do not act on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.net.compat import KafkaNetClient

from stream_app.connection import BrokerUnreachableError
from stream_app.errors import HeadraceError
from stream_app.settings import BrokerSettings

TIMESTAMPS = "message.timestamp.type"
CREATE_TIME, LOG_APPEND_TIME = "CreateTime", "LogAppendTime"

READ_LAST_RECORD_S = 5.0


class TopicError(HeadraceError):
    """A topic can't be created or read; the message says what to do."""


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
        TopicError: the broker does not let us see a topic.
    """
    settings = BrokerSettings(url=bootstrap, security=dict(security or {}), connect_timeout_s=timeout_s)

    def ask() -> dict[str, str]:
        try:
            with connect(settings) as admin:
                return {
                    topic["name"]: topic["topic_id"] or "" for topic in _described(admin, settings, names)
                }
        except (BrokerUnreachableError, KafkaError) as error:
            raise TimeoutError(str(error)) from error

    return await asyncio.to_thread(ask)


async def offset_ranges(
    bootstrap: str, names: Sequence[str], security: Mapping[str, str] | None = None
) -> dict[tuple[str, int], tuple[int, int]]:
    """(topic, partition) → (first offset that there is, offset after the last record)."""
    settings = BrokerSettings(url=bootstrap, security=dict(security or {}))

    def ask() -> dict[tuple[str, int], tuple[int, int]]:
        with connect(settings) as admin:
            numbers = {t["name"]: len(t["partitions"]) for t in _described(admin, settings, names)}
            begins, ends = _offsets(admin, numbers)
            return {at: (begins[at], end) for at, end in ends.items()}

    return await asyncio.to_thread(ask)


def read_facts(broker: BrokerSettings, names: Sequence[str]) -> dict[str, TopicFacts]:
    """Everything about each topic; a topic that does not exist is left out.

    Raises:
        BrokerUnreachableError: no broker answers, or it refuses the log-in.
        TopicError: the broker does not let us see a topic.
    """
    with connect(broker) as admin:
        found = {topic["name"]: topic for topic in _described(admin, broker, names)}
        begins, ends = _offsets(admin, {name: len(topic["partitions"]) for name, topic in found.items()})
        shown = _settings(admin, list(found))
    seen = _last_timestamps(broker, begins, ends)
    return {
        name: TopicFacts(
            name=name,
            topic_id=topic["topic_id"] or "",
            replication=min((len(part["replica_nodes"]) for part in topic["partitions"]), default=0),
            settings=shown.get(name, {}),
            begins={number: begins[at, number] for at, number in begins if at == name},
            ends={number: ends[at, number] for at, number in ends if at == name},
            timestamps=seen.get(name),
        )
        for name, topic in found.items()
    }


@contextlib.contextmanager
def connect(broker: BrokerSettings) -> Iterator[Any]:
    """An admin client, closed at the end; failures to connect and refusals are put into words."""
    made: list[KafkaNetClient] = []

    def network(**options: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**options))
        return made[-1]

    try:
        admin = KafkaAdminClient(
            bootstrap_timeout_ms=int(broker.connect_timeout_s * 1000),
            kafka_client=network,
            **client_options(broker),
        )
    except SaslAuthenticationFailedError as error:
        raise _log_in_refused(broker, error) from error
    except (KafkaError, OSError, ValueError) as error:
        for client in made:
            client.close()
        raise _unreachable(broker, error) from error
    try:
        yield admin
    except SaslAuthenticationFailedError as error:
        raise _log_in_refused(broker, error) from error
    except AuthorizationError as error:
        raise not_allowed(broker, str(error)) from error
    finally:
        admin.close()


def client_options(broker: BrokerSettings) -> dict[str, Any]:
    """Keyword arguments of a kafka-python client."""
    options: dict[str, Any] = {"bootstrap_servers": broker.url.split(","), **broker.security}
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in ("false", "0", "no")
    return options


def not_allowed(broker: BrokerSettings, what: str) -> TopicError:
    """The error for a refusal by the broker's access rules."""
    user = broker.security.get("sasl_plain_username", "this user")
    return TopicError(
        f"the broker at {broker.url} does not allow {user} to do this: {what}",
        "Grant DESCRIBE, DESCRIBE_CONFIGS, READ and WRITE on headrace's topics, and CREATE to create them.",
    )


def _log_in_refused(broker: BrokerSettings, error: KafkaError) -> BrokerUnreachableError:
    return BrokerUnreachableError(
        f"the broker at {broker.url} refuses the log-in: {error}",
        "See [broker.security]: security_protocol, sasl_mechanism, user name and password.",
    )


def _unreachable(broker: BrokerSettings, error: Exception) -> BrokerUnreachableError:
    if not isinstance(error, KafkaTimeoutError):
        return BrokerUnreachableError(
            f"can't connect to {broker.url}: {error}", "See --broker HOST:PORT and [broker.security]."
        )
    tried = "; ".join(_what_is_at(address, broker) for address in broker.url.split(","))
    return BrokerUnreachableError(
        f"no Kafka broker answered within {broker.connect_timeout_s:g} s: {tried}",
        "Start one (`headrace broker`) or name the right one with --broker HOST:PORT.",
    )


def _what_is_at(address: str, broker: BrokerSettings) -> str:
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal():
        return f"{address!r} is not HOST:PORT"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except socket.gaierror:
        return f"the host name in {address} is unknown"
    except (OSError, OverflowError) as error:
        return f"{address}: {getattr(error, 'strerror', None) or error}"
    protocol = broker.security.get("security_protocol", "PLAINTEXT")
    return f"{address} is open, but does not answer as Kafka does with security_protocol {protocol}"


def _described(admin: Any, broker: BrokerSettings, names: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for topic in admin.describe_topics(list(names)):
        error = for_code(topic["error_code"])
        if issubclass(error, AuthorizationError):
            raise not_allowed(broker, f"see topic {topic['name']!r}")
        if topic["error_code"] == 0:
            found.append(topic)
        elif error is not UnknownTopicOrPartitionError:
            raise TopicError(
                f"topic {topic['name']!r} at {broker.url} can't be read: {error.__name__}", error.description
            )
    return found


def _offsets(
    admin: Any, numbers: Mapping[str, int]
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    partitions = [TopicPartition(name, number) for name, count in numbers.items() for number in range(count)]

    def ask(spec: OffsetSpec) -> dict[tuple[str, int], int]:
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


def _last_timestamps(
    broker: BrokerSettings, begins: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]
) -> dict[str, str]:
    """The timestamp type of a late record of each topic that has one."""
    looked_at = {name: number for (name, number), end in ends.items() if end > begins[name, number]}
    if not looked_at:
        return {}
    consumer = KafkaConsumer(group_id=None, enable_auto_commit=False, **client_options(broker))
    seen: dict[str, str] = {}
    try:
        for at in looked_at.items():
            partition = TopicPartition(*at)
            consumer.assign([partition])
            # The very last offsets may be transaction markers, which are no records.
            consumer.seek(partition, max(begins[at], ends[at] - 10))
            for record in consumer.poll(timeout_ms=int(READ_LAST_RECORD_S * 1000)).get(partition, []):
                seen[at[0]] = LOG_APPEND_TIME if record.timestamp_type == 1 else CREATE_TIME
    finally:
        consumer.close()
    return seen
