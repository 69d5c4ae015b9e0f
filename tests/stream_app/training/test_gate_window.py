import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import F32, I32, I64
from models.sequence.encode import Events
from stream_app.training.gate_window import MOST_PER_SCORED, GateWindow, Sequences, ndcg_of


class Names:
    """Item number n is called "i<n>"; two actions."""

    def item_ids(self, numbers: I32) -> list[str]:
        return [f"i{n}" for n in numbers]

    def action_names(self) -> list[str]:
        return ["click", "view"]


class SuccessorSnapshot:
    """Knows items i0 … i9 as rows 1 … 10 and expects item n + step after item n."""

    def __init__(self, step: int, known: int = 10) -> None:
        self.step, self.known = step, known
        self.item_vectors = np.eye(known + 1, dtype=np.float32)
        self.item_bias = np.zeros(known + 1, np.float32)

    def rows(self, item_ids: Sequence[str]) -> I32:
        numbers = [int(i[1:]) for i in item_ids]
        return np.array([n + 1 if n < self.known else -1 for n in numbers], np.int32)

    def action_codes(self, names: Sequence[str]) -> I32:
        return np.arange(1, len(names) + 1, dtype=np.int32)

    def encode_block(
        self, users: I64, events: Events, context: Events, offsets: I64, user_ids: Sequence[str] = ()
    ) -> tuple[F32, F32]:
        assert len(user_ids) == len(offsets) - 1
        self.asked = users, events, context, offsets
        last = [context.rows[stop - 1] if stop > start else 0 for start, stop in itertools.pairwise(offsets)]
        before = np.zeros((len(users), self.known + 1), np.float32)
        for at, user in enumerate(users):
            expected = (last[user] - 1 + self.step) % self.known + 1
            before[at, expected] = 1
            last[user] = events.rows[at]
        return before, before


def sequence(items: list[int], ts: list[int]) -> Sequences:
    n = len(items)
    return Sequences(
        np.array(items, np.int32),
        np.zeros(n, np.uint8),
        np.full(n, np.nan, np.float32),
        np.array(ts, np.int64),
    )


def numbers(*items: int) -> I32:
    return np.array(items, np.int32)


def window() -> GateWindow:
    """Two known users who walk up by one item, and one new user, interleaved."""
    made = GateWindow(size=3)
    made.meet("a", sequence([2, 3], [10, 20]))
    made.add("a", 4, 0, np.nan, 30, numbers(7, 4, 5))
    made.meet("new", sequence([], []))
    made.add("new", 1, 1, 5.0, 35, None)
    made.meet("b", sequence([6], [15]))
    made.add("b", 7, 0, np.nan, 40, numbers(8, 7))
    made.add("a", 5, 0, np.nan, 90, numbers(5, 9, 6))
    made.add("b", 8, 0, np.nan, 95, None)
    made.close(Names())
    return made


def test_a_window_is_full_when_enough_events_are_scored() -> None:
    w = GateWindow(size=2)
    w.meet("a", sequence([2], [10]))
    w.add("a", 3, 0, np.nan, 20, numbers(3))
    w.add("a", 4, 0, np.nan, 30, None)
    assert (w.scored, w.full) == (1, False)
    w.add("a", 5, 0, np.nan, 40, numbers(5))
    assert (w.scored, w.full) == (2, True)


def test_a_window_in_which_nothing_can_be_scored_ends_too() -> None:
    w = GateWindow(size=2)
    w.meet("a", sequence([2], [10]))
    for n in range(100):
        w.add("a", 3, 0, np.nan, n, None)
    assert (w.scored, w.full, len(w._events)) == (0, True, 2 * MOST_PER_SCORED)
    w.close(Names())
    assert w.ndcg(SuccessorSnapshot(1)).shape == (0,)


def test_a_window_of_users_whose_events_are_all_dropped_ends_too() -> None:
    w = GateWindow(size=2)
    for n in range(100):
        w.meet(f"u{n}", sequence([2], [10]))
    assert w.full
    assert len(w._context) == 2 * MOST_PER_SCORED


