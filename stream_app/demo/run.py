"""`headrace demo`: everything at work on MovieLens 100K, judged from the outside, gone again within 5
minutes.

In: overrides of settings, a folder. Out: a live view, a summary, one user's list before and after a click, a
report; exit code 0 only if every event is covered, and counted once. Starts broker, worker, trainer and replay, and
leaves none of them behind. Never touches a folder that an earlier demo has not made.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from producers import datasets
from producers.columns import Dataset
from stream_app.brokers import topics
from stream_app.brokers.broker import EmbeddedBroker, free_port
from stream_app.brokers.topic_reader import open_reader
from stream_app.children import Child
from stream_app.commands.settings import as_toml
from stream_app.demo import report, summary, watched
from stream_app.demo.watched import DemoError, Run
from stream_app.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from stream_app.settings import load
from stream_app.views import list_view
from stream_app.worker.warm_up import warm_up

DATA = "ml-100k"
PARTITIONS = 4
MARKER = ".headrace-demo"
CHOSEN = {
    "worker.one_list_per_event": True,
    "trainer.every_events": 8000,
    "trainer.warmup_tokens_per_event": 12,
    "trainer.gate_events": 4000,
    "trainer.gate_wait_s": 20,
}
"""A replay squeezes months into two minutes, so many events of a user fall into one batch: a list after each of
them is what the user would have had at their own pace. And the Transformer is refreshed more often, on less."""


def run_demo(overrides: Mapping[str, Any], directory: Path, *, rate: int, limit: int | None) -> int:
    """Run the demo and return its exit code."""
    console = list_view.console()
    prepare(directory)
    with console.status("compiling the kernels (a minute or two, the first time only) …"):
        warm_up(load({**overrides, "worker.snapshots": directory}))
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
        await asyncio.to_thread(topics.create, run.settings.broker, run.settings.topics, PARTITIONS)
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
            await watched.until_it_answers(run, worker)
        say(console, "worker", f"{run.metrics_url}  (process {worker.pid}, {worker.log})")
        say(
            console,
            "trainer",
            f"a refresh every {run.settings.trainer.every_events:,} events "
            f"(process {trainer.pid}, {trainer.log})",
        )
        replay = start("replay", "replay", DATA, "--rate", str(rate), "--limit", str(run.events))
        say(console, "replay", f"{DATA}, {run.events:,} events at {rate:,}/s, in the order of their time")
        async with open_reader(run.settings) as reader:
            await watched.watch_replay(run, console, reader, replay, [worker, trainer])
            await watched.click_once(run, reader)
            await watched.look_for_every_event(run, reader)
        summary.show(console, run)
        for child in (worker, trainer):
            child.ask_to_end()
    page = report.write_report(run)
    say(console, "report", str(page))
    return EXIT_OK if run.coverage.complete else EXIT_FAILED


def say(console: Console, step: str, text: str) -> None:
    """One step of the demo in one line."""
    console.print(f"{step:>8}  {text}", markup=False, highlight=False, soft_wrap=True)
