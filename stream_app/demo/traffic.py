"""What the demo sends by hand: a few broken and repeated events, and one live click with the list that it
changes.

In: a broker with a running worker. Out: how many of each were sent; the list before and after the click and
how long a consumer waited for it. Never reads the worker's state.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from stream_app.brokers.connection import client_options
from stream_app.brokers.topic_reader import TopicReader
from stream_app.errors import HeadraceError
from stream_app.events import Event, Recommendation
from stream_app.settings import Settings
from stream_app.views.watch import Newest

WAIT_S = 20.0
MOST_BROKEN = 3


@dataclass(frozen=True, slots=True)
class Click:
    """One click, and the user's lists before and after it.

    Attributes:
        waited_ms: from sending the click until a consumer held the new list.
    """

    user: str
    item_id: str
    before: Recommendation
    after: Recommendation
    waited_ms: float


async def send_broken(settings: Settings) -> int:
    """Send three broken events (cut off, an id that is no id, a key that is not the user); says how many."""
    now = int(time.time() * 1000)
    broken = [
        (b"196", b'{"v": 1, "user_id": "196", "item_id": '),
        (b"196", msgspec.json.encode({"v": 1, "user_id": "196", "item_id": 2.5, "type": "click", "ts": now})),
        (b"196", msgspec.json.encode({"v": 1, "user_id": "22", "item_id": "1", "type": "click", "ts": now})),
    ]
    async with AIOKafkaProducer(acks="all", **client_options(settings.broker)) as producer:
        for key, value in broken:
            await producer.send_and_wait(settings.topics.events[0], value, key=key)
    return len(broken)


async def send_repeats(settings: Settings, reader: TopicReader) -> int:
    """Send the newest event of each partition again; says how many.

    To be called when the replay is over: a user who meanwhile had 64 events more would be given the repeat.
    """
    newest = {}
    async for record in reader.to_end(reader.partitions(settings.topics.events[0]), last=MOST_BROKEN + 1):
        if b'"event_id"' in record.value:
            newest[record.partition] = record
    async with AIOKafkaProducer(acks="all", **client_options(settings.broker)) as producer:
        for record in newest.values():
            await producer.send_and_wait(
                record.topic, record.value, key=record.key, partition=record.partition
            )
    return len(newest)


async def click(settings: Settings, reader: TopicReader, before: Recommendation, item_id: str) -> Click:
    """Send a click of the user on an item of their list, and wait for the list that answers it."""
    topic, user = settings.topics.events[0], before.user_id
    partitions = reader.partitions(settings.topics.recommendations)
    starts = await reader.ends(partitions)
    newest = Newest(records={user: before})
    now = int(time.time() * 1000)
    event = Event(event_id=f"demo-{now}", user_id=user, item_id=item_id, type="click", ts=now)
    async with AIOKafkaProducer(acks="all", linger_ms=0, **client_options(settings.broker)) as producer:
        await producer.partitions_for(topic)
        sent = time.perf_counter()
        place = await producer.send_and_wait(topic, msgspec.json.encode(event), key=user.encode())
        lane = f"{place.topic}-{place.partition}"
        after = await _answer(reader, starts, newest, user, lane, place.offset)
        return Click(user, item_id, before, after, 1000 * (time.perf_counter() - sent))


async def _answer(
    reader: TopicReader, starts: dict[TopicPartition, int], newest: Newest, user: str, lane: str, offset: int
) -> Recommendation:
    deadline = asyncio.get_running_loop().time() + WAIT_S
    async for records in reader.follow(starts):
        for record in records:
            if record.key == user.encode():
                update = newest.offer(record.key, record.value)
                if update is not None and update.sources.get(lane, -1) >= offset:
                    return update
        if asyncio.get_running_loop().time() > deadline:
            break
    raise HeadraceError(
        f"no list answered the click of user {user} ({lane}, offset {offset}) in {WAIT_S:g} s"
    )
