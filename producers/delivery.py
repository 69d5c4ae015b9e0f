"""Records to a broker, in order, each one accounted for.

In: key, value and partition of a record, with a number that the caller knows it by. Out: `Outcome`s, in the
order of sending within a partition: the offset it was acknowledged at, or why it wasn't. Never drops a
record silently, never reorders those of one partition, and never holds more than `in_flight` of them.

Idempotence is asked for where the broker offers it; where it doesn't, one request at a time is under way,
which keeps the order (a retry may then write a record twice: `event_id` is for that).
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
from kafka.partitioner import murmur2

from stream_app.errors import HeadraceError
from stream_app.settings import BrokerSettings

TOO_LARGE = "too large"
MAX_MESSAGE_BYTES = 1_048_588
"""What Kafka takes where nothing else was set."""
OVERHEAD_BYTES = 61 + 36
"""Of a record batch and of the one record in it, at most."""
NOT_IN_TIME = "not acknowledged in time"
INIT_PRODUCER_ID = 22
DELIVERY_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 15.0
GRACE_S = 1.0
CONNECT_TRY_S = 2.0
CONNECT_PAUSE_S = 0.1
NEW_TOPIC_S = 1.0
"""How long a topic may take from its making until a broker knows of it."""


class DeliveryError(HeadraceError):
    """The broker can't be reached, lacks a topic or refuses what is sent."""


class Outcome(NamedTuple):
    """What became of a record: acknowledged at `offset`, or refused with `error` (offset -1)."""

    number: int
    partition: int
    offset: int
    error: str


class _Sent(NamedTuple):
    """A record whose outcome is not handed out yet; `refusal` where it was refused before it was sent."""

    number: int
    future: Any
    refusal: str


