"""Item-item collaborative filtering: the neighbours that were planted come first; learning in parts is exact."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.classic.item_knn import ItemKNN, ItemKNNSettings
from tests.models.family import planted
from tests.models.family.planted import asked, interactions


def fitted(user: list[int], item: list[int], **settings: float) -> ItemKNN:
    model = ItemKNN(ItemKNNSettings(**settings))
    model.fit(interactions(user, item))
    return model


class TestItemKNN:
    def test_a_score_is_the_shrunk_cosine_by_hand(self) -> None:
        # item 0 has users 0, 1, 2; item 1 has users 0, 1; item 2 has user 2
        model = fitted([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 2], shrinkage=3.0)
        scores = model.score(asked(interactions([9], [0]), [9]))[0]
        assert scores[1] == pytest.approx(2 / np.sqrt(3 * 2) * 2 / (2 + 3))
        assert scores[2] == pytest.approx(1 / np.sqrt(3 * 1) * 1 / (1 + 3))

    def test_the_newest_event_of_the_history_decides(self) -> None:
        model = fitted([0, 0, 1, 1], [0, 1, 2, 3], half_life=1.0, shrinkage=0.0)
        first_then_second = model.retrieve(asked(interactions([9, 9], [0, 2]), [9]), 2)[0]
        second_then_first = model.retrieve(asked(interactions([9, 9], [2, 0]), [9]), 2)[0]
        assert first_then_second.tolist() == [[3, 1]]
        assert second_then_first.tolist() == [[1, 3]]

    def test_items_pass_their_weight_on_to_their_nearest_neighbours_only(self) -> None:
        # users of item 0 have item 1 twice and item 2 once
        users, items = [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 2]
        question = asked(interactions([9], [0]), [9])
        near = fitted(users, items, neighbours=1).score(question)[0]
        wide = fitted(users, items, neighbours=2).score(question)[0]
        assert wide[2] > 0
        assert near[2] < 0
        assert near[1] == wide[1] > 0

    def test_learning_in_parts_is_learning_at_once_to_the_bit(self) -> None:
        events = planted.checkerboard()
        whole, parts = ItemKNN(), ItemKNN()
        whole.fit(events)
        parts.fit(events.take(slice(0, 100)))
        parts.partial_fit(events.take(slice(100, 101)))
        parts.partial_fit(events.take(slice(50, None)))  # some a second time, which changes nothing
        np.testing.assert_array_equal(parts.common.toarray(), whole.common.toarray())
        queries = asked(events, np.arange(40, dtype=np.int32))
        np.testing.assert_array_equal(parts.score(queries), whole.score(queries))

    def test_without_a_history_what_many_took_comes_first(self) -> None:
        model = fitted([0, 1, 2, 0, 1, 0], [2, 2, 2, 0, 0, 1])
        assert model.retrieve(asked(interactions([], []), [9]), 3)[0].tolist() == [[2, 0, 1]]
