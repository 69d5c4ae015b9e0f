"""The Faust service that keeps the commit protocol.

In: the lease, the input topics, the state folder. Out: a state that is exact, lists and dead letters. Never
writes state without the offset it stands for, and never writes after something unexpected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, TypeVar

import faust
from aiokafka import ConsumerRecord

from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings
from stream_app.store.state import StateStore
from stream_app.store.state_folder import FolderLock
from stream_app.worker.between import Between
from stream_app.worker.commits import Commits
from stream_app.worker.failpoints import Failpoints
from stream_app.worker.first_model import FirstModel
from stream_app.worker.followers import Followers
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.garbage import spare_what_is_there
from stream_app.worker.lease import Lease
from stream_app.worker.live_snapshot import LoadSnapshot
from stream_app.worker.log_reader import LogReader
from stream_app.worker.publish import Publisher
from stream_app.worker.session import PipelineError, Session
from stream_app.worker.suspects import Marker, NotTheDataError, find_culprits
from stream_app.worker.trial import Trial, read_suspects

log = logging.getLogger(__name__)
T = TypeVar("T")

STOP_S = 10.0
"""How long a stop waits for the batch in hand and its commit."""
CLOSE_S = 3.0

Build = Callable[[StateStore, int], Pipeline]
"""An open state and the number of partitions → a pipeline that has loaded it."""


class Ingest(faust.Service):
    """Owns all partitions of the input topics while this worker has the group's lease.

    1. Take the lease, open the state, read the topics' ids and offset ranges, and compare: another topic id
       than the stored one, or a stored offset outside the range, stops the worker with the ways out. Only
       then assign by hand and seek to the stored offsets (`log_reader`, `positions`).
    2. Poll a batch. Drop records below the expected offset; a gap above it is accepted only when the broker
       still holds the gap's first offset: then compaction or transactions explain it.
    3. Decode and validate; what is bad goes to the dead letters and is counted, never raised.
    4. Load the users of the batch; learn in order, then recommend (`pipeline`).
    5. Publish lists and dead letters; their acknowledgements are awaited before the next commit, not before
       the next batch (`publish`).
    6. Commit: one batch with every dirty row, the models' figures and the next offset of every partition
       (`state`). Due after `worker.commit_s`, then in the next moment without a list under way, but half a
       second later at most; or after `worker.commit_bytes`; at most `worker.commit_share` of the time. What
       is committed is taken between two batches, and written while the next ones are worked on; one write
       ends before the next commit begins. What lies between two commits is redone from the log after a crash.
    7. Commit to Kafka under the group's name: advisory, for lag tools.
    8. On anything unexpected: write nothing, stop with a clear message, let the supervisor restart. A marker
       names the batch; after `worker.restarts_before_bisect` restarts on the same one it is gone through
       record by record on a copy of the state, and the culprit is dead-lettered (`suspects`).

    Step 1 and the end are here; a `Session` does 2 to 5 over and over, its `Commits` 6 and 7.
    """

    mundane_level = "debug"

    def __init__(
        self,
        settings: Settings,
        lease: Lease,
        lock: FolderLock,
        build: Build,
        load_snapshot: LoadSnapshot | None,
        metrics: WorkerMetrics,
        failpoints: Failpoints,
        *,
        fetch_wait_ms: int,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._lease = lease
        self._lock = lock
        self._build = build
        self._load_snapshot = load_snapshot
        self._metrics = metrics
        self._failpoints = failpoints
        self._fetch_wait_ms = fetch_wait_ms
        # One thread owns the recommender and opens, reads and closes the database: what it does is in one order. The
        # other one writes commits.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pipeline")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._work: asyncio.Task[None] | None = None
        self._in_session = False
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None

    # -- life ------------------------------------------------------------------------------------------------
    @faust.Service.task
    async def _main(self) -> None:
        self._work = asyncio.create_task(self._work_on(), name="ingest")
        try:
            await self._work
        except asyncio.CancelledError:
            log.debug("ingest was cancelled while it waited")
        except Exception as error:
            self.failure = error
        finally:
            self.ended.set()

    async def on_stop(self) -> None:
        """Let the batch in hand be finished and committed; what only waits is cancelled."""
        if self._work is not None:
            if not self._in_session:
                self._work.cancel()
            try:
                async with asyncio.timeout(STOP_S):
                    await self.ended.wait()
            except TimeoutError:
                log.warning(
                    "the broker does not answer: the last batches stay uncommitted, and are redone from the log"
                )
                self._work.cancel()
                await self.ended.wait()
        self._thread.shutdown()
        self._writer.shutdown()

    def _go_on(self) -> bool:
        return not self.should_stop and not self._lease.unsettled and self._lease.held

    async def _work_on(self) -> None:
        while not self.should_stop:
            await self._lease.wait_held()
            self._metrics.lease.set(1)
            try:
                await self._own()
            finally:
                self._metrics.lease.set(0)

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _beside(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._writer, function, *arguments)

    # -- step 1, and the end ---------------------------------------------------------------------------------
    async def _own(self) -> None:
        """From the lease given to the lease taken, or the stop."""
        reach = self._failpoints.reach
        directory = self._settings.worker.state_dir
        reach("1-before")
        store = await self._in_thread(partial(StateStore.open, directory, self._settings, lock=self._lock))
        reach("1-opened")
        store.before_users = partial(reach, "3-after")
        marker = Marker(directory)
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self._in_thread, store.close)
            opened.push_async_callback(
                self._beside, lambda: None
            )  # after a write that nobody waits for any more
            try:
                await self._session(store, marker, opened)
                marker.clean()
            except (PipelineError, NotTheDataError):
                reach("8-before")
                marker.close()
                reach("8-after")
                raise
            except (Exception, asyncio.CancelledError):
                marker.clean()
                raise

    async def _session(self, store: StateStore, marker: Marker, opened: AsyncExitStack) -> None:
        """Open the rest, then work until the lease is taken or the worker is stopped."""
        settings, metrics = self._settings, self._metrics
        if store.changed_settings:
            log.info("settings changed since the last run: %s", ", ".join(store.changed_settings))
        reader = LogReader(settings, settings.worker.state_dir, fetch_wait_ms=self._fetch_wait_ms)
        opened.push_async_callback(_briefly, reader.close)
        await reader.connect()
        await reader.assign(store.offsets, store.topic_ids)
        marker.start(reader.offsets)
        publisher = Publisher(settings, metrics)
        opened.push_async_callback(_briefly, publisher.stop)
        await publisher.start()
        followers = Followers(settings, metrics, self._load_snapshot)
        opened.push_async_callback(_briefly, self.remove_dependency, followers)
        await self.add_runtime_dependency(followers)
        partitions = reader.facts.partitions
        store.add_partitions(partitions)
        pipeline = await self._in_thread(self._build, store, partitions)
        between = Between(
            pipeline,
            followers,
            publisher,
            metrics,
            self._in_thread,
            items_from={at: offset for at, offset in store.offsets.items() if at[0] == settings.topics.items},
            refresh_users=settings.worker.refresh_users,
            first_model=FirstModel(settings.worker.state_dir, self._load_snapshot)
            if self._load_snapshot
            else None,
        )
        await followers.catch_up(between.apply_items)
        commits = Commits(
            settings, store, pipeline.recommender, reader, publisher, between, marker, metrics, self._failpoints,
            self._in_thread, self._beside,
        )  # fmt: skip
        session = Session(
            settings, pipeline, reader, publisher, followers, between, commits, marker, metrics, self._failpoints,
            self._in_thread,
        )  # fmt: skip
        opened.push_async_callback(session.close)
        session.backlog = await self._search(store, reader, marker)
        spare_what_is_there()
        self._failpoints.reach("1-after")
        log.info("ready: %s", _standing(reader))
        self._in_session = True
        try:
            await self._run(session)
        finally:
            self._in_session = False

    async def _search(self, store: StateStore, reader: LogReader, marker: Marker) -> list[ConsumerRecord]:
        """Find the culprit where the worker came back too often; the records that were read on the way."""
        if marker.restarts < self._settings.worker.restarts_before_bisect or not marker.missing(
            reader.offsets
        ):
            return []
        log.warning(
            "the worker ended %d times at the same place: its records are tried one by one on a copy",
            marker.restarts,
        )
        records = await read_suspects(reader, marker)
        partitions = reader.facts.partitions
        trial = Trial(store, self._settings, lambda copy: self._build(copy, partitions))
        try:
            await self._in_thread(find_culprits, marker, records, trial.fresh)
        finally:
            await self._in_thread(trial.close)
        return records

    async def _run(self, session: Session) -> None:
        """Turns while the lease is ours; a rebalance that gives it back at once costs a pause, nothing
        more."""
        while True:
            await session.work(self._go_on)
            if self.should_stop:
                break
            settled = await self.wait(self._lease.wait_settled())
            if settled.stopped or not settled.result:
                break
        await session.finish()


def _standing(reader: LogReader) -> str:
    """Where reading goes on, for the log."""
    return ", ".join(f"{topic}-{number} from {offset}" for (topic, number), offset in reader.offsets.items())


async def _briefly(close: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
    """Close a connection; one whose broker is away is left to the end of the process."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await close(*arguments)
