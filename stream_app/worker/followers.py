"""What every worker must know beside the events: the catalogue, the live model, pause and resume.

In: the topics `items`, `models` and `control`, without a group, from their beginnings to their ends and on.
Out: item records that wait until they are taken between two batches, a loaded snapshot, `paused`. Never
touches the recommender, never commits an offset, and never lets a bad snapshot replace a good one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

log = logging.getLogger(__name__)

IDLE_MS = 100
MAX_WAITING = 20_000
PAUSE, RESUME = "pause", "resume"
EVERY_GROUP = "all"


LoadSnapshot = Callable[[Path, str | None], Any]
"""A snapshot's folder, the digest of its manifest → its re-ranker."""


@dataclass(frozen=True, slots=True)
class Swap:
    """A re-ranker to use from now on; None for none."""

    version: str
    reranker: Any


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
        self._load = load
        self._switches = Switches(settings.broker.group)
        self._models = ModelsView()
        self._items: list[ConsumerRecord] = []
        self._swap: Swap | None = None
        self._wanted = ""
        self._ends: dict[TopicPartition, int] = {}
        self._behind: set[TopicPartition] = set()
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self.failure: BaseException | None = None
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

    def take_items(self) -> Sequence[ConsumerRecord]:
        """Item records that came since the last call, in the order of each partition."""
        taken, self._items = self._items, []
        self._room.set()
        return taken

    def take_swap(self) -> Swap | None:
        """A re-ranker that was loaded since the last call."""
        swap, self._swap = self._swap, None
        return swap

    async def catch_up(self, apply: Callable[[Sequence[ConsumerRecord]], Awaitable[None]]) -> None:
        """Give everything up to the topics' present ends to `apply`, and have the live snapshot loaded.

        Raises:
            HeadraceError: a topic is missing or can't be read.
        """
        while True:
            self._news.clear()
            if self.failure is not None:
                raise self.failure
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
        except (HeadraceError, KafkaError) as error:
            self.failure = error
            self._news.set()

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
        if self._behind:
            reached = [tp for tp in self._behind if await self._consumer.position(tp) >= self._ends[tp]]
            if not any(tp.topic == topics.models for tp in self._behind - set(reached)):
                await self._follow_pointer()
            self._behind.difference_update(reached)
        else:
            await self._follow_pointer()
        self._news.set()

    async def _follow_pointer(self) -> None:
        live = self._models.live.version if self._models.live else ""
        if live == self._wanted:
            return
        self._wanted = live
        if not live:
            self._swap = Swap("", None)
            return
        snapshots = self._settings.worker.snapshots
        if snapshots is None or self._load is None:
            log.warning(
                "model %s is live, but this worker goes on without: it has no --snapshots folder", live
            )
            return
        folder = snapshots / live
        manifest = self._models.manifests.get(live)
        try:
            reranker = await asyncio.to_thread(self._load, folder, manifest.sha256 if manifest else None)
        except Exception as error:
            self._metrics.snapshot_errors.inc()
            log.error(
                "snapshot %s can't be used, the worker stays with the model it has: %s. `headrace models "
                "rollback` makes an earlier one live",
                folder,
                error,
            )
            return
        self._swap = Swap(live, reranker)

    async def on_stop(self) -> None:
        self._room.set()
        await self._consumer.stop()
