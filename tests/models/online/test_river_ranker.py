"""The explicit model is river's, and reading it creates nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import optim, reco

from models.base import OnlineModel
from models.online.river_ranker import BiasedMF


def expected(u: int, i: int) -> float:
    return 3 + 0.5 * (u % 3 - 1) * (i % 3 - 1) + 0.5 * (u % 5 - 2) + 0.5 * (i % 4 - 1.5)


def ratings(n: int = 4000, seed: int = 4) -> list[tuple[str, str, float]]:
    """Ratings of users and items with tastes, strict users and good items among them."""
    rng = random.Random(seed)
    return [
        (f"u{u}", f"i{i}", float(min(5, max(1, round(expected(u, i) + rng.gauss(0, 0.5))))))
        for u, i in ((rng.randrange(60), rng.randrange(80)) for _ in range(n))
    ]


def rivers(lr: float, latent_lr: float, l2_bias: float, l2: float, seed: int = 71) -> reco.BiasedMF:
    return reco.BiasedMF(
        n_factors=10,
        bias_optimizer=optim.SGD(lr),
        latent_optimizer=optim.SGD(latent_lr),
        l2_bias=l2_bias,
        l2_latent=l2,
        latent_initializer=optim.initializers.Normal(mu=0.0, sigma=0.1, seed=seed),
    )


def drawn_by(river: reco.BiasedMF) -> Callable[[str, str], Any]:
    """River's own initial vectors, drawn by asking it."""
    sides = {"user": river.u_latents, "item": river.i_latents}
    return lambda side, key: sides[side][key].copy()


@pytest.mark.parametrize(
    ("lr", "latent_lr", "l2_bias", "l2"), [(0.025, 0.05, 0.0, 0.0), (0.01, 0.01, 0.05, 0.1)]
)
def test_predictions_before_each_rating_are_river_s(
    lr: float, latent_lr: float, l2_bias: float, l2: float
) -> None:
    river = rivers(lr, latent_lr, l2_bias, l2)
    ours = BiasedMF(
        bias_lr=lr, latent_lr=latent_lr, l2_bias=l2_bias, l2=l2, dtype="float64", initial=drawn_by(river)
    )
    worst = 0.0
    for user, item, y in ratings():
        worst = max(worst, abs(river.predict_one(user, item) - ours.predict_one(user, item)))
        ours.learn_one(user, item, y)
        river.learn_one(user, item, y)
    assert worst < 1e-6


def mae(model: Any, data: list[tuple[str, str, float]]) -> float:
    total = 0.0
    for user, item, y in data:
        total += abs(model.predict_one(user, item) - y)
        model.learn_one(user, item, y)
    return total / len(data)


def test_float32_with_vectors_of_our_own_errs_as_much_as_river() -> None:
    data = ratings(8000)
    constant = float(np.mean([abs(y - 3) for _, _, y in data]))
    seeds = range(6)
    theirs = np.mean([mae(rivers(0.025, 0.05, 0.0, 0.0, seed), data) for seed in seeds])
    ours = np.mean([mae(BiasedMF(seed=seed), data) for seed in seeds])
    assert ours == pytest.approx(theirs, abs=0.005)
    assert theirs < 0.9 * constant


def test_is_a_model_of_the_contract_and_a_ranker_of_river() -> None:
    model = BiasedMF()
    assert isinstance(model, OnlineModel)
    assert isinstance(model, reco.base.Ranker)


def test_clones_with_its_parameters_as_every_estimator_of_river() -> None:
    model = BiasedMF(n_factors=3, latent_lr=0.1, seed=5)
    model.learn_one("a", "x", 4.0)
    clone = model.clone()
    assert (clone.n_factors, clone.latent_lr, clone.seed) == (3, 0.1, 5)
    assert clone.predict_one("a", "x") == BiasedMF(n_factors=3, latent_lr=0.1, seed=5).predict_one("a", "x")
    assert clone.predict_one("a", "x") != model.predict_one("a", "x")


def test_asking_creates_nothing_and_changes_no_later_answer() -> None:
    asked, silent = BiasedMF(seed=1), BiasedMF(seed=1)
    for user, item, y in ratings(300):
        asked.predict_one("nobody", item)
        asked.predict_one(user, "nothing")
        asked.rank("nobody", {"nothing", item})
        asked.learn_one(user, item, y)
        silent.learn_one(user, item, y)
    for side, known in silent._sides.items():
        assert asked._sides[side].keys() == known.keys()
        for key, (bias, vector) in known.items():
            assert np.array_equal(asked._sides[side][key][0], bias)
            assert np.array_equal(asked._sides[side][key][1], vector)


def test_an_unknown_pair_has_an_answer_which_stays_the_same() -> None:
    model = BiasedMF(seed=2)
    model.learn_one("a", "x", 4.0)
    first = model.predict_one("b", "y")
    assert first == model.predict_one("b", "y") == pytest.approx(4.0, abs=0.5)
    assert first != BiasedMF(seed=3).predict_one("b", "y")


def test_ranks_what_was_rated_higher_first_and_ties_by_id() -> None:
    model = BiasedMF(init_std=0.0)
    for _ in range(20):
        model.learn_one("a", "good", 5.0)
        model.learn_one("a", "bad", 1.0)
    assert model.rank("a", {"bad", "z", "y", "good"}) == ["good", "y", "z", "bad"]
    assert model.rank("a", set()) == []
