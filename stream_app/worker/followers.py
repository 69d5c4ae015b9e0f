"""What every worker must know beside the events: the catalogue, the live model, pause and resume.

In: the topics `items`, `models` and `control`, without a group, from their beginnings to their ends and on.
Out: item records that wait until they are taken between two batches, a loaded snapshot, `paused`. Never
touches the recommender, never commits an offset, and never goes on unheard: who asks is told what ended it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import faust
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stream_app.brokers.connection import check_topics, client_options, start_client
from stream_app.brokers.topic_facts import offset_ranges
from stream_app.brokers.topic_reader import TopicReader
from stream_app.errors import HeadraceError
from stream_app.events import VERSION, Control
from stream_app.settings import Settings
from stream_app.training.model_versions import ModelsView
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.live_snapshot import LiveSnapshot, LoadSnapshot, Swap

log = logging.getLogger(__name__)

IDLE_MS = 100
MAX_WAITING = 20_000
PAUSE, RESUME = "pause", "resume"
EVERY_GROUP = "all"


class FollowError(HeadraceError):
    """The topics beside the events can't be read any more."""


class Switches:
    """Pause and resume, folded from `control`. A scope is a group's name, or `all`; one that is paused is
    enough."""

    def __init__(self, group: str) -> None:
        self._scopes = {group: False, EVERY_GROUP: False}

    @property
    def paused(self) -> bool:
        return any(self._scopes.values())

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in a record; one for another scope, or that can't be read, changes nothing."""
        scope = (key or b"").decode(errors="replace")
        if scope not in self._scopes:
            return
        if value is None:
            self._set(scope, False, "")
            return
        try:
            record = msgspec.json.decode(value, type=Control)
        except msgspec.MsgspecError as error:
            log.warning("a record on the control topic for scope %r is ignored: %s", scope, error)
            return
        if record.v != VERSION:
            log.warning("a record on the control topic for scope %r is ignored: it has v %d", scope, record.v)
        elif record.action in (PAUSE, RESUME):
            self._set(scope, record.action == PAUSE, record.by)
        else:
            log.warning(
                "action %r for scope %r is ignored: it is neither pause nor resume", record.action, scope
            )

    def _set(self, scope: str, paused: bool, by: str) -> None:
        before, self._scopes[scope] = self.paused, paused
        if self.paused != before:
            log.info(
                "%s by a record on the control topic for scope %r%s",
                "paused" if self.paused else "resumed",
                scope,
                f" ({by})" if by else "",
            )


class Followers(faust.Service):
    """Follows the three topics while it runs.

    Args:
        load: raises when the snapshot is corrupt; called in a thread. None where this worker uses none.
    """

    mundane_level = "debug"

    def __init__(self, settings: Settings, metrics: WorkerMetrics, load: LoadSnapshot | None) -> None:
        super().__init__()
        self._settings = settings
        self._metrics = metrics
        self._switches = Switches(settings.broker.group)
        self._models = ModelsView()
        self._items: list[ConsumerRecord] = []
        self._live = LiveSnapshot(settings.worker.snapshots, load, metrics)
        self._ends: dict[TopicPartition, int] = {}
        self._behind: set[TopicPartition] = set()
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._failure: HeadraceError | None = None
        self._consumer = AIOKafkaConsumer(
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=IDLE_MS,
            **client_options(settings.broker),
        )

    # -- for the worker --------------------------------------------------------------------------------------
    @property
    def paused(self) -> bool:
        """Whether an operator has paused this group."""
        return self._switches.paused

    def check(self) -> None:
        """Whether the topics are still followed; what stopped that should stop the worker.

        Raises:
            HeadraceError: a topic can't be read; the catalogue, the model and a pause would stay as they are.
        """
        if self._failure is not None:
            raise self._failure

    def take_items(self) -> Sequence[ConsumerRecord]:
        """Item records that came since the last call, in the order of each partition."""
        taken, self._items = self._items, []
        self._room.set()
        return taken

    def take_swap(self) -> Swap | None:
        """A re-ranker that was loaded since the last call."""
        return self._live.take()

    async def catch_up(self, apply: Callable[[Sequence[ConsumerRecord]], Awaitable[None]]) -> None:
        """Give everything up to the topics' present ends to `apply`, and have the live snapshot loaded.

        Raises:
            HeadraceError: a topic is missing or can't be read.
        """
        while True:
            self._news.clear()
            self.check()
            if self._items:
                await apply(self.take_items())
            elif not self._behind:
                return
            else:
                await self._news.wait()

    # -- the service -----------------------------------------------------------------------------------------
    async def on_start(self) -> None:
        """Find the topics' beginnings and ends.

        Raises:
            HeadraceError: no broker, a missing topic.
        """
        broker, topics = self._settings.broker, self._settings.topics
        names = [topics.items, topics.models, topics.control]
        await start_client(self._consumer, broker)
        check_topics(names, await self._consumer.topics(), broker)
        ranges = await offset_ranges(broker.url, names, broker.security)
        begins = {TopicPartition(*at): begin for at, (begin, _) in ranges.items()}
        self._ends = await TopicReader(self._consumer, broker, {}).ends(begins)
        self._consumer.assign(list(begins))
        for tp, begin in begins.items():
            self._consumer.seek(tp, begin)
        self._behind = {tp for tp, end in self._ends.items() if begins[tp] < end}

    @faust.Service.task
    async def _follow(self) -> None:
        try:
            while not self.should_stop:
                await self._turn()
        except Exception as error:
            if self.should_stop:  # the connection is being closed
                return
            self._failure = self._explained(error)
            log.error("%s", self._failure.message, exc_info=not isinstance(error, HeadraceError | KafkaError))
            self._news.set()

    def _explained(self, error: Exception) -> HeadraceError:
        if isinstance(error, HeadraceError):
            return error
        topics = self._settings.topics
        return FollowError(
            f"{topics.items}, {topics.models} and {topics.control} can't be followed: "
            f"{type(error).__name__}: {error}",
            "May this worker's user read them? Start it again: it goes on from the last commit.",
        )

    async def _turn(self) -> None:
        while len(self._items) >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()
        topics = self._settings.topics
        try:
            batches = await self._consumer.getmany(timeout_ms=IDLE_MS, max_records=MAX_WAITING)
        except OffsetOutOfRangeError:
            log.warning(
                "items, models or control no longer has the offsets that are due: read again from the start"
            )
            await self._consumer.seek_to_beginning()
            return
        for tp, records in batches.items():
            if tp.topic == topics.items:
                self._items += records
                continue
            fold = self._switches.apply if tp.topic == topics.control else self._models.apply
            for record in records:
                fold(record.key, record.value)
        self._metrics.models_ignored.set(self._models.unreadable)
        if self._behind:
            reached = [tp for tp in self._behind if await self._consumer.position(tp) >= self._ends[tp]]
            if not any(tp.topic == topics.models for tp in self._behind - set(reached)):
                await self._live.follow(self._models)
            self._behind.difference_update(reached)
        else:
            await self._live.follow(self._models)
        self._news.set()

    async def on_stop(self) -> None:
        self._room.set()
        await self._consumer.stop()
