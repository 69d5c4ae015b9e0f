"""The input topics, read by hand: checked, assigned, sought; polled in batches without holes.

In: the positions that the state holds. Out: records that are due, the lag, and an error with the ways out
when log and state no longer fit together. Never joins a group (it commits offsets under the group's name, for
lag tools only), never lets aiokafka choose an offset, and never decodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from stream_app.brokers.connection import BrokerUnreachableError, check_topics, client_options, start_client
from stream_app.brokers.topic_facts import offset_ranges, topic_ids
from stream_app.brokers.topic_reader import TopicReader
from stream_app.errors import HeadraceError
from stream_app.settings import Settings
from stream_app.store.state import Position
from stream_app.store.state_folder import StateError
from stream_app.worker.positions import Expected, LogFacts, check_unchanged, refuse_gap, start_offsets

log = logging.getLogger(__name__)

WATCH_S = 2.0
PROBE_S = 3.0
PATIENCE_S = 15.0
METADATA_S = 15.0
FETCH_BYTES = 1 << 20


class LogReader:
    """One reader of all partitions of all input topics.

    Args:
        fetch_wait_ms: how long the broker may keep a fetch open while there is nothing new.

    Attributes:
        facts: the topics as they were at `open`.
        gaps: offsets that compaction or transactions left out so far.
    """

    facts: LogFacts

    def __init__(self, settings: Settings, directory: Path, *, fetch_wait_ms: int = 500) -> None:
        self._settings = settings
        self._directory = directory
        self._topics = settings.topics.events
        self._consumer = AIOKafkaConsumer(
            group_id=settings.broker.group,
            auto_offset_reset="none",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=fetch_wait_ms,
            max_partition_fetch_bytes=max(FETCH_BYTES, settings.topics.max_message_bytes),
            metadata_max_age_ms=int(METADATA_S * 1000),
            **client_options(settings.broker),
        )
        self._partitions: list[TopicPartition] = []
        self._expected = Expected({})
        self._trouble: HeadraceError | None = None
        self._watch: asyncio.Task[None] | None = None
        self._commit_failed = False
        self.gaps = 0

    @property
    def offsets(self) -> dict[Position, int]:
        """The next offset of each partition: what was polled lies before it."""
        return dict(self._expected.offsets)

    # -- step 1 ----------------------------------------------------------------------------------------------
    async def connect(self) -> None:
        """Connect, look at the topics.

        Raises:
            HeadraceError: no broker, a missing topic.
        """
        await start_client(self._consumer, self._settings.broker)
        wanted = self._settings.topics
        needed = [*wanted.events, wanted.recommendations, wanted.dead_letters]
        check_topics(needed, await self._consumer.topics(), self._settings.broker)
        self.facts = await self._look()

    async def assign(self, stored: Mapping[Position, int], stored_ids: Mapping[str, str]) -> None:
        """Check the stored positions against the log; only then assign and seek.

        Raises:
            StateError: they don't fit together.
        """
        self.facts = await self._with_true_ends(stored)
        starts = start_offsets(self._directory, stored, stored_ids, self.facts)
        self._expected = Expected(starts)
        self._partitions = [TopicPartition(*at) for at in starts]
        self._consumer.assign(self._partitions)
        for at, offset in starts.items():
            self._consumer.seek(TopicPartition(*at), offset)
        self._watch = asyncio.create_task(self._watch_log(), name="log-watch")

    async def _look(self) -> LogFacts:
        broker = self._settings.broker
        ids = await topic_ids(broker.url, self._topics, broker.security)
        check_topics(self._topics, ids, broker)
        ranges = await offset_ranges(broker.url, self._topics, broker.security)
        return LogFacts(
            {topic: ids[topic] for topic in self._topics},
            {at: begin for at, (begin, _) in ranges.items()},
            {at: end for at, (_, end) in ranges.items()},
        )

    async def _with_true_ends(self, stored: Mapping[Position, int]) -> LogFacts:
        """The facts, where a stored offset lies beyond the end with the end that a fetch shows.

        The embedded broker's answer counts the last batch as one record.
        """
        ends = dict(self.facts.ends)
        beyond = [TopicPartition(*at) for at, end in ends.items() if stored.get(at, 0) > end]
        if beyond:
            found = await TopicReader(self._consumer, self._settings.broker, {}).ends(beyond)
            ends |= {(tp.topic, tp.partition): end for tp, end in found.items()}
        return replace(self.facts, ends=ends)

    # -- step 2 ----------------------------------------------------------------------------------------------
    async def poll(self, limit: int) -> list[ConsumerRecord]:
        """At most `limit` records that are due; none when nothing comes within `worker.poll_ms`.

        Raises:
            HeadraceError: log and state no longer fit together, or records can't be read.
        """
        if self._trouble is not None:
            raise self._trouble
        try:
            batches = await self._consumer.getmany(
                timeout_ms=self._settings.worker.poll_ms, max_records=limit
            )
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            await self._explain_range()
            raise StateError(
                f"the log does not have the offsets that are due: {error}", "Start the worker again."
            ) from error
        except TopicAuthorizationFailedError as error:
            raise HeadraceError(
                f"the broker does not let this worker read: {error}",
                f"Grant READ on {', '.join(self._topics)} to its user.",
            ) from error
        except UnsupportedCodecError as error:
            raise HeadraceError(
                f"a record's compression can't be read: {error}", "Install the package cramjam."
            ) from error
        records: list[ConsumerRecord] = []
        for tp, batch in batches.items():
            due, gaps = self._expected.due((tp.topic, tp.partition), batch)
            if gaps:
                begin = (await self._consumer.beginning_offsets([tp]))[tp]
                for gap in gaps:
                    refuse_gap(gap, begin)
                    self.gaps += gap.last - gap.first + 1
            records += due
        return records

    def lag(self) -> int:
        """Records in the log that were not polled, as of the last fetches."""
        total = 0
        for tp in self._partitions:
            end = self._consumer.highwater(tp)
            if end is not None:
                total += max(0, end - self._expected.offsets[tp.topic, tp.partition])
        return total

    async def _explain_range(self) -> None:
        facts = await self._look()
        start_offsets(self._directory, self._expected.offsets, self.facts.ids, facts)

    # -- step 7 ----------------------------------------------------------------------------------------------
    async def commit_group(self, offsets: Mapping[Position, int]) -> None:
        """Tell Kafka how far the group is. Advisory: a failure is logged once, and changes nothing."""
        try:
            await self._consumer.commit({TopicPartition(*at): offset for at, offset in offsets.items()})
            self._commit_failed = False
        except KafkaError as error:
            if not self._commit_failed:
                log.warning("lag tools see old offsets of group %r: %s", self._settings.broker.group, error)
            self._commit_failed = True

    # -- while it runs ---------------------------------------------------------------------------------------
    async def _watch_log(self) -> None:
        """Notice a broker that went away (and say so once), a topic made anew, added partitions."""
        clock = asyncio.get_running_loop()
        away_since: float | None = None
        looked = clock.time()
        while self._trouble is None:
            await asyncio.sleep(WATCH_S)
            try:
                if away_since is None and clock.time() - looked < METADATA_S and await self._answers():
                    continue
                async with asyncio.timeout(PATIENCE_S):
                    check_unchanged(self.facts, await self._look())
                looked = clock.time()
            except (BrokerUnreachableError, KafkaError, TimeoutError, OSError):
                if away_since is None:
                    away_since = clock.time()
                    log.warning(
                        "the broker at %s does not answer: waiting for it. Nothing is lost: the state stands "
                        "at the last commit, and the log is read on from there",
                        self._settings.broker.url,
                    )
            except HeadraceError as error:
                self._trouble = error
            else:
                if away_since is not None:
                    log.warning("the broker answers again after %.0f s: going on", clock.time() - away_since)
                away_since = None

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._consumer.end_offsets(self._partitions[:1])
        except (KafkaError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """Close the connection."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._consumer.stop()
