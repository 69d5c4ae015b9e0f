"""Commands that run until stopped: `broker`, `worker`, `trainer`; and the `demo`, which runs all three.

In: flags. Out: the exit code of the service. Imports a service only when it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_app.commands.options import (
    Assignments,
    Broker,
    ConfigFile,
    StateDir,
    TimestampUnit,
    make_folder,
    parse_map,
)
from stream_app.commands.settings import collect, load_settings

Snapshots = Annotated[
    Path | None, typer.Option("--snapshots", metavar="DIR", help="Folder of the trainer's snapshots.")
]
Map = Annotated[
    str | None,
    typer.Option("--map", metavar="FIELD=NAME,…", help="For topics with other field names: user=userId,…"),
]

TsUnit = Annotated[
    TimestampUnit | None, typer.Option("--ts-unit", help="How the topic's timestamps are written, else ms.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("broker")(broker)
    app.command("worker")(worker)
    app.command("trainer")(trainer)
    app.command("demo")(demo)


def broker(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 9092,
    kafka: Annotated[bool, typer.Option("--kafka", help="A real Apache Kafka, whose data survive.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Data folder of --kafka.")
    ] = None,
) -> None:
    """Run a broker on loopback until interrupted: embedded (nothing is kept), or Apache Kafka."""
    from stream_app.brokers.broker import EmbeddedBroker, KafkaBroker, default_directory, run_foreground
    from stream_app.errors import UsageError

    if directory is not None and not kafka:
        raise UsageError(
            "--dir: the embedded broker keeps nothing on disk", "Add --kafka, or leave out --dir."
        )
    run_foreground(
        KafkaBroker(directory or default_directory(), port=port) if kafka else EmbeddedBroker(port=port),
        say=lambda line: typer.echo(line),
    )


def worker(
    state_dir: StateDir = None,
    snapshots: Snapshots = None,
    columns: Map = None,
    ts_unit: TsUnit = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Run the worker: events in, learned from, recommendations out."""
    flags = {
        "worker.state_dir": state_dir,
        "worker.snapshots": snapshots,
        "events.map": parse_map(columns) or None,
        "events.ts_unit": ts_unit,
    }
    settings = load_settings(config, broker, assignments, flags)
    from stream_app.worker.app import run_worker

    raise typer.Exit(run_worker(settings))


def trainer(
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", metavar="DIR", help="Folder of the trainer's state.")
    ] = None,
    snapshots: Snapshots = None,
    columns: Map = None,
    ts_unit: TsUnit = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Run the trainer: refresh what re-ranks (models.ranker) as events come in; a snapshot goes live if no worse."""
    flags = {
        "trainer.state_dir": state_dir,
        "trainer.snapshots": snapshots,
        "events.map": parse_map(columns) or None,
        "events.ts_unit": ts_unit,
    }
    settings = load_settings(config, broker, assignments, flags)
    make_folder("--state-dir", settings.trainer.state_dir)
    make_folder("--snapshots", settings.trainer.snapshots)
    from stream_app.training.trainer import run_trainer

    raise typer.Exit(run_trainer(settings))


def demo(
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="Folder of the run; an earlier demo in it is replaced."),
    ] = Path("run/demo"),
    events: Annotated[
        int | None, typer.Option(min=1000, help="Only the first so many events of the data set.")
    ] = None,
    rate: Annotated[int, typer.Option(min=1, help="Events a second.")] = 600,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Show everything at work: broker, worker, trainer, MovieLens 100K; ends by itself within 5 minutes."""
    load_settings(config, None, assignments)
    from stream_app.demo.run import run_demo

    raise typer.Exit(run_demo(collect(None, assignments), directory, rate=rate, limit=events))
