"""The worker, wired together: one Faust app with the lease, the ingest service and the page of figures.

In: settings. Out: an exit code, when a signal or an error has ended it. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from functools import partial
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types.auth import CredentialsT

from stream_app.batch.pipeline import Pipeline
from stream_app.brokers.connection import check_topics, client_options
from stream_app.brokers.topic_facts import connect
from stream_app.errors import EXIT_OK, HeadraceError, UsageError
from stream_app.settings import BrokerSettings, Settings
from stream_app.store.state import StateStore
from stream_app.store.state_folder import FolderLock
from stream_app.worker.failpoints import Failpoints
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.ingest import Build, Ingest
from stream_app.worker.lease import (
    EMBEDDED_CLUSTER,
    EMBEDDED_SESSION_S,
    HEARTBEAT_S,
    REBALANCE_S,
    REQUEST_S,
    SESSION_S,
    Lease,
)
from stream_app.worker.live_snapshot import LoadSnapshot
from stream_app.worker.new_recommender import new_recommender
from stream_app.worker.snapshots import SnapshotLoader
from stream_app.worker.warm_up import loads_snapshots, warm_up

log = logging.getLogger(__name__)

STOP_S = 30.0
SWITCH_S = 0.001
"""How long a thread that comes back from a kernel waits for one that runs Python. With Python's 5 ms the pipeline lost
an eighth of its time to the decoder."""
FETCH_WAIT_MS = 500
"""Kafka answers as soon as something is there; the embedded broker looks again only when this is over."""


class Boot(BootStrategy):
    """Faust's own producer is not started: `publish` has one."""

    enable_kafka_producer = False


class NoTables(TableManager):
    """Without the second that Faust waits for tables that are still being declared."""

    mundane_level = "debug"

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class WorkerApp(faust.App):
    """Faust as the chassis: life cycle, the lease's consumer, the web server."""

    BootStrategy = Boot
    logger = logging.getLogger("faust.app")


def run_worker(settings: Settings, *, build: Build | None = None) -> int:
    """Run a worker until SIGINT or SIGTERM; its exit code.

    Args:
        build: makes the pipeline out of an open state; a test's own.

    Raises:
        HeadraceError: what ended it, and what to do.
    """
    _quiet_loggers()
    sys.setswitchinterval(SWITCH_S)
    return asyncio.run(_run(settings, build or partial(build_pipeline, settings)))


def build_pipeline(settings: Settings, store: StateStore, partitions: int) -> Pipeline:
    """The recommender with all that the state holds, and the pipeline around it."""
    recommender = new_recommender(settings)
    recommender.load(store.items(), store.model_meta())
    return Pipeline(settings, recommender, store.load_users, partitions=partitions)


async def _run(settings: Settings, build: Build) -> int:
    _check_web_port(settings)
    lock = FolderLock(settings.worker.state_dir)
    try:
        embedded = await asyncio.to_thread(_check_broker, settings) == EMBEDDED_CLUSTER
        load = await asyncio.to_thread(_snapshot_loader, settings)
        # Compiling holds the interpreter: it is done before there is a lease to lose.
        await asyncio.to_thread(warm_up, settings)
        metrics = WorkerMetrics()
        lease = Lease(settings.broker.group)
        app = _faust_app(settings, metrics, EMBEDDED_SESSION_S if embedded else SESSION_S)
        lease.attach(app, settings.topics.control)
        ingest = Ingest(
            settings,
            lease,
            lock,
            build,
            load,
            metrics,
            Failpoints.from_environment(),
            fetch_wait_ms=settings.worker.poll_ms if embedded else FETCH_WAIT_MS,
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await _serve(app, ingest, stop)
    finally:
        lock.release()


async def _serve(app: faust.App, ingest: Ingest, stop: asyncio.Event) -> int:
    starting = asyncio.create_task(app.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await starting
            await app.add_runtime_dependency(ingest)
            await app.wait_first(ingest.ended, stop)
    finally:
        threading.excepthook = _note_thread
        try:
            async with asyncio.timeout(STOP_S):
                await app.stop()
        except TimeoutError:
            log.warning("the broker does not answer: the group's lease is left to expire")
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
    failure = ingest.failure or app.crash_reason
    if isinstance(failure, HeadraceError):
        raise failure
    if failure is not None:
        log.error("the worker ended", exc_info=failure)
        raise HeadraceError(
            f"something unexpected ended the worker: {type(failure).__name__}: {failure}",
            "Nothing was written after it: start the worker again, it goes on from the last commit.",
        ) from failure
    return EXIT_OK


def _note_thread(args: threading.ExceptHookArgs) -> None:
    """Faust's consumer thread ends with an error when it is stopped while its broker is away: no news by then."""
    log.debug("thread %s ended: %r", args.thread and args.thread.name, args.exc_value)


def _faust_app(settings: Settings, metrics: WorkerMetrics, session_s: float) -> faust.App:
    worker = settings.worker
    app = WorkerApp(
        f"{settings.broker.group}-lease",
        broker=[f"aiokafka://{address}" for address in settings.broker.url.split(",")],
        broker_credentials=_credentials(settings.broker),
        broker_session_timeout=session_s,
        broker_request_timeout=REQUEST_S,
        broker_rebalance_timeout=REBALANCE_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        consumer_auto_offset_reset="latest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        datadir=worker.state_dir / "faust",
        TableManager=NoTables,
        web_bind=worker.web_bind,
        web_host=worker.web_bind,
        web_port=worker.web_port,
        web_stats_enabled=False,
        web_graph_enabled=False,
        web_router_enabled=False,
        web_tables_enabled=False,
        web_metrics_enabled=False,
    )

    @app.page("/metrics")
    async def figures(web: Any, _request: Any) -> Any:
        return web.bytes(metrics.page(), content_type="text/plain")

    app.finalize()
    return app


def _credentials(broker: BrokerSettings) -> CredentialsT | None:
    options = client_options(broker)
    context = options.get("ssl_context")
    if mechanism := options.get("sasl_mechanism"):
        return faust.SASLCredentials(
            username=options.get("sasl_plain_username"),
            password=options.get("sasl_plain_password"),
            mechanism=mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def _snapshot_loader(settings: Settings) -> LoadSnapshot | None:
    """None where no snapshot is ever loaded."""
    return SnapshotLoader(settings) if loads_snapshots(settings) else None


def _check_broker(settings: Settings) -> str:
    """The cluster's id; refuses before anything is started where nobody answers or a topic is missing."""
    topics = settings.topics
    wanted = [*topics.events, topics.items, topics.recommendations, topics.dead_letters]
    wanted += [topics.models, topics.control]
    with connect(settings.broker) as admin:
        check_topics(wanted, admin.list_topics(), settings.broker)
        return str(admin.describe_cluster()["cluster_id"])


def _check_web_port(settings: Settings) -> None:
    worker = settings.worker
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((worker.web_bind, worker.web_port))
        except OSError as error:
            raise UsageError(
                f"can't serve the figures at {worker.web_bind}:{worker.web_port}: {error.strerror}",
                "Does another worker run here? Give this one its own port (`--set worker.web_port=6067`).",
            ) from error


def _quiet_loggers() -> None:
    """Our own log says what happens; the libraries speak only when something is broken."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("faust", "mode"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("aiokafka", "kafka", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
