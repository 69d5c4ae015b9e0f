"""The events as the trainer reads them: by hand, without a group, from offsets that it keeps itself.

In: settings, the next offset of each partition that was read before. Out: checked events with the offsets to
keep for them. A bad record is skipped and counted (the worker keeps it as a dead letter); an offset that the
broker no longer has is replaced with a warning. Never commits an offset and never stops for a record.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from stream_app.decode import EventDecoder
from stream_app.errors import HeadraceError
from stream_app.registry import client_options
from stream_app.settings import Settings
from stream_app.shadow import Events, events_of

log = logging.getLogger("headrace.trainer")

BATCH = 2_000
POLL_MS = 200
METADATA_MS = 30_000


class FeedError(HeadraceError):
    """The events can't be read; the message says what to do."""


class EventFeed:
    """Reads every partition of the input topics; partitions that are added later are found by themselves.

    `counts` has what was not handed on: `refused` records, and `gaps` where an offset was replaced.
    """

    def __init__(self, settings: Settings) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._decoder = EventDecoder(settings.events, settings.topics.events)
        self._consumer: AIOKafkaConsumer

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=max(1 << 20, 2 * self._settings.topics.max_message_bytes),
            metadata_max_age_ms=METADATA_MS,
            **client_options(self._settings.broker),
        )
        try:
            await self._consumer.start()
            await self._check_topics()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def _check_topics(self) -> None:
        there = await self._consumer.topics()
        url = self._settings.broker.url
        for topic in self._settings.topics.events:
            if topic not in there:
                raise FeedError(
                    f"topic {topic!r} does not exist at {url}",
                    f"Create headrace's topics: headrace topics create --broker {url}",
                )

    async def read(self, offsets: Mapping[str, int]) -> AsyncIterator[tuple[Events, dict[str, int]]]:
        """What comes next, without end: events of one partition, and the offset to keep once they are taken.

        Args:
            offsets: next offset by "topic-partition", of the partitions read before; looked at when a
                partition is first read.
        """
        while True:
            await self._assign(offsets)
            try:
                batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)
            except OffsetOutOfRangeError as error:
                await self._replace(error)
                continue
            for at, records in batches.items():
                yield self._decode(records), {name_of(at): records[-1].offset + 1}

    async def _assign(self, offsets: Mapping[str, int]) -> None:
        """Read the partitions that are new, besides the others."""
        held = self._consumer.assignment()
        there = {
            TopicPartition(topic, number)
            for topic in self._settings.topics.events
            for number in self._consumer.partitions_for_topic(topic) or ()
        }
        if there <= held:
            return
        positions = {at: await self._consumer.position(at) for at in held}
        fresh = sorted(there - held)
        begins = await self._consumer.beginning_offsets(fresh)
        ends = await self._consumer.end_offsets(fresh)
        for at in fresh:
            stored = offsets.get(name_of(at))
            positions[at] = begins[at] if stored is None else stored
            if stored is not None and not begins[at] <= stored <= ends[at]:
                positions[at] = begins[at]
                self._say_gap(at, stored, begins[at], ends[at])
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
