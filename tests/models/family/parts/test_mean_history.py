"""What a user had taken before each of their events."""

from __future__ import annotations

import numpy as np

from models.family.parts.mean_history import before
from tests.models.family import planted
from tests.models.family.parts.test_padded import lesson


def test_the_last_items_of_the_same_user_stand_behind_each_other() -> None:
    # users 0 and 1 take turns: 0 takes 5, 6, 7, 8; 1 takes 1, 2
    events = planted.interactions([0, 1, 0, 1, 0, 0], [5, 1, 6, 2, 7, 8])
    found = before(lesson(events), np.arange(6), 2)
    assert found.tolist() == [[0, 0], [0, 6], [6, 7], [7, 8], [0, 0], [0, 2]]  # rows are codes + 1
