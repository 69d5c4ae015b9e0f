"""One suite that every model of the family passes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.family.contract import NOBODY, Content, Factored, Interactions, Model, Queries, best
from models.family.registry import MODELS, make, model_class
from models.family.storage import WEIGHTS, StoredModelError, load_model, save_model
from tests.models.family import planted

NEURAL: dict[str, Any] = {"width": 16, "epochs": 1, "least_steps": 80, "batch": 64, "lr": 0.02}

SMALL: dict[str, dict[str, Any]] = {
    "ials": {"factors": 8},
    "eals": {"factors": 8},
    "hybrid-weighted": {"members": [{"model": "ials", "settings": {"factors": 8}}, {"model": "item-item"}]},
    "hybrid-switching": {
        "members": [{"model": "popularity"}, {"model": "ials", "settings": {"factors": 8}, "least": 1}]
    },
    "hybrid-cascade": {"ranker": {"model": "ials", "settings": {"factors": 8}}, "depth": 10},
    "matrix-factorisation": NEURAL,
    "mlp": NEURAL | {"least_steps": 120},
    "neumf": NEURAL,
    "two-tower": NEURAL | {"hidden": 16},
    "youtube-dnn": NEURAL | {"hidden": 16},
    "gru4rec": NEURAL | {"length": 20, "hidden": 16},
    "lstm": NEURAL | {"length": 20, "hidden": 16},
    "sasrec": NEURAL | {"length": 20},
    "unified": NEURAL | {"length": 20, "buckets": 64},
}
"""Settings under which a model learns a small world in a second or so; those of the others are the defaults."""

UNPERSONAL = {"popularity"}
"""Models that give everybody the same list."""

OF_RATINGS = {"biased-mf"}
"""Models of how much, not of what: ratings that are all the same teach them nothing."""

OF_NOBODY = {"popularity"}
"""Models that no paper is the source of."""

FACTORED = {
    "ials", "eals", "matrix-factorisation", "two-tower", "youtube-dnn", "gru4rec", "lstm", "sasrec", "unified",
}  # fmt: skip
"""Models whose scores are products of vectors."""

every_model = pytest.mark.parametrize("name", list(MODELS))


def taught(name: str, events: Interactions, *, seed: int = 0, content: Content | None = None) -> Model:
    model = make(name, SMALL.get(name), seed=seed, content=content)
    model.fit(events)
    return model


@pytest.fixture(scope="module")
def events() -> Interactions:
    return planted.checkerboard()


@pytest.fixture(scope="module")
def queries(events: Interactions) -> Queries:
    return planted.asked(events, np.arange(40, dtype=np.int32))


@every_model
class TestContract:
    def test_it_is_registered_under_its_own_name_with_its_source(self, name: str) -> None:
        assert model_class(name).name == name
        source = model_class(name).__doc__ or ""
        assert re.search(r"\b(19|20)\d\d\b", source) or name in OF_NOBODY, (
            f"{source!r} names no paper of a year"
        )

    def test_scores_have_a_row_a_query_and_a_column_an_item(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events, content=planted.halves())
        scores = model.score(queries)
        assert (model.n_users, model.n_items) == (40, 20)
        assert scores.shape == (40, 20)
        assert scores.dtype == np.float32
        assert not np.isnan(scores).any()
        assert not (scores == np.inf).any()
        assert np.isfinite(scores).any(axis=1).all()

    def test_a_score_depends_on_its_query_and_its_item_alone(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events, content=planted.halves())
        everything = model.score(queries)
        some = np.array([[3, 0, 19], [5, 5, 2]], np.int32)
        asked = model.score(queries.take(np.array([7, 30])), some)
        expected = np.take_along_axis(everything[[7, 30]], some, 1)
        np.testing.assert_allclose(asked, expected, rtol=1e-4, atol=1e-5)

    def test_factors_make_the_scores_where_there_are_any(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events, content=planted.halves())
        assert isinstance(model, Factored) == (name in FACTORED)
        if isinstance(model, Factored):
            vectors, biases = model.factors()
            found = model.embed(queries) @ vectors.T + biases
            np.testing.assert_allclose(found, model.score(queries), rtol=1e-4, atol=1e-4)

    def test_asking_changes_nothing_and_makes_no_entries(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events, content=planted.halves())
        before = {key: array.copy() for key, array in model.arrays().items()}
        first = model.score(queries)
        stranger = Queries(
            np.array([10_000], np.int32),
            np.full((1, 4), NOBODY, np.int32),
            np.full((1, 4), np.nan, np.float32),
            np.zeros((1, 4), np.int64),
        )
        assert model.score(stranger).shape == (1, 20)
        model.retrieve(stranger, 3)
        after = model.arrays()
        assert before.keys() == after.keys()
        for key, array in before.items():
            np.testing.assert_array_equal(array, after[key])
        np.testing.assert_array_equal(model.score(queries), first)

    def test_a_new_user_with_unknown_items_in_the_history_gets_a_list(
        self, name: str, events: Interactions
    ) -> None:
        model = taught(name, events, content=planted.halves())
        history = np.array([[NOBODY, 500, 2, 777]], np.int32)
        asked = Queries(
            np.array([9_999], np.int32),
            history,
            np.full((1, 4), np.nan, np.float32),
            np.zeros((1, 4), np.int64),
        )
        items, scores = model.retrieve(asked, 5)
        assert (items >= 0).sum() >= 1
        assert (items < 20).all()
        assert not np.isnan(scores).any()

    def test_the_same_seed_learns_the_same(self, name: str, events: Interactions, queries: Queries) -> None:
        one = taught(name, events, seed=3, content=planted.halves()).score(queries)
        two = taught(name, events, seed=3, content=planted.halves()).score(queries)
        np.testing.assert_array_equal(one, two)

    def test_fit_forgets_what_was_learned_before(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, planted.checkerboard(seed=9), content=planted.halves())
        model.fit(events)
        np.testing.assert_array_equal(
            model.score(queries), taught(name, events, content=planted.halves()).score(queries)
        )

    def test_partial_fit_takes_in_new_users_and_items(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events)
        user = [40, 40, 40, 41, 41, 41] * 2
        more = planted.interactions(user, [20, 21, 22, 20, 21, 22, 0, 2, 4, 1, 3, 5], [5.0] * 12)
        model.partial_fit(more)
        assert (model.n_users, model.n_items) == (42, 23)
        scores = model.score(planted.asked(more, [40, 41, 0]))
        assert scores.shape == (3, 23)
        assert not np.isnan(scores).any()
        assert model.score(queries).shape == (40, 23)

    def test_items_that_are_known_before_their_first_event_are_scored_and_learned_later(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events)
        model.know(23)
        scores = model.score(queries)
        assert scores.shape == (40, 23)
        assert not np.isnan(scores).any()
        model.partial_fit(planted.interactions([40, 40, 41], [0, 20, 21], [5.0] * 3))
        assert model.n_items == 23
        assert model.score(queries).shape == (40, 23)

    def test_partial_fit_of_nothing_changes_nothing(
        self, name: str, events: Interactions, queries: Queries
    ) -> None:
        model = taught(name, events, content=planted.halves())
        before = model.score(queries)
        model.partial_fit(events.take(slice(0, 0)))
        np.testing.assert_array_equal(model.score(queries), before)

    def test_what_is_saved_comes_back(
        self, name: str, events: Interactions, queries: Queries, tmp_path: Path
    ) -> None:
        model = taught(name, events, seed=5, content=planted.halves())
        save_model(model, tmp_path)
        again = load_model(tmp_path, planted.halves())
        assert type(again) is type(model)
        assert (again.settings, again.seed) == (model.settings, 5)
        np.testing.assert_array_equal(again.score(queries), model.score(queries))

    def test_what_is_loaded_goes_on_learning_as_if_it_had_stayed(
        self, name: str, events: Interactions, queries: Queries, tmp_path: Path
    ) -> None:
        model = taught(name, events.take(slice(0, 200)), content=planted.halves())
        save_model(model, tmp_path)
        again = load_model(tmp_path, planted.halves())
        for one in (model, again):
            one.partial_fit(events.take(slice(200, None)))
        np.testing.assert_allclose(again.score(queries), model.score(queries), rtol=1e-6, atol=1e-6)

    def test_damaged_weights_are_refused(self, name: str, events: Interactions, tmp_path: Path) -> None:
        save_model(taught(name, events), tmp_path)
        content = bytearray((tmp_path / WEIGHTS).read_bytes())
        content[-1] ^= 1
        (tmp_path / WEIGHTS).write_bytes(content)
        with pytest.raises(StoredModelError, match=r"weights\.safetensors is damaged"):
            load_model(tmp_path)

    def test_lists_leave_out_what_is_blocked(self, name: str, events: Interactions, queries: Queries) -> None:
        model = taught(name, events, content=planted.halves())
        blocked = np.zeros((40, 20), np.bool_)
        blocked[:, :17] = True
        items, scores = model.retrieve(queries, 5, blocked)
        assert set(np.unique(items).tolist()) <= {NOBODY, 17, 18, 19}
        assert (items[:, 3:] == NOBODY).all()
        assert (scores[:, 3:] == -np.inf).all()


@pytest.mark.parametrize("name", sorted(MODELS.keys() - UNPERSONAL - OF_RATINGS))
class TestPersonal:
    def test_it_finds_the_two_tastes(self, name: str, events: Interactions, queries: Queries) -> None:
        model = taught(name, events, content=planted.halves())
        items, _ = model.retrieve(queries, 5)
        own = (items % 2) == (np.arange(40)[:, None] % 2)
        assert own.mean() > 0.9


class TestBest:
    def test_ties_go_to_the_lower_code(self) -> None:
        items, _ = best(np.array([[1, 2, 2, 2, 0]], np.float32), 2)
        assert items.tolist() == [[1, 2]]

    def test_a_row_shorter_than_k_is_filled_with_nobody(self) -> None:
        items, scores = best(np.array([[1.0, -np.inf]], np.float32), 4)
        assert items.tolist() == [[0, NOBODY, NOBODY, NOBODY]]
        assert scores[0, 1] == -np.inf

    def test_it_agrees_with_sorting_everything(self) -> None:
        scores = np.random.default_rng(0).integers(0, 5, (50, 30)).astype(np.float32)
        items, values = best(scores, 7)
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
        np.testing.assert_array_equal(items, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, 1))


class TestRegistry:
    def test_an_unknown_name_is_refused_with_what_there_is(self) -> None:
        with pytest.raises(ValueError, match="there is no model 'magic'; there are popularity"):
            make("magic")
