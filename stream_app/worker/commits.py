"""Steps 5 (its end) to 7 of the commit protocol: taken between two batches, written beside the next ones.

In: what the recommender learned, how far each partition was worked on. Out: one batch a commit in the state, refreshed
lists whose revisions it has, the group's offsets told to Kafka. Never begins a commit before the last one is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from stream_app.settings import Settings
from stream_app.store.state import Changes, Position, StateStore
from stream_app.worker.between import Between, InThread
from stream_app.worker.failpoints import Failpoints
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.log_reader import LogReader
from stream_app.worker.publish import Publisher
from stream_app.worker.suspects import Marker

if TYPE_CHECKING:
    from models.pipeline.recommender import Recommender

PATIENCE_S = 0.5
"""A commit that is due waits so long for a moment in which no list is under way; then the batches wait for it."""


class Commits:
    """The commits of one session.

    Args:
        in_thread: runs what touches the recommender; one thing after the other.
        beside: runs the writes, while `in_thread` goes on.
        clock: seconds, of whatever beginning; never goes back.

    Attributes:
        moved: whether there is something to commit.
    """

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        recommender: Recommender,
        reader: LogReader,
        publisher: Publisher,
        between: Between,
        marker: Marker,
        metrics: WorkerMetrics,
        failpoints: Failpoints,
        in_thread: InThread,
        beside: InThread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = settings.worker
        self._store = store
        self._recommender = recommender
        self._reader = reader
        self._publisher = publisher
        self._between = between
        self._marker = marker
        self._metrics = metrics
        self._reach = failpoints.reach
        self._in_thread = in_thread
        self._beside = beside
        self._clock = clock
        self._done = reader.offsets
        self._begun_at = clock()
        self._not_before = 0.0
        self._writing: asyncio.Task[dict[Position, int]] | None = None
        self._telling: asyncio.Task[None] | None = None
        self.moved = False

    def advance(self, ends: Mapping[Position, int]) -> None:
        """All before these offsets is worked on."""
        self._done.update(ends)
        self.moved = True

    @property
    def are_due(self) -> bool:
        """Whether the next one should begin."""
        now = self._clock()
        if not self.moved or now < self._not_before or self._is_writing:
            return False
        since = now - self._begun_at
        if since >= self._worker.commit_s + PATIENCE_S:
            return True
        if since >= self._worker.commit_s and self._publisher.quiet:
            return True
        return bool(self._recommender.dirty_bytes >= self._worker.commit_bytes)

    @property
    def _is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    async def first(self) -> None:
        """Write the topics' ids and where reading began, before anything is learned, where that was never written."""
        if self._store.offsets.keys().isdisjoint(self._done):
            self.moved = True
            await self.begin()
            await self._written()

    async def begin(self, *, whole: bool = False) -> None:
        """Take what changed so far; it is on its way to the disk then.

        A whole one leaves no row to be made whole at the next start.

        Raises:
            StateError: the commit before this one failed.
        """
        await self._written()
        if not self.moved and not (whole and self._recommender.owes_rows):
            return
        self._reach("5-before")
        await self._publisher.acknowledged()
        self._reach("5-after")
        self._reach("6-before")
        started = self._clock()
        changes = await self._in_thread(self._take, whole)
        self._between.commit_begins()
        self.moved = False
        self._begun_at = self._clock()
        self._metrics.commit_ms.observe((self._begun_at - started) * 1000)
        self._writing = asyncio.create_task(
            self._write(changes, dict(self._done), dict(self._between.items_done)), name="commit"
        )

    async def look(self) -> None:
        """Steps 6 (its end) and 7, where a write has ended.

        Raises:
            StateError: it failed.
        """
        if not self._is_writing:
            await self._written()

    async def settle(self) -> None:
        """Wait for a write under way; what became of it is raised by whoever comes next."""
        if self._writing is not None:
            await asyncio.shield(asyncio.gather(self._writing, return_exceptions=True))

    async def last(self) -> None:
        """Commit everything, and tell Kafka."""
        await self.begin(whole=True)
        await self._told()
        await self._written()
        if self.moved:
            await self.begin(whole=True)
            await self._written()
        await self._told()

    def _take(self, whole: bool) -> Changes:
        changes = self._recommender.take_dirty(whole=whole)
        self._store.announce(changes)
        self._recommender.mark_clean()
        return changes

    async def _write(
        self, changes: Changes, done: dict[Position, int], items: dict[Position, int]
    ) -> dict[Position, int]:
        """Step 6; what is committed of the input topics."""
        started = self._clock()
        size = await self._beside(self._store.commit, changes, done | items, self._reader.facts.ids)
        self._reach("6-after")
        ended = self._clock()
        self._not_before = ended + (ended - started) * (1 / max(self._worker.commit_share, 0.001) - 1)
        self._metrics.commit_write_ms.observe((ended - started) * 1000)
        self._metrics.commit_bytes.inc(size)
        self._marker.committed(done)
        return done

    async def _written(self) -> None:
        """What waits for the write under way, if there is one."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        done = await asyncio.shield(writing)
        if await self._between.publish_refreshed():
            self.moved = True  # what their users are shown is for the next commit
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_group(done))

    async def _told(self) -> None:
        if self._telling is not None:
            await self._telling

    async def _tell_group(self, offsets: dict[Position, int]) -> None:
        self._reach("7-before")
        await self._reader.commit_group(offsets)
        self._reach("7-after")
