"""Items that a user did not take."""

from __future__ import annotations

import numpy as np

from models.family.parts.negatives import NotTaken
from tests.models.family import planted
from tests.models.family.parts.test_padded import lesson

USERS, ITEMS = 40, 20


def test_what_is_drawn_the_user_does_not_have() -> None:
    events = planted.checkerboard()
    free = NotTaken(lesson(events), ITEMS)
    users = np.arange(USERS)
    drawn = free.draw(users, 30, np.random.default_rng(0))
    taken = set(zip(events.user.tolist(), events.item.tolist(), strict=True))
    again = [
        (user, item) for user in users.tolist() for item in drawn[user].tolist() if (user, item) in taken
    ]
    # 8 of 20 items are taken; each attempt after the first lets 0.4 of what is left through.
    assert len(again) < 0.05 * drawn.size
    assert set(drawn.ravel().tolist()) == set(range(ITEMS))


def test_who_has_what_is_told_pair_by_pair() -> None:
    events = planted.checkerboard()
    free = NotTaken(lesson(events), ITEMS)
    users, items = np.divmod(np.arange(USERS * ITEMS), ITEMS)
    had = np.zeros((USERS, ITEMS), np.bool_)
    had[events.user, events.item] = True
    np.testing.assert_array_equal(free.has(users, items), had.ravel())


def test_a_user_who_has_everything_gets_something_all_the_same() -> None:
    events = planted.interactions([0] * 3, [0, 1, 2])
    drawn = NotTaken(lesson(events), 3).draw(np.zeros(5, np.int64), 2, np.random.default_rng(0))
    assert drawn.shape == (5, 2)
    assert ((drawn >= 0) & (drawn < 3)).all()
