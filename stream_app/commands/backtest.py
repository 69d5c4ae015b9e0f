"""`headrace backtest`: the worker's pipeline over a data set or a file, with no broker.

In: flags. Out: a progress bar on stderr, the figures on stdout, `report.html` and `report.json`. The work is
done in `stream_app.backtests.backtest`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands.data import Columns, Data, Delimiter, EventType, Items, TsUnit, load_data, with_items
from stream_app.commands.options import Assignments, ConfigFile, TimestampUnit, make_folder, parse_duration_ms
from stream_app.commands.settings import load_settings

if TYPE_CHECKING:
    from stream_app.backtests.report import Report


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("backtest")(backtest)


def backtest(
    data: Data,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    transformer: Annotated[
        bool,
        typer.Option(
            "--transformer/--no-transformer",
            help="Train the Transformer, or models.ranker in its place, and re-rank with it.",
        ),
    ] = True,
    baselines: Annotated[
        bool,
        typer.Option("--baselines/--no-baselines", help="Score each single source beside what is served."),
    ] = True,
    window: Annotated[
        str | None,
        typer.Option(metavar="1s|1m|…", help="Lists by window of event time, not after every event."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random.")] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of report.html and report.json.")
    ] = Path("run/backtest"),
    columns: Columns = None,
    ts_unit: TsUnit = TimestampUnit.ms,
    delimiter: Delimiter = None,
    event_type: EventType = None,
    items: Items = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Recommend and learn over a data set as the worker would, and score each event before it is learned."""
    window_ms = None if window is None else parse_duration_ms("--window", window)
    settings = load_settings(config, None, assignments, {"seed": seed})
    make_folder("--out", out)
    dataset = with_items(load_data(data, columns, ts_unit, delimiter, event_type), items)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stream_app.backtests import report as reports
    from stream_app.backtests.backtest import run

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"HR@{settings.models.policy.k} {{task.fields[hr]:.4f}}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(data, total=min(limit or len(dataset), len(dataset)), hr=0.0)
        report = run(
            dataset,
            settings,
            limit=limit,
            transformer=transformer,
            seed=settings.seed,
            window_ms=window_ms,
            baselines=baselines,
            on_progress=lambda done, total, hr: bar.update(task, completed=done, total=total, hr=hr),
        )
    typer.echo(summarise(report))  # before anything is written: a full disk must not cost the figures
    page, figures = reports.write(report, out)
    typer.echo(f"report: {page} and {figures}")


def summarise(report: Report) -> str:
    """The figures in a few lines."""
    k = report.k
    lines = [
        f"{report.events:,} events, {report.scored:,} scored, {report.seconds:.1f} s "
        f"({report.events / max(report.seconds, 1e-9):,.0f} events/s)",
        *(f"  not scored: {count:,} {why}" for why, count in report.unscored.items() if count),
        f"HR@{k} {_figure(report.hr)}  NDCG@{k} {_figure(report.ndcg)}",
    ]
    for name, score in sorted(report.baselines.items(), key=lambda pair: -(pair[1].hr or 0.0)):
        lines.append(f"  {name:<24} HR@{k} {_figure(score.hr)}  NDCG@{k} {_figure(score.ndcg)}")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
