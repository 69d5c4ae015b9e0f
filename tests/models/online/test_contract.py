"""One suite that every online model passes: river's words, a state that asking does not change, any cutting alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from river import metrics, reco

from models.base import Arrays, OnlineModel
from models.config import AsymmetricMFSettings, ModelSettings
from models.online.river_items import AsymmetricMF, CoVisitation, Popularity
from models.online.river_ranker import BiasedMF
from models.pipeline.recommender import Recommender
from tests.batches import Event, feed

Make = Callable[..., Any]
Row = tuple[str, str, float]

MODELS: dict[str, Make] = {
    "popularity": Popularity,
    "popularity that decays": lambda seed=0: Popularity(half_life=50, seed=seed),
    "co-visitation": CoVisitation,
    "co-visitation, the next item": lambda seed=0: CoVisitation("next", seed=seed),
    "asymmetric MF": AsymmetricMF,
    "asymmetric MF, small": lambda seed=0: AsymmetricMF(
        AsymmetricMFSettings(factors=8, negatives=4, items=3), seed=seed
    ),
    "biased MF": BiasedMF,
}
DRAWN = [name for name in MODELS if "MF" in name]
"""Models whose first vectors are drawn."""
PERSONAL = [name for name in MODELS if "popularity" not in name]
every_model = pytest.mark.parametrize("name", list(MODELS))


def stream(n: int = 600, users: int = 15, items: int = 90, seed: int = 3) -> list[Row]:
    """Users, items and weights, a few of them dislikes; new users and items up to the end."""
    rng = random.Random(seed)
    return [
        (
            f"u{rng.randrange(1 + users * (e + 1) // n)}",
            f"i{rng.randrange(1 + items * (e + 1) // n)}",
            rng.choice([1.0, 1.0, 1.0, 0.5, 2.0, -1.0]),
        )
        for e in range(n)
    ]


def learn(model: OnlineModel, rows: Sequence[Row]) -> None:
    model.learn_many([u for u, _, _ in rows], [i for _, i, _ in rows], [y for _, _, y in rows])


def taught(name: str, rows: Sequence[Row], seed: int = 0) -> OnlineModel:
    model: OnlineModel = MODELS[name](seed=seed)
    for row in rows:
        model.learn_one(*row)
    return model


def same(one: Arrays, other: Arrays) -> bool:
    """Whether two models have learned the same, to the byte."""
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and one[key].tobytes() == other[key].tobytes() for key in one
    )


@every_model
class TestContract:
    def test_it_speaks_river_s_words(self, name: str) -> None:
        model = MODELS[name]()
        assert isinstance(model, OnlineModel)
        assert isinstance(model, reco.base.Ranker)

    def test_a_clone_has_the_parameters_and_nothing_learned(self, name: str) -> None:
        model = MODELS[name](seed=5)
        learn(model, stream(50))
        clone = model.clone()
        assert clone._get_params() == model._get_params()
        assert same(clone.arrays(), MODELS[name](seed=5).arrays())
        assert not same(clone.arrays(), model.arrays())

    def test_asking_makes_no_entry_and_changes_no_later_answer(self, name: str) -> None:
        asked, silent = MODELS[name](), MODELS[name]()
        for user, item, y in stream(200):
            before = asked.arrays()
            asked.predict_one("nobody", item)
            asked.predict_one(user, "nothing")
            asked.rank("nobody", {"nothing", item, "i0"})
            assert same(asked.arrays(), before)
            asked.learn_one(user, item, y)
            silent.learn_one(user, item, y)
        assert same(asked.arrays(), silent.arrays())
        items = {f"i{i}" for i in range(90)}
        assert asked.rank("u0", items) == silent.rank("u0", items)

    @pytest.mark.parametrize("size", [2, 7, 64, 1000])
    def test_learn_many_over_any_cutting_is_learn_one_to_the_byte(self, name: str, size: int) -> None:
        rows = stream()
        model = MODELS[name]()
        for start in range(0, len(rows), size):
            learn(model, rows[start : start + size])
        assert same(model.arrays(), taught(name, rows).arrays())

    def test_what_is_learned_of_an_event_is_seen(self, name: str) -> None:
        model = taught(name, stream(100))
        before = model.arrays()
        model.learn_one("u0", "i3", 1.0)
        assert not same(model.arrays(), before)

    def test_an_unknown_user_and_an_unknown_item_have_a_finite_answer_that_stays(self, name: str) -> None:
        model = taught(name, stream(100))
        for user, item in (("nobody", "i0"), ("u0", "nothing"), ("nobody", "nothing")):
            first = model.predict_one(user, item)
            assert np.isfinite(first)
            assert model.predict_one(user, item) == first

    def test_a_model_that_has_learned_nothing_answers(self, name: str) -> None:
        model = MODELS[name]()
        assert np.isfinite(model.predict_one("u", "i"))
        assert sorted(model.rank("u", {"b", "a"})) == ["a", "b"]

    def test_a_ranking_is_every_item_by_falling_prediction(self, name: str) -> None:
        model = taught(name, stream(300))
        items = {f"i{i}" for i in range(95)}
        ranked = model.rank("u1", items)
        assert sorted(ranked) == sorted(items)
        scores = [model.predict_one("u1", item) for item in ranked]
        assert scores == sorted(scores, reverse=True)
        assert model.rank("u1", set()) == []

    def test_ties_go_by_id(self, name: str) -> None:
        model = MODELS[name]() if name != "biased MF" else BiasedMF(init_std=0.0)
        learn(model, [("u", "a", 1.0)])
        assert model.rank("u", {"z", "y", "x"}) == ["x", "y", "z"]

    def test_river_s_own_metrics_run_on_it(self, name: str) -> None:
        model, metric = MODELS[name](), metrics.MAE()
        for user, item, y in stream(100):
            metric.update(y, model.predict_one(user=user, item=item))
            model.learn_one(user=user, item=item, y=y, x=None)
        assert 0.0 < metric.get() < np.inf


@pytest.mark.parametrize("name", DRAWN)
class TestSeed:
    def test_the_same_seed_learns_the_same_and_another_one_something_else(self, name: str) -> None:
        rows = stream(200)
        assert same(taught(name, rows, seed=4).arrays(), taught(name, rows, seed=4).arrays())
        assert not same(taught(name, rows, seed=4).arrays(), taught(name, rows, seed=5).arrays())


def checkerboard(
    name: str, users: int = 30, items: int = 16, each: int = 6
) -> tuple[OnlineModel, dict[int, set[int]]]:
    """Even users take even items, odd users odd ones; a model of ratings is told what they don't like too."""
    rng, model = random.Random(1), MODELS[name]()
    had: dict[int, set[int]] = {u: set() for u in range(users)}
    rows = []
    for _ in range(each):
        for u in range(users):
            own = rng.randrange(u % 2, items, 2)
            had[u].add(own)
            rows.append((f"u{u}", f"i{own:02}", 5.0 if name == "biased MF" else 1.0))
            if name == "biased MF":
                rows.append((f"u{u}", f"i{(own + 1) % items:02}", 1.0))
                had[u].add((own + 1) % items)
    for _ in range(6):
        learn(model, rows)
    return model, had


