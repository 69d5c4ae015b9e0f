"""Histories: queries show the newest events of each user, oldest first."""

from __future__ import annotations

import numpy as np

from models.family.contract import NOBODY
from models.family.histories import Histories
from tests.family.planted import interactions


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
