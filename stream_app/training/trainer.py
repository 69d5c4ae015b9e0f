"""The trainer service: reads `events`, refreshes the Transformer, puts what passes the gate live.

In: settings. Out: snapshots in their folder, manifests and the live pointer on `models`, an exit code. It
keeps its own history and offsets, so that it never needs a record twice. Never publishes a recommendation or
waits for a worker; what it learns from and how it decides is in `stream_app.training.refresher`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from stream_app.brokers.connection import BrokerUnreachableError
from stream_app.brokers.topic_reader import TopicError
from stream_app.errors import EXIT_OK, HeadraceError, UsageError
from stream_app.events import Manifest
from stream_app.settings import Settings
from stream_app.training.catalogue_reader import read_descriptions
from stream_app.training.event_feed import EventFeed
from stream_app.training.judging import Cut, Verdict
from stream_app.training.model_versions import NAME, ModelsView, take_version
from stream_app.training.refresher import Refresher
from stream_app.training.registry import Registry, RegistryError
from stream_app.worker.warm_up import warm_up

log = logging.getLogger("headrace.trainer")
T = TypeVar("T")

_AWAY = (KafkaError, RegistryError, TopicError, BrokerUnreachableError, ConnectionError, TimeoutError)
"""What a broker that does not answer looks like. Not every OSError: most are of the disk, and don't pass by waiting."""
_REFUSED = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)

SAVE_S = 5.0
RETRY_S = 1.0


class TrainerError(HeadraceError):
    """The trainer can't start or go on; the message says what to do."""


def pick_device(wish: str) -> str:
    """The torch device for `trainer.device`; raises TrainerError where CUDA was asked for and is absent."""
    import torch

    there = torch.cuda.is_available()
    if wish == "cuda" and not there:
        raise TrainerError(
            "trainer.device is cuda, but PyTorch finds no CUDA device here",
            "Set it to auto or cpu (--set trainer.device=auto), or install PyTorch for CUDA and a driver.",
        )
    return "cuda" if wish != "cpu" and there else "cpu"


