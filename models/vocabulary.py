"""Names of event types as small codes, given at first sight and kept with the state."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.base import F32

OTHER = 0
"""Code of every name beyond the 255th."""


class Actions:
    """An open vocabulary of at most 255 event types, each with a teaching weight."""

    def __init__(self, weights: dict[str, float], default: float = 1.0) -> None:
        self._given = weights
        self._default = default
        self.codes: dict[str, int] = {}
        self.weights: F32 = np.full(256, default, np.float32)
        """Teaching weight of each code, float32 [256]."""

    @property
    def names(self) -> list[str]:
        """The names in the order of their codes, from 1 up."""
        return list(self.codes)

    def code(self, name: str) -> int:
        """The code of an event type, which is admitted if it is new."""
        code = self.codes.get(name)
        if code is None:
            if len(self.codes) == 255:
                return OTHER
            code = len(self.codes) + 1
            self.codes[name] = code
            self.weights[code] = self._given.get(name, self._default)
        return code

    def restore(self, names: Iterable[str]) -> None:
        """Give these names their codes again, in order."""
        for name in names:
            self.code(name)
