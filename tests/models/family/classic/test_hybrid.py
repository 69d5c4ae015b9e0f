"""Hybrids: which member is heard, how much, and what the others do about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import rankdata

from models.family.classic.hybrid import reciprocal_ranks
from models.family.contract import NOBODY, Interactions, Model, Queries
from models.family.registry import make
from models.family.storage import StoredModelError, load_model, save_model
from tests.models.family import planted
from tests.models.family.planted import asked, interactions

LIKED = interactions([0, 1, 2, 3, 0, 1, 2, 0, 1, 0], [0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
"""Popularity puts the items in the order 0, 1, 2, 3; whoever took item 3 took all others."""

POPULARITY = {"model": "popularity"}
CONTENT = {"model": "content", "settings": {"half_life": 0}}
NEIGHBOURS = {"model": "item-item"}


def taught(name: str, settings: dict[str, object], events: Interactions = LIKED) -> Model:
    model = make(name, settings, content=planted.halves(4) if events is LIKED else None)
    model.fit(events)
    return model


@pytest.fixture
def newcomer() -> Queries:
    """Someone who took item 3, which is odd."""
    return asked(interactions([9], [3]), [9])


@pytest.fixture
def nobody() -> Queries:
    """Someone who took nothing."""
    return asked(interactions([], []), [9])


class TestReciprocalRanks:
    def test_the_best_has_rank_1_and_equals_share_theirs(self) -> None:
        found = reciprocal_ranks(np.array([[1.0, 5.0, 1.0], [0.0, -np.inf, 2.0]], np.float32))
        assert found[0] == pytest.approx([1 / 62.5, 1 / 61, 1 / 62.5])
        assert found[1] == pytest.approx([1 / 62, 0.0, 1 / 61])

    def test_it_agrees_with_scipy_s_ranks(self) -> None:
        scores = np.random.default_rng(0).integers(0, 6, (30, 17)).astype(np.float32)
        np.testing.assert_allclose(reciprocal_ranks(scores), 1 / (60 + rankdata(-scores, axis=1)))


def test_a_member_that_there_is_not_or_is_set_wrongly_is_told_by_its_place() -> None:
    with pytest.raises(ValidationError) as told:
        make("hybrid-weighted", {"members": [POPULARITY, {"model": "nope"}]})
    assert told.value.errors()[0]["loc"] == ("members", 1, "model")
    inner = {
        "model": "hybrid-cascade",
        "settings": {"ranker": {"model": "popularity", "settings": {"depth": 1}}},
    }
    with pytest.raises(ValidationError) as told:
        make("hybrid-switching", {"members": [inner]})
    assert told.value.errors()[0]["loc"] == (
        "members", 0, "settings", "ranker", "settings", "depth",
    )  # fmt: skip


class TestWeighted:
    def test_a_score_is_the_weighted_sum_by_hand(self, newcomer: Queries) -> None:
        model = taught(
            "hybrid-weighted", {"members": [POPULARITY | {"weight": 2.0}, CONTENT | {"weight": 0.5}]}
        )
        # content: items 1 and 3 share ranks 1 and 2, items 0 and 2 share ranks 3 and 4
        expected = [2 / 61 + 0.5 / 63.5, 2 / 62 + 0.5 / 61.5, 2 / 63 + 0.5 / 63.5, 2 / 64 + 0.5 / 61.5]
        assert model.score(newcomer)[0] == pytest.approx(expected)

    @pytest.mark.parametrize(("popular", "similar", "first"), [(9.0, 1.0, 0), (1.0, 9.0, 1)])
    def test_the_heavier_member_decides(
        self, newcomer: Queries, popular: float, similar: float, first: int
    ) -> None:
        members = [POPULARITY | {"weight": popular}, CONTENT | {"weight": similar}]
        model = taught("hybrid-weighted", {"members": members})
        assert model.retrieve(newcomer, 1)[0].tolist() == [[first]]

    def test_a_member_without_an_opinion_moves_nothing(self, nobody: Queries) -> None:
        model = taught("hybrid-weighted", {"members": [POPULARITY, CONTENT | {"weight": 9.0}]})
        assert model.retrieve(nobody, 4)[0].tolist() == [[0, 1, 2, 3]]

    def test_a_hybrid_can_be_a_member_and_comes_back_from_disk(
        self, newcomer: Queries, tmp_path: Path
    ) -> None:
        inner = {"model": "hybrid-cascade", "settings": {"retriever": NEIGHBOURS, "ranker": POPULARITY}}
        model = taught("hybrid-weighted", {"members": [inner, NEIGHBOURS]})
        assert {"0/0/user", "0/1/mass", "1/user"} <= model.arrays().keys()
        save_model(model, tmp_path)
        np.testing.assert_array_equal(load_model(tmp_path).score(newcomer), model.score(newcomer))

    def test_a_folder_that_lacks_a_member_s_arrays_is_refused(self, tmp_path: Path) -> None:
        model = taught("hybrid-weighted", {"members": [POPULARITY, NEIGHBOURS]})
        whole = model.arrays()
        model.arrays = lambda: {name: whole[name] for name in whole if name != "1/item"}  # type: ignore[method-assign]
        save_model(model, tmp_path)
        with pytest.raises(StoredModelError, match="does not fit together"):
            load_model(tmp_path)


class TestSwitching:
    MEMBERS = {"members": [POPULARITY, CONTENT | {"least": 1}, NEIGHBOURS | {"least": 2}]}  # noqa: RUF012

    def test_the_length_of_the_history_says_who_is_asked(self) -> None:
        model = taught("hybrid-switching", self.MEMBERS)
        popularity, content, neighbours = model.members  # type: ignore[attr-defined]
        queries = asked(interactions([1, 2, 2, 3, 3, 3], [3, 3, 0, 3, 0, 1]), [0, 1, 2, 3])
        scores = model.score(queries)
        for row, member in enumerate([popularity, content, neighbours, neighbours]):
            np.testing.assert_array_equal(scores[row], member.score(queries)[row])

    def test_items_that_are_not_known_and_repeats_do_not_make_a_history_longer(self) -> None:
        model = taught("hybrid-switching", self.MEMBERS)
        content = model.members[1]  # type: ignore[attr-defined]
        queries = asked(interactions([1, 1, 1], [77, 3, 3]), [1])
        np.testing.assert_array_equal(model.score(queries), content.score(queries))

    @pytest.mark.parametrize("least", [(1, 2), (0, 0)])
    def test_bounds_that_leave_somebody_without_a_member_or_with_two_are_refused(
        self, least: tuple[int, int]
    ) -> None:
        members = [POPULARITY | {"least": least[0]}, NEIGHBOURS | {"least": least[1]}]
        with pytest.raises(ValidationError, match="one member needs least = 0"):
            make("hybrid-switching", {"members": members})


class TestCascade:
    def test_the_ranker_puts_the_retriever_s_first_items_in_order(self, newcomer: Queries) -> None:
        settings = {"retriever": POPULARITY, "ranker": CONTENT, "depth": 3}
        # item 1 is like item 3; of the others the retriever's order stays; item 3 is not retrieved
        assert taught("hybrid-cascade", settings).retrieve(newcomer, 4)[0].tolist() == [[1, 0, 2, 3]]

    def test_without_the_blocked_items_the_ranker_sees_as_many(self, newcomer: Queries) -> None:
        model = taught("hybrid-cascade", {"retriever": POPULARITY, "ranker": CONTENT, "depth": 3})
        items, scores = model.retrieve(newcomer, 4, np.array([[True, False, False, False]]))
        assert items.tolist() == [[1, 3, 2, NOBODY]]
        assert scores[0].tolist() == [3.0, 2.0, 1.0, -np.inf]

    def test_a_list_longer_than_what_is_ranked_goes_on_as_retrieved(self, newcomer: Queries) -> None:
        model = taught("hybrid-cascade", {"retriever": POPULARITY, "ranker": CONTENT, "depth": 2})
        items, scores = model.retrieve(newcomer, 4)
        assert items.tolist() == [[1, 0, 2, 3]]
        assert scores.tolist() == [[2.0, 1.0, 0.0, -1.0]]

    def test_scores_and_lists_say_the_same(self) -> None:
        events = planted.checkerboard()
        model = taught("hybrid-cascade", {"ranker": POPULARITY, "depth": 7}, events)
        queries = asked(events, np.arange(40, dtype=np.int32))
        items, places = model.retrieve(queries, 12)
        np.testing.assert_array_equal(np.take_along_axis(model.score(queries), items, axis=1), places)
