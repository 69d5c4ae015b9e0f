"""Events as sequences of one length: what is read, and what is predicted from it."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.contract import NOBODY, Interactions, Queries
from models.family.parts.padded import Windowed, asked_rows, known_rows
from models.family.parts.training import Lesson
from tests.models.family.planted import interactions


def lesson(events: Interactions, new: int | None = None, passes: float = 1.0) -> Lesson:
    """All events as a fit, or the last `new` of them as a partial_fit."""
    order = np.argsort(events.user, kind="stable")
    starts = np.append(np.flatnonzero(np.diff(events.user[order], prepend=-1)), len(events))
    n = len(events)
    if new is None:
        return Lesson(events.take(order), order, starts, n, round(passes * n), 1.0, seed=0, lesson=0)
    return Lesson(events.take(order), order, starts, n - new, new, 0.0, seed=0, lesson=1)


def pairs(windowed: Windowed) -> list[tuple[int, int]]:
    """(row of the event before, row of the event) of everything that is predicted."""
    found = []
    for step in range(len(windowed)):
        batch = windowed.take(step)
        found += list(zip(batch.rows[batch.predicts].tolist(), batch.targets.tolist(), strict=True))
    return found


class TestWindowed:
    @pytest.mark.parametrize(("length", "batch"), [(3, 4), (4, 100), (50, 7)])
    def test_every_event_is_predicted_once_from_the_one_before_it(self, length: int, batch: int) -> None:
        rng = np.random.default_rng(1)
        user = rng.integers(0, 5, 60)
        events = interactions(user.tolist(), list(range(60)))
        expected = []
        for code in range(5):
            rows = (np.flatnonzero(user == code) + 1).tolist()
            expected += list(zip([0, *rows[:-1]], rows, strict=True))
        assert sorted(pairs(Windowed(lesson(events), length, batch))) == sorted(expected)

    def test_only_new_events_are_predicted_where_nothing_is_replayed(self) -> None:
        events = interactions([0, 1, 0, 1, 0, 2], [10, 11, 12, 13, 14, 15])
        assert sorted(pairs(Windowed(lesson(events, new=2), 8, 100))) == [(0, 16), (13, 15)]

    def test_what_was_before_a_new_event_is_read(self) -> None:
        events = interactions([0] * 6, [10, 11, 12, 13, 14, 15])
        batch = Windowed(lesson(events, new=1), 4, 100).take(0)
        assert batch.rows.tolist() == [[12, 13, 14, 15]]
        assert batch.predicts.tolist() == [[False, False, False, True]]

    def test_no_window_is_longer_than_it_may_be(self) -> None:
        windowed = Windowed(lesson(interactions([0] * 40 + [1] * 3, list(range(43)))), 7, 20)
        assert {windowed.take(step).rows.shape[1] for step in range(len(windowed))} <= set(range(1, 8))

    def test_passes_are_repeated(self) -> None:
        events = interactions([0, 0, 0], [4, 5, 6])
        assert sorted(pairs(Windowed(lesson(events, passes=2), 8, 2))) == sorted([(0, 5), (5, 6), (6, 7)] * 2)


def queries(*histories: list[int]) -> Queries:
    items = np.array(histories, np.int32)
    return Queries(
        np.zeros(len(items), np.int32),
        items,
        np.full(items.shape, np.nan, np.float32),
        np.zeros(items.shape, np.int64),
    )


class TestHistories:
    def test_unknown_items_are_left_out(self) -> None:
        asked = queries([NOBODY, 4, 99, 5], [1, 2, 3, 4])
        assert known_rows(asked, 10, 3).tolist() == [[0, 5, 6], [3, 4, 5]]

    def test_a_history_may_be_shorter_than_what_is_looked_at(self) -> None:
        assert known_rows(queries([3, 4]), 10, 5).tolist() == [[0, 0, 0, 4, 5]]

    def test_a_short_history_begins_with_nothing_as_in_training(self) -> None:
        rows, newest = asked_rows(queries([NOBODY, NOBODY, 7], [1, 2, 3], [NOBODY] * 3), 10, 3)
        assert rows.tolist() == [[0, 8, 0], [2, 3, 4], [0, 0, 0]]
        assert newest.tolist() == [1, 2, 0]
