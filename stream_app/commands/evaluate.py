"""`headrace evaluate`: models of the family on one protocol, in one table.

In: flags. Out: a progress bar on stderr, the table on stdout, `table.json` and plots under `--out`; exit code 1 where
a model failed, but for those of `all` that the data is not for (`content` without content, `biased-mf` without
ratings). The work is done in `stream_app.evaluation.evaluate`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_app.commands.data import Columns, Delimiter, EventType, Items, TsUnit, load_data, with_items
from stream_app.commands.model_settings import check_name
from stream_app.commands.options import ConfigFile, TimestampUnit, make_folder, parse_assignment
from stream_app.commands.settings import load_settings
from stream_app.errors import EXIT_FAILED, UsageError
from stream_app.model_settings import check

if TYPE_CHECKING:
    from stream_app.evaluation.table import Table

ModelSettings = dict[str, dict[str, Any]]


class ProtocolName(StrEnum):
    """How models are asked."""

    prequential = "prequential"
    leave_one_out = "leave-one-out"
    temporal = "temporal"


class Part(StrEnum):
    """Which events are asked for."""

    test = "test"
    validation = "validation"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("evaluate")(evaluate)


def evaluate(
    data: Annotated[
        str,
        typer.Option("--data", metavar="DATA|FILE", help="ml-100k, ml-1m, or a CSV, JSONL or Parquet file."),
    ],
    protocol: Annotated[
        ProtocolName, typer.Option("--protocol", help="Who is asked when, and what is learned.")
    ],
    models: Annotated[
        str,
        typer.Option(
            "--models", metavar="all|NAME,…", help="Which models; `headrace settings --model list` has them."
        ),
    ] = "all",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="N,…", help="Each model runs once with each.")
    ] = "0",
    k: Annotated[int, typer.Option("--k", min=1, max=1000, help="Length of a list.")] = 10,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    min_item_events: Annotated[
        int, typer.Option("--min-item-events", min=1, help="Only items with at least so many events.")
    ] = 1,
    on: Annotated[
        Part, typer.Option("--on", help="Ask for the test or the validation events (not prequential).")
    ] = Part.test,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            min=1,
            help="Prequential: models learn after so many events.",
            show_default="a twentieth of them, at most 20,000",
        ),
    ] = None,
    negatives: Annotated[
        int,
        typer.Option("--negatives", min=0, help="Leave-one-out: rank among so many sampled items, not all."),
    ] = 0,
    learn_validation: Annotated[
        bool,
        typer.Option("--learn-validation", help="Leave-one-out on the test: learn validation events too."),
    ] = False,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep neural training here, and go on with it (no prequential, no hybrid).",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of table.json and the plots.")
    ] = Path("run/evaluate"),
    columns: Columns = None,
    ts_unit: TsUnit = TimestampUnit.ms,
    delimiter: Delimiter = None,
    event_type: EventType = None,
    items: Items = None,
    config: ConfigFile = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MODEL.SETTING=VALUE",
            help="A setting of one model, e.g. popularity.half_life=5000 (`headrace settings --model MODEL` has "
            "them), or of how events are read, e.g. events.rating_high=10; may be repeated.",
        ),
    ] = None,
) -> None:
    """Compare the models of the family: accuracy with intervals, what lists are like, time and memory.

    docs/evaluation.md explains every column.
    """
    _check(protocol, on, negatives, learn_validation, checkpoints)
    of_events = [text for text in assignments or () if text.startswith("events.")]
    chosen = models_of(models, [text for text in assignments or () if text not in of_events])
    numbers = seeds_of(seeds)
    settings = load_settings(config, None, of_events, {})
    make_folder("--out", out)
    if checkpoints is not None:
        make_folder("--checkpoints", checkpoints)
    dataset = with_items(load_data(data, columns, ts_unit, delimiter, event_type), items)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from stream_app.evaluation import figures as evaluation_figures
    from stream_app.evaluation import table as evaluation_table
    from stream_app.evaluation.data import stream
    from stream_app.evaluation.evaluate import Protocol, run, unfit

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    events = stream(dataset, settings.events, limit=limit, min_item_events=min_item_events)
    with bar:
        task = bar.add_task(data, total=None)
        table = run(
            events,
            chosen,
            Protocol(protocol.value, on.value, every, negatives, learn_validation),
            seeds=numbers,
            k=k,
            checkpoints=checkpoints,
            on_progress=lambda who, what, done, total: bar.update(
                task, description=f"{who} {what}", completed=done, total=total
            ),
            on_record=lambda so_far: evaluation_table.write(so_far, out),
            on_note=lambda note: console.print(
                f"headrace: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True
            ),
        )
    written = [evaluation_table.write(table, out), *evaluation_figures.write(table, out)]
    show(table)
    typer.echo(f"written: {', '.join(str(path) for path in written)}")
    # of all models those fail, too, that the data is not for: that was not asked for by name
    if any(models != "all" or unfit(record["model"], events) is None for record in table.failed):
        raise typer.Exit(EXIT_FAILED)


def show(table: Table) -> None:
    """Print the table as wide as it is: cut to a narrow terminal its figures could not be read."""
    from rich.console import Console
    from rich.measure import Measurement

    from stream_app.evaluation.view import render

    console = Console()
    grid = render(table)
    needed = Measurement.get(console, console.options.update(width=10_000), grid).maximum
    Console(width=max(needed, console.width), soft_wrap=True).print(grid)


def models_of(names: str, assignments: list[str] | None) -> ModelSettings:
    """Each model that was asked for, with the settings given for it.

    Raises:
        UsageError: no such model, or a setting that it does not have.
    """
    from models.family.registry import MODELS

    wanted = list(MODELS) if names == "all" else [name for part in names.split(",") if (name := part.strip())]
    if not wanted:
        raise UsageError(f"--models {names!r}: names no model", f"Models: all, {', '.join(MODELS)}")
    for name in wanted:
        check_name("--models", name, MODELS)
    chosen: ModelSettings = {name: {} for name in wanted}
    for assignment in assignments or ():
        path, value = parse_assignment(assignment)
        name, _, setting = path.partition(".")
        if name not in chosen or not setting:
            raise UsageError(
                f"--set {path}: needs MODEL.SETTING of a model that is asked, or events.SETTING",
                f"Models: {', '.join(chosen)}",
            )
        chosen[name][setting] = value
    for name, settings in chosen.items():
        if settings:
            check(name, settings, f"--set {name}")
    return chosen


def seeds_of(text: str) -> list[int]:
    """Whole numbers, each once.

    >>> seeds_of("0, 1,2")
    [0, 1, 2]
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {text!r}: needs whole numbers", "For example 0,1,2") from None
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text!r}: needs different numbers from 0 up", "For example 0,1,2")
    return seeds


def _check(
    protocol: ProtocolName, on: Part, negatives: int, learn_validation: bool, checkpoints: Path | None
) -> None:
    if negatives and protocol != ProtocolName.leave_one_out:
        raise UsageError(
            f"--negatives: is for leave-one-out; {protocol.value} always ranks all items",
            "Leave out --negatives.",
        )
    if on == Part.validation and protocol == ProtocolName.prequential:
        raise UsageError("--on validation: a prequential run asks for every event", "Leave out --on.")
    if learn_validation and (protocol != ProtocolName.leave_one_out or on == Part.validation):
        raise UsageError(
            "--learn-validation: is for leave-one-out on the test events", "Leave out --learn-validation."
        )
    if checkpoints is not None and protocol == ProtocolName.prequential:
        raise UsageError(
            "--checkpoints: a prequential run learns many times, and can't be gone on with",
            "Leave out --checkpoints.",
        )
