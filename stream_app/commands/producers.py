"""Commands that make traffic: `replay` of a data set or a file, and `simulate`.

In: flags. Out: a progress bar on stderr, a summary on stdout; exit code 1 unless everything was
acknowledged. The work is done in `producers`. An interrupt ends a run with what is under way acknowledged:
it can be resumed.
"""

from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import Iterator
from threading import Event as StopEvent
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands.data import Columns, Data, Delimiter, EventType, Items, TsUnit, load_data, with_items
from stream_app.commands.options import (
    Assignments,
    Broker,
    ConfigFile,
    TimestampUnit,
    parse_speed,
    parse_time_ms,
)
from stream_app.commands.settings import load_settings
from stream_app.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from producers.replay import Progress, Summary


KEY_BYTES = 24
"""No key of a simulation is longer."""

Share = Annotated[float, typer.Option(min=0.0, max=1.0)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("replay")(replay)
    app.command("simulate")(simulate)


def replay(
    data: Data,
    speed: Annotated[
        str | None,
        typer.Option("--speed", metavar="100x|max", help="Event time over clock time. [default: max]"),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="Instead: N events a second, on a fixed schedule."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First event time, ISO 8601 or ms.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Event time to end before, ISO 8601 or ms.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest run of these data, or with --run.")
    ] = False,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Name of the run.")] = None,
    columns: Columns = None,
    ts_unit: TsUnit = TimestampUnit.ms,
    delimiter: Delimiter = None,
    event_type: EventType = None,
    items: Items = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Send the events of a data set or a file, keyed by user, with their own event times."""
    if speed is not None and rate is not None:
        raise UsageError("--speed and --rate exclude each other", "Leave one of them out.")
    check_rate(rate)
    pace = parse_speed(speed or "max")
    from_ms = None if start is None else parse_time_ms("--from", start)
    to_ms = None if end is None else parse_time_ms("--to", end)
    settings = load_settings(config, broker, assignments)
    dataset = with_items(load_data(data, columns, ts_unit, delimiter, event_type), items)
    from producers.replay import replay as send

    with stop_on_signal() as stop, progress_bar(data) as on_progress:
        summary = send(
            dataset,
            settings.broker,
            settings.topics,
            speed=pace,
            rate=rate,
            from_ms=from_ms,
            to_ms=to_ms,
            limit=limit,
            run_id=run,
            resume=resume,
            on_progress=on_progress,
            stop=stop,
        )
    typer.echo(summarise(summary))
    if summary.finished:
        raise typer.Exit(EXIT_FAILED if summary.failed else EXIT_OK)
    typer.echo(f"stopped; go on with: headrace replay {data} … --resume --run {summary.run_id}", err=True)
    raise typer.Exit(EXIT_INTERRUPTED)


def simulate(
    users: Annotated[int, typer.Option(min=1)] = 1000,
    items: Annotated[int, typer.Option(min=1)] = 1000,
    events: Annotated[int, typer.Option(min=1, help="Records of all kinds.")] = 100_000,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", help="Records a second, on a fixed schedule.")
    ] = None,
    drift: Share = 0.0,
    new_items: Share = 0.0,
    bots: Share = 0.0,
    duplicates: Share = 0.0,
    late: Share = 0.0,
    broken: Share = 0.0,
    largest: Annotated[
        bool, typer.Option("--largest", help="Some of the broken records have the largest size allowed.")
    ] = False,
    scenarios: Annotated[
        int, typer.Option(min=0, help="Places that events name, each with items of its own.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Another seed is another stream.")] = 0,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="ID",
            help="Part of the events' ids. Sent again, a run is dropped only where its events are among the last "
            "64 of their users, and counted again elsewhere.",
        ),
    ] = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Send seeded traffic with a planted structure; ends when every record is acknowledged.

    Drift is the share of users who change their taste; of items, so many are new during the stream; the other
    disturbances are shares of the records.
    """
    check_rate(rate)
    settings = load_settings(config, broker, assignments)
    from producers.delivery import OVERHEAD_BYTES
    from producers.simulate import Simulation
    from producers.traffic import send

    try:
        simulation = Simulation(
            users=users,
            items=items,
            events=events,
            drift=drift,
            new_items=new_items,
            bots=bots,
            duplicates=duplicates,
            late=late,
            broken=broken,
            scenarios=scenarios,
            seed=seed,
            run_id=run or uuid.uuid4().hex[:8],
            largest_bytes=settings.topics.max_message_bytes - OVERHEAD_BYTES - KEY_BYTES if largest else 0,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    with stop_on_signal() as stop, progress_bar("simulate") as on_progress:
        summary = send(
            simulation, settings.broker, settings.topics, rate=rate, on_progress=on_progress, stop=stop
        )
    ledger = summary.ledger
    typer.echo(
        f"acknowledged {summary.acknowledged:,} of {events:,} records on {summary.topic} and "
        f"{summary.items:,} of the catalogue in {summary.seconds:.1f} s: {summary.events_per_s:,.0f} events/s"
    )
    typer.echo(
        f"to be accepted {ledger.events_accepted:,} (late {ledger.late:,}, bots {ledger.bots:,}), "
        f"duplicates {ledger.duplicates:,}, dead letters {ledger.dead_letters:,}"
    )
    raise typer.Exit(EXIT_OK if summary.finished else EXIT_INTERRUPTED)


def check_rate(rate: float | None) -> None:
    """Refuse a rate that is not above zero."""
    if rate is not None and not rate > 0:
        raise UsageError(f"--rate {rate:g}: needs a positive number", "For example --rate 1000")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopEvent]:
    """An event that SIGINT and SIGTERM set; a second SIGINT interrupts at once."""
    stop = StopEvent()

    def tell(number: int, _frame: object) -> None:
        if number == signal.SIGINT and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ProgressBar:
    """A bar on stderr that takes a run's `Progress`."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not Console(stderr=True).is_terminal,
        )
        self.task = self.bar.add_task(name, total=None, note="")

    def __call__(self, progress: Progress) -> None:
        note = f"{progress.failed} failed" if progress.failed else ""
        self.bar.update(self.task, total=progress.total, completed=progress.acknowledged, note=note)


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[ProgressBar]:
    """A bar that is on the screen while the block runs."""
    shown = ProgressBar(name)
    with shown.bar:
        yield shown


def summarise(summary: Summary) -> str:
    """What was acknowledged, in a few lines."""
    lines = [
        f"acknowledged {summary.acknowledged:,} of {summary.events - summary.before:,} events "
        f"on {summary.topic} ({summary.partitions} partitions) in {summary.seconds:.1f} s: "
        f"{summary.events_per_s:,.0f} events/s, {summary.value_bytes / 1e6:.1f} MB; run {summary.run_id}"
    ]
    if summary.items:
        lines.append(f"acknowledged {summary.items:,} catalogue records")
    if summary.before:
        lines.append(f"{summary.before:,} events were acknowledged before")
    if summary.behind_s > 0.1:
        lines.append(f"fell behind the schedule by {summary.behind_s:.1f} s at most")
    if summary.failed:
        lines += [f"{summary.failed:,} events failed:", *(f"  {failure}" for failure in summary.failures)]
    return "\n".join(lines)
