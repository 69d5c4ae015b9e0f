"""What `headrace tune` searches over: the settings that decide how good lists are, and between which values.

In: settings to start from. Out: dimensions; the values of a trial; the settings with these values in place. Settings
that decide what a list costs and not what is on it, and those that belong to the wire, are not searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
from pydantic import BaseModel, ValidationError

from stream_app.settings import Settings

Value = float | int
Values = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Dimension:
    """A number among the settings, and between which values it is searched.

    Attributes:
        path: dotted path of the setting.
        place: which number of a setting that is a list of them; None where it is one number.
        low, high: the bounds, both of which are taken.
        log: whether it is drawn evenly over its logarithm.
        choices: the values that are tried, where not all between the bounds can be.
    """

    path: str
    low: Value
    high: Value
    log: bool = False
    place: int | None = None
    choices: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The path, with the place in the list where it has one."""
        return self.path if self.place is None else f"{self.path}.{self.place}"

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int)

    def value(self, settings: Settings) -> Value:
        """What it is at present."""
        at: Any = settings
        for part in self.path.split("."):
            at = getattr(at, part)
        number: Value = at if self.place is None else at[self.place]
        return number

    def around(self, value: Value) -> Dimension:
        """The same with bounds, or choices, that `value` is within."""
        choices = tuple(sorted({*self.choices, int(value)})) if self.choices else ()
        return replace(self, low=min(self.low, value), high=max(self.high, value), choices=choices)

    def suggest(self, trial: optuna.Trial) -> Value:
        """A value for this trial; one that is no whole number has three digits, so that people can read it."""
        if self.choices:
            return int(trial.suggest_categorical(self.name, self.choices))
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return float(f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.3g}")


CHEAP = (
    Dimension("models.blend.lr", 0.02, 0.6, log=True),
    Dimension("models.blend.learn_within", 10, 200, log=True),
    Dimension("models.covisit.decay", 0.6, 0.98, place=0),
    Dimension("models.covisit.decay", 0.3, 0.9, place=1),
    Dimension("models.covisit.back", 0.0, 1.0, place=0),
    Dimension("models.covisit.back", 0.0, 1.0, place=1),
    Dimension("models.covisit.shrinkage", 2.0, 100.0, log=True),
    Dimension("models.popularity.half_lives", 30, 300, log=True, place=0),
    Dimension("models.popularity.half_lives", 300, 2000, log=True, place=1),
    Dimension("models.popularity.half_lives", 2000, 50_000, log=True, place=2),
    Dimension("models.popularity.candidates", 8, 64, log=True),
    Dimension("models.candidates", 50, 300, log=True),
    Dimension("models.asymmetric_mf.lr", 0.1, 2.0, log=True),
    Dimension("models.asymmetric_mf.negatives", 16, 200, log=True),
    Dimension("models.asymmetric_mf.decay", 0.5, 0.95),
)
TRANSFORMER = (
    Dimension("models.transformer.lr", 2e-4, 4e-3, log=True),
    Dimension("models.transformer.dropout", 0.0, 0.5),
    Dimension("models.transformer.d_model", 32, 128, choices=(32, 64, 96, 128)),
    Dimension("trainer.warmup_tokens_per_event", 7.0, 28.0, log=True),
    Dimension("trainer.tokens_per_event", 7.0, 28.0, log=True),
)


def dimensions(
    settings: Settings, *, transformer: bool, fixed: frozenset[str] = frozenset()
) -> list[Dimension]:
    """What is searched from these settings, which lie within the bounds.

    Args:
        transformer: whether what belongs to the Transformer is searched too, where that is what re-ranks: a model of
            the family in its place has settings of its own, and knows itself how long it learns.
        fixed: dotted paths that are to stay as they are.
    """
    trained = transformer and settings.models.ranker == "transformer"
    wanted = CHEAP + (TRANSFORMER if trained else ())
    there = [d for d in wanted if d.path not in fixed and _is_there(d, settings)]
    return [_accepted(d, settings).around(d.value(settings)) for d in there]


def present(settings: Settings, searched: list[Dimension]) -> Values:
    """The values that the settings have."""
    return {dimension.name: dimension.value(settings) for dimension in searched}


def applied(settings: Settings, searched: list[Dimension], values: Mapping[str, Value]) -> Settings:
    """The settings with these values in place of theirs.

    Raises pydantic.ValidationError for values that the settings refuse together.
    """
    changes: dict[str, Any] = {}
    for dimension in searched:
        section, *rest = dimension.path.split(".")
        at = changes.setdefault(section, getattr(settings, section).model_dump())
        for part in rest[:-1]:
            at = at[part]
        if dimension.place is None:
            at[rest[-1]] = values[dimension.name]
        else:
            at[rest[-1]] = _with(at[rest[-1]], dimension.place, values[dimension.name])
    checked: dict[str, BaseModel] = {
        section: type(getattr(settings, section)).model_validate(content)
        for section, content in changes.items()
    }
    return settings.model_copy(update=checked)


def _accepted(dimension: Dimension, settings: Settings) -> Dimension:
    """The dimension with those of its choices that go with the settings: a width is a multiple of twice the heads."""

    def goes(choice: int) -> bool:
        try:
            applied(settings, [dimension], {dimension.name: choice})
        except ValidationError:
            return False
        return True

    return replace(dimension, choices=tuple(filter(goes, dimension.choices)))


def _is_there(dimension: Dimension, settings: Settings) -> bool:
    """Whether a list of one's own has that place; a half-life of 0 is none, and is not searched."""
    try:
        return dimension.value(settings) > 0 or dimension.low <= 0
    except IndexError:
        return False


def _with(numbers: tuple[Value, ...], place: int, value: Value) -> tuple[Value, ...]:
    return (*numbers[:place], value, *numbers[place + 1 :])
