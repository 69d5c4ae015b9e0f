from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner

from stream_app.batch.records import EVENT, Outgoing
from stream_app.batch.refusals import LOG_APPEND_TIME, MISROUTED, DeadLetter
from stream_app.settings import load
from stream_app.worker import publish
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.publish import (
    KEPT_BYTES,
    Publisher,
    PublishError,
    cut_letter,
    letter_headers,
)

NOW_MS = 5000.0
Sent = tuple[str, bytes | None, bytes | None]
Answer = Callable[[Sent, int], BaseException | None]
"""A record, how often it was sent → what the broker says."""


class FakeBatch:
    """Takes so many bytes of values."""

    def __init__(self, room: int) -> None:
        self.records: list[tuple[bytes | None, bytes | None]] = []
        self.closed = False
        self._room = room

    def append(self, *, timestamp: int, key: bytes | None, value: bytes | None) -> object | None:
        assert timestamp == NOW_MS
        self._room -= len(value or b"")
        if self._room < 0:
            return None
        self.records.append((key, value))
        return object()

    def close(self) -> None:
        self.closed = True


class FakeProducer:
    """Answers at once; failures as they are scripted: of a batch, that of its first record."""

    room = 1000

    def __init__(self, answer: Answer, timestamp_type: int) -> None:
        self.log: list[Sent] = []
        self.batches: list[tuple[int, int]] = []
        self.headers: list[list[tuple[str, bytes]]] = []
        self._answer = answer
        self._timestamp_type = timestamp_type

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any]:
        self.headers.append(headers)
        return self._answered([(topic, key, value)])

    def create_batch(self) -> FakeBatch:
        return FakeBatch(self.room)

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0, 1, 2}

    async def send_batch(self, batch: FakeBatch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert batch.closed  # or `send` might add to it
        assert batch.records
        self.batches.append((partition, len(batch.records)))
        return self._answered([(topic, key, value) for key, value in batch.records])

    async def stop(self) -> None:
        pass

    def _answered(self, records: list[Sent]) -> asyncio.Future[Any]:
        self.log += records
        future = asyncio.get_running_loop().create_future()
        error = self._answer(records[0], self.log.count(records[0]))
        if error is None:
            future.set_result(SimpleNamespace(timestamp=1700, timestamp_type=self._timestamp_type))
        else:
            future.set_exception(error)
        return future


def outgoing(user: str, value: bytes, *append_ms: int | None) -> Outgoing:
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
        await publisher.recommendations([outgoing("a", b"x", 1600, 1650)])
        await publisher.acknowledged()
        return freshness(metrics)

    assert asyncio.run(run()) == {"append": (2, 150.0)}


@pytest.mark.parametrize(("appended", "timestamp_type"), [(None, LOG_APPEND_TIME), (1600, 0)])
def test_freshness_is_on_the_workers_clock_and_says_so_where_a_topic_does_not(
    make: Any, appended: int | None, timestamp_type: int
) -> None:
    async def run() -> dict[str, tuple[float, float]]:
        publisher, _, metrics = make(timestamp_type=timestamp_type)
        await publisher.recommendations([outgoing("a", b"x", appended)])
        await publisher.acknowledged()
        return freshness(metrics)

    assert asyncio.run(run()) == {"worker": (1, NOW_MS - 4000.0)}


def test_a_list_for_events_of_both_kinds_of_topics_measures_each_on_its_own_clock(make: Any) -> None:
    async def run() -> tuple[dict[str, tuple[float, float]], float]:
        publisher, _, metrics = make()
        await publisher.recommendations([outgoing("a", b"x", 1600, None, 1650)])
        await publisher.acknowledged()
        return freshness(metrics), metrics.published.labels(EVENT)._value.get()

    assert asyncio.run(run()) == ({"append": (2, 150.0), "worker": (1, NOW_MS - 4000.0)}, 1.0)


def test_it_is_quiet_when_all_has_arrived(make: Any) -> None:
    async def run() -> list[bool]:
        publisher, _, _ = make(lambda _sent, times: KafkaTimeoutError() if times < 2 else None)
        found = [publisher.quiet]
        await publisher.recommendations([outgoing("a", b"x", 1)])
        found.append(publisher.quiet)
        await publisher._done.wait()
        found.append(publisher.quiet)  # it came back, and is to be sent again
        await publisher.acknowledged()
        return [*found, publisher.quiet]

    assert asyncio.run(run()) == [True, False, False, True]


def test_what_the_broker_did_not_take_is_sent_again_until_it_does(make: Any) -> None:
    def answer(_sent: Sent, times: int) -> BaseException | None:
        return [KafkaTimeoutError(), NotLeaderForPartitionError(), None][min(times, 3) - 1]

    async def run() -> FakeProducer:
        publisher, producer, _ = make(answer)
        await publisher.recommendations([outgoing("a", b"x")])
        await publisher.dead_letters([letter(b"broken")])
        await publisher.acknowledged()
        return producer

    log = asyncio.run(run()).log
    assert sorted(log) == sorted([("recommendations", b"a", b"x"), ("events.dlq", b"u", b"broken")] * 3)


def test_lists_go_out_a_batch_for_each_partition_in_their_order(make: Any) -> None:
    users = [f"user {n}" for n in range(12)]

    async def run() -> FakeProducer:
        publisher, producer, _ = make()
        await publisher.recommendations([outgoing(user, user.encode()) for user in users])
        await publisher.acknowledged()
        await publisher.stop()
        return producer

    producer = asyncio.run(run())
    partitioner = DefaultPartitioner()
    expected = {user: partitioner(user.encode(), [0, 1, 2], [0, 1, 2]) for user in users}
    assert dict(producer.batches) == Counter(expected.values())
    at = 0
    for partition, count in producer.batches:
        sent = [(key or b"").decode() for _, key, _ in producer.log[at : at + count]]
        assert sent == [user for user in users if expected[user] == partition]
        at += count


def test_what_does_not_fit_into_one_batch_goes_in_several_and_what_fits_in_none_alone(make: Any) -> None:
    values = [b"a" * 600, b"b" * 600, b"c" * 5000, b"d"]

    async def run() -> FakeProducer:
        publisher, producer, _ = make()
        await publisher.recommendations([outgoing("u", value) for value in values])
        await publisher.acknowledged()
        return producer

    producer = asyncio.run(run())
    assert [value for _, _, value in producer.log] == values
    assert [count for _, count in producer.batches] == [1, 1, 1]
    assert len(producer.headers) == 1


def test_a_batch_that_is_refused_is_sent_again_record_by_record(make: Any) -> None:
    def answer(sent: Sent, times: int) -> BaseException | None:
        return KafkaTimeoutError() if times == 1 and sent[2] == b"first" else None

    async def run() -> tuple[FakeProducer, WorkerMetrics]:
        publisher, producer, metrics = make(answer)
        await publisher.recommendations([outgoing("u", b"first"), outgoing("u", b"second")])
        await asyncio.wait_for(publisher.acknowledged(), 5)
        return producer, metrics

    producer, metrics = asyncio.run(run())
    assert [value for _, _, value in producer.log] == [b"first", b"second", b"second"]
    assert metrics.registry.get_sample_value("headrace_published_total", {"reason": EVENT}) == 1


def test_a_topic_that_is_not_known_for_now_is_asked_for_again(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> FakeProducer:
        publisher, producer, _ = make()

        async def unknown(_topic: str) -> set[int]:
            raise UnknownTopicOrPartitionError

        monkeypatch.setattr(producer, "partitions_for", unknown)
        await publisher.recommendations([outgoing("u", b"x")])
        await asyncio.wait_for(publisher.acknowledged(), 5)
        return producer

    assert [value for _, _, value in asyncio.run(run()).log] == [b"x"]


def test_a_list_is_not_sent_again_over_a_newer_one_of_its_user(make: Any) -> None:
    def answer(sent: Sent, _times: int) -> BaseException | None:
        return KafkaTimeoutError() if sent[2] == b"old" else None

    async def run() -> FakeProducer:
        publisher, producer, _ = make(answer)
        await publisher.recommendations([outgoing("a", b"old")])
        await publisher.recommendations([outgoing("a", b"new")])
        await asyncio.wait_for(publisher.acknowledged(), 5)
        return producer

    sent = [value for _, _, value in asyncio.run(run()).log]
    assert sent.count(b"old") == 1
    assert sent[-1] == b"new"


def test_lists_that_can_not_be_sent_for_an_unknown_reason_are_not_waited_for_in_vain(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        publisher, producer, _ = make()
        monkeypatch.setattr(producer, "create_batch", lambda: 1 // 0)
        await publisher.recommendations([outgoing("u", b"x")])
        await asyncio.wait_for(publisher.acknowledged(), 5)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())


def test_a_batch_that_is_too_large_is_no_reason_to_refuse_its_records(make: Any) -> None:
    def answer(sent: Sent, times: int) -> BaseException | None:
        return MessageSizeTooLargeError() if times == 1 and sent[2] == b"first" else None

    partitioner, every = DefaultPartitioner(), [0, 1, 2]
    home = partitioner(b"u", every, every)
    neighbour = next(f"v{n}" for n in range(99) if partitioner(f"v{n}".encode(), every, every) == home)

    async def run() -> FakeProducer:
        publisher, producer, _ = make(answer)
        lists = [outgoing("u", b"first"), outgoing(neighbour, b"other")]
        await publisher.recommendations(lists)
        await asyncio.wait_for(publisher.acknowledged(), 5)
        return producer

    log = asyncio.run(run()).log
    assert [value for _, _, value in log] == [b"first", b"other"] * 2


def test_a_refusal_that_no_retry_helps_is_raised_with_what_to_do(make: Any) -> None:
    async def run() -> None:
        publisher, _, _ = make(lambda _sent, _times: TopicAuthorizationFailedError())
        await publisher.recommendations([outgoing("a", b"x")])
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


def test_the_first_misrouted_record_is_reported_loudly(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    record: Any = SimpleNamespace(topic="events", partition=3, offset=17, key=b"B", value=b"{}")
    misrouted = DeadLetter(record, MISROUTED, "user_id", "the record's key is 'B'")

    async def run() -> None:
        publisher, _, _ = make()
        await publisher.dead_letters([letter(b"broken"), misrouted, misrouted])
        await publisher.acknowledged()

    asyncio.run(run())
    (told,) = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert "events-3" in told
    assert "17" in told
    assert "the record's key is 'B'" in told
    assert "events.dlq" in told


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
