"""Kinds of events, which say what was done and where, as small codes: given at first sight and kept with the state.

A kind is the event type, followed by the scenario (a surface, a domain) where the event names one. So one small code of
an event, wherever it is stored, says both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models.base import F32, I32, U8

OTHER = 0
"""Code of every name beyond the 255th."""
MAX_SCENARIOS = 15
"""So many are told apart; events of any other are as if they named none."""
MOST_IN_SCENARIOS = 191
"""Where so many kinds are known, new ones with a scenario are as if they named none: the last codes are for types."""
IN = "\x1f"
"""Stands between what was done and where; no type or scenario has it (`stream_app.batch.decode`)."""


def kind_of(action: str, scenario: str | None) -> str:
    """The name of what was done, and where."""
    return f"{action}{IN}{scenario}" if scenario else action


def parted(kind: str) -> tuple[str, str]:
    """What was done, and where; "" for nowhere in particular.

    >>> parted(kind_of("click", "shop")), parted("click")
    (('click', 'shop'), ('click', ''))
    """
    action, _, scenario = kind.partition(IN)
    return action, scenario


def codes_of(kinds: Sequence[str]) -> tuple[I32, I32]:
    """Of each kind: what was done, from 0 up, and where, from 1 up, 0 for nowhere; by first appearance."""
    actions: dict[str, int] = {}
    scenarios: dict[str, int] = {"": 0}
    pairs = [parted(kind) for kind in kinds]
    done = [actions.setdefault(action, len(actions)) for action, _ in pairs]
    where = [scenarios.setdefault(scenario, len(scenarios)) for _, scenario in pairs]
    return np.array(done, np.int32), np.array(where, np.int32)


def row_of(kind: str, known: Mapping[str, int]) -> int:
    """The row of a kind; else that of what was done, wherever; 0 where neither is known.

    >>> row_of(kind_of("click", "moon"), {"click": 3}), row_of("buy", {"click": 3})
    (3, 0)
    """
    row = known.get(kind)
    return known.get(parted(kind)[0], 0) if row is None else row


class Scenarios:
    """The first `MAX_SCENARIOS` scenarios that are met."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        """From 1 up."""

    def kept(self, kind: str, known: int) -> str:
        """A kind beside `known` others: itself, or without its scenario where that is one too many."""
        action, scenario = parted(kind)
        if not scenario:
            return kind
        if known >= MOST_IN_SCENARIOS:
            return action
        if scenario not in self.codes:
            if len(self.codes) == MAX_SCENARIOS:
                return action
            self.codes[scenario] = len(self.codes) + 1
        return kind


class Actions:
    """An open vocabulary of at most 255 kinds of events, each with a teaching weight and a scenario."""

    def __init__(self, weights: dict[str, float], default: float = 1.0) -> None:
        self._given = weights
        self._default = default
        self._met = Scenarios()
        self.codes: dict[str, int] = {}
        self.weights: F32 = np.full(256, default, np.float32)
        """Teaching weight of each code, float32 [256]."""
        self.scenarios: U8 = np.zeros(256, np.uint8)
        """Scenario of each code, from 1 up; 0 for none, uint8 [256]."""

    @property
    def names(self) -> list[str]:
        """The names in the order of their codes, from 1 up."""
        return list(self.codes)

    def code(self, name: str) -> int:
        """The code of a kind of event, which is admitted if it is new."""
        code = self.codes.get(name)
        if code is None:
            kept = self._met.kept(name, len(self.codes))
            if kept != name:
                return self.code(kept)
            if len(self.codes) == 255:
                return OTHER
            action, scenario = parted(name)
            code = len(self.codes) + 1
            self.codes[name] = code
            self.weights[code] = self._given.get(action, self._default)
            self.scenarios[code] = self._met.codes.get(scenario, 0)
        return code

    def restore(self, names: Iterable[str]) -> None:
        """Give these names their codes again, in order."""
        for name in names:
            self.code(name)