def test_a_full_window_takes_no_more() -> None:
    w = window()
    w.meet("late", sequence([2], [10]))
    w.add("late", 3, 0, np.nan, 20, numbers(3))
    assert (w.scored, w.knows("late")) == (3, False)


def test_a_snapshot_that_knows_what_comes_next_scores_one_and_another_less() -> None:
    w = window()
    assert w.full
    w.close(Names())
    assert w.ndcg(SuccessorSnapshot(1)).tolist() == [1.0, 1.0, 1.0]
    wrong = w.ndcg(SuccessorSnapshot(2))
    assert np.allclose(wrong, 1 / np.log2([4.0, 3.0, 4.0])), "a tie never favours the target"


def test_each_scored_event_is_some_users() -> None:
    assert window().scored_users().tolist() == [0, 2, 0]


def test_what_is_encoded_is_the_stored_sequence_and_then_every_event_up_to_the_last_scored_one() -> None:
    snapshot = SuccessorSnapshot(1)
    window().ndcg(snapshot)
    users, events, context, offsets = snapshot.asked
    assert users.tolist() == [0, 1, 2, 0]
    assert offsets.tolist() == [0, 2, 2, 3]
    assert context.rows.tolist() == [3, 4, 7]
    assert context.gaps.tolist() == [-1, 10, -1]
    assert events.rows.tolist() == [5, 2, 8, 6]
    assert events.actions.tolist() == [1, 2, 1, 1]
    assert events.gaps.tolist() == [10, -1, 25, 60]
    assert np.isnan(events.values).tolist() == [True, False, True, True]


def test_an_item_that_the_snapshot_lacks_ranks_behind_all_that_it_has() -> None:
    w = GateWindow(size=9)
    w.meet("a", sequence([2], [10]))
    w.add("a", 3, 0, np.nan, 20, numbers(8, 7, 3))
    w.add("a", 8, 0, np.nan, 30, numbers(8, 7, 2))
    w.close(Names())
    found = w.ndcg(SuccessorSnapshot(1, known=8))
    assert np.allclose(found, [1.0, 1 / np.log2(4)])


def test_a_target_that_is_no_candidate_scores_nothing() -> None:
    w = GateWindow(size=9)
    w.meet("a", sequence([2], [10]))
    w.add("a", 3, 0, np.nan, 20, numbers(1, 2))
    w.add("a", 4, 0, np.nan, 20, numbers())
    w.close(Names())
    assert w.ndcg(SuccessorSnapshot(1)).tolist() == [0.0, 0.0]


def test_an_empty_window_has_no_scores() -> None:
    w = GateWindow(size=1)
    w.close(Names())
    assert w.ndcg(SuccessorSnapshot(1)).shape == (0,)
    assert w.full, "a closed window takes no more"


def test_a_later_change_of_the_users_row_does_not_reach_the_window() -> None:
    row = sequence([2], [10])
    w = GateWindow(size=1)
    w.meet("a", row)
    row.item[0] = 9
    w.add("a", 3, 0, np.nan, 20, numbers(3, 4))
    w.close(Names())
    assert w.ndcg(SuccessorSnapshot(1)).tolist() == [1.0]


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=4),
    st.integers(0, 11),
)
def test_ndcg_is_that_of_a_sorted_list_with_the_target_behind_its_ties(
    scores: list[list[int]], target: int
) -> None:
    items = np.tile(np.arange(12, dtype=np.int32), (len(scores), 1))
    found = ndcg_of(np.array(scores, np.float32), items, np.full(len(scores), target, np.int32))
    for row, value in zip(scores, found, strict=True):
        order = sorted(range(12), key=lambda i: (-row[i], i == target))
        place = order.index(target)
        assert value == pytest.approx(1 / np.log2(place + 2) if place < 10 else 0.0)
