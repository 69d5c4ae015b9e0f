"""How fresh every single event's update was, found out afterwards from the two topics alone.

In: the input topic and `recommendations`, both read from beginning to end. Out: for each event of a span of time the
milliseconds from its append to the append of the first record that covers it, the lag at any moment, what kinds of
records there were. Nothing of this is taken from the worker, and nothing is read while it is measured.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from benchmarks import record

REFRESH = "refresh"


class Update(msgspec.Struct):
    """What is read of a recommendation."""

    sources: dict[str, int]
    reason: str
    models: dict[str, str]
    published_ts: int
    latency_ms: float


@dataclass(slots=True)
class Log:
    """When events were appended, received by the worker, and covered: the covering record's sending and append (ms)."""

    appended: list[int] = field(default_factory=list)
    covered: list[int] = field(default_factory=list)
    received: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    updates: list[tuple[int, str, bool, int]] = field(default_factory=list)
    uncovered: int = 0

    def figures(self, start: int, stop: int) -> dict[str, Any]:
        """Of the events appended in [start, stop), both in ms."""
        appended, covered = np.array(self.appended), np.array(self.covered)
        received, sent = np.array(self.received), np.array(self.sent)
        inside = (appended >= start) & (appended < stop)
        ages = (covered - appended)[inside]
        made = [update for update in self.updates if start <= update[0] < stop]
        lists = [update for update in made if update[1] != REFRESH]
        kinds = Counter(reason for _, reason, _, _ in made)
        return {
            "events": int(inside.sum()),
            "updates": len(lists),
            "events_per_update": round(sum(update[3] for update in lists) / max(len(lists), 1), 3),
            "reranked_share": round(sum(update[2] for update in lists) / max(len(lists), 1), 5),
            "records_by_reason": dict(kinds),
            "freshness_ms": record.quantiles(ages.tolist()),
            "stages_ms": {
                name: record.quantiles((later - earlier)[inside].tolist())
                for name, earlier, later in (
                    ("append to receipt", appended, received),
                    ("receipt to sending", received, sent),
                    ("sending to append", sent, covered),
                )
            },
            "freshness_p99_by_10_s": [
                round(float(np.quantile(part, 0.99)), 1)
                for at in range(start, stop, 10_000)
                if len(part := (covered - appended)[(appended >= at) & (appended < at + 10_000)])
            ],
        }

    def lag(self, start: int, stop: int) -> float:
        """Events appended and not yet covered: the mean over moments 100 ms apart."""
        appended, covered = np.sort(self.appended), np.sort(self.covered)
        moments = np.arange(start, stop, 100)
        behind = np.searchsorted(appended, moments, "right") - np.searchsorted(covered, moments, "right")
        return round(float(behind.mean()), 1)


async def read(address: str, events: str, recommendations: str, partitions: int) -> Log:
    """The log of both topics, whose partitions correspond."""
    log = Log()
    decode = msgspec.json.Decoder(Update).decode
    for number in range(partitions):
        waiting: dict[bytes, deque[tuple[int, int]]] = defaultdict(deque)
        for event in await _all(address, TopicPartition(events, number)):
            waiting[event.key].append((event.offset, event.timestamp))
        name = f"{events}-{number}"
        for answer in await _all(address, TopicPartition(recommendations, number)):
            if answer.value is None:
                continue
            update = decode(answer.value)
            reach = update.sources.get(name, -1)
            pending, n = waiting[answer.key], 0
            while pending and pending[0][0] <= reach:
                log.appended.append(pending.popleft()[1])
                log.covered.append(answer.timestamp)
                log.received.append(update.published_ts - update.latency_ms)
                log.sent.append(update.published_ts)
                n += 1
            log.updates.append((answer.timestamp, update.reason, bool(update.models), n))
        log.uncovered += sum(map(len, waiting.values()))
    return log


async def _all(address: str, partition: TopicPartition) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, (await consumer.beginning_offsets([partition]))[partition])
        found: list[ConsumerRecord] = []
        while await consumer.position(partition) < end:
            batch = await consumer.getmany(partition, timeout_ms=1000, max_records=20_000)
            found += batch.get(partition, [])
        return found
    finally:
        await consumer.stop()
