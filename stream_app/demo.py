"""`headrace demo`: everything at work on MovieLens 100K, judged from the outside, gone again within 5
minutes.

In: overrides of settings, a folder. Out: a live view, a summary, one user's list before and after a click, a
report; exit code 0 only if every event is covered. Starts a broker, a worker, a trainer and a replay, and
leaves none of them behind. Never touches a folder that an earlier demo has not made.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from producers import datasets
from producers.columns import Dataset
from stream_app import demo_report, demo_summary, list_view, topics, watch
from stream_app.broker import EmbeddedBroker
from stream_app.children import Child
from stream_app.cli_settings import as_toml
from stream_app.coverage import Coverage, check
from stream_app.demo_traffic import Click, click, disturb
from stream_app.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, HeadraceError
from stream_app.live_view import LiveView
from stream_app.settings import Settings, load
from stream_app.topic_reader import TopicReader, open_reader
from stream_app.warm_up import warm_up
from stream_app.worker_metrics import Sample, read_sample

DATA = "ml-100k"
PARTITIONS = 4
MARKER = ".headrace-demo"
LONGEST_S = 270.0
"""The demo gives up after this long, so that it ends within 5 minutes whatever happens."""
START_S = 90.0
"""How long the worker may take until it answers."""
SETTLE_S = 30.0
SAMPLE_S = 1.0
FIGURES_S = 1.5
"""A worker's page is renewed once a second."""
CHOSEN = {
    "worker.one_list_per_event": True,
    "trainer.every_events": 12_000,
    "trainer.warmup_tokens_per_event": 15,
    "trainer.gate_events": 2000,
    "trainer.gate_wait_s": 20,
}
"""A replay squeezes months into two minutes, so many events of a user fall into one batch: a list after each of
them is what the user would have had at their own pace. And the Transformer is refreshed more often, on less."""


class DemoError(HeadraceError):
    """The demo could not be finished."""


@dataclass(slots=True)
class Run:
    """What a demo has seen."""

    settings: Settings
    directory: Path
    data: Dataset
    events: int
    broken: int = 0
    repeated: int = 0
    started_s: float = field(default_factory=time.monotonic)
    replay_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    click: Click | None = None
    coverage: Coverage = field(default_factory=Coverage)

    def check_time(self, doing: str) -> None:
        """Raise DemoError when the demo has taken too long."""
        if time.monotonic() - self.started_s > LONGEST_S:
            raise DemoError(
                f"the demo was still {doing} after {LONGEST_S:g} s, and gave up",
                f"The logs are in {self.directory}. A slower machine needs fewer events: --events 20000",
            )


def run_demo(overrides: Mapping[str, Any], directory: Path, *, rate: int, limit: int | None) -> int:
    """Run the demo and return its exit code."""
    console = list_view.console()
    prepare(directory)
    with console.status("compiling the kernels (a minute or two, the first time only) …"):
        warm_up(load(dict(overrides)))
    dataset = datasets.load(DATA, notify=lambda line: console.print(line, style="dim", markup=False))
    try:
        return asyncio.run(
            _until_told_to_end(_demo(console, overrides, directory, dataset, limit or len(dataset), rate))
        )
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED


async def _until_told_to_end(demo: Any) -> int:
    """Runs the demo as a task that SIGTERM and the closing of the terminal cancel, so that it cleans up."""
    task: asyncio.Task[int] = asyncio.ensure_future(demo)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def prepare(directory: Path) -> None:
    """Make the folder, in place of an earlier demo's; any other one with something in it is refused."""
    if directory.exists():
        if any(directory.iterdir()) and not (directory / MARKER).is_file():
            raise DemoError(
                f"{directory} was not made by a demo, so it is left alone", "Name another folder with --dir."
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / MARKER).touch()


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _demo(
    console: Console, overrides: Mapping[str, Any], directory: Path, data: Dataset, limit: int, rate: int
) -> int:
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        chosen = {
            **CHOSEN,
            **overrides,
            "broker.url": broker.address,
            "worker.state_dir": directory / "state",
            "worker.snapshots": directory / "snapshots",
            "worker.web_port": free_port(),
            "trainer.state_dir": directory / "trainer",
            "trainer.snapshots": directory / "snapshots",
        }
        run = Run(load(dict(chosen)), directory, data, min(limit, len(data)))
        say(console, "broker", f"embedded, at {broker.address}")
        topics.create(run.settings.broker, run.settings.topics, PARTITIONS)
        say(
            console,
            "topics",
            f"{', '.join(run.settings.topics.events)} and more, {PARTITIONS} partitions",
        )

        def start(name: str, *arguments: str) -> Child:
            assigned = [
                word for path, value in chosen.items() for word in ("--set", f"{path}={as_toml(value)}")
            ]
            child = Child(name, "stream_app.cli", [*arguments, *assigned], directory / f"{name}.log")
            return stack.enter_context(child)

        worker, trainer = start("worker", "worker"), start("trainer", "trainer")
        with console.status("the worker and the trainer start …"):
            await _until_it_answers(run, worker)
        say(console, "worker", f"{_metrics_url(run.settings)}  (process {worker.pid}, {worker.log})")
        say(
            console,
            "trainer",
            f"a refresh every {run.settings.trainer.every_events:,} events "
            f"(process {trainer.pid}, {trainer.log})",
        )
        replay = start("replay", "replay", DATA, "--rate", str(rate), "--limit", str(run.events))
        say(console, "replay", f"{DATA}, {run.events:,} events at {rate:,}/s, in the order of their time")
        async with open_reader(run.settings) as reader:
            await _replay(run, console, reader, replay, [worker, trainer])
            await _click(run, reader)
            await _check(run, reader)
        demo_summary.show(console, run)
        for child in (worker, trainer):
            child.ask_to_end()
    page = demo_report.write_report(run)
    say(console, "report", str(page))
    return EXIT_OK if run.coverage.complete else EXIT_FAILED


