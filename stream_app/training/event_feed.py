"""The events as the trainer reads them: by hand, without a group, from offsets that it keeps itself.

In: settings, the next offset of each partition that was read before. Out: checked events with the offsets to
keep for them. A bad record is skipped and counted (the worker keeps it as a dead letter); an offset that the
broker no longer has is replaced with a warning. Never commits an offset and never stops for a record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from kafka.errors import KafkaError as AdminError

from stream_app.batch.decode import EventDecoder
from stream_app.brokers.connection import BrokerUnreachableError, check_topics, client_options, start_client
from stream_app.brokers.topic_facts import offset_ranges, topic_ids
from stream_app.brokers.topic_reader import TopicReader
from stream_app.settings import Settings
from stream_app.training.shadow import Events, events_of

log = logging.getLogger("headrace.trainer")

BATCH = 2_000
POLL_MS = 200
FETCH_BYTES, FETCH_WAIT_MS = 1 << 16, 500
"""The broker answers when it has so much, or after so long: a trainer is in no hurry, and small batches are dear."""
LOOK_S = 30.0


class EventFeed:
    """Reads every partition of the input topics; partitions that are added later are found by themselves.

    Attributes:
        counts: what was not handed on: `refused` records, and `gaps` where an offset was replaced.
        topic_ids: the id of each input topic, which a topic made anew under its name does not keep.
    """

    topic_ids: dict[str, str]

    def __init__(self, settings: Settings) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._decoder = EventDecoder(settings.events, settings.topics.events)
        self._consumer: AIOKafkaConsumer

    async def __aenter__(self) -> Self:
        broker, topics = self._settings.broker, self._settings.topics
        self._consumer = AIOKafkaConsumer(
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_min_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=max(1 << 20, topics.max_message_bytes),
            metadata_max_age_ms=int(LOOK_S * 1000),
            **client_options(broker),
        )
        try:
            await start_client(self._consumer, broker)
            check_topics(topics.events, await self._consumer.topics(), broker)
            self.topic_ids = await topic_ids(broker.url, topics.events, broker.security)
        except TimeoutError as error:
            await self._consumer.stop()
            raise BrokerUnreachableError(
                f"the broker at {broker.url} does not describe its topics: {error}",
                "Is it overloaded? Start the trainer again when it answers.",
            ) from error
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def read(self, offsets: Mapping[str, int]) -> AsyncIterator[tuple[Events, dict[str, int]]]:
        """What comes next, without end: events of one partition, and the offset to keep once they are taken.

        Args:
            offsets: next offset by "topic-partition", of the partitions read before; looked at when a
                partition is first read.
        """
        clock = asyncio.get_running_loop().time
        looked = -LOOK_S
        while True:
            if clock() - looked >= LOOK_S:
                await self._assign(offsets)
                looked = clock()
            try:
                batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)
            except OffsetOutOfRangeError as error:
                await self._replace(error)
                continue
            for at, records in batches.items():
                yield self._decode(records), {name_of(at): records[-1].offset + 1}

    async def _assign(self, offsets: Mapping[str, int]) -> None:
        """Read the partitions that are new, besides the others."""
        broker, topics = self._settings.broker, self._settings.topics.events
        held = self._consumer.assignment()
        try:
            ranges = await offset_ranges(broker.url, topics, broker.security)
        except (BrokerUnreachableError, AdminError):
            if held:
                return  # the consumer waits for the broker, and so do we
            raise
        begins = {TopicPartition(*at): begin for at, (begin, _) in ranges.items()}
        ends = {TopicPartition(*at): end for at, (_, end) in ranges.items()}
        fresh = sorted(set(begins) - held)
        if not fresh:
            return
        positions = {at: await self._consumer.position(at) for at in held}
        stored = {at: offsets[name_of(at)] for at in fresh if name_of(at) in offsets}
        beyond = [at for at, offset in stored.items() if offset > ends[at]]
        if beyond:  # the embedded broker counts the last batch as one record: a fetch shows the true end
            ends |= await TopicReader(self._consumer, broker, {}).ends(beyond)
        for at in fresh:
            positions[at] = stored.get(at, begins[at])
            if not begins[at] <= positions[at] <= ends[at]:
                self._say_gap(at, positions[at], begins[at], ends[at])
                positions[at] = begins[at]
        self._consumer.assign(list(positions))
        for at, offset in positions.items():
            self._consumer.seek(at, offset)

    async def _replace(self, error: OffsetOutOfRangeError) -> None:
        """Go on from the beginning of what there is where the broker has deleted what came next."""
        lost: dict[TopicPartition, int] = error.args[0]
        begins = await self._consumer.beginning_offsets(list(lost))
        ends = await self._consumer.end_offsets(list(lost))
        for at, stored in lost.items():
            self._say_gap(at, stored, begins[at], ends[at])
            self._consumer.seek(at, begins[at])

    def _say_gap(self, at: TopicPartition, stored: int, begin: int, end: int) -> None:
        self.counts["gaps"] += 1
        log.warning(
            "%s: offset %d is not among what the broker has (%d to %d): going on from %d; "
            "nothing was learned from what lies between",
            name_of(at), stored, begin, end, begin,
        )  # fmt: skip

    def _decode(self, records: list[ConsumerRecord]) -> Events:
        decoded = self._decoder.decode(records, time.time() * 1000)
        for letter in decoded.dead_letters:
            if not self.counts["refused"]:
                log.warning(
                    "%s-%d offset %d is skipped: %s (more of them are only counted; the worker keeps them)",
                    letter.record.topic, letter.record.partition, letter.record.offset, letter.detail,
                )  # fmt: skip
            self.counts["refused"] += 1
        return events_of(decoded, self._settings.events)


def name_of(at: TopicPartition) -> str:
    """A partition's name among the offsets."""
    return f"{at.topic}-{at.partition}"
