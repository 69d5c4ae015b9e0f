"""Where the events of `replay` and `backtest` come from: a data set by its name, or a file.

In: the words of the command line. Out: a `Dataset`. Never talks to a broker.
"""

from __future__ import annotations

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
        return tables.read(path, mapping, delimiter=delimiter, ts_unit=ts_unit.value, event_type=event_type)
    given = {"--map": mapping, "--delimiter": delimiter, "--type": event_type}
    for flag, value in given.items():
        if value:
            raise UsageError(f"{flag}: is for files; {data} needs none", f"Leave out {flag}.")
    return datasets.load(data, notify=lambda line: typer.echo(line, err=True))
