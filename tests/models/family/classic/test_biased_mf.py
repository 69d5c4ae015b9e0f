"""The factorisation of ratings: planted ratings are found, and what is not known is left out of the sum."""

from __future__ import annotations

import numpy as np
import pytest

from models.base import F32, I32
from models.family.classic.biased_mf import BiasedMF, BiasedMFSettings
from models.family.contract import Interactions
from models.online.biased_mf import Rates, learn
from tests.models.family.planted import asked, interactions


def two_tastes(users: int = 40, items: int = 20, each: int = 16) -> Interactions:
    """Even users rate even items 5 and odd ones 1, odd users the other way round."""
    rng = np.random.default_rng(0)
    rows = [(u, int(i)) for u in range(users) for i in rng.permutation(items)[:each]]
    rows = [rows[at] for at in rng.permutation(len(rows))]
    return interactions(
        [u for u, _ in rows], [i for _, i in rows], [5.0 - 4.0 * ((u + i) % 2) for u, i in rows]
    )


def rated(model: BiasedMF, user: I32 | list[int], item: I32 | list[int]) -> F32:
    """The expected rating of each pair; a history would change nothing."""
    users = asked(interactions([], []), user)
    return model.rating(users, np.arange(len(users)), np.asarray(item, np.int32))


@pytest.fixture(scope="module")
def model() -> BiasedMF:
    model = BiasedMF(BiasedMFSettings(factors=4, epochs=60, latent_lr=0.02))
    model.fit(two_tastes())
    return model


class TestBiasedMF:
    def test_each_user_gets_the_items_of_their_taste_first(self, model: BiasedMF) -> None:
        items, _ = model.retrieve(asked(two_tastes(), np.arange(40, dtype=np.int32)), 10)
        assert ((items % 2) == (np.arange(40)[:, None] % 2)).all()

    def test_ratings_that_were_not_seen_are_expected_as_planted(self, model: BiasedMF) -> None:
        user, item = np.divmod(np.arange(800, dtype=np.int32), 20)
        assert rated(model, user, item) == pytest.approx(5.0 - 4.0 * ((user + item) % 2), abs=0.7)

    def test_expected_ratings_stay_on_the_scale(self) -> None:
        model = BiasedMF()
        model.fit(interactions([0, 0, 1, 1], [0, 1, 0, 1], [2.0, 4.5, 3.0, 3.0]))
        model.item_bias[:] = [-9.0, 9.0]
        assert rated(model, [0, 0], [0, 1]).tolist() == [2.0, 4.5]

    def test_an_unknown_user_is_the_mean_and_the_item_s_bias(self, model: BiasedMF) -> None:
        expected = model.mean[0] + model.item_bias[3]
        assert rated(model, [999], [3]) == pytest.approx([expected])
        scores = model.score(asked(two_tastes(), [999]))
        assert scores[0] == pytest.approx(model.mean[0] + model.item_bias)

    def test_an_unknown_pair_is_the_mean(self, model: BiasedMF) -> None:
        assert rated(model, [999], [999]) == pytest.approx([model.mean[0]])

    def test_events_without_a_rating_make_room_and_teach_nothing(self) -> None:
        model = BiasedMF()
        model.fit(interactions([0, 1], [0, 1], [4.0, 2.0]))
        before = rated(model, [0], [1])
        model.partial_fit(interactions([5], [7]))
        assert (model.n_users, model.n_items) == (6, 8)
        assert rated(model, [0], [1]) == before

    def test_going_on_is_one_step_of_the_pipeline_s_kernel_a_rating(self) -> None:
        model = BiasedMF(BiasedMFSettings(factors=3))
        model.fit(interactions([0], [0], [4.0]))
        mean, user, item = model.mean.copy(), model.user[0].copy(), model.item[0].copy()
        biases = model.user_bias.copy(), model.item_bias.copy()
        s = model.settings
        learn(mean, *biases, 0, 0, user, item, 2.0, Rates(s.bias_lr, s.latent_lr, s.l2_bias, s.l2))
        model.partial_fit(interactions([0], [0], [2.0]))
        np.testing.assert_array_equal(model.user[0], user)
        np.testing.assert_array_equal(model.item[0], item)
        assert (model.user_bias[0], model.item_bias[0], model.mean[0]) == (
            biases[0][0],
            biases[1][0],
            mean[0],
        )

    def test_going_on_does_not_depend_on_where_the_stream_is_cut(self) -> None:
        first, more = two_tastes().take(slice(0, 400)), two_tastes().take(slice(400, None))
        whole, parts = BiasedMF(BiasedMFSettings(epochs=2)), BiasedMF(BiasedMFSettings(epochs=2))
        whole.fit(first)
        parts.fit(first)
        whole.partial_fit(more)
        parts.partial_fit(more.take(slice(0, 77)))
        parts.partial_fit(more.take(slice(77, None)))
        np.testing.assert_array_equal(parts.user, whole.user)
        np.testing.assert_array_equal(parts.item, whole.item)
