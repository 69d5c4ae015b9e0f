"""What happens between two batches: the catalogue's news, a swap of the model, refreshed lists after it.

In: what the followers have read. Out: a pipeline that knows it, and lists with the reason `refresh`. Never
runs while a batch is processed, and never holds events up for long: lists are refreshed in small portions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import ConsumerRecord

from stream_app.batch.pipeline import Pipeline
from stream_app.batch.records import Outgoing
from stream_app.store.state import Position
from stream_app.worker.first_model import FirstModel
from stream_app.worker.followers import Followers
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.live_snapshot import Swap
from stream_app.worker.publish import Publisher

log = logging.getLogger(__name__)

PORTION_S = 0.006
MAX_PORTION = 512


class InThread(Protocol):
    """Runs a function in the thread that owns the recommender and the database."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]: ...


class Between:
    """Applies the followers' news.

    Args:
        items_from: the next offset of each partition of `items`, as stored. The topic is read from its
            beginning at every start, but what was reported as a dead letter once is not reported again.
        refresh_users: how many of the users touched last get a new list after a swap.
        first_model: keeps the first model; None where this worker uses none.

    Attributes:
        items_done: the next offset of each partition of `items`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        followers: Followers,
        publisher: Publisher,
        metrics: WorkerMetrics,
        in_thread: InThread,
        *,
        items_from: Mapping[Position, int],
        refresh_users: int,
        first_model: FirstModel | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._followers = followers
        self._publisher = publisher
        self._metrics = metrics
        self._in_thread = in_thread
        self._reported = dict(items_from)
        self.items_done = dict(items_from)
        self._limit = refresh_users
        self._first_model = first_model
        self._coming: tuple[Swap, asyncio.Task[Any] | None] | None = None
        self._recent: dict[str, None] = {}
        self._stale: dict[str, None] = {}
        self._waiting: dict[str, Outgoing] = {}
        self._on_the_way: dict[str, Outgoing] = {}
        self._portion = 4

    async def apply(self) -> None:
        """Take in what came since the last call."""
        records = self._followers.take_items()
        if records:
            await self.apply_items(records)
        if self._coming is None and (swap := self._followers.take_swap()) is not None:
            self._coming = swap, self._first(swap)
        if self._coming is not None:
            swap, first = self._coming
            # A first model is copied, or read, beside the events; before the first of them nothing is held up.
            if first is not None and self._recent and not first.done():
                return
            self._coming = None
            model = None if first is None else await first
            await self._in_thread(self._pipeline.recommender.set_reranker, swap.reranker, model)
            self._metrics.set_model(swap.version)
            self._metrics.swaps.inc()
            self._stale = dict(self._recent)
            log.info(
                "model %s is live; the lists of %d users are refreshed",
                swap.version or "none",
                len(self._stale),
            )

    def _first(self, swap: Swap) -> asyncio.Task[Any] | None:
        """What keeps the first model, or has it back where it is not the one in use until now; None for neither."""
        if self._first_model is None or swap.folder is None:
            return None
        known = self._pipeline.recommender.rerankers
        if not known.first:
            return asyncio.create_task(asyncio.to_thread(self._first_model.keep, swap.version, swap.folder))
        if known.first_is_lost and swap.version != known.first:
            return asyncio.create_task(asyncio.to_thread(self._first_model.read, known.first))
        return None

    async def apply_items(self, records: Sequence[ConsumerRecord]) -> None:
        """Tell the catalogue; bad records become dead letters, once."""
        applied = await self._in_thread(self._pipeline.apply_items, records)
        for record in records:
            at = (record.topic, record.partition)
            self.items_done[at] = max(self.items_done.get(at, 0), record.offset + 1)
        await self._publisher.dead_letters(
            letter
            for letter in applied.dead_letters
            if letter.record.offset >= self._reported.get((letter.record.topic, letter.record.partition), 0)
        )

    def touched(self, users: Iterable[str]) -> None:
        """These users have just got lists."""
        for user in users:
            self.erased(user)
            self._recent[user] = None
        while len(self._recent) > self._limit:
            del self._recent[next(iter(self._recent))]

    def erased(self, user: str) -> None:
        """This user is to have no list but those that are made from now on."""
        for users in (self._recent, self._stale, self._waiting, self._on_the_way):
            users.pop(user, None)

    @property
    def refresh_is_due(self) -> bool:
        """Whether lists wait to be refreshed."""
        return bool(self._stale)

    async def refresh(self) -> bool:
        """Score one portion anew, those touched last first; whether there is something to commit now."""
        users = [self._stale.popitem()[0] for _ in range(min(self._portion, len(self._stale)))]
        started = time.perf_counter()
        lists = await self._in_thread(self._pipeline.refresh, users)
        took = time.perf_counter() - started
        if took < PORTION_S / 2:
            self._portion = min(MAX_PORTION, 2 * self._portion)
        elif took > PORTION_S:
            self._portion = max(1, self._portion // 2)
        self._waiting.update((one.user_id, one) for one in lists)
        return bool(lists)

    def commit_begins(self) -> None:
        """What was refreshed so far has its revisions in the commit that begins now."""
        self._on_the_way |= self._waiting
        self._waiting = {}

    async def publish_refreshed(self) -> bool:
        """Send the refreshed lists whose revisions are committed now; whether there were any.

        Were they sent before, a crash would take their revisions back, and what is published under the same
        numbers afterwards would look like a repeat. What is next is scored against them from here on.
        """
        ready, self._on_the_way = self._on_the_way, {}
        if ready:
            await self._in_thread(self._pipeline.published, ready.values())
        await self._publisher.recommendations(ready.values())
        return bool(ready)
