"""Growing a named tuple of arrays: the shape in which numba kernels take a model's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T", bound=tuple[Any, ...])


def grown(state: T, rows: int, fill: Mapping[str, float] | None = None) -> T:
    """The same columns with room for `rows` rows; new rows are 0, or what `fill` says for that column."""
    fill = fill or {}
    columns = []
    for name, old in zip(type(state)._fields, state, strict=True):  # type: ignore[attr-defined]
        new = np.full((rows, *old.shape[1:]), fill.get(name, 0), old.dtype)
        new[: len(old)] = old
        columns.append(new)
    return type(state)(*columns)


def nbytes(state: NamedTuple) -> int:
    """Bytes that the arrays of a state take in memory."""
    return sum(column.nbytes for column in state if isinstance(column, np.ndarray))
