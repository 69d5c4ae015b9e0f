"""Reading a topic without a group: from where one wants up to its present end, or on as it grows.

In: settings, a topic's name. Out: raw records in the order of each partition. Never commits an offset, never
joins a group and never decodes a value.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from stream_app.brokers.connection import check_topics, client_options, start_client
from stream_app.brokers.topic_facts import offset_ranges
from stream_app.errors import HeadraceError
from stream_app.settings import BrokerSettings, Settings

FETCH_BYTES = 4 << 20


class TopicError(HeadraceError):
    """The end of a topic is not reached: nothing comes any more."""


class TopicReader:
    """One connection that reads topics; made by `open_reader`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, broker: BrokerSettings, partitions: Mapping[str, Iterable[int]]
    ) -> None:
        self._consumer = consumer
        self._broker = broker
        self._partitions = partitions

    def partitions(self, topic: str) -> list[TopicPartition]:
        """The topic's partitions in order; raises MissingTopicError where there was no such topic."""
        check_topics([topic], self._partitions, self._broker)
        return [TopicPartition(topic, number) for number in sorted(self._partitions[topic])]

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition.

        A broker's answer about offsets is only where we begin to look: the embedded broker counts the last
        batch as one record. The high watermark that comes with a fetch is right on every broker.
        """
        wanted = list(partitions)
        answered: dict[TopicPartition, int] = await self._consumer.end_offsets(wanted)
        begins = await self._consumer.beginning_offsets(wanted)
        filled = {at: end for at, end in answered.items() if end > begins[at]}
        ends = {at: end for at, end in answered.items() if at not in filled}
        if not filled:
            return ends
        self._consumer.assign(list(filled))
        for at, end in filled.items():
            self._consumer.seek(at, end)
        patience = self._patience()
        while filled:
            await self._consumer.getmany(timeout_ms=20)
            marks = {at: self._consumer.highwater(at) for at in filled}
            known = {at: max(mark, filled[at]) for at, mark in marks.items() if mark is not None}
            ends |= known
            filled = {at: end for at, end in filled.items() if at not in known}
            patience(bool(known), filled)
        return ends

    async def to_end(
        self, partitions: Iterable[TopicPartition], *, last: int | None = None
    ) -> AsyncIterator[ConsumerRecord]:
        """Records up to the present end; with `last`, only those with the last so many offsets of each."""
        wanted = list(partitions)
        ends = await self.ends(wanted)
        begins = await self._consumer.beginning_offsets(wanted)
        starts = {at: begins[at] if last is None else max(begins[at], ends[at] - last) for at in wanted}
        open_ = {at for at in wanted if starts[at] < ends[at]}
        if not open_:
            return
        self._consumer.assign(list(open_))
        for at in open_:
            self._consumer.seek(at, starts[at])
        patience = self._patience()
        while open_:
            batches = await self._consumer.getmany(*open_, timeout_ms=100)
            for at, records in batches.items():
                for record in records:
                    if record.offset < ends[at]:
                        yield record
            # A position, not a record, shows the end: the last offsets may be markers or compacted away.
            reached = {at for at in open_ if await self._consumer.position(at) >= ends[at]}
            open_ -= reached
            patience(bool(batches or reached), open_)

    def _patience(self) -> Callable[[bool, Iterable[TopicPartition]], None]:
        """To be told at each turn whether something came; raises TopicError when nothing has for a while."""
        clock = asyncio.get_running_loop()
        longest_s = self._broker.connect_timeout_s
        came_at = clock.time()

        def told(came: bool, waiting: Iterable[TopicPartition]) -> None:
            nonlocal came_at
            if came:
                came_at = clock.time()
            elif clock.time() - came_at > longest_s:
                behind = ", ".join(f"{at.topic}-{at.partition}" for at in sorted(waiting))
                raise TopicError(
                    f"{behind} can't be read to the end: nothing came for {longest_s:g} s",
                    f"Is the broker at {self._broker.url} well? Try again when it answers.",
                )

        return told

    async def follow(
        self, starts: Mapping[TopicPartition, int], *, idle_ms: int = 250
    ) -> AsyncIterator[list[ConsumerRecord]]:
        """Records from `starts` on, as they come, without end; an empty list after `idle_ms` without any."""
        self._consumer.assign(list(starts))
        for at, offset in starts.items():
            self._consumer.seek(at, offset)
        while True:
            batches = await self._consumer.getmany(timeout_ms=idle_ms)
            yield [record for records in batches.values() for record in records]


@asynccontextmanager
async def open_reader(settings: Settings) -> AsyncIterator[TopicReader]:
    """A connected reader; raises BrokerUnreachableError when no broker answers for a while."""
    broker = settings.broker
    consumer = AIOKafkaConsumer(
        auto_offset_reset="none",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=FETCH_BYTES,
        **client_options(broker),
    )
    try:
        await start_client(consumer, broker)
        yield TopicReader(consumer, broker, await _partitions(consumer, settings))
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, settings: Settings) -> dict[str, list[int]]:
    """Partition numbers of those of headrace's topics that exist.

    All topics are asked for first: asking for a missing one by name could create it. What aiokafka keeps of that
    answer are names only, on Kafka; so the partitions are asked for in a second step.
    """
    topics = settings.topics
    wanted = {*topics.events, topics.items, topics.recommendations, topics.dead_letters}
    there = sorted((wanted | {topics.models, topics.control}) & await consumer.topics())
    known: dict[str, list[int]] = {topic: [] for topic in there}
    if there:
        for topic, number in await offset_ranges(settings.broker.url, there, settings.broker.security):
            known[topic].append(number)
    return known
