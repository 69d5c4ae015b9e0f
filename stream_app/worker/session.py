"""Steps 2 to 5 of the commit protocol, turn by turn, and when 6 and 7 come, while everything is open (see
`ingest.Ingest` and `commits.Commits`).

In: an open state, its pipeline, the reader, the publisher, the followers. Out: batches processed and
committed. Never opens or closes what it was given."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial

from aiokafka import ConsumerRecord

from models.state.sequences import MAX_BATCH
from stream_app.batch.pipeline import Pipeline
from stream_app.batch.refusals import DeadLetter
from stream_app.errors import HeadraceError
from stream_app.settings import Settings
from stream_app.worker.between import Between, InThread
from stream_app.worker.commits import Commits
from stream_app.worker.failpoints import Failpoints
from stream_app.worker.followers import Followers
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.log_reader import LogReader
from stream_app.worker.publish import Publisher
from stream_app.worker.read_ahead import Polled, ReadAhead, ends_of, polled
from stream_app.worker.suspects import Marker, place

log = logging.getLogger(__name__)

FIGURES_S = 1.0
PIPELINE_ERROR = "pipeline_error"
SOON = 96
"""A batch of so many events is about as cheap, an event, as a larger one: some 50 ms of work."""


class PipelineError(HeadraceError):
    """Something unexpected happened while records were processed."""


class Session:
    """One stretch of work, from the lease given to the lease taken.

    Args:
        commits: steps 6 and 7, which say themselves when they are due.
        in_thread: runs what touches the recommender; one thing after the other.

    Attributes:
        backlog: records that were polled and not yet processed.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        reader: LogReader,
        publisher: Publisher,
        followers: Followers,
        between: Between,
        commits: Commits,
        marker: Marker,
        metrics: WorkerMetrics,
        failpoints: Failpoints,
        in_thread: InThread,
    ) -> None:
        self._worker = settings.worker
        self._pipeline = pipeline
        self._reader = reader
        self._publisher = publisher
        self._followers = followers
        self._marker = marker
        self._metrics = metrics
        self._reach = failpoints.reach
        self._in_thread = in_thread
        self._between = between
        self._commits = commits
        self._polled_at = 0.0
        self._figures_at = 0.0
        self._careful = marker.restarts >= settings.worker.restarts_before_bisect
        self._ahead = ReadAhead(self._poll, pipeline.decoder.decode)
        self.backlog: list[ConsumerRecord] = []

    async def work(self, go_on: Callable[[], bool]) -> None:
        """Turn after turn while `go_on`.

        Raises:
            HeadraceError: what stops the worker. Nothing was written after it.
        """
        await self._commits.first()
        try:
            while go_on():
                await self._turn(go_on)
        finally:  # a write under way is of before whatever ends the work
            await self._commits.settle()

    async def finish(self) -> None:
        """A last commit, told to Kafka too."""
        await self._commits.last()

    async def close(self) -> None:
        """Let go of what was read and not worked on."""
        await self._ahead.close()

    async def _turn(self, go_on: Callable[[], bool]) -> None:
        self._followers.check()
        await self._between.apply()
        await self._commits.look()
        if self._followers.paused:
            if self._commits.are_due:
                await self._commits.begin()
            await asyncio.sleep(self._worker.poll_ms / 1000)
        else:
            batch = self._take_backlog() or await self._ahead.take()
            # Here, and not right after a batch: its lists were acknowledged while the next one was waited for.
            if self._commits.are_due:
                await self._commits.begin()
                if not go_on():  # it may have waited long, for a broker that was away
                    self.backlog[:0] = batch.records
                    return
            if batch.records:
                await self._process(batch)
            caught_up = self._lag() <= self._worker.batch_events
            if self._between.refresh_is_due and caught_up and await self._between.refresh():
                self._commits.moved = True
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
                self._commits.advance(good.ends)
                break
            self._commits.advance(ends_of(good.records[:taken]))
            good = polled(good.records[taken:], batch.received_ms)
            await self._commits.begin()
        if culprits:
            self._commits.advance(batch.ends)

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
        await self._publisher.recommendations(processed.recommendations)
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
