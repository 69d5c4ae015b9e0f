"""A catalogue from a file: what there is to say of items, in the fields of the `items` contract.

In: the path of a JSONL, CSV or Parquet file. Out: a frame for `Dataset.items`, one row an item: of an id that comes
twice the last counts, as on the topic. A line that can't be an item is an error that names it. Fields that are not of
the contract are left out; an item need not occur in any event.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from producers.columns import ITEMS_SCHEMA, catalogue
from producers.formats import JSON_SUFFIXES, TableError, lines_of
from stream_app.events import VERSION, Item

SEPARATOR = "|"
"""Between categories, and between tags, where they are one text."""
DELIMITERS = ("\t", ";", ",")
FIELDS = tuple(ITEMS_SCHEMA)
MAX_ID_BYTES = 256

Row = tuple[str, dict[str, Any], bool]
"""Where it stands, for people; its fields; whether numbers are written as text."""


class _BadItemError(Exception):
    """Why a line can't be an item."""


def read_items(path: Path) -> pl.DataFrame:
    """The items of a file: columns as in `ITEMS_SCHEMA`.

    In CSV and Parquet, `categories` and `tags` may be texts with `|` between them, and `embeddings` a JSON object; a
    file of tabs has no quotes, as one of events.

    Raises:
        TableError: the file is not there, or a line of it is no item.
    """
    if not path.is_file():
        raise TableError(f"{path}: there is no such file", "Give the path of a JSONL, CSV or Parquet file.")
    kind = next((s for s in reversed([s.lower() for s in path.suffixes]) if s not in (".gz", ".zst")), "")
    if kind == ".parquet":
        rows = _parquet(path)
    else:
        rows = _jsonl(path) if kind in JSON_SUFFIXES else _delimited(path)
    items: dict[str, Item] = {}
    for where, fields, as_text in rows:
        try:
            item_id, item = _item(fields, as_text=as_text)
        except (_BadItemError, ValueError) as error:
            raise TableError(f"{path}: {where}: {error}", "Correct the file.") from None
        items.pop(item_id, None)
        items[item_id] = item
    if not items:
        raise TableError(f"{path}: there are no items")
    return catalogue(
        [
            {
                **msgspec.structs.asdict(item),
                "item_id": item_id,
                "embeddings": [{"name": n, "vector": v} for n, v in item.embeddings.items()],
            }
            for item_id, item in items.items()
        ]
    )


def _item(fields: dict[str, Any], *, as_text: bool) -> tuple[str, Item]:
    given = {name: value for name in FIELDS if (value := fields.get(name)) is not None}
    for name in ("categories", "tags"):
        if isinstance(given.get(name), str) and as_text:
            given[name] = [part.strip() for part in given[name].split(SEPARATOR) if part.strip()]
    if isinstance(given.get("embeddings"), str) and as_text:
        given["embeddings"] = json.loads(given["embeddings"])
    version = fields.get("v", VERSION)
    if version != VERSION and not (as_text and version == str(VERSION)):
        raise _BadItemError(f"v is {version!r}, and {VERSION} is what is read here")
    item_id = given.get("item_id")
    if item_id is None:
        raise _BadItemError("item_id is missing")
    if isinstance(item_id, bool) or not isinstance(item_id, str | int):
        raise _BadItemError(f"item_id {item_id!r} is not a text or an integer")
    item_id = str(item_id)
    if not 0 < len(item_id.encode()) <= MAX_ID_BYTES:
        raise _BadItemError(f"item_id is not a text of 1 to {MAX_ID_BYTES} bytes")
    item = msgspec.convert({**given, "item_id": item_id}, Item, strict=not as_text)
    numbers = [item.price or 0.0, *(x for vector in item.embeddings.values() for x in vector)]
    if not all(map(math.isfinite, numbers)):
        raise _BadItemError("a price or an embedding is not a finite number")
    return item_id, item


def _jsonl(path: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(lines_of(path), start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.lstrip().startswith(b"["):
            raise TableError(f"{path}: line {number} is a JSON array", "Write one object a line (JSONL).")
        if text.strip():
            try:
                yield f"line {number}", decode(text), False
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise TableError(f"{path}: line {number} is not a JSON object: {error}") from None


def _delimited(path: Path) -> Iterator[Row]:
    number = 0

    def texts() -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(lines_of(path), start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TableError(
                    f"{path}: line {number} is not UTF-8 (byte {error.start + 1} of the line)"
                ) from None

    lines = texts()
    header = next(lines, "")
    delimiter = next((d for d in DELIMITERS if "item_id" in _split(header, d)), ",")
    names = _split(header, delimiter)
    _check_columns(path, names)
    try:
        for cells in csv.reader(lines, delimiter=delimiter, quoting=_quoting(delimiter), strict=True):
            if len(cells) > len(names):
                raise TableError(
                    f"{path}: line {number} has {len(cells)} columns, not {len(names)}", "Correct the file."
                )
            if cells:
                fields = {n: c for n, c in zip(names, cells, strict=False) if c.strip()}
                yield f"line {number}", fields, True
    except csv.Error as error:
        raise TableError(f"{path}: line {number}: {error}", "Correct the file.") from None


def _split(header: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([header], delimiter=delimiter, quoting=_quoting(delimiter)), [])
    return [name.strip() for name in cells]


def _quoting(delimiter: str) -> Literal[0, 3]:
    return csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL


def _parquet(path: Path) -> Iterator[Row]:
    try:
        there = pl.scan_parquet(path).collect_schema().names()
        _check_columns(path, there)
        frame = pl.read_parquet(path, columns=[name for name in there if name in FIELDS])
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{path}: not readable as parquet: {str(error).splitlines()[0]}") from error
    for row, fields in enumerate(frame.iter_rows(named=True), start=1):
        if isinstance(vectors := fields.get("embeddings"), dict):
            fields["embeddings"] = {name: vector for name, vector in vectors.items() if vector is not None}
        yield f"row {row}", fields, True


def _check_columns(path: Path, names: list[str]) -> None:
    if "item_id" not in names or not set(names) & set(FIELDS[1:]):
        raise TableError(
            f"{path}: its columns are {', '.join(names) or 'none'}; needed are item_id and what is said of items: "
            + ", ".join(FIELDS[1:]),
            "Rename the columns.",
        )
