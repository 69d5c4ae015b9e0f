"""Where the events of `replay`, `backtest`, `evaluate` and `tune` come from: a data set by its name, or files.

In: the words of the command line. Out: a `Dataset`; on stderr, what a reader should know of it. Never talks to a
broker.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands.options import TimestampUnit, parse_map
from stream_app.errors import UsageError

if TYPE_CHECKING:
    from producers.columns import Dataset

Data = Annotated[
    str, typer.Argument(metavar="DATA|FILE", help="ml-100k, ml-1m, or a CSV, JSONL or Parquet file.")
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,…",
        help="Columns of a file: user=userId,item=movieId,value=rating,…; numbers if it has no header.",
    ),
]
TsUnit = Annotated[TimestampUnit, typer.Option("--ts-unit", help="How a file writes its timestamps.")]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="TEXT", help="Of a text file; else it is found.")
]
EventType = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="Type of all events of a file without such a column."),
]
Items = Annotated[
    Path | None,
    typer.Option(
        "--items",
        metavar="FILE",
        help="What is known of items: JSONL as on the items topic, or CSV or Parquet with those columns.",
    ),
]


def with_items(dataset: Dataset, path: Path | None) -> Dataset:
    """The data set with the catalogue of a file in place of its own."""
    if path is None:
        return dataset
    from producers.catalogue import read_items

    items = read_items(path)
    told = len(set(items["item_id"].to_list()) & set(dataset.item_ids))
    typer.echo(
        f"{path}: {len(items):,} items, {told:,} of the {len(dataset.item_ids):,} with events", err=True
    )
    note = f"{dataset.note}; " if dataset.note else ""
    return replace(dataset, items=items, note=f"{note}items are described by {path}")


def load_data(
    data: str, columns: str | None, ts_unit: TimestampUnit, delimiter: str | None, event_type: str | None
) -> Dataset:
    """The events that `data` names; a flag that is for files is refused for a data set."""
    from producers import datasets, tables

    mapping = parse_map(columns)
    if data not in datasets.names():
        path = Path(data)
        if not path.is_file():
            raise UsageError(
                f"{data}: no such file, and no data set of that name",
                f"Data sets: {', '.join(datasets.names())}; or the path of a CSV, JSONL or Parquet file.",
            )
        read = tables.read(path, mapping, delimiter=delimiter, ts_unit=ts_unit.value, event_type=event_type)
        if tables.SECONDS in read.note:
            typer.echo(f"{path}: {tables.SECONDS} (--ts-unit s)", err=True)
        return read
    given = {"--map": mapping, "--delimiter": delimiter, "--type": event_type}
    for flag, value in given.items():
        if value:
            raise UsageError(f"{flag}: is for files; {data} needs none", f"Leave out {flag}.")
    return datasets.load(data, notify=lambda line: typer.echo(line, err=True))
