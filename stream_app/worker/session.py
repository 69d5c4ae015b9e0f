"""Steps 2 to 7 of the commit protocol, turn by turn, while everything is open (see `ingest.Ingest`).

In: an open state, its pipeline, the reader, the publisher, the followers. Out: batches processed and
committed. Never opens or closes what it was given."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aiokafka import ConsumerRecord

from stream_app.batch.pipeline import MAX_BATCH, Pipeline
from stream_app.batch.refusals import DeadLetter
from stream_app.errors import HeadraceError
from stream_app.settings import Settings
from stream_app.store.state import Changes, Position, StateStore
from stream_app.worker.between import Between, InThread
from stream_app.worker.failpoints import Failpoints
from stream_app.worker.followers import Followers
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.log_reader import LogReader
from stream_app.worker.publish import LOG_APPEND_TIME, Publisher
from stream_app.worker.read_ahead import Polled, ReadAhead, ends_of, polled
from stream_app.worker.suspects import Marker, place

log = logging.getLogger(__name__)

FIGURES_S = 1.0
PATIENCE_S = 0.5
"""A commit that is due waits so long for a moment in which no list is under way; then the batches wait for it."""
PIPELINE_ERROR = "pipeline_error"
SOON = 96
"""A batch of so many events is about as cheap, an event, as a larger one: some 50 ms of work."""


class PipelineError(HeadraceError):
    """Something unexpected happened while records were processed."""


class Session:
    """One stretch of work, from the lease given to the lease taken.

    Args:
        in_thread: runs what touches the recommender; one thing after the other.
        beside: runs the writes, while `in_thread` goes on.

    Attributes:
        backlog: records that were polled and not yet processed.
    """

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        pipeline: Pipeline,
        reader: LogReader,
        publisher: Publisher,
        followers: Followers,
        between: Between,
        marker: Marker,
        metrics: WorkerMetrics,
        failpoints: Failpoints,
        in_thread: InThread,
        beside: InThread,
    ) -> None:
        self._worker = settings.worker
        self._store = store
        self._pipeline = pipeline
        self._reader = reader
        self._publisher = publisher
        self._followers = followers
        self._marker = marker
        self._metrics = metrics
        self._reach = failpoints.reach
        self._in_thread = in_thread
        self._beside = beside
        self._between = between
        self._done = reader.offsets
        self._moved = False
        self._committed_at = time.monotonic()
        self._not_before = 0.0
        self._polled_at = 0.0
        self._figures_at = 0.0
        self._writing: asyncio.Task[dict[Position, int]] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._careful = marker.restarts >= settings.worker.restarts_before_bisect
        self._ahead = ReadAhead(self._poll, pipeline.decoder.decode)
        self.backlog: list[ConsumerRecord] = []

    @property
    def reads_ahead(self) -> bool:
        """Whether a batch beyond the one in hand was begun."""
        return self._ahead.begun

    async def work(self, go_on: Callable[[], bool]) -> None:
        """Turn after turn while `go_on`.

        Raises:
            HeadraceError: what stops the worker. Nothing was written after it.
        """
        if self._store.offsets.keys().isdisjoint(self._done):
            self._moved = True
            await self.commit()  # the topics' ids and where reading began, before anything is learned
            await self._written()
        try:
            while go_on():
                await self._turn(go_on)
        finally:  # a write under way is of before whatever ends the work
            if self._writing is not None:
                await asyncio.shield(asyncio.gather(self._writing, return_exceptions=True))

    async def finish(self) -> None:
        """A last commit, told to Kafka too."""
        await self.commit(whole=True)
        if self._telling is not None:
            await self._telling
        await self._written()
        if self._telling is not None:
            await self._telling

    async def close(self) -> None:
        """Let go of what was read and not worked on."""
        await self._ahead.close()

    async def _turn(self, go_on: Callable[[], bool]) -> None:
        await self._between.apply()
        if self._writing is not None and self._writing.done():
            await self._written()
        if self._followers.paused:
            if self._commit_is_due():
                await self.commit()
            await asyncio.sleep(self._worker.poll_ms / 1000)
        else:
            batch = self._take_backlog() or await self._ahead.take()
            # Here, and not right after a batch: its lists were acknowledged while the next one was waited for.
            if self._commit_is_due():
                await self.commit()
                if not go_on():  # it may have waited long, for a broker that was away
                    self.backlog[:0] = batch.records
                    return
            if batch.records:
                await self._process(batch)
            if self._between.refresh_is_due and self._lag() <= self._worker.batch_events:
                self._moved = await self._between.refresh() or self._moved
        self._show_figures()

    # -- step 2 ----------------------------------------------------------------------------------------------
    async def _poll(self) -> list[ConsumerRecord]:
        self._reach("2-before")
        if (early := self._polled_at + self._worker.linger_ms / 1000 - time.monotonic()) > 0:
            await asyncio.sleep(early)
        records = await self._reader.poll(self._limit(self._lag()))
        if records:
            self._polled_at = time.monotonic()
            self._reach("2-after")
        return records

    def _limit(self, lag: int) -> int:
        """Records of the next batch at most: nothing of a batch is published before all of it is done, so that small
        ones are sooner out, and large ones are cheaper where much waits."""
        if lag >= self._worker.lag_coalesce:
            return MAX_BATCH
        return min(self._worker.batch_events, max(SOON, lag // 8))

    def _lag(self) -> int:
        """Records that wait, in the log or in memory."""
        return self._reader.lag() + self._ahead.waiting + len(self.backlog)

    def _take_backlog(self) -> Polled | None:
        """The next records that were polled in the search for a culprit: suspects one by one."""
        if not self.backlog:
            return None
        suspects = self._careful and self._marker.is_suspect(self.backlog[0])
        count = 1 if suspects else self._worker.batch_events
        taken, self.backlog = self.backlog[:count], self.backlog[count:]
        return polled(taken, time.time() * 1000)

    # -- steps 3 to 5 ----------------------------------------------------------------------------------------
    async def _process(self, batch: Polled) -> None:
        culprits = self._marker.culprits
        good = batch
        if culprits:
            await self._divert([record for record in batch.records if place(record) in culprits])
            spared = [record for record in batch.records if place(record) not in culprits]
            good = polled(spared, batch.received_ms)
        while good.records:
            taken = await self._process_good(good)
            if taken == len(good.records):
                self._advance(good.ends)
                break
            self._advance(ends_of(good.records[:taken]))
            good = polled(good.records[taken:], batch.received_ms)
            await self.commit()
        if culprits:
            self._advance(batch.ends)

    async def _process_good(self, batch: Polled) -> int:
        records = batch.records
        lag = self._lag()
        rerank = lag < self._worker.lag_skip_rerank
        coalesce = lag >= self._worker.lag_coalesce
        if lag >= self._worker.batch_events and not self._careful:
            self._ahead.start()
        self._metrics.shedding.set((not rerank) + coalesce)
        self._marker.batch(batch.ends)
        started = time.perf_counter()
        work = partial(
            self._pipeline.process,
            records,
            received_ms=batch.received_ms,
            decoded=batch.decoded,
            rerank=rerank,
            coalesce=coalesce,
        )
        try:
            processed = await self._in_thread(work)
        except HeadraceError:
            raise
        except Exception as error:
            if self._careful and len(records) == 1:
                self._marker.blame(place(records[0]), traceback.format_exc())
            log.exception("processing %s failed", _extent(records))
            raise PipelineError(
                f"{_extent(records)} could not be processed: {type(error).__name__}: {error}",
                "Nothing was written: start the worker again and it redoes them from the log. If one record is "
                f"at fault, it is found after {self._worker.restarts_before_bisect} restarts, dead-lettered.",
            ) from error
        self._metrics.batch_ms.observe((time.perf_counter() - started) * 1000)
        self._metrics.counted(processed.counts)
        self._reach("4-after")
        log_append = records[0].timestamp_type == LOG_APPEND_TIME
        await self._publisher.recommendations(processed.recommendations, log_append=log_append)
        await self._publisher.dead_letters(processed.dead_letters)
        for one in processed.recommendations:
            if one.value is None:
                self._between.erased(one.user_id)
            else:
                self._between.touched((one.user_id,))
        self._reach("5-sent")
        return int(processed.taken)

    async def _divert(self, culprits: Sequence[ConsumerRecord]) -> None:
        why = self._marker.culprits
        letters = [DeadLetter(record, PIPELINE_ERROR, "", why[place(record)]) for record in culprits]
        for letter in letters:
            log.error("a record that breaks the pipeline every time is dead-lettered: %s", letter)
        await self._publisher.dead_letters(letters)

    def _advance(self, ends: Mapping[Position, int]) -> None:
        self._done.update(ends)
        self._moved = True

    # -- steps 6 and 7 ---------------------------------------------------------------------------------------
    def _commit_is_due(self) -> bool:
        now = time.monotonic()
        if (
            not self._moved
            or now < self._not_before
            or (self._writing is not None and not self._writing.done())
        ):
            return False
        since = now - self._committed_at
        if since >= self._worker.commit_s + PATIENCE_S:
            return True
        if since >= self._worker.commit_s and self._publisher.quiet:
            return True
        return bool(self._pipeline.recommender.dirty_bytes >= self._worker.commit_bytes)

    async def commit(self, *, whole: bool = False) -> None:
        """Step 5 (its end), and what changed so far is on its way to the disk; steps 6 and 7 end beside the batches.

        A whole one leaves no row to be made whole at the next start.

        Raises:
            StateError: the commit before this one failed.
        """
        await self._written()
        if not self._moved and not (whole and self._pipeline.recommender.owes_rows):
            return
        self._reach("5-before")
        await self._publisher.acknowledged()
        self._reach("5-after")
        self._reach("6-before")
        started = time.monotonic()
        changes = await self._in_thread(self._take, whole)
        self._between.commit_begins()
        self._moved = False
        self._committed_at = time.monotonic()
        self._metrics.commit_ms.observe((self._committed_at - started) * 1000)
        self._writing = asyncio.create_task(
            self._write(changes, dict(self._done), dict(self._between.items_done)), name="commit"
        )

    def _take(self, whole: bool) -> Changes:
        recommender = self._pipeline.recommender
        changes = recommender.take_dirty(whole=whole)
        self._store.announce(changes)
        recommender.mark_clean()
        return changes

    async def _write(
        self, changes: Changes, done: dict[Position, int], items: dict[Position, int]
    ) -> dict[Position, int]:
        """Step 6; what is committed of the input topics."""
        started = time.monotonic()
        size = await self._beside(self._store.commit, changes, done | items, self._reader.facts.ids)
        self._reach("6-after")
        ended = time.monotonic()
        self._not_before = ended + (ended - started) * (1 / max(self._worker.commit_share, 0.001) - 1)
        self._metrics.commit_write_ms.observe((ended - started) * 1000)
        self._metrics.commit_bytes.inc(size)
        self._marker.committed(done)
        return done

    async def _written(self) -> None:
        """What waits for the write under way, if there is one.

        Raises:
            StateError: it failed.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        done = await asyncio.shield(writing)
        await self._between.publish_refreshed()
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_group(done))

    async def _tell_group(self, offsets: dict[Position, int]) -> None:
        self._reach("7-before")
        await self._reader.commit_group(offsets)
        self._reach("7-after")

    # -- figures ---------------------------------------------------------------------------------------------
    def _show_figures(self) -> None:
        now = time.monotonic()
        if now - self._figures_at < FIGURES_S:
            return
        self._figures_at = now
        recommender = self._pipeline.recommender
        self._metrics.lag.set(self._lag())
        self._metrics.users.set(len(recommender.users))
        self._metrics.set_quality(recommender.metrics())


def _extent(records: Sequence[ConsumerRecord]) -> str:
    """Which records: `events-0 offsets 3 to 17, …`."""
    spans: dict[str, tuple[int, int]] = {}
    for record in records:
        at = f"{record.topic}-{record.partition}"
        first, _ = spans.get(at, (record.offset, 0))
        spans[at] = (first, record.offset)
    return ", ".join(f"{at} offsets {first} to {last}" for at, (first, last) in spans.items())
