"""Who took what: each pair once, whatever the cuts; of a history the newest occurrence of each item."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.family.contract import NOBODY
from models.family.parts.taken import Taken, newest, or_popularity
from tests.models.family.planted import asked, interactions

streams = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40)


class TestTaken:
    @given(streams, st.integers(0, 40))
    def test_pairs_are_kept_once_in_order_of_arrival_however_the_stream_is_cut(
        self, stream: list[tuple[int, int]], cut: int
    ) -> None:
        events = interactions([u for u, _ in stream], [i for _, i in stream])
        taken = Taken()
        new = np.concatenate(
            [taken.add(events.take(slice(0, cut))), taken.add(events.take(slice(cut, None)))]
        )
        assert list(zip(taken.user.tolist(), taken.item.tolist(), strict=True)) == list(dict.fromkeys(stream))
        assert new.tolist() == [pair not in stream[:at] for at, pair in enumerate(stream)]

    def test_the_matrix_has_a_one_for_each_pair_from_the_one_asked_for_on(self) -> None:
        taken = Taken()
        taken.add(interactions([0, 1, 1], [2, 0, 2]))
        assert taken.matrix(2, 3).toarray().tolist() == [[0, 0, 1], [1, 0, 1]]
        assert taken.matrix(2, 3, start=1).toarray().tolist() == [[0, 0, 0], [1, 0, 1]]

    @pytest.mark.parametrize(
        ("user", "item", "message"),
        [([0, 1], [0], "2 users and 1 items"), ([5], [0], "outside of 2 users"), ([0], [-1], "outside of")],
    )
    def test_stored_pairs_that_do_not_fit_are_refused(
        self, user: list[int], item: list[int], message: str
    ) -> None:
        stored = {"user": np.array(user, np.int32), "item": np.array(item, np.int32)}
        with pytest.raises(ValueError, match=message):
            Taken.restored(stored, 2, 3)


class TestNewest:
    def test_an_item_counts_once_where_it_was_last_with_the_rating_of_then(self) -> None:
        queries = asked(interactions([0, 0, 0, 0], [7, 3, 7, 5], [1.0, 2.0, 4.0, 3.0]), [0, 1], length=6)
        entries = newest(queries, 8)
        assert entries.row.tolist() == [0, 0, 0]
        assert entries.item.tolist() == [3, 7, 5]
        assert entries.age.tolist() == [2, 1, 0]
        assert entries.value.tolist() == [2.0, 4.0, 3.0]

    def test_unknown_items_are_left_out_but_have_passed(self) -> None:
        entries = newest(asked(interactions([0, 0], [1, 9]), [0]), 5)
        assert (entries.item.tolist(), entries.age.tolist()) == ([1], [1])
        assert NOBODY not in entries.item


def test_what_nothing_speaks_for_stands_behind_by_popularity() -> None:
    scores = or_popularity(np.array([[0.0, 0.0, 1e-6, 0.0]], np.float32), np.array([3, 9, 1, 0]))
    assert np.argsort(-scores[0], kind="stable").tolist() == [2, 1, 0, 3]
