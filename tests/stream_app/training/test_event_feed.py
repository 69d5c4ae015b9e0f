import asyncio
from collections.abc import Callable, Mapping

import pytest
from aiokafka import AIOKafkaProducer

from stream_app.brokers.broker import Broker
from stream_app.brokers.connection import client_options
from stream_app.brokers.topics import create
from stream_app.settings import Settings, TopicSettings, load
from stream_app.training.event_feed import EventFeed

PATIENCE_S = 60


@pytest.fixture
def settings(broker: Broker, topics_of: Callable[..., TopicSettings]) -> Settings:
    made = load({"broker.url": broker.address, "topics": topics_of().model_dump()})
    create(made.broker, made.topics, partitions=2)
    return made


def event(user: str, item: str) -> tuple[str, bytes]:
    return user, f'{{"user_id":"{user}","item_id":"{item}","type":"click","ts":1}}'.encode()


async def produce(settings: Settings, records: list[tuple[str, bytes]]) -> None:
    """In as few batches as possible."""
    async with AIOKafkaProducer(linger_ms=50, **client_options(settings.broker)) as producer:
        for key, value in records:
            await producer.send(settings.topics.events[0], value, key=key.encode())
        await producer.flush()


async def read(
    settings: Settings, offsets: Mapping[str, int], n: int
) -> tuple[list[str], dict[str, int], EventFeed]:
    """The items of the first `n` events, the offsets after them, and the feed."""
    items: list[str] = []
    after = dict(offsets)
    async with asyncio.timeout(PATIENCE_S), EventFeed(settings) as feed:
        async for events, offset in feed.read(after):
            items += events.item
            after |= offset
            if len(items) >= n:
                break
    return items, after, feed


def test_what_was_read_is_not_read_again(settings: Settings) -> None:
    async def story() -> None:
        await produce(settings, [event(f"u{n}", f"i{n}") for n in range(30)])
        items, offsets, _ = await read(settings, {}, 30)
        assert sorted(items) == sorted(f"i{n}" for n in range(30))
        assert sum(offsets.values()) == 30
        await produce(settings, [event(f"u{n}", f"j{n}") for n in range(30)])
        items, again, feed = await read(settings, offsets, 30)
        assert sorted(items) == sorted(f"j{n}" for n in range(30))
        assert sum(again.values()) == 60
        assert not feed.counts["gaps"]

    asyncio.run(story())


def test_offsets_at_the_very_end_of_a_batch_are_not_taken_for_a_gap(settings: Settings) -> None:
    async def story() -> None:
        await produce(settings, [event(f"u{n}", f"i{n}") for n in range(30)])
        _, offsets, _ = await read(settings, {}, 30)

        sending = asyncio.create_task(produce(settings, [event("u1", "news")]))
        items, _, feed = await read(settings, offsets, 1)
        await sending
        assert items == ["news"]
        assert not feed.counts["gaps"]

    asyncio.run(story())


def test_bad_records_are_skipped_counted_and_said_once(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> EventFeed:
        await produce(settings, [("u", b"{"), ("u", b"[]"), event("u", "i"), ("v", event("u", "i")[1])])
        await produce(settings, [event("v", "last")])
        return (await read(settings, {}, 2))[2]

    feed = asyncio.run(story())
    assert feed.counts["refused"] == 3
    assert caplog.text.count("is skipped") == 1


def test_an_offset_beyond_the_end_is_replaced_with_a_warning(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = settings.topics.events[0]

    async def story() -> tuple[list[str], dict[str, int], EventFeed]:
        await produce(settings, [event(f"u{n}", f"i{n}") for n in range(30)])
        return await read(settings, {f"{topic}-0": 1000, f"{topic}-1": 1000}, 30)

    items, offsets, feed = asyncio.run(story())
    assert len(items) == 30
    assert sum(offsets.values()) == 30
    assert feed.counts["gaps"] == 2
    assert "offset 1000 is not among what the broker has" in caplog.text


def test_every_input_topic_has_an_id(settings: Settings) -> None:
    async def story() -> dict[str, str]:
        async with EventFeed(settings) as feed:
            return feed.topic_ids

    assert list(asyncio.run(story())) == list(settings.topics.events)
