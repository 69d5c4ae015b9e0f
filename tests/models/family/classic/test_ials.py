"""iALS: each vector is the best one, a query's as a user's; the blocks that were planted are found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.base import F64
from models.family.classic.ials import IALS, IALSSettings
from tests.models.family import planted
from tests.models.family.planted import asked, interactions

EVENTS = planted.checkerboard(users=12, items=8, each=3)


def fitted(**settings: float) -> IALS:
    model = IALS(IALSSettings(**({"factors": 4, "half_life": 0.0} | settings)))
    model.fit(EVENTS)
    return model


def loss(model: IALS) -> float:
    """The objective of the module's docstring, over the whole matrix."""
    s = model.settings
    user, item = model.user.astype(np.float64), model.item.astype(np.float64)
    taken = model.taken.matrix(model.n_users, model.n_items).toarray()
    said = user @ item.T

    def penalty(vectors: F64, sizes: F64, others: int) -> float:
        scale = (sizes + s.unobserved * others) ** s.frequency
        return float((scale * (vectors**2).sum(axis=1)).sum())

    users = penalty(user, taken.sum(axis=1), model.n_items)
    items = penalty(item, taken.sum(axis=0), model.n_users)
    squares = (taken * (said - 1.0) ** 2).sum() + s.unobserved * (said**2).sum()
    return float(squares + s.l2 * (users + items))


class TestIALS:
    def test_each_epoch_lowers_the_loss(self) -> None:
        losses = [loss(fitted(epochs=epochs)) for epochs in (1, 2, 4, 8)]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("frequency", [0.0, 0.5, 1.0])
    def test_no_step_from_an_item_s_vector_lowers_the_loss(self, frequency: float) -> None:
        model = fitted(epochs=2, frequency=frequency, l2=0.05)
        least = loss(model)
        for step in np.eye(4, dtype=np.float32) * 0.01:
            for sign in (-1, 1):
                model.item[3] += sign * step
                assert loss(model) > least
                model.item[3] -= sign * step

    def test_a_query_is_solved_for_as_a_user_is(self) -> None:
        model = fitted()
        question = asked(EVENTS, [5]).take(np.array([0]))
        trained = model._solve(csr_array(model.taken.matrix(12, 8)[[5]]), model.item)
        np.testing.assert_allclose(model.embed(question), trained, rtol=1e-5)

    def test_a_fresh_click_of_the_other_taste_turns_the_list(self) -> None:
        model = IALS(IALSSettings(factors=2, half_life=1.0))
        model.fit(planted.checkerboard())
        even = asked(interactions([99] * 3, [0, 2, 4]), [99])
        odd_now = asked(interactions([99] * 5, [0, 2, 4, 1, 3]), [99])
        assert (model.retrieve(even, 4)[0] % 2 == 0).all()
        assert (model.retrieve(odd_now, 4)[0] % 2 == 1).all()

    def test_without_a_history_one_is_the_mean_user(self) -> None:
        model = fitted()
        scores = model.score(asked(interactions([], []), [99]))
        np.testing.assert_allclose(scores[0], (model.user @ model.item.T).mean(axis=0), rtol=1e-4, atol=1e-6)

    def test_going_on_touches_the_users_and_items_of_the_events_alone(self) -> None:
        model = fitted()
        user, item = model.user.copy(), model.item.copy()
        model.partial_fit(interactions([3], [4]))
        assert np.flatnonzero((model.user != user).any(axis=1)).tolist() == [3]
        assert np.flatnonzero((model.item != item).any(axis=1)).tolist() == [4]
        assert model.score(asked(interactions([3], [4]), [3])).shape == (1, 8)

    def test_a_new_item_is_found_by_the_taste_of_those_who_took_it(self) -> None:
        model = fitted()
        model.partial_fit(interactions([0, 2, 4, 6], [8, 8, 8, 8]))
        scores = model.score(asked(EVENTS, [8, 9]))
        assert scores[0, 8] > scores[1, 8] + 0.2