def run_trainer(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM; the exit code.

    Raises:
        HeadraceError: no broker, a missing topic, CUDA asked for but absent, the Transformer switched off, a full
            disk.
    """
    if not settings.models.transformer.enabled:
        raise UsageError(
            "models.transformer.enabled is false, so there is nothing to train",
            "Set it to true, or run the worker alone.",
        )
    device = pick_device(settings.trainer.device)
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    for library in ("aiokafka", "kafka"):  # what they have to say of a lost connection, we say
        logging.getLogger(library).setLevel(logging.CRITICAL)
    give_way(settings.trainer.niceness)
    try:
        asyncio.run(TrainerService(settings, device).run())
    except OSError as error:
        raise TrainerError(
            f"the trainer can't write: {error.strerror}{f': {error.filename}' if error.filename else ''}",
            "See to the disk and start it again: it goes on from what was saved, and reads the rest again.",
        ) from error
    return EXIT_OK


def give_way(niceness: int) -> None:
    """Lower this process's priority: a refresh may wait, a click does not."""
    if hasattr(os, "nice"):
        os.nice(niceness)


class TrainerService:
    """Feeds the refresher and carries its decisions out.

    Everything that changes the refresher runs in one thread, training and judging in another, so that events
    are read on while the model is trained.
    """

    def __init__(self, settings: Settings, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.device = device
        self.clock = clock
        self._stop = asyncio.Event()
        self._stopping = threading.Event()
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="trainer-feed")
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trainer-work")
        self._refresher: Refresher
        self._registry: Registry

    def stop(self) -> None:
        """Ask the service to end: what was read is saved, a training under way is given up."""
        self._stopping.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.stop)
        try:
            with only_one(self.settings.trainer.state_dir):
                await self._fed(partial(warm_up, self.settings))
                await self._serve(loop)
        finally:
            self._worker.shutdown()
            self._feeder.shutdown()
        log.info("stopped after %d events; history and offsets are saved", self._refresher.log.end)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        async with Registry(self.settings) as self._registry, EventFeed(self.settings) as feed:
            self._refresher = await self._fed(
                lambda: Refresher.open(self.settings, self.device, self.clock())
            )
            for topic in await self._fed(partial(self._refresher.meet_topics, feed.topic_ids)):
                log.warning("topic %s was deleted and made anew: reading it from its beginning", topic)
            self._say_where_we_are()
            tasks = [loop.create_task(work) for work in (self._read(feed), self._cycle(), self._stop.wait())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await self._fed(self._refresher.save)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    def _say_where_we_are(self) -> None:
        r = self._refresher
        pending = f"; snapshot {r.pending.version} waits for the gate" if r.pending else ""
        log.info(
            "reading %s at %s on %s: %d events so far, %d kept%s",
            ", ".join(self.settings.topics.events), self.settings.broker.url, self.device,
            r.log.end, len(r.log), pending,
        )  # fmt: skip

    async def _read(self, feed: EventFeed) -> None:
        saved = self.clock()
        async for events, offsets in feed.read(self._refresher.offsets):
            await self._fed(partial(self._refresher.observe, events, offsets))
            if self.clock() - saved >= SAVE_S:
                await self._fed(self._refresher.save)
                saved = self.clock()

    async def _cycle(self) -> None:
        pending, view = self._refresher.pending, self._registry.view
        if pending is not None and pending.version not in view.manifests:
            await self._insist(partial(self._registry.announce, manifest(pending)))
        while True:
            if self._refresher.due(self.clock()):
                await self._train()
            elif self._refresher.ready(self.clock(), live_in(self._registry.view)):
                live = live_in(await self._insist(self._registry.read_all))
                if self._refresher.ready(self.clock(), live):
                    await self._judge(live)
            await asyncio.sleep(0.1)

    async def _train(self) -> None:
        view = await self._insist(self._registry.read_all)
        version = take_version(self.settings.trainer.snapshots, view)
        if self._refresher.uses_content:
            self._refresher.describe(await self._insist(partial(read_descriptions, self.settings)))
        job = await self._fed(lambda: self._refresher.begin(version, self.clock()))
        log.info(
            "%s: %s learns up to event %d (%d new)",
            version, self.settings.models.ranker, job.at, job.new_events,
        )  # fmt: skip
        began = self.clock()
        cut = await self._work(lambda: self._refresher.train(job, now_ms(), self._stopping.is_set))
        await self._fed(lambda: self._refresher.finish(job, cut, self.clock()))
        if cut is None:
            (self.settings.trainer.snapshots / version).rmdir()
            log.info("%s: no user has two events yet, so there was nothing to learn", version)
            return
        log.info(
            "%s: learned from %d events, repeats counted, in %.1f s%s; waits for the gate",
            version, cut.tokens, self.clock() - began, "" if cut.loss is None else f", loss {cut.loss:.3f}",
        )  # fmt: skip
        await self._insist(partial(self._registry.announce, manifest(cut)))

    async def _judge(self, live: str | None) -> None:
        cut, view = self._refresher.pending, self._registry.view
        assert cut is not None, "no candidate is pending"
        if live == cut.version:  # a kill came between the pointer and the note of it
            known = view.manifests[live].gate if live in view.manifests else {}
            first = {"go": True, "reason": "an operator made it live", "version": live}
            verdict = msgspec.convert({**first, **known}, Verdict)
            moved = True
        else:
            await self._fed(self._refresher.close_window)
            verdict = await self._work(partial(self._refresher.judge, live))
            await self._insist(partial(self._registry.announce, manifest(cut, verdict)))
            moved = verdict.go and await self._insist(partial(self._registry.set_live, cut.version))
        log.info("%s %s", cut.version, told(verdict, moved))
        pinned = verdict.go and not moved
        await self._fed(partial(self._refresher.settle, verdict, live=moved, pinned=pinned, at_ms=now_ms()))
        expired = await self._insist(self._registry.delete_expired)
        if expired:
            log.info("deleted old snapshots: %s", ", ".join(expired))

    async def _insist(self, do: Callable[[], Awaitable[T]]) -> T:
        """Do something with the broker, again and again while it does not answer.

        Raises:
            TrainerError: it answers that this user may not. What is no matter of the broker's is raised as it is.
        """
        said = False
        while True:
            try:
                return await do()
            except _REFUSED as error:
                raise TrainerError(
                    f"the broker at {self.settings.broker.url} refuses the trainer: {error}",
                    "Grant its user READ and WRITE on the models topic and READ on the others, and start it again.",
                ) from error
            except _AWAY as error:
                if not said:
                    log.warning(
                        "the broker at %s does not answer (%s): trying on", self.settings.broker.url, error
                    )
                    said = True
                await asyncio.sleep(RETRY_S)

    async def _fed(self, do: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._feeder, do)

    async def _work(self, do: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, do)


def live_in(view: ModelsView) -> str | None:
    """The version that is live."""
    return view.live.version if view.live else None


def now_ms() -> int:
    """The wall clock in ms."""
    return int(time.time() * 1000)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the trainer's folder; a second trainer on it is refused. The lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainerError(
                f"another trainer is at work in {folder}",
                "Stop it, or give this one a folder of its own with --state-dir DIR.",
            ) from None
        yield


def manifest(cut: Cut, verdict: Verdict | None = None) -> Manifest:
    """The record that announces a candidate, before and after its judgement."""
    return Manifest(
        name=NAME,
        version=cut.version,
        sha256=cut.sha256,
        cut=cut.offsets,
        created_ts=cut.created_ts,
        gate={} if verdict is None else verdict.figures(),
    )


def told(verdict: Verdict, moved: bool) -> str:
    """The decision as the log says it."""
    what = "is live" if moved else "stays aside"
    if verdict.go and not moved:
        what = "passed, but the live one is pinned (`headrace models unpin` frees it)"
    if verdict.ndcg is None:
        return f"{what}: {verdict.reason}"
    return (
        f"{what}: {verdict.reason}; NDCG@10 {verdict.ndcg:.4f} against {verdict.ndcg_live:.4f} of "
        f"{verdict.against} over {verdict.scored} events of {verdict.users} users, difference "
        f"{verdict.difference:+.4f}, lower bound {verdict.lower:+.4f} where {-(verdict.margin or 0.0):+.4f} is enough"
    )
