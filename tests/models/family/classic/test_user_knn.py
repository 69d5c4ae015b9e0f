"""User-user collaborative filtering: what those took who took the same."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.classic.user_knn import UserKNN, UserKNNSettings
from tests.models.family import planted
from tests.models.family.planted import asked, interactions

USERS, ITEMS = [0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 3, 4]
"""User 0 took items 0, 1, 2; user 1 took 0, 3; user 2 took 4."""


def fitted(**settings: float) -> UserKNN:
    model = UserKNN(UserKNNSettings(**settings))
    model.fit(interactions(USERS, ITEMS))
    return model


class TestUserKNN:
    def test_a_score_is_the_sum_of_the_neighbours_cosines_by_hand(self) -> None:
        scores = fitted(half_life=0.0).score(asked(interactions([9, 9], [0, 1]), [9]))[0]
        first, second = 2 / np.sqrt(2 * 3), 1 / np.sqrt(2 * 2)
        assert scores[[0, 1, 2, 3]] == pytest.approx([first + second, first, first, second])
        assert scores[4] < 0

    def test_only_the_nearest_users_count(self) -> None:
        scores = fitted(half_life=0.0, neighbours=1).score(asked(interactions([9, 9], [0, 1]), [9]))[0]
        assert scores[2] > 0 > scores[3]

    def test_old_events_weigh_less(self) -> None:
        model = fitted(half_life=1.0)
        assert model.retrieve(asked(interactions([9, 9], [1, 3]), [9]), 1)[0].tolist() == [[0]]
        to_first = model.similarity(asked(interactions([9, 9], [3, 1]), [9]))[0]
        # weights 1/2 for item 3 and 1 for item 1
        assert to_first[:2] == pytest.approx(np.array([1 / np.sqrt(3), 0.5 / np.sqrt(2)]) / np.sqrt(1.25))

    def test_nobody_is_their_own_neighbour(self) -> None:
        model = fitted()
        own = asked(interactions(USERS, ITEMS), [0])
        assert model.similarity(own)[0].tolist()[0] == 0.0
        assert model.score(own)[0, 3] > 0  # user 1's
        assert model.score(own)[0, 1] < 0  # nobody else's

    def test_learning_in_parts_is_learning_at_once(self) -> None:
        events = planted.checkerboard()
        whole, parts = UserKNN(), UserKNN()
        whole.fit(events)
        parts.fit(events.take(slice(0, 100)))
        parts.partial_fit(events.take(slice(100, None)))
        queries = asked(events, np.arange(40, dtype=np.int32))
        np.testing.assert_array_equal(parts.score(queries), whole.score(queries))

    def test_without_a_history_what_many_took_comes_first(self) -> None:
        assert fitted().retrieve(asked(interactions([], []), [9]), 1)[0].tolist() == [[0]]
