"""Events to be predicted from what their users had taken before, in any order.

In: a lesson, rows of its events. Out: for each the items before it. Never looks further back than `length` events.
"""

from __future__ import annotations

import numpy as np

from models.base import I64
from models.family.parts.training import Lesson


def before(lesson: Lesson, rows: I64, length: int) -> I64:
    """Item rows of the last `length` events of the same user before each event, int64 [m, length]; 0 in front."""
    start = lesson.starts[np.searchsorted(lesson.starts, rows, side="right") - 1]
    place = rows[:, None] + np.arange(-length, 0)
    held = place >= start[:, None]
    return np.where(held, lesson.events.item[np.where(held, place, 0)].astype(np.int64) + 1, 0)