@pytest.mark.parametrize("name", PERSONAL)
def test_it_finds_the_planted_tastes(name: str) -> None:
    model, had = checkerboard(name)
    hits, asked = 0, 0
    for user, seen in had.items():
        unseen = {i for i in range(16) if i not in seen}
        own = sum(i % 2 == user % 2 for i in unseen)
        ranked = model.rank(f"u{user}", {f"i{i:02}" for i in unseen})
        hits += sum(int(item[1:]) % 2 == user % 2 for item in ranked[:own])
        asked += own
    assert asked > 60
    assert hits / asked > 0.9


def test_popularity_ranks_by_what_most_users_took() -> None:
    model = Popularity()
    learn(model, [("a", "x", 1.0), ("b", "y", 1.0), ("c", "y", 1.0), ("d", "z", -3.0)])
    assert model.rank("anybody", {"x", "y", "z"}) == ["y", "x", "z"]
    assert model.predict_one("anybody", "y") == pytest.approx(2 / 3)


def test_popularity_that_decays_forgets() -> None:
    model = Popularity(half_life=10)
    learn(model, [("a", "old", 1.0)] * 5 + [("a", "other", 1.0)] * 40 + [("a", "new", 1.0)] * 3)
    assert model.rank("a", {"old", "new"}) == ["new", "old"]


def test_an_unknown_reading_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no reading 'far'; there are broad, near"):
        CoVisitation("far")


def test_popularity_and_co_visitation_learn_what_the_event_loop_learns() -> None:
    """The same kernels on the same histories: the recommender's own rows are those of the models on their own."""
    rows = [(u, i, y) for u, i, y in stream(400) if y > 0]
    recommender = Recommender(ModelSettings())
    events = [Event(u, i, ts=e, offset=e, weight=y) for e, (u, i, y) in enumerate(rows)]
    feed(recommender, events, lists=False)
    state, slots = recommender._state, recommender.catalogue.slot_of
    alone, matrix = Popularity(), CoVisitation()
    learn(alone, rows)
    learn(matrix, rows)
    theirs = [int(slots[recommender.catalogue.number(item)]) for item in alone.arrays()["items"]]
    everything = len(recommender.settings.popularity.half_lives) - 1
    np.testing.assert_array_equal(alone.arrays()["mass"][:, 0], state.popularity.mass[theirs][:, everything])
    np.testing.assert_array_equal(matrix.arrays()["lengths"], state.covisit.n[theirs])
    np.testing.assert_array_equal(matrix.arrays()["row_sum"], state.covisit.row_sum[theirs])
    np.testing.assert_array_equal(matrix.arrays()["column_sum"], state.covisit.column_sum[theirs])
