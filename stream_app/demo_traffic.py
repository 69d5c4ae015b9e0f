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

from stream_app.errors import HeadraceError
from stream_app.events import Event, Recommendation
from stream_app.registry import client_options
from stream_app.settings import Settings
from stream_app.topic_reader import TopicReader
from stream_app.watch import Newest

WAIT_S = 20.0


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


async def disturb(settings: Settings, reader: TopicReader) -> tuple[int, int]:
    """Send three broken events and repeat the newest of each partition; says how many of either."""
    topic = settings.topics.events[0]
    now = int(time.time() * 1000)
    broken = [
        (b"196", b'{"v": 1, "user_id": "196", "item_id": '),
        (b"196", msgspec.json.encode({"v": 1, "user_id": "196", "item_id": 2.5, "type": "click", "ts": now})),
        (b"196", msgspec.json.encode({"v": 1, "user_id": "22", "item_id": "1", "type": "click", "ts": now})),
    ]
    partitions = reader.partitions(topic)
    repeats = [record async for record in reader.to_end(partitions, last=1)]
    async with AIOKafkaProducer(acks="all", **client_options(settings.broker)) as producer:
        for key, value in broken:
            await producer.send_and_wait(topic, value, key=key)
        for record in repeats:
            await producer.send_and_wait(topic, record.value, key=record.key, partition=record.partition)
    return len(broken), len(repeats)


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
