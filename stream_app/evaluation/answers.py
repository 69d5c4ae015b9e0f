"""What models say beside lists: which rating a user would give, and what they would do next.

In: questions, and a model that is asked them with the user's history. Out: figures. Models that don't answer such
questions are not asked.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, F64, I32, Bool
from models.family.contract import ActionModel, Interactions, Model, Queries, RatingModel
from models.family.protocols import Questions

LEVELS = 20
"""A scale with more different ratings than this is continuous: whether the very rating was found is not asked."""


class Answers:
    """What one model said.

    Attributes:
        rating: expected of each relevant item, float32 [m]; NaN where nothing was said.
        action: most likely next one of each question, int32 [n]; -1 where nothing was said.
    """

    def __init__(self, events: Interactions, questions: Questions) -> None:
        self._questions = questions
        self._value, self._done = events.value[questions.row], events.action[questions.row]
        self._scale = np.unique(events.value[np.isfinite(events.value)])
        # what an item was taken with that more than one kind of event could have been
        self._kinds = len(np.unique(events.action))
        self.rating: F32 = np.full(len(questions.row), np.nan, np.float32)
        self.action: I32 = np.full(len(questions), -1, np.int32)

    def ask(self, model: Model, rows: slice, queries: Queries) -> None:
        """Ask what there is to be asked of the questions `rows`, with their histories."""
        if isinstance(model, RatingModel) and len(self._scale):
            relevant = self._questions.relevant
            entries = slice(*relevant.starts[[rows.start, rows.stop]].tolist())
            of = relevant.owner[entries] - rows.start
            self.rating[entries] = model.rating(queries, of, relevant.item[entries])
        if isinstance(model, ActionModel) and self._kinds > 1:
            shares = model.actions(queries)
            self.action[rows] = np.where(np.isnan(shares).any(axis=1), -1, shares.argmax(axis=1))

    def figures(self, asked: Bool) -> dict[str, float]:
        """Of the questions `asked` [n]: RMSE, MAE and two accuracies.

        `rating_accuracy`: how often the rating of the scale that is nearest to the expected one was given;
        `action_accuracy`: how often the first relevant item was taken with the action that was the most likely.
        """
        rated = np.isfinite(self._value) & np.isfinite(self.rating) & asked[self._questions.relevant.owner]
        error = self.rating[rated].astype(np.float64) - self._value[rated]
        right: F64 = np.zeros(0)
        if 0 < len(self._scale) <= LEVELS:
            nearest = self._scale[np.abs(self.rating[rated][:, None] - self._scale).argmin(axis=1)]
            right = (nearest == self._value[rated]).astype(np.float64)
        said = asked & (self.action >= 0)
        done = self._done[self._questions.relevant.starts[:-1][said]]
        return {
            "rmse": float(np.sqrt(_mean(error**2))),
            "mae": _mean(np.abs(error)),
            "rating_accuracy": _mean(right),
            "action_accuracy": _mean((self.action[said] == done).astype(np.float64)),
        }


def _mean(values: F64) -> float:
    return float(values.mean()) if len(values) else float("nan")