class Delivery:
    """A kafka-python producer with a bounded window of unacknowledged records.

    `send` blocks when the window is full. `outcomes` hands out what has become of records since it was last
    asked, `drain` waits for all of them. A record that is too large for its topic is refused before it is sent
    and goes on the account (sent, it would end an idempotent producer); when the broker is gone for
    DELIVERY_TIMEOUT_S, the records that it didn't take are refused too.

    Attributes:
        partitions: topic → number of partitions.
        idempotent: whether the broker drops what a retry repeats.

    Raises DeliveryError when no broker answers or a topic is not there, and from `send`.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        topics: Iterable[str],
        *,
        in_flight: int = 20_000,
        linger_ms: int = 10,
        batch_bytes: int = 256 * 1024,
    ) -> None:
        self._broker = broker
        self._in_flight = in_flight
        self._waiting: dict[tuple[str, int], deque[_Sent]] = {}
        self._count = 0
        self._known: list[Outcome] = []
        self._lost = False
        self._reach()
        common = {
            "bootstrap_servers": broker.url.split(","),
            "bootstrap_timeout_ms": int(broker.connect_timeout_s * 1000),
            **broker.security,
        }
        try:
            self._admin = KafkaAdminClient(**common)
        except (KafkaError, ValueError) as error:
            raise self._unreachable(error) from error
        try:
            self.partitions, self._limits = self._look_up(sorted(set(topics)))
            offered = {int(key) for key in self._admin.api_versions()}
        except BaseException:
            self._admin.close()
            raise
        self.idempotent = INIT_PRODUCER_ID in offered
        ordered = {} if self.idempotent else {"max_in_flight_requests_per_connection": 1}
        try:
            self._producer = KafkaProducer(
                acks="all",
                enable_idempotence=self.idempotent,
                max_request_size=max([*self._limits.values(), MAX_MESSAGE_BYTES]),
                batch_size=min([*self._limits.values(), batch_bytes]),
                linger_ms=linger_ms,
                max_block_ms=int(broker.connect_timeout_s * 1000),
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
                delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **ordered,
                **common,
            )
        except (KafkaError, ValueError) as error:
            self._admin.close()
            raise self._unreachable(error) from error

    @property
    def unacknowledged(self) -> int:
        """Records sent whose outcome is not yet known, or not yet handed out."""
        return self._count

    def send(self, topic: str, key: bytes | None, value: bytes | None, partition: int, number: int) -> None:
        """Hand over one record; waits while the window is full."""
        while self._count >= self._in_flight:
            self._settle_oldest()
        refusal = ""
        future: Any = None
        size = len(key or b"") + len(value or b"")
        if size + OVERHEAD_BYTES > self._limits[topic]:
            refusal = f"{TOO_LARGE}: {size} bytes; {topic} takes {self._limits[topic]}"
        else:
            try:
                future = self._producer.send(topic, key=key, value=value, partition=partition)
            except KafkaTimeoutError as error:
                raise self._unreachable(error) from error
        waiting = self._waiting.get((topic, partition))
        if waiting is None:
            waiting = self._waiting[topic, partition] = deque()
        waiting.append(_Sent(number, future, refusal))
        self._count += 1

    def outcomes(self) -> list[Outcome]:
        """What has become of records since the last call; within a partition in the order of sending."""
        done, self._known = self._known, []
        for (_, partition), waiting in self._waiting.items():
            while waiting and (waiting[0].refusal or waiting[0].future.is_done):
                number, future, refusal = waiting.popleft()
                self._count -= 1
                if refusal:
                    done.append(Outcome(number, partition, -1, refusal))
                elif future.succeeded():
                    done.append(Outcome(number, partition, future.value.offset, ""))
                else:
                    self._lost = True
                    done.append(Outcome(number, partition, -1, _reason(future.exception)))
        return done

    def drain(self) -> list[Outcome]:
        """Wait until every record's outcome is known.

        When the broker is gone, what it did not take in time is given up; that it was written all the same is
        possible, and `producers.resume` finds out.
        """
        patience = GRACE_S if self._lost else DELIVERY_TIMEOUT_S + REQUEST_TIMEOUT_S
        try:
            self._producer.flush(timeout=patience)
        except KafkaTimeoutError:
            self._lost = True
        done = self.outcomes()
        for (_, partition), waiting in self._waiting.items():
            done += [Outcome(sent.number, partition, -1, sent.refusal or NOT_IN_TIME) for sent in waiting]
            self._count -= len(waiting)
            waiting.clear()
        return done

    def close(self) -> None:
        """Give up what is still under way; call `drain` before to wait for it."""
        try:
            self._producer.close(timeout=GRACE_S)
        except KafkaTimeoutError:
            # kafka-python's close leaves its thread running, and sending, when its own flush times out.
            sender = self._producer._sender
            sender.force_close()
            sender.join(timeout=GRACE_S)
        self._admin.close()

    def _settle_oldest(self) -> None:
        """Wait for the oldest record, and put what is then known aside."""
        oldest = min((w[0] for w in self._waiting.values() if w), key=lambda sent: sent.number)
        if not oldest.refusal:
            try:
                oldest.future.get(timeout=DELIVERY_TIMEOUT_S + REQUEST_TIMEOUT_S)
            except KafkaError as error:
                if not oldest.future.is_done:
                    raise self._unreachable(error) from error
        self._known = self.outcomes()

    def _look_up(self, topics: list[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Of each topic the number of partitions, and how large a batch of records it takes.

        Asked of the admin client: the embedded broker makes a topic that a producer asks for.
        """
        deadline = time.monotonic() + NEW_TOPIC_S
        while True:
            described = self._admin.describe_topics(topics)
            partitions = {topic["name"]: len(topic["partitions"]) for topic in described}
            missing = [topic for topic, count in partitions.items() if not count]
            if not missing:
                break
            if time.monotonic() >= deadline:
                raise DeliveryError(
                    f"topic {', '.join(missing)} is not on the broker at {self._broker.url}",
                    f"Make the topics first: headrace topics create --broker {self._broker.url}",
                )
            time.sleep(CONNECT_PAUSE_S)
        resources = [ConfigResource("TOPIC", topic) for topic in topics]
        settings = self._admin.describe_configs(resources, config_filter="all").get("topic", {})
        limits = {}
        for topic in topics:
            limit = settings.get(topic, {}).get("max.message.bytes", {}).get("value")
            limits[topic] = int(limit) if limit else MAX_MESSAGE_BYTES
        return partitions, limits

    def _reach(self) -> None:
        """Wait until one of the addresses takes a connection: kafka-python would not say why none does."""
        deadline = time.monotonic() + self._broker.connect_timeout_s
        while True:
            for address in self._broker.url.split(","):
                host, _, port = address.strip().rpartition(":")
                if not host or not port.isdigit():
                    raise DeliveryError(
                        f"{address!r} is no HOST:PORT of a broker", "For example 127.0.0.1:9092."
                    )
                try:
                    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TRY_S):
                        return
                except OSError as error:
                    refusal = error
            if time.monotonic() >= deadline:
                raise self._unreachable(refusal) from refusal
            time.sleep(CONNECT_PAUSE_S)

    def _unreachable(self, error: Exception) -> DeliveryError:
        url = self._broker.url
        if isinstance(error, AuthorizationError | SaslAuthenticationFailedError):
            return DeliveryError(f"the broker at {url} refuses us: {error}", "Check [broker.security].")
        return DeliveryError(
            f"no broker answers at {url} within {self._broker.connect_timeout_s:g} s: {error}",
            "Is it running, and is this its HOST:PORT? `headrace broker` starts one.",
        )


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key: murmur2 of its bytes."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def _reason(error: Exception) -> str:
    if isinstance(error, AuthorizationError | UnsupportedVersionError):
        return f"refused: {error}"
    if isinstance(error, KafkaTimeoutError):
        return NOT_IN_TIME
    return str(error) or type(error).__name__
