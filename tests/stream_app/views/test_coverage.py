"""Behaviour of the coverage check: what is covered, and what must be called uncovered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from stream_app.brokers import topics
from stream_app.brokers.broker import Broker
from stream_app.brokers.topic_reader import open_reader
from stream_app.events import Recommendation
from stream_app.settings import TopicSettings, load
from stream_app.views.coverage import Coverage, Ledger, check

encode = msgspec.json.encode
NOW = 1_700_000_000_000


def record(
    topic: str, key: str, value: bytes | None, offset: int = 0, **headers: bytes
) -> ConsumerRecord[Any, Any]:
    return ConsumerRecord(
        topic=topic,
        partition=0,
        offset=offset,
        timestamp=NOW,
        timestamp_type=0,
        key=key.encode(),
        value=value,
        checksum=None,
        serialized_key_size=len(key),
        serialized_value_size=len(value or b""),
        headers=tuple(headers.items()),
    )


def event(
    offset: int, user: str = "u", kind: str = "click", event_id: str | None = None
) -> ConsumerRecord[Any, Any]:
    value = {"v": 1, "user_id": user, "item_id": f"i{offset}", "type": kind, "ts": 1000}
    return record("events", user, encode({**value, "event_id": event_id} if event_id else value), offset)


def published(user: str, revision: int, sources: dict[str, int], events: int = 0) -> bytes:
    return encode(
        Recommendation(
            user_id=user,
            revision=revision,
            items=[],
            sources=sources,
            events=events,
            event_ts=0,
            published_ts=0,
            latency_ms=0.0,
            models={},
            arm="",
            reason="event",
        )
    )


def judged(
    events: list[ConsumerRecord[Any, Any]],
    lists: list[tuple[str, bytes | None]] = [],  # noqa: B006
    dead: list[str] = [],  # noqa: B006
) -> Coverage:
    ledger = Ledger(load({}))
    for user, value in lists:
        ledger.publish(record("recommendations", user, value))
    for source in dead:
        ledger.bury(record("events.dlq", "u", b"", source=source.encode()))
    ledger.judge(events)
    return ledger.conclude()


def test_an_event_is_covered_by_a_list_at_or_above_its_offset() -> None:
    result = judged([event(3), event(4), event(5)], [("u", published("u", 1, {"events-0": 4}, events=2))])
    assert result.examples == [("events-0", 5, "u")]
    assert not result.complete
    assert (result.events, result.accepted, result.counted, result.users) == (3, 3, 2, 1)


@pytest.mark.parametrize("counted", [1, 3, 0])
def test_an_event_that_is_counted_twice_or_not_at_all_is_not_accounted_for(counted: int) -> None:
    result = judged([event(3), event(4)], [("u", published("u", 1, {"events-0": 4}, events=counted))])
    assert (result.uncovered, result.counted_once, result.complete) == (0, False, False)
    assert judged([event(3), event(4)], [("u", published("u", 1, {"events-0": 4}, events=2))]).complete


def test_only_the_newest_list_counts() -> None:
    lists = [("u", published("u", 2, {"events-0": 3}, 1)), ("u", published("u", 1, {"events-0": 9}, 1))]
    assert judged([event(3)], lists).complete  # type: ignore[arg-type]
    assert not judged([event(5)], lists).complete  # type: ignore[arg-type]


def test_a_list_of_another_user_or_of_another_partition_covers_nothing() -> None:
    assert not judged([event(3)], [("v", published("v", 1, {"events-0": 9}))]).complete
    assert not judged([event(3)], [("u", published("u", 1, {"events-1": 9}))]).complete


def test_a_dead_letter_is_covered() -> None:
    broken = record("events", "u", b"{", offset=7)
    assert judged([broken], dead=["events-0-7"]).dead_letters == 1
    assert judged([broken], dead=["events-0-7"]).complete


def test_a_broken_event_without_a_dead_letter_is_not_covered() -> None:
    result = judged([record("events", "u", b"{", offset=7)], dead=["events-0-6"])
    assert result.uncovered == 1
    assert "refused" in result.examples[0][2]


def test_a_duplicate_needs_no_list() -> None:
    events = [event(0, event_id="a"), event(1, event_id="a")]
    result = judged(events, [("u", published("u", 1, {"events-0": 0}, events=1))])
    assert result.complete
    assert (result.accepted, result.duplicates) == (1, 1)


def test_an_id_counts_as_new_again_after_64_others() -> None:
    events = [event(n, event_id=f"id{n % 65}") for n in range(66)]
    assert judged(events).duplicates == 0
    events = [event(n, event_id=f"id{n % 64}") for n in range(65)]
    assert judged(events).duplicates == 1


def test_the_same_id_of_two_users_is_no_duplicate() -> None:
    assert judged([event(0, "a", event_id="x"), event(1, "b", event_id="x")]).duplicates == 0


def test_an_erasure_and_what_came_before_it_are_covered_by_a_tombstone() -> None:
    result = judged([event(0), event(1, kind="erase")], [("u", None)])
    assert result.complete
    assert result.erased == 1


def test_an_erasure_without_a_tombstone_is_not_covered() -> None:
    assert judged([event(1, kind="erase")], [("u", published("u", 9, {"events-0": 9}))]).uncovered == 1


def test_what_comes_after_an_erasure_needs_a_list_of_its_own() -> None:
    events = [event(0), event(1, kind="erase"), event(2)]
    assert judged(events, [("u", None)]).examples == [("events-0", 2, "u")]
    assert judged(events, [("u", None), ("u", published("u", 1, {"events-0": 2}))]).complete


def test_the_topics_of_a_broker_are_judged(broker: Broker, topics_of: Callable[..., TopicSettings]) -> None:
    names = topics_of()
    overrides = {f"topics.{name}": value for name, value in names.model_dump().items()}
    settings = load({**overrides, "broker.url": broker.address})
    topics.create(settings.broker, names, partitions=2)
    lane = f"{names.events[0]}-1"

    async def run() -> Coverage:
        async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
            for offset in range(5):
                await producer.send(names.events[0], event(offset).value, key=b"u", partition=1)
            await producer.send(names.events[0], b"{", key=b"u", partition=1)
            await producer.send(names.recommendations, published("u", 1, {lane: 4}, 5), key=b"u")
            headers = cast(Any, [("source", f"{lane}-5".encode())])
            await producer.send(names.dead_letters, b"{", key=b"u", headers=headers)
            await producer.flush()
        async with open_reader(settings) as reader:
            return await check(reader, settings)

    result = asyncio.run(run())
    assert result == Coverage(events=6, accepted=5, counted=5, dead_letters=1, users=1)
