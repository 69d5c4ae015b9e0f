from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
)

from stream_app import publish
from stream_app.freshness import WorkerMetrics
from stream_app.publish import (
    KEPT_BYTES,
    LOG_APPEND_TIME,
    Publisher,
    PublishError,
    cut_letter,
    letter_headers,
)
from stream_app.records import EVENT, Outgoing
from stream_app.refusals import DeadLetter
from stream_app.settings import load

NOW_MS = 5000.0
Sent = tuple[str, bytes | None, bytes | None]
Answer = Callable[[Sent, int], BaseException | None]
"""A record, how often it was sent → what the broker says."""


class FakeProducer:
    """Answers at once; failures as they are scripted."""

    def __init__(self, answer: Answer, timestamp_type: int) -> None:
        self.log: list[Sent] = []
        self.headers: list[list[tuple[str, bytes]]] = []
        self._answer = answer
        self._timestamp_type = timestamp_type

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any]:
        sent = (topic, key, value)
        self.log.append(sent)
        self.headers.append(headers)
        future = asyncio.get_running_loop().create_future()
        error = self._answer(sent, self.log.count(sent))
        if error is None:
            future.set_result(SimpleNamespace(timestamp=1700, timestamp_type=self._timestamp_type))
        else:
            future.set_exception(error)
        return future


def outgoing(user: str, value: bytes, *append_ms: int) -> Outgoing:
    return Outgoing(user.encode(), value, user, 1, EVENT, list(append_ms), received_ms=4000.0)


def letter(value: bytes | None, key: bytes | None = b"u") -> DeadLetter:
    record: Any = SimpleNamespace(topic="events", partition=3, offset=17, key=key, value=value)
    return DeadLetter(record, "not_json", "ts", "it is no JSON")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Publisher, FakeProducer, WorkerMetrics]]:
    monkeypatch.setattr(publish, "RETRY_S", 0)

    def made(
        answer: Answer = lambda _sent, _times: None, timestamp_type: int = LOG_APPEND_TIME
    ) -> tuple[Publisher, FakeProducer, WorkerMetrics]:
        producer = FakeProducer(answer, timestamp_type)
        monkeypatch.setattr(publish, "AIOKafkaProducer", lambda **_options: producer)
        metrics = WorkerMetrics()
        return Publisher(load(), metrics, clock=lambda: NOW_MS), producer, metrics

    return made


def freshness(metrics: WorkerMetrics) -> dict[str, tuple[float, float]]:
    """Clock → how many, and their sum in ms."""
    found: dict[str, dict[str, float]] = {}
    for sample in next(iter(metrics.freshness.collect())).samples:
        found.setdefault(sample.labels["clock"], {})[sample.name.rpartition("_")[2]] = sample.value
    return {clock: (values["count"], values["sum"]) for clock, values in found.items()}


def test_freshness_is_append_to_append_where_both_topics_stamp_on_append(make: Any) -> None:
    async def run() -> dict[str, tuple[float, float]]:
        publisher, _, metrics = make()
        await publisher.recommendations([outgoing("a", b"x", 1600, 1650)], log_append=True)
        await publisher.acknowledged()
        return freshness(metrics)

    assert asyncio.run(run()) == {"append": (2, 150.0)}


@pytest.mark.parametrize(("log_append", "timestamp_type"), [(False, LOG_APPEND_TIME), (True, 0)])
def test_freshness_is_on_the_workers_clock_and_says_so_where_a_topic_does_not(
    make: Any, log_append: bool, timestamp_type: int
) -> None:
    async def run() -> dict[str, tuple[float, float]]:
        publisher, _, metrics = make(timestamp_type=timestamp_type)
        await publisher.recommendations([outgoing("a", b"x", 1600)], log_append=log_append)
        await publisher.acknowledged()
        return freshness(metrics)

    assert asyncio.run(run()) == {"worker": (1, NOW_MS - 4000.0)}


