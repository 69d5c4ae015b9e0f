"""`headrace tune`: searches settings with which the backtest of a data set or a file has better lists.

In: flags. Out: a progress bar on stderr, the best beside the settings as they are on stdout, `best.toml`, `tune.json`
and the study under `--out`. The work is done in `stream_app.tuning`.
"""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands.data import Columns, Delimiter, EventType, TsUnit, load_data
from stream_app.commands.options import Assignments, ConfigFile, TimestampUnit, make_folder
from stream_app.commands.settings import collect, load_settings, origin, read_config

if TYPE_CHECKING:
    from stream_app.settings import Settings

DATA = typer.Option("--data", metavar="DATA|FILE", help="ml-100k, ml-1m, or a CSV, JSONL or Parquet file.")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("tune")(tune)


def tune(
    data: Annotated[str, DATA],
    minutes: Annotated[
        float,
        typer.Option("--minutes", min=0, help="Stop after so long; asked again, it goes on from there."),
    ] = 60.0,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Stop at so many, those of earlier runs counted.")
    ] = 100,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    transformer: Annotated[
        bool,
        typer.Option(
            "--transformer/--no-transformer",
            help="Train the Transformer, or models.ranker in its place; of the Transformer, search the settings too.",
        ),
    ] = True,
    seed: Annotated[int | None, typer.Option(help="Of the proposals and of every run.")] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of best.toml, tune.json and the study.")
    ] = Path("run/tune"),
    columns: Columns = None,
    ts_unit: TsUnit = TimestampUnit.ms,
    delimiter: Delimiter = None,
    event_type: EventType = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Search settings with better lists (NDCG) than those at hand; what --set or a variable gives stays."""
    started = time.monotonic()
    settings = load_settings(config, None, assignments, {"seed": seed})
    make_folder("--out", out)
    dataset = load_data(data, columns, ts_unit, delimiter, event_type)
    transformer = transformer and settings.models.transformer.enabled
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from stream_app.tuning import outcome
    from stream_app.tuning.objective import Prequential, Step
    from stream_app.tuning.search import Search, Study, alone
    from stream_app.tuning.space import dimensions

    objective = Prequential(dataset, limit, transformer, settings.seed)
    task = {
        "data": dataset.sha256,
        "events": str(objective.events),
        "transformer": "on" if transformer else "off",
        "settings": fingerprint(settings),
    }
    searched = dimensions(settings, transformer=transformer, fixed=given(assignments))
    k = settings.models.policy.k
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"HR@{k} {{task.fields[hr]:.4f}}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with alone(out), bar:
        study = Study(out, settings, searched, task, settings.seed)
        row = bar.add_task(data, total=objective.events, hr=0.0)

        def on_step(step: Step, before: Search) -> None:
            best = "" if before.best is None else f", best NDCG@{k} {before.best.ndcg:.4f}"
            bar.update(
                row,
                description=f"trial {len(before.trials) + 1} of {trials}{best}",
                completed=step.done,
                hr=0.0 if math.isnan(step.hr) else step.hr,
            )

        def keep(so_far: Search) -> tuple[Path, Path]:
            return outcome.write(so_far, study.best_settings(), {"on": data, **task}, out)

        search = study.run(
            objective,
            trials=trials,
            deadline=started + 60 * minutes,
            clock=time.monotonic,
            on_step=on_step,
            on_trial=keep,
        )
        toml, every_trial = keep(search)
    typer.echo("\n".join(outcome.summarise(search, k)))
    typer.echo(f"written: {toml}, for --config of worker and trainer, and {every_trial}")


def given(assignments: list[str] | None) -> frozenset[str]:
    """Dotted paths of what `--set` or a `HEADRACE_*` variable gives, which is not for a search to change."""
    from stream_app.tuning.space import CHEAP, TRANSFORMER

    overrides, toml = collect(None, assignments), read_config()
    sources = {d.path: origin(d.path, overrides, toml) for d in (*CHEAP, *TRANSFORMER)}
    return frozenset(p for p, source in sources.items() if source == "flag" or source.startswith("HEADRACE_"))


def fingerprint(settings: Settings) -> str:
    """Of what a backtest depends on: trials under other settings can't be compared."""
    parts = [part.model_dump_json() for part in (settings.models, settings.trainer, settings.events)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
