"""What happens while the demo runs: the replay is watched, a user clicks, every event is looked for.

In: a running broker, worker, trainer and replay. Out: a `Run` with all that was seen. Starts and stops nothing,
but for a replay that would take too long: it is asked to end, and what was sent by then is the demo.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import TopicPartition
from rich.console import Console

from producers.columns import Dataset
from stream_app.brokers.topic_reader import TopicReader
from stream_app.children import Child
from stream_app.demo import summary
from stream_app.demo.traffic import Click, click, send_broken, send_repeats
from stream_app.errors import EXIT_INTERRUPTED, EXIT_OK, HeadraceError
from stream_app.settings import Settings
from stream_app.views import list_view, watch
from stream_app.views.coverage import Coverage, check
from stream_app.views.live_view import LiveView
from stream_app.views.worker_metrics import Sample, read_sample

START_S = 90.0
"""How long the worker may take until it answers."""
REPLAY_S = 200.0
"""When all should be worked off: a machine that won't get there sees fewer events."""
PACE_S = 30.0
"""Over how long the worker's pace is taken, and the first time that it is judged by."""
LONGEST_S = 250.0
"""When the demo gives up, so that it ends within 5 minutes whatever happens."""
SETTLE_S = 20.0
SAMPLE_S = 1.0
FIGURES_S = 1.5
"""A worker's page is renewed once a second."""


class DemoError(HeadraceError):
    """The demo could not be finished."""


@dataclass(slots=True)
class Run:
    """What a demo has seen.

    Attributes:
        events: how many of the data set are replayed.
        broken, repeated: events that were sent beside them, on purpose.
        samples: the worker's figures, about one a second.
    """

    settings: Settings
    directory: Path
    data: Dataset
    events: int
    cut_short: bool = False
    broken: int = 0
    repeated: int = 0
    started_s: float = field(default_factory=time.monotonic)
    replay_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    click: Click | None = None
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def metrics_url(self) -> str:
        """The worker's page of figures."""
        return f"http://{self.settings.worker.web_bind}:{self.settings.worker.web_port}/metrics"

    async def sample(self) -> Sample | None:
        """The worker's figures now; None while it does not answer."""
        return await asyncio.to_thread(read_sample, self.metrics_url)


async def until_it_answers(run: Run, worker: Child) -> None:
    """Wait for the worker's page; the demo's time counts from then on."""
    while await run.sample() is None:
        worker.check()
        if time.monotonic() - run.started_s > START_S:
            raise DemoError(f"the worker did not answer within {START_S:g} s", f"See {worker.log}.")
        await asyncio.sleep(0.2)
    run.started_s = time.monotonic()


async def watch_replay(
    run: Run, console: Console, reader: TopicReader, replay: Child, services: list[Child]
) -> None:
    """Show the replay until it is sent and worked off; half way send what is broken, at its end repeats."""
    began = time.monotonic()
    partitions = reader.partitions(run.settings.topics.recommendations)
    with LiveView(console, run.events, f"headrace demo: {run.data.name}") as view:
        while not await _worked_off(run, reader, replay):
            for child in services:
                child.check()
            sample = await run.sample()
            if sample is not None:
                run.samples.append(sample)
                if sample.events and not run.titles:
                    run.titles = await watch.titles(reader, run.settings)
                view.note = summary.gate_figures(summary.refreshes(run.directory))
                newest = await _newest_line(run, reader, partitions[len(run.samples) % len(partitions)])
                view.update(sample, newest)
                if not run.broken and sample.events >= run.events // 2:
                    run.broken = await send_broken(run.settings)
                if not run.repeated and replay.poll() is not None:
                    run.repeated = await send_repeats(run.settings, reader)
            await asyncio.sleep(SAMPLE_S)
    run.replay_s = time.monotonic() - began
    await asyncio.sleep(FIGURES_S)
    final = await run.sample()
    if final is not None:
        run.samples.append(final)


async def _worked_off(run: Run, reader: TopicReader, replay: Child) -> bool:
    """Whether all is sent and handled; cuts the replay short when it takes too long."""
    took = time.monotonic() - run.started_s
    if took > LONGEST_S:
        raise DemoError(
            f"the worker had not handled everything after {LONGEST_S:g} s, and the demo gave up",
            f"The logs are in {run.directory}. A slower machine needs fewer events: --events 20000",
        )
    code = replay.poll()
    if code is None:
        if took + _backlog_s(run) > REPLAY_S:
            replay.ask_to_end()
        return False
    if code == EXIT_INTERRUPTED and not run.cut_short:
        run.cut_short = True
        inputs = [at for topic in run.settings.topics.events for at in reader.partitions(topic)]
        run.events = sum((await reader.ends(inputs)).values()) - run.broken - run.repeated
    elif code not in (EXIT_OK, EXIT_INTERRUPTED):
        replay.check()
    if not (run.broken and run.repeated and run.samples):
        return False
    last = run.samples[-1]
    handled = last.events + last.duplicates + last.dead_letters
    return handled >= run.events + run.broken + run.repeated


def _backlog_s(run: Run) -> float:
    """How long the worker will need for what is waiting, at its recent pace; 0 while that is not known."""
    if not run.samples:
        return 0.0
    last = run.samples[-1]
    then = next((s for s in reversed(run.samples) if last.at_s - s.at_s >= PACE_S), None)
    if then is None or last.events <= then.events:
        return 0.0
    return last.lag * (last.at_s - then.at_s) / (last.events - then.events)


async def _newest_line(run: Run, reader: TopicReader, partition: TopicPartition) -> str:
    """The list at the end of a partition, in a line."""
    async for record in reader.to_end([partition], last=1):
        update = watch.Newest().offer(record.key, record.value)
        if update is not None:
            return list_view.line(update, run.titles)
    return ""


async def click_once(run: Run, reader: TopicReader) -> None:
    """The user who was active last clicks on the first item of their list."""
    newest = watch.Newest()
    async for record in reader.to_end(reader.partitions(run.settings.topics.recommendations)):
        newest.offer(record.key, record.value)
    last = max(newest.records.values(), key=lambda record: (record.event_ts, record.user_id))
    run.click = await click(run.settings, reader, last, last.items[0].item_id)


async def look_for_every_event(run: Run, reader: TopicReader) -> None:
    """Judge the coverage, again for as long as the last lists are on their way."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        run.coverage = await check(reader, run.settings)
        if run.coverage.complete or time.monotonic() > deadline:
            return
        await asyncio.sleep(0.5)
