"""What every command takes, and how the values of flags are read.

In: the words of a command line. Out: typed values, or a `UsageError` that names the flag, the value and what
is allowed. Never opens a file or a connection, nor imports a heavy module: `headrace --help` reads this. It makes a
folder where a command is about to write to one.
"""

from __future__ import annotations

import errno
import os
import re
import tomllib
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_app.errors import UsageError

PANEL = "Settings (flags > HEADRACE_* variables > TOML file > defaults)"

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file with settings.", rich_help_panel=PANEL),
]
Broker = Annotated[
    str | None,
    typer.Option("--broker", metavar="HOST:PORT", help="Kafka to talk to.", rich_help_panel=PANEL),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Any setting by its dotted path, e.g. models.blend.lr=0.1; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", metavar="DIR", help="Folder of the worker's state.")
]

MAP_FIELDS = ("user", "item", "type", "value", "ts", "event_id", "scenario")
_LONG_NAMES = {"user_id": "user", "item_id": "item"}
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class TimestampUnit(StrEnum):
    """How a timestamp is written."""

    ms = "ms"
    s = "s"
    iso = "iso"


def parse_assignment(text: str) -> tuple[str, Any]:
    """`PATH=VALUE` of `--set`; a list or a table is written as in TOML.

    >>> parse_assignment("models.blend.lr=0.1")
    ('models.blend.lr', '0.1')
    >>> parse_assignment('topics.events=["clicks", "ratings"]')
    ('topics.events', ['clicks', 'ratings'])
    """
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not equals or not re.fullmatch(r"\w[\w-]*(\.\w[\w-]*)*", path):
        raise UsageError(f"--set {text!r}: needs PATH=VALUE", "For example --set models.blend.lr=0.1")
    if not value.startswith(("[", "{", '"', "'")):
        return path, value
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"--set {path}: {value!r} is not a TOML value ({error})", 'For example \'["clicks", "ratings"]\''
        ) from None


def parse_speed(text: str) -> float | None:
    """Event time that passes per second of clock time; None stands for as fast as possible.

    >>> parse_speed("100x"), parse_speed("max")
    (100.0, None)
    """
    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    if match and float(match[1]) > 0:
        return float(match[1])
    raise UsageError(f"--speed {text!r}: needs a positive number with an x, or max", "For example 100x")


def parse_duration_ms(flag: str, text: str) -> int:
    """A length of time in milliseconds.

    >>> parse_duration_ms("--window", "1m")
    60000
    """
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if match and int(match[1]) > 0:
        return int(match[1]) * _MILLISECONDS[match[2]]
    raise UsageError(
        f"{flag} {text!r}: needs a whole positive number and one of ms, s, m, h, d", "For example 1s, 15m"
    )


def parse_map(text: str | None) -> dict[str, str]:
    """Our field → the column or field that holds it, out of `user=userId,item=movieId`.

    >>> parse_map("user=userId,item=movieId")
    {'user': 'userId', 'item': 'movieId'}
    """
    columns: dict[str, str] = {}
    for part in (text or "").split(",") if text else []:
        ours, equals, theirs = (word.strip() for word in part.partition("="))
        if not equals or not theirs:
            raise UsageError(f"--map {part!r}: needs FIELD=COLUMN", "For example user=userId,item=movieId")
        ours = _LONG_NAMES.get(ours, ours)
        if ours not in MAP_FIELDS:
            raise UsageError(
                f"--map {ours!r}: is not a field of an event", f"Fields: {', '.join(MAP_FIELDS)}"
            )
        if ours in columns:
            raise UsageError(f"--map {ours!r}: is given twice ({columns[ours]!r} and {theirs!r})", "")
        columns[ours] = theirs
    return columns


def make_folder(flag: str, folder: Path) -> None:
    """Make the folder that a command will write to: before its work, rather than when that is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(
            f"{flag} {folder}: can't be written to: {error.strerror}",
            "Name a folder that this user may write to.",
        ) from None


def parse_time_ms(flag: str, text: str) -> int:
    """A moment as milliseconds UTC: an ISO 8601 date or time, or the number itself.

    >>> parse_time_ms("--from", "1997-09-20"), parse_time_ms("--from", "874713600000")
    (874713600000, 874713600000)
    """
    if re.fullmatch(r"\d+", text) and len(text) != 8:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text!r}: is no moment",
            "For example 1997-09-20, 1997-09-20T12:00:00+02:00, 874713600000 (ms)",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
