"""Which items of a history carried a score, for any model of the contract: leave one out.

In: a model, queries, one item for each. Out: how far each item's score falls when one event of the history is taken
out and nothing else changes. Asks nothing of the model but `score`, so it looks at no weights, attention or gradients;
a model that ignores the history (a factorisation by the user's code) gets zeros, which is the truth about it.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, I32
from models.family.contract import NOBODY, Model, Queries

AT_A_TIME = 1024
"""Shortened histories that are scored at once."""


def leave_one_out(model: Model, queries: Queries, items: I32) -> F32:
    """What each event of the histories does for an item's score.

    Args:
        items: the item of each query that is explained, int32 [n], below `model.n_items`.

    Returns:
        float32 [n, L]: score with the whole history less the score without the event; NaN where there is no event or
        where either score is -inf (the model has no opinion without it, or never had one).
    """
    row, column = np.nonzero(queries.items != NOBODY)
    whole = model.score(queries, items[:, None])[:, 0]
    loss = np.full(queries.items.shape, np.nan, np.float32)
    for start in range(0, len(row), AT_A_TIME):
        r, c = row[start : start + AT_A_TIME], column[start : start + AT_A_TIME]
        without = model.score(shortened(queries.take(r), c), items[r][:, None])[:, 0]
        known = np.isfinite(whole[r]) & np.isfinite(without)
        loss[r[known], c[known]] = whole[r[known]] - without[known]
    return loss


def shortened(queries: Queries, column: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Queries:
    """Each history without its event in `column` [n]: what came before it moves up, and NOBODY fills in front."""
    length = queries.items.shape[1]
    places = np.arange(length)[None, :]
    source = np.where(places <= column[:, None], places - 1, places)  # -1: the new first place

    def moved(values: np.ndarray, fill: float) -> np.ndarray:
        out = np.take_along_axis(values, np.maximum(source, 0), axis=1)
        out[:, 0] = fill
        return out

    return Queries(
        queries.user, moved(queries.items, NOBODY), moved(queries.values, np.nan), moved(queries.ts, 0),
        moved(queries.actions, 0), moved(queries.scenarios, 0),
    )  # fmt: skip
