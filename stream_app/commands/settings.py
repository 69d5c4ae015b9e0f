"""Settings for a command: loads them, explains what is wrong with them, and says where each came from.

In: `--config`, `--broker`, `--set` and the flags of a command. Out: a `Settings`, or a `UsageError` with one
line for each wrong value; for `headrace settings`, every setting with its value and source. Never opens a
connection.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_app.commands.options import parse_assignment
from stream_app.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from stream_app.settings import Settings

CONFIG_VARIABLE = "HEADRACE_CONFIG"
DEFAULT_CONFIG = "headrace.toml"


def collect(
    broker: str | None, assignments: list[str] | None, flags: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Overrides by dotted path: flags of the command over `--set`; a flag that was not given is left out."""
    overrides: dict[str, Any] = dict(parse_assignment(text) for text in assignments or [])
    named = {**(flags or {}), "broker.url": broker}
    overrides.update({path: value for path, value in named.items() if value is not None})
    return overrides


def load_settings(
    config: Path | None,
    broker: str | None,
    assignments: list[str] | None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """The effective settings of a command; `--config` holds for the child processes too.

    Raises UsageError with one line for each value that is wrong.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from stream_app.settings import load

    overrides = collect(broker, assignments, flags)
    use_config(config)
    check_variables()
    try:
        settings = load(overrides)
    except ValidationError as error:
        raise UsageError("\n".join(explain(error, overrides))) from None
    except SettingsError as error:
        raise UsageError(f"HEADRACE_* variable: {error}", "Lists and tables are written as JSON.") from None
    check_address(settings.broker.url, origin("broker.url", overrides, read_config()))
    return settings


def check_variables() -> None:
    """Refuse a `HEADRACE_…__…` variable of a section that there is not: it would be left out in silence."""
    from stream_app.settings import Settings

    for name in sorted(os.environ):
        section, nested, _ = name.upper().removeprefix("HEADRACE_").partition("__")
        if not nested or not name.upper().startswith("HEADRACE_"):
            continue
        if section.lower() not in Settings.model_fields:
            path = name.upper().removeprefix("HEADRACE_").lower().replace("__", ".")
            raise UsageError(f"{path}: no such setting (from {name}){_suggestion(path)}")


def use_config(config: Path | None) -> None:
    """Make `config` the TOML file of this process and of its children."""
    if config is not None:
        if not config.is_file():
            raise UsageError(f"--config {config}: no such file", "Without --config, ./headrace.toml is read.")
        os.environ[CONFIG_VARIABLE] = str(config.absolute())
    elif (named := os.environ.get(CONFIG_VARIABLE)) and not Path(named).is_file():
        raise UsageError(f"{CONFIG_VARIABLE}={named}: no such file", "Correct or unset the variable.")
    read_config()


def read_config() -> dict[str, Any]:
    """The TOML file's content; empty where there is none."""
    path = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: can't be read as TOML: {error}") from None


def check_address(url: str, source: str) -> None:
    """Refuse a broker address that is not HOST:PORT[,HOST:PORT…]."""
    for part in url.split(","):
        match = re.fullmatch(r"\s*(?:\[[0-9a-fA-F:]+\]|[^\s:,]+):(\d{1,5})\s*", part)
        if not match or not 0 < int(match[1]) < 65536:
            raise UsageError(
                f"broker.url: {part!r} (from {source}) is not HOST:PORT", "For example 127.0.0.1:9092"
            )


def explain(error: ValidationError, overrides: Mapping[str, Any]) -> list[str]:
    """One line for each wrong value: field, value, what is allowed, where it was set."""
    toml = read_config()
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        source = origin(path, overrides, toml)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: no such setting (from {source}){_suggestion(path)}")
        else:
            allowed = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
            # A whole section says little, and one of them holds a password.
            whole = isinstance(problem["input"], Mapping) or path.startswith("broker.security")
            value = "" if whole else f"{problem['input']!r} "
            lines.append(f"{path}: {value}(from {source}) {allowed}")
    return lines


def _suggestion(path: str) -> str:
    from stream_app.settings import Settings

    known = [name for name, _, _ in leaves(Settings.model_construct())]
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "; `headrace settings` lists all of them"


def leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting as (dotted path, value, description), in the order of the classes."""
    from pydantic import BaseModel

    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value, field.description or ""


def origin(path: str, overrides: Mapping[str, Any], toml: Mapping[str, Any]) -> str:
    """Where the value at `path` comes from: `flag`, a variable's name, the TOML file or `default`."""
    parts = path.split(".")
    parents = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    if any(name in overrides for name in parents) or any(name.startswith(path + ".") for name in overrides):
        return "flag"
    variables = {name.upper() for name in os.environ}
    for name in parents:
        variable = "HEADRACE_" + name.upper().replace(".", "__")
        nested = name == path and any(other.startswith(variable + "__") for other in variables)
        if nested or variable in variables:
            return variable
    at: Any = toml
    for part in parts:
        if not isinstance(at, Mapping) or part not in at:
            return "default"
        at = at[part]
    return os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG)


def as_toml(value: Any) -> str:
    """A value as it is written in the TOML file; `(none)` where nothing is set."""
    if value is None:
        return "(none)"
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        entries = [f"{_toml_key(str(key))} = {as_toml(entry)}" for key, entry in value.items()]
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(entry) for entry in value) + "]"
    return json.dumps(value if isinstance(value, bool | int | float) else str(value), ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