def say(console: Console, step: str, text: str) -> None:
    """One step of the demo in one line."""
    console.print(f"{step:>8}  {text}", markup=False, highlight=False, soft_wrap=True)


def _metrics_url(settings: Settings) -> str:
    return f"http://{settings.worker.web_bind}:{settings.worker.web_port}/metrics"


async def _sample(run: Run) -> Sample | None:
    return await asyncio.to_thread(read_sample, _metrics_url(run.settings))


async def _until_it_answers(run: Run, worker: Child) -> None:
    while await _sample(run) is None:
        worker.check()
        if time.monotonic() - run.started_s > START_S:
            raise DemoError(f"the worker did not answer within {START_S:g} s", f"See {worker.log}.")
        await asyncio.sleep(0.2)
    run.started_s = time.monotonic()


async def _replay(
    run: Run, console: Console, reader: TopicReader, replay: Child, services: list[Child]
) -> None:
    """Watch the replay until it is sent and worked off; on the way, send what is broken and repeated."""
    began = time.monotonic()
    partitions = reader.partitions(run.settings.topics.recommendations)
    disturbed_at = run.events // 2
    with LiveView(console, run.events, f"headrace demo: {DATA}") as view:
        while True:
            run.check_time("replaying")
            for child in services:
                child.check()
            sample = await _sample(run)
            if sample is None:
                await asyncio.sleep(SAMPLE_S)
                continue
            run.samples.append(sample)
            view.note = demo_summary.gate_figures(demo_summary.refreshes(run))
            if sample.events and not run.titles:
                run.titles = await watch.titles(reader, run.settings)
            view.update(
                sample, await _newest_line(run, reader, partitions[len(run.samples) % len(partitions)])
            )
            if not run.broken and sample.events >= disturbed_at:
                run.broken, run.repeated = await disturb(run.settings, reader)
            if replay.poll() is not None:
                if replay.poll() != EXIT_OK:
                    replay.check()
                handled = sample.events + sample.duplicates + sample.dead_letters
                if run.broken and handled >= run.events + run.broken + run.repeated:
                    break
            await asyncio.sleep(SAMPLE_S)
    run.replay_s = time.monotonic() - began
    await asyncio.sleep(FIGURES_S)
    final = await _sample(run)
    if final is not None:
        run.samples.append(final)


async def _newest_line(run: Run, reader: TopicReader, partition: Any) -> str:
    """The list at the end of a partition, in a line."""
    async for record in reader.to_end([partition], last=1):
        update = watch.Newest().offer(record.key, record.value)
        if update is not None:
            return list_view.line(update, run.titles)
    return ""


async def _click(run: Run, reader: TopicReader) -> None:
    """The user who was active last clicks on the first item of their list."""
    newest = watch.Newest()
    async for record in reader.to_end(reader.partitions(run.settings.topics.recommendations)):
        newest.offer(record.key, record.value)
    last = max(newest.records.values(), key=lambda record: (record.event_ts, record.user_id))
    run.click = await click(run.settings, reader, last, last.items[0].item_id)


async def _check(run: Run, reader: TopicReader) -> None:
    """Judge the coverage, again for as long as the last lists are on their way."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        run.coverage = await check(reader, run.settings)
        if run.coverage.complete or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
