"""File formats: the mapped columns of a CSV, JSONL or Parquet file, unconverted.

In: a path, our field → their column, names that are found without a map. Out: a frame with our field names,
and which column each came from. Never converts a value (that is `producers.tables`).
"""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from stream_app.errors import HeadraceError

DELIMITERS = ("::", "\t", ";", "|", ",", " ")
UNIT_SEPARATOR = b"\x1f"
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
ID_FIELDS = ("user", "item", "event_id", "type", "scenario")

NO_TIME = """
  Every event needs its time (ts), in whose order lists are made and judged. Where a file has none and its rows are in
  order, add a column that counts them."""

Names = Mapping[str, tuple[str, ...]]


class TableError(HeadraceError):
    """A file can't be read; the message names the file, the place and the remedy."""


def read_columns(
    path: Path, columns: dict[str, str], names: Names, required: tuple[str, ...], delimiter: str | None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """The mapped columns under our names (text, or Parquet's own types), and field → column.

    Raises TableError when the file is not there, not of its format, or lacks a column.
    """
    if not path.is_file():
        raise TableError(f"{path}: there is no such file", "Give the path of a CSV, JSONL or Parquet file.")
    suffixes = [s.lower() for s in path.suffixes]
    kind = next((s for s in reversed(suffixes) if s not in (".gz", ".zst")), "")
    try:
        if kind == ".parquet":
            there = pl.scan_parquet(path).collect_schema().names()
            chosen = _choose(path, columns, names, required, there)
            frame = pl.read_parquet(path, columns=sorted(set(chosen.values())))
        elif kind in JSON_SUFFIXES:
            return _jsonl(path, columns, names, required)
        else:
            return _delimited(path, columns, names, required, delimiter)
    except pl.exceptions.PolarsError as error:
        raise TableError(
            f"{path}: not readable as {kind.lstrip('.') or 'CSV'}: {str(error).splitlines()[0]}"
        ) from error
    return frame.select(**{field: pl.col(column) for field, column in chosen.items()}), chosen


def _choose(
    path: Path, columns: Mapping[str, str], names: Names, required: tuple[str, ...], there: list[str]
) -> dict[str, str]:
    """Field → column: as mapped, else under one of our own names."""
    chosen = dict(columns)
    for field, known in names.items():
        if field not in chosen:
            found = next((name for name in known if name in there), None)
            if found is not None:
                chosen[field] = found
    missing = [c for c in columns.values() if c not in there]
    missing += [f"{names[f][0]} (for {f})" for f in required if f not in chosen]
    if missing:
        raise TableError(
            f"{path}: no column {', '.join(missing)}; there are {', '.join(there)}",
            "Name them with a column map such as user=userId,item=movieId,ts=timestamp"
            + (NO_TIME if "ts" in required and "ts" not in chosen else ""),
        )
    return chosen


def _delimited(
    path: Path, columns: dict[str, str], names: Names, required: tuple[str, ...], delimiter: str | None
) -> tuple[pl.DataFrame, dict[str, str]]:
    headless = bool(columns) and all(c.isdigit() for c in columns.values())
    separator = delimiter if delimiter is not None else _delimiter_of(path)
    source: Path | io.BytesIO = path
    if len(separator.encode()) != 1:
        content = _bytes(path)
        if UNIT_SEPARATOR in content:
            raise TableError(f"{path}: holds the byte 0x1f, so {separator!r} can't be the delimiter here")
        source = io.BytesIO(content.replace(separator.encode(), UNIT_SEPARATOR))
        separator = UNIT_SEPARATOR.decode()
    quote = None if separator in ("\t", UNIT_SEPARATOR.decode()) else '"'
    lazy = pl.scan_csv(
        source, separator=separator, has_header=not headless, infer_schema=False, quote_char=quote
    )
    in_file = lazy.collect_schema().names()
    there = [str(n) for n in range(len(in_file))] if headless else in_file
    chosen = _choose(path, columns, names, required, there)
    of = {field: pl.col(in_file[there.index(column)]) for field, column in chosen.items()}
    try:
        return lazy.select(**of).collect(), chosen
    except pl.exceptions.ComputeError as error:
        where = _first_odd_line(path, delimiter or separator, len(in_file))
        raise TableError(f"{path}: {where or str(error).splitlines()[0]}", "Correct the file.") from error


def _delimiter_of(path: Path) -> str:
    """The delimiter that splits the first lines into the most parts, if possible the same number in each."""
    lines = [line for _, line in zip(range(20), lines_of(path), strict=False)]
    text = [line.decode(errors="replace") for line in lines if line.strip()]
    if not text:
        raise TableError(f"{path}: is empty")
    counts = {d: [_outside_quotes(line).count(d) for line in text] for d in DELIMITERS}
    same = {d: c[0] for d, c in counts.items() if c[0] > 0 and min(c) == max(c)}
    fit = same or {d: c[0] for d, c in counts.items() if c[0] > 0}
    if fit:
        return max(fit, key=lambda d: fit[d])
    raise TableError(f"{path}: no delimiter found in {text[0][:60]!r}", "Give the delimiter.")


def _first_odd_line(path: Path, separator: str, columns: int) -> str:
    """What is wrong with the first line that is not UTF-8 or has too many columns; empty if none is."""
    for number, line in enumerate(lines_of(path), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            return f"line {number} is not UTF-8 (byte {error.start + 1} of the line)"
        found = _outside_quotes(text).count(separator) + 1
        if found > columns:
            return f"line {number} has {found} columns, not {columns}"
    return ""


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _jsonl(
    path: Path, columns: dict[str, str], names: Names, required: tuple[str, ...]
) -> tuple[pl.DataFrame, dict[str, str]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    chosen: dict[str, str] = {}
    kept: dict[str, list[str | None]] = {}
    row = 0
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        if row == 0:
            line = line.removeprefix(codecs.BOM_UTF8)
            if line.lstrip().startswith(b"["):
                raise TableError(f"{path}: is a JSON array", "Write one object a line (JSONL).")
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TableError(f"{path}: line {number} is not a JSON object: {error}") from error
        row += 1
        for field, known in names.items():  # optional fields may first appear further down
            if field in chosen:
                continue
            column = columns.get(field) or next((name for name in known if name in record), None)
            if column is not None and column in record:
                chosen[field] = column
                kept[field] = [None] * (row - 1)
        for field, column in chosen.items():
            kept[field].append(_plain(path, number, field, column, record.get(column)))
    if row and not all(f in chosen for f in (*required, *columns)):
        _choose(path, columns, names, required, sorted(record))
        raise TableError(f"{path}: no line has all of {', '.join((*required, *columns.values()))}")
    return pl.DataFrame(kept, schema=dict.fromkeys(chosen, pl.String)), chosen


def _plain(path: Path, line: int, field: str, column: str, value: object) -> str | None:
    """A JSON scalar as text; an id may be a string or an integer only."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and field not in ID_FIELDS:
        return repr(value)
    shown = msgspec.json.encode(value).decode()[:60]
    raise TableError(f"{path}: line {line}, column {column} ({field}): {shown} is not a text or an integer")


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, which may be compressed by gzip.

    Raises:
        TableError: it can't be read.
    """
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else Path.open
    try:
        with opener(path, "rb") as file:
            yield from file
    except (OSError, EOFError) as error:
        raise TableError(f"{path}: {error}") from error


def _bytes(path: Path) -> bytes:
    return b"".join(lines_of(path))
