"""The settings of one model: what there is to set, and what is wrong with what was given.

In: a model's name, as in `models.ranker` and `evaluate --models`. Out: lines for people; or a `UsageError` with the
nearest name. Never makes a model.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from stream_app.commands.settings import as_toml
from stream_app.errors import UsageError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

LIST = "list"
TRANSFORMER = "transformer"
BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}


def describe(name: str) -> list[str]:
    """Every setting of a model with its default, what it means and what is allowed; of `list`, the models."""
    from models.config import TransformerSettings
    from models.family.registry import MODELS, model_class

    if name == LIST:
        return [
            f"{TRANSFORMER}  # {_first_line(TransformerSettings.__doc__)}",
            *(f"{one}  # {_first_line(model_class(one).__doc__)}" for one in MODELS),
        ]
    if name == TRANSFORMER:
        return [
            f"# {name}: {_first_line(TransformerSettings.__doc__)}",
            *(f"models.transformer.{line}" for line in _fields(TransformerSettings.model_fields)),
        ]
    check_name("--model", name, [LIST, TRANSFORMER, *MODELS])
    model = model_class(name)
    fields = model.Settings.model_fields
    example = next(iter(fields))
    return [
        f"# {name}: {_first_line(model.__doc__)}",
        f"# evaluate: --set {name}.{example}=…; backtest, worker, trainer: --set models.ranker={name}"
        f" --set models.ranker_settings.{example}=…",
        *_fields(fields),
    ]


def check_name(flag: str, name: str, names: Iterable[str]) -> None:
    """Refuse a name that there is not, with the nearest one."""
    known = list(names)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"{flag} {name!r}: there is no such model{meant}", f"Models: {', '.join(known)}")


def _fields(fields: Mapping[str, FieldInfo]) -> list[str]:
    lines = []
    for name, field in fields.items():
        told = [part for part in (field.description, _allowed(field)) if part]
        value = as_toml(field.get_default(call_default_factory=True))
        lines.append(f"{name} = {value}" + (f"  # {'; '.join(told)}" if told else ""))
    return lines


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.annotation)))
    bounds = [
        form.format(f"{limit:g}")
        for name, form in BOUNDS.items()
        for limit in (getattr(mark, name, None) for mark in field.metadata)
        if limit is not None
    ]
    return " ".join(bounds)


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().split("\n", 1)[0].rstrip(".")
