"""Stored sequences as columns, and the order of new events."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.sequence.stored_events import Stored, gaps_after, newest, out_of_order
from tests.models.sequence.test_user_vectors import ROWS, batch_of, histories, table


def test_newest_events_of_each_user_oldest_first() -> None:
    users = table(3)
    batch = batch_of(np.random.default_rng(0), 9, 2, 10**9, disorder=False)
    batch.event_id[:] = 0
    batch.user[:] = [0, 1, 1, 0, 1, 1, 0, 0, 1]
    users.advance(
        batch, np.zeros(9, np.bool_), np.ones(256, np.float32), np.zeros(256, np.uint8), histories(9)
    )
    held = Stored.take(users, np.array([1, 2, 0]), np.array([3, 3, 100]))
    first, last = batch.user == 1, batch.user == 0
    assert held.lengths.tolist() == [min(3, first.sum()), 0, last.sum()]
    assert held.ts.tolist() == [*batch.ts[first][-3:], *batch.ts[last]]
    assert held.item.tolist() == [*batch.item[first][-3:], *batch.item[last]]
    events = held.events(ROWS)
    assert (events.gaps < 0).sum() == 2
    assert events.gaps[0] == -1
    assert events.gaps[1] == held.ts[1] - held.ts[0]
    assert newest(users, np.array([2, 1])).tolist() == [-1, batch.ts[first][-1]]


def test_gaps_and_order_of_new_events() -> None:
    of, ts = np.array([0, 1, 0, 2, 0]), np.array([5, 9, 4, 1, 7])
    last = np.array([5, -1, 1])
    assert gaps_after(of, ts, last).tolist() == [0, -1, 0, 0, 3]
    assert out_of_order(of, ts, last).tolist() == [True, False, False]


def test_no_new_events() -> None:
    none = np.zeros(0, np.int64)
    assert gaps_after(none, none, np.array([3])).tolist() == []
    assert out_of_order(none, none, np.array([3])).tolist() == [False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=30), st.booleans())
def test_gaps_are_to_the_same_users_event_before(events: list[tuple[int, int]], known: bool) -> None:
    last = [7 if known else -1] * 4
    users, ts = np.array(events, np.int64).T
    expected = []
    latest = list(last)
    for user, at in events:
        expected.append(-1 if latest[user] < 0 else max(at - latest[user], 0))
        latest[user] = at
    assert gaps_after(users, ts, np.array(last, np.int64)).tolist() == expected