def test_what_the_broker_did_not_take_is_sent_again_until_it_does(make: Any) -> None:
    def answer(_sent: Sent, times: int) -> BaseException | None:
        return [KafkaTimeoutError(), NotLeaderForPartitionError(), None][min(times, 3) - 1]

    async def run() -> FakeProducer:
        publisher, producer, _ = make(answer)
        await publisher.recommendations([outgoing("a", b"x")], log_append=False)
        await publisher.dead_letters([letter(b"broken")])
        await publisher.acknowledged()
        return producer

    log = asyncio.run(run()).log
    assert log == [("recommendations", b"a", b"x"), ("events.dlq", b"u", b"broken")] * 3


def test_a_list_is_not_sent_again_over_a_newer_one_of_its_user(make: Any) -> None:
    def answer(sent: Sent, _times: int) -> BaseException | None:
        return KafkaTimeoutError() if sent[2] == b"old" else None

    async def run() -> FakeProducer:
        publisher, producer, _ = make(answer)
        await publisher.recommendations([outgoing("a", b"old")], log_append=False)
        await publisher.recommendations([outgoing("a", b"new")], log_append=False)
        await asyncio.wait_for(publisher.acknowledged(), 5)
        return producer

    assert [value for _, _, value in asyncio.run(run()).log] == [b"old", b"new"]


def test_a_refusal_that_no_retry_helps_is_raised_with_what_to_do(make: Any) -> None:
    async def run() -> None:
        publisher, _, _ = make(lambda _sent, _times: TopicAuthorizationFailedError())
        await publisher.recommendations([outgoing("a", b"x")], log_append=False)
        await publisher.acknowledged()

    with pytest.raises(PublishError, match="'recommendations' is refused") as refusal:
        asyncio.run(run())
    assert "headrace topics describe" in refusal.value.advice


def test_a_dead_letter_keeps_its_bytes_and_says_why_and_where_from(make: Any) -> None:
    async def run() -> FakeProducer:
        publisher, producer, metrics = make()
        await publisher.dead_letters([letter(b"\xff\x00broken")])
        await publisher.acknowledged()
        assert metrics.registry.get_sample_value("headrace_dead_letters_total", {"reason": "not_json"}) == 1
        return producer

    producer = asyncio.run(run())
    assert producer.log == [("events.dlq", b"u", b"\xff\x00broken")]
    headers = dict(producer.headers[0])
    assert (headers["reason"], headers["field"], headers["source"]) == (b"not_json", b"ts", b"events-3-17")


def test_a_dead_letter_without_key_and_value_is_sent_with_an_empty_value_and_says_so(make: Any) -> None:
    async def run() -> FakeProducer:
        publisher, producer, _ = make()
        await publisher.dead_letters([letter(None, key=None)])
        await publisher.acknowledged()
        return producer

    producer = asyncio.run(run())
    assert producer.log == [("events.dlq", None, b"")]
    assert dict(producer.headers[0])["value"] == b"null"


def test_a_dead_letter_that_is_refused_for_its_size_is_cut_and_carries_length_and_digest(make: Any) -> None:
    whole = b"x" * (KEPT_BYTES + 1000)

    def answer(sent: Sent, _times: int) -> BaseException | None:
        return MessageSizeTooLargeError() if sent[2] == whole else None

    async def run() -> FakeProducer:
        publisher, producer, _ = make(answer)
        await publisher.dead_letters([letter(whole)])
        await publisher.acknowledged()
        return producer

    producer = asyncio.run(run())
    assert producer.log[-1] == ("events.dlq", b"u", whole[:KEPT_BYTES])
    headers = dict(producer.headers[-1])
    assert headers["truncated"] == b"true"
    assert headers["length"] == str(len(whole)).encode()
    assert headers["sha256"] == hashlib.sha256(whole).hexdigest().encode()
    assert headers["reason"] == b"not_json"


def test_cutting_keeps_the_first_bytes_and_all_headers() -> None:
    value = bytes(range(256)) * 1024
    kept, headers = cut_letter(value, letter_headers(letter(value)))
    assert kept == value[:KEPT_BYTES]
    assert [name for name, _ in headers] == [
        "reason", "field", "detail", "source", "truncated", "length", "sha256",
    ]  # fmt: skip
