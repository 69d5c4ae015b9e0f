"""Topics for benchmarks: made, filled with ML-1M as the wire contract has it, read raw.

In: a broker's address. Out: topics with records, and how long plain aiokafka needs to read them again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from models.base import I64
from producers import datasets
from producers.columns import Dataset
from stream_app.events import Event


def records(
    data: Dataset, limit: int | None = None, users: str = "", spread: int = 1
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each event, with the ids that let a worker drop a repeated one.

    Args:
        users: is put before each user's id: the same events again, of other users.
        spread: how many groups of users are taken in turn, each group in the order of the data set. In ML-1M's own
            order (1) a handful of users rate hundreds of films one after the other, and a batch touches few.
    """
    encode = msgspec.json.Encoder().encode
    prefix = f"{data.sha256[:12]}-{users}"
    for row in spread_out(data, spread)[:limit].tolist():
        value = float(data.value[row])
        user = users + data.user_ids[data.user[row]]
        event = Event(
            event_id=f"{prefix}{row}",
            user_id=user,
            item_id=data.item_ids[data.item[row]],
            type=data.types[data.type[row]],
            value=None if value != value else value,
            ts=int(data.ts[row]),
        )
        yield user.encode(), encode(event)


def spread_out(data: Dataset, groups: int) -> I64:
    """Rows of the data set such that groups of users take turns; each user's own order is kept."""
    group = data.user.astype(np.int64) % groups
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups))
    turn = np.empty(len(data), np.int64)
    turn[order] = np.arange(len(data)) - starts[group[order]]
    return np.lexsort((group, turn))


async def create(address: str, name: str, partitions: int, config: dict[str, str] | None = None) -> None:
    """A topic whose records carry the time of their append."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        topic = NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=1,
            topic_configs={"message.timestamp.type": "LogAppendTime", **(config or {})},
        )
        await admin.create_topics([topic])
    finally:
        await admin.close()


async def fill(
    address: str, name: str, data: Dataset, limit: int | None = None, spread: int = 1
) -> dict[str, float]:
    """Send the events of a data set, all at once; how many there were, and their bytes."""
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, max_batch_size=1 << 18, acks=1)
    await producer.start()
    n = size = 0
    started = time.perf_counter()
    try:
        for key, value in records(data, limit, spread=spread):
            await producer.send(name, value, key)
            n += 1
            size += len(key) + len(value)
        await producer.flush()
    finally:
        await producer.stop()
    return {"events": n, "bytes_per_event": round(size / max(n, 1), 1), "s": time.perf_counter() - started}


async def read_raw(address: str, name: str, partitions: int, total: int) -> float:
    """Seconds that plain aiokafka takes to hand over `total` records, doing nothing with them."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False, group_id=None
    )
    started = time.perf_counter()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(name, number) for number in range(partitions)])
        seen = 0
        while seen < total:
            batch = await consumer.getmany(timeout_ms=1000, max_records=5000)
            seen += sum(map(len, batch.values()))
    finally:
        await consumer.stop()
    return time.perf_counter() - started


def load(name: str = "ml-1m") -> Dataset:
    """The data set, fetched when it is not cached."""
    return datasets.load(name)
