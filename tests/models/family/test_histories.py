"""Histories: queries show the newest events of each user, oldest first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.family.contract import NOBODY
from models.family.histories import Histories, Timeline
from tests.models.family.planted import interactions


def held(length: int = 3) -> Histories:
    histories = Histories(length)
    histories.add(interactions([0, 1, 0, 0, 0], [5, 6, 7, 8, 9], [1, 2, 3, 4, 5]))
    return histories


def test_a_query_shows_the_newest_events_oldest_first() -> None:
    queries = held().queries(np.array([1, 0], np.int32))
    assert queries.items.tolist() == [[NOBODY, NOBODY, 6], [7, 8, 9]]
    assert queries.values[1].tolist() == [3, 4, 5]
    assert queries.ts[1].tolist() == [120_000, 180_000, 240_000]


def test_a_user_who_did_nothing_has_an_empty_history() -> None:
    histories = held()
    assert not histories.knows(7)
    assert histories.queries(np.array([7], np.int32)).items.tolist() == [[NOBODY] * 3]


def test_what_a_user_had_is_remembered_beyond_the_window() -> None:
    histories = held(1)
    assert histories.had(0, 5)
    assert not histories.had(1, 5)
    assert np.flatnonzero(histories.blocked(np.array([0], np.int32), 9)[0]).tolist() == [5, 7, 8]


def test_long_histories_keep_their_newest_events() -> None:
    histories = Histories(4)
    histories.add(interactions([0] * 100, list(range(100))))
    assert histories.queries(np.array([0], np.int32)).items.tolist() == [[96, 97, 98, 99]]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=10),
)
def test_a_timeline_answers_as_histories_that_were_fed_up_to_that_row(
    stream: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    events = interactions([u for u, _ in stream], [i for _, i in stream], [float(i) for _, i in stream])
    users = np.array([u for u, _ in asked], np.int32)
    before = np.array([min(row, len(stream)) for _, row in asked], np.int64)
    timeline = Timeline(events, 3)
    got, blocked = timeline.queries(users, before), timeline.blocked(users, before, 5)
    for n, (user, row) in enumerate(zip(users, before, strict=True)):
        fed = Histories(3)
        fed.add(events.take(slice(0, int(row))))
        expected = fed.queries(users[n : n + 1])
        for column in ("user", "items", "values", "ts"):
            np.testing.assert_array_equal(getattr(got, column)[n], getattr(expected, column)[0])
        np.testing.assert_array_equal(blocked[n], fed.blocked(users[n : n + 1], 5)[0])
        assert timeline.counts(users, before)[n] == sum(u == user for u, _ in stream[: int(row)])
