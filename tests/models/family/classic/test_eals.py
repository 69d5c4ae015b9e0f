"""eALS: every entry is the best one, missing pairs weigh by popularity, events are learned one by one."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.classic.eals import EALS, EALSSettings
from models.family.contract import Interactions
from tests.models.family import planted
from tests.models.family.planted import asked, interactions

EVENTS = planted.checkerboard(users=12, items=8, each=3)


def fitted(events: Interactions = EVENTS, **settings: float) -> EALS:
    model = EALS(EALSSettings(**({"factors": 4, "half_life": 0.0, "l2": 0.05} | settings)))
    model.fit(events)
    return model


def weights(model: EALS) -> tuple[np.ndarray, np.ndarray]:
    """Of the whole matrix: what was taken, and how much each pair weighs."""
    taken = model.taken.matrix(model.n_users, model.n_items).toarray()
    weight = np.broadcast_to(model._missing().astype(np.float64), taken.shape).copy()
    weight[model.taken.user, model.taken.item] = model.weight
    return taken, weight


def loss(model: EALS) -> float:
    """The objective of the module's docstring, over the whole matrix."""
    taken, weight = weights(model)
    user, item = model.user.astype(np.float64), model.item.astype(np.float64)
    squares = (weight * (taken - user @ item.T) ** 2).sum()
    return float(squares + model.settings.l2 * ((user**2).sum() + (item**2).sum()))


class TestMissing:
    def test_weights_by_hand(self) -> None:
        # of three items that were taken, one by four users and two by one
        events = interactions([0, 1, 2, 3, 0, 1], [0, 0, 0, 0, 1, 3])
        c = fitted(events, missing=0.2, popularity=0.5)._missing()
        assert c == pytest.approx(np.array([2.0, 1.0, 0.0, 1.0]) * 3 * 0.2 / 4)


class TestEALS:
    def test_each_epoch_lowers_the_loss(self) -> None:
        losses = [loss(fitted(epochs=epochs)) for epochs in (1, 2, 4, 8)]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0]

    def test_in_the_end_no_step_from_any_vector_lowers_the_loss(self) -> None:
        model = fitted(epochs=400)
        least = loss(model)
        for vectors in (model.user, model.item):
            for row in vectors:
                for f in range(4):
                    for step in (-0.02, 0.02):
                        row[f] += np.float32(step)
                        assert loss(model) > least
                        row[f] -= np.float32(step)

    def test_a_query_s_vector_is_the_best_for_its_history(self) -> None:
        model = fitted(missing=0.3)
        item, c = model.item.astype(np.float64), model._missing().astype(np.float64)
        taken = np.isin(np.arange(8), [0, 2])
        weight = np.where(taken, 1.0, c)
        left = (item * weight[:, None]).T @ item + model.settings.l2 * np.eye(4)
        expected = np.linalg.solve(left, item[taken].sum(axis=0))
        found = model.embed(asked(interactions([99, 99], [0, 2]), [99]))
        np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)

    def test_a_fresh_click_of_the_other_taste_turns_the_list(self) -> None:
        model = fitted(planted.checkerboard(), factors=2, half_life=1.0)
        even = asked(interactions([99] * 3, [0, 2, 4]), [99])
        odd_now = asked(interactions([99] * 5, [0, 2, 4, 1, 3]), [99])
        assert (model.retrieve(even, 4)[0] % 2 == 0).all()
        assert (model.retrieve(odd_now, 4)[0] % 2 == 1).all()

    def test_without_a_history_one_is_the_mean_user(self) -> None:
        model = fitted()
        scores = model.score(asked(interactions([], []), [99]))
        np.testing.assert_allclose(scores[0], (model.user @ model.item.T).mean(axis=0), rtol=1e-4, atol=1e-6)


class TestOnline:
    def test_an_event_touches_its_user_and_its_item_alone_and_lowers_the_loss(self) -> None:
        model = fitted(rounds=2)
        user, item = model.user.copy(), model.item.copy()
        model.partial_fit(interactions([3], [4]))
        assert np.flatnonzero((model.user != user).any(axis=1)).tolist() == [3]
        assert np.flatnonzero((model.item != item).any(axis=1)).tolist() == [4]
        after = loss(model)
        model.user, model.item = user, item
        assert after < loss(model)

    def test_a_fresh_pair_weighs_as_it_is_told(self) -> None:
        said = []
        for fresh in (1.0, 20.0):
            model = fitted(fresh=fresh)
            model.partial_fit(interactions([3], [4]))
            said.append(float(model.user[3] @ model.item[4]))
        assert said[0] < said[1] <= 1.05

    def test_a_pair_is_not_there_before_its_event(self) -> None:
        """The first event is learned as if the later one were not known yet; weights of what is missing apart."""
        one, two = fitted(popularity=0.0), fitted(popularity=0.0)
        one.partial_fit(interactions([3, 5], [4, 6]))
        two.partial_fit(interactions([3], [4]))
        np.testing.assert_allclose(one.user[3], two.user[3], rtol=1e-5)
        np.testing.assert_allclose(one.item[4], two.item[4], rtol=1e-5)

    def test_a_stream_that_is_learned_event_by_event_finds_the_tastes(self) -> None:
        events = planted.checkerboard()
        model = fitted(events.take(slice(0, 100)), fresh=1.0)
        for at in range(100, len(events), 20):
            model.partial_fit(events.take(slice(at, at + 20)))
        items, _ = model.retrieve(asked(events, np.arange(40, dtype=np.int32)), 5)
        assert ((items % 2) == (np.arange(40)[:, None] % 2)).mean() > 0.95
