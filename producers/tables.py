"""Any CSV, TSV, JSONL or Parquet file of events, read through a column map.

In: a path and how its columns are called. Out: a `Dataset`, in stable timestamp order. A row that can't be
an event is an error that names the row, the column and the value. Never guesses a value and never drops a
row.

Only the mapped columns are read, but those of the whole file at once, since rows are sorted: at the peak
about 300 bytes a row with ids of ten characters (ten million events in 3 GB); what stays is 28 bytes a row
and each distinct id once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from producers.columns import Dataset, from_frame
from producers.formats import TableError, read_columns

__all__ = ["SECONDS", "TableError", "TsUnit", "read"]

TsUnit = Literal["ms", "s", "iso"]

NAMES = {
    "user": ("user_id", "user"),
    "item": ("item_id", "item"),
    "ts": ("ts",),
    "type": ("type",),
    "value": ("value",),
    "event_id": ("event_id",),
    "scenario": ("scenario",),
}
"""Our fields, and the column names that need no map."""

REQUIRED = ("user", "item", "ts")
MAX_ID_BYTES = 256
YEAR_3000_MS = 32_503_680_000_000
YEAR_1973_MS = 94_694_400_000
SHOWN = 5
SECONDS = "every timestamp is before 1973: if they are seconds, say so with the unit"
"""The part of a data set's note that is worth saying at once."""


def read(
    path: Path | str,
    columns: Mapping[str, str] | None = None,
    *,
    delimiter: str | None = None,
    ts_unit: TsUnit = "ms",
    event_type: str | None = None,
) -> Dataset:
    """The events of a file.

    `columns` maps our fields (`user`, `item`, `ts`, `type`, `value`, `event_id`, `scenario`) to names, or to
    numbers from 0 when the file has no header; a field that it leaves out is looked for under our own name. `delimiter`
    may have several characters; None finds it. `event_type` is the type of all rows of a file without such a
    column; by default `rating` when there is a value, else `click`. `item` may be empty in an `erase`.

    Raises TableError.
    """
    path = Path(path)
    raw, chosen = read_columns(path, dict(columns or {}), NAMES, REQUIRED, delimiter)
    if raw.is_empty():
        raise TableError(f"{path}: there are no rows")
    bad = _Bad(path, raw, chosen)
    out: dict[str, pl.Series] = {}
    for field in ("type", "user", "item", "event_id", "scenario"):
        if field in raw.columns:
            ids = _text(raw[field], path, chosen[field])
            size = ids.str.len_bytes().fill_null(0)
            empty_is_fine = pl.repeat(field in ("event_id", "scenario"), len(raw), eager=True)
            if field == "item" and "type" in out:
                empty_is_fine = (out["type"] == "erase").fill_null(value=False)
            allowed = (size <= MAX_ID_BYTES) & ((size > 0) | empty_is_fine)
            bad.where(~allowed, field, f"is not a text of 1 to {MAX_ID_BYTES} bytes")
            out[field] = ids.replace("", None)
    out["ts"] = _milliseconds(raw["ts"], ts_unit)
    allowed = out["ts"].is_between(0, YEAR_3000_MS).fill_null(value=False)
    bad.where(~allowed, "ts", f"is not a time from 1970 on, read as {ts_unit!r} (see the unit)")
    if "value" in raw.columns:
        given = raw["value"]
        if given.dtype == pl.String:
            given = given.str.strip_chars().replace("", None)
        out["value"] = given.cast(pl.Float64, strict=False)
        allowed = given.is_null() | out["value"].is_finite().fill_null(value=False)
        bad.where(~allowed, "value", "is not a finite number")
    bad.raise_if_any()

    frame = pl.DataFrame(out)
    if "type" not in out:
        constant = event_type or ("rating" if "value" in out else "click")
        frame = frame.with_columns(type=pl.lit(constant, dtype=pl.String))
    latest = frame["ts"].max()
    note = "rows that share a timestamp keep the order of the file"
    if ts_unit == "ms" and isinstance(latest, int) and latest < YEAR_1973_MS:
        note += f"; {SECONDS}"
    return from_frame(frame, name=str(path), source=str(path), note=note)


def _text(column: pl.Series, path: Path, name: str) -> pl.Series:
    """Strings and integers as text; other types can't be an id."""
    if column.dtype == pl.String:
        return column
    if column.dtype.is_integer():
        return column.cast(pl.String)
    if column.dtype == pl.Categorical or column.dtype == pl.Enum:
        return column.cast(pl.String)
    raise TableError(
        f"{path}: column {name} is of type {column.dtype}; an id or a type is a text or an integer",
        "Convert the column, or map another one.",
    )


def _milliseconds(column: pl.Series, unit: TsUnit) -> pl.Series:
    """Event time in ms UTC; null where it can't be read."""
    if isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Date:
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    if unit == "iso":
        if column.dtype != pl.String:
            column = column.cast(pl.String)
        return _iso(column)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    if unit == "ms":
        whole = column.cast(pl.Int64, strict=False)
        if column.dtype == pl.String:  # "978300760000.0", as pandas writes it
            decimals = column.cast(pl.Float64, strict=False)
            whole = whole.fill_null(decimals.round().cast(pl.Int64, strict=False))
        return whole
    seconds = column.cast(pl.Float64, strict=False)
    return (seconds * 1000).round().cast(pl.Int64, strict=False)


def _iso(column: pl.Series) -> pl.Series:
    """ISO 8601 with or without fraction and zone; without a zone it is UTC."""
    text = column.str.strip_chars().str.replace(r"[ T]", "T").str.replace(r"Z$", "+00:00")
    text = text.str.replace(r"T(\d\d:\d\d)($|[+-])", "T${1}:00${2}")
    text = pl.select(
        pl.when(text.str.contains(r"T.*[+-]\d\d:?\d\d$")).then(text).otherwise(text + "+00:00")
    ).to_series()
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)\+", "${1}T00:00:00+")
    parsed = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="ms", time_zone="UTC", strict=False)
    return parsed.dt.epoch("ms")


def _show(value: object) -> str:
    if value is None:
        return "an empty value"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


class _Bad:
    """The values that can't be read: how many, and the first of them."""

    def __init__(self, path: Path, raw: pl.DataFrame, chosen: Mapping[str, str]) -> None:
        self._path, self._raw, self._chosen = path, raw, chosen
        self._count = 0
        self._first: list[tuple[int, str, str]] = []

    def where(self, bad: pl.Series, field: str, why: str) -> None:
        rows = bad.arg_true()
        self._count += len(rows)
        for row in rows.head(SHOWN).to_list():
            self._first.append((row, field, f"{_show(self._raw[field][row])} {why}"))

    def raise_if_any(self) -> None:
        if not self._count:
            return
        lines = [f"{self._path}: {self._count} value{'s' * (self._count != 1)} can't be read as an event:"]
        for row, field, why in sorted(self._first)[:SHOWN]:
            lines.append(f"  row {row + 1}, column {self._chosen[field]} ({field}): {why}")
        if self._count > SHOWN:
            lines.append(f"  … and {self._count - SHOWN} more")
        advice = "Rows are counted from 1, without the header. Correct the file, the column map or the unit."
        raise TableError("\n".join(lines), advice)
