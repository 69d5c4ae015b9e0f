"""What each column says of a candidate, against plain numpy over the learned state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.base import F64
from models.config import BlendSettings, ModelSettings
from models.explanation import rescored
from models.online.covisit_rows import SLIM
from models.online.popularity import PRIOR
from models.pipeline.candidates import Reranked
from models.pipeline.recommender import Recommender, View
from models.state import totals
from tests.batches import Event, feed, new, slots_of, traffic

SETTINGS = ModelSettings()
HOME = 1
"""The scenario that is met first."""


class Described:
    """The features of some candidates for one user, and what they are made from."""

    def __init__(
        self, recommender: Recommender, *, scenario: int = 0, reranked: Reranked | None = None
    ) -> None:
        self.recommender, self.view = recommender, recommender.view()
        state, fixed, x = self.view.state, self.view.fixed, self.view.scratch
        users = recommender.users
        self.user = int(slots_of(users, ["u1"])[0])
        numbers = np.zeros(50, np.int32)
        n, gap = users.history(self.user, recommender.actions.weights, numbers)
        self.history = self.view.slot_of[numbers[:n]]
        self.slots = np.arange(12, dtype=np.int32)
        self.clock = int(state.totals[totals.ACCEPTED])
        self.reranked = self.view.reranked if reranked is None else reranked
        self.vector = np.linspace(-1.0, 1.0, self.reranked.items.shape[1], dtype=np.float32)
        c = users.columns
        self.factors = c.mf[self.user].astype(np.float64)
        rescored.rescore(
            state, fixed, x, self.view.slot_of, int(state.totals[totals.SLOTS_USED]), self.slots, numbers[:n], n,
            c.mf[self.user], int(c.mf_n[self.user]), self.vector, self.reranked, self.clock, scenario,
            users.events(self.user), gap,
        )  # fmt: skip
        self.features = x.features[: len(self.slots)].astype(np.float64)
        self.sums = x.sums.of[self.slots].astype(np.float64)

    def column(self, name: str) -> F64:
        return self.features[:, self.recommender.features.index(name)]


def log_shares(masses: Any, floor: float) -> F64:
    """Logarithms of the candidates' shares of a mass, none below the floor, centred."""
    shares = np.log(np.maximum(np.asarray(masses, np.float64) / np.sum(masses), floor))
    return shares - shares.mean()


def centred(values: Any) -> F64:
    return np.asarray(values, np.float64) - np.mean(values)


@pytest.fixture(scope="module")
def taught() -> Recommender:
    recommender = new(SETTINGS)
    feed(recommender, traffic(400))
    return recommender


@pytest.fixture(scope="module")
def described(taught: Recommender) -> Described:
    return Described(taught)


def test_a_reading_is_the_logarithm_of_its_share_of_the_candidates(described: Described) -> None:
    view: View = described.view
    for lane, reading in zip(view.fixed.readings.lanes, SETTINGS.covisit.readings, strict=True):
        expected = log_shares(described.sums[:, lane], view.fixed.floor)
        np.testing.assert_allclose(described.column(f"covisit-{reading.name}"), expected, atol=1e-5)


def test_popularity_is_the_share_by_each_half_life(described: Described) -> None:
    pop = described.view.state.popularity
    for p, life in enumerate(SETTINGS.popularity.half_lives):
        expected = log_shares(pop.mass[described.slots, p], described.view.fixed.floor)
        name = f"popularity-{life}" if life else "popularity"
        np.testing.assert_allclose(described.column(name), expected, atol=1e-5)


def test_where_the_user_is_the_baselines_half_life_is_mixed_with_what_is_popular_there(
    taught: Recommender,
) -> None:
    described = Described(taught, scenario=HOME)
    state, fixed = described.view.state, described.view.fixed
    here, p = state.here, fixed.baseline
    life = here.half_lives[HOME - 1]
    known = here.total[HOME - 1] * 2.0 ** (-(described.clock - here.base[HOME - 1]) / life)
    trust = known / (known + PRIOR)
    everywhere = state.popularity.mass[described.slots, p] / state.popularity.total[p]
    there = here.mass[described.slots, HOME - 1] / here.total[HOME - 1]
    expected = log_shares(trust * there + (1 - trust) * everywhere, fixed.floor)
    name = f"popularity-{SETTINGS.popularity.half_lives[p]}"
    np.testing.assert_allclose(described.column(name), expected, atol=1e-5)
    assert not np.allclose(described.column(name), Described(taught).column(name))


def test_asymmetric_mf_is_its_logit(described: Described) -> None:
    amf, fixed = described.view.state.amf, described.view.fixed.amf
    items = described.history[: fixed.items]
    whole = (fixed.decay ** np.arange(len(items))) @ amf.x[items].astype(np.float64)
    logits = amf.y[described.slots] @ (whole / np.linalg.norm(whole)) + amf.bias[described.slots]
    np.testing.assert_allclose(described.column("asymmetric-mf"), centred(logits), atol=1e-5)


def test_explicit_mf_is_the_rating_it_expects(described: Described) -> None:
    state, slots = described.view.state, described.slots
    expected = state.mf_bias[slots] + state.mf[slots] @ described.factors
    assert np.any(described.factors)
    np.testing.assert_allclose(described.column("biased-mf"), centred(expected), atol=1e-5)


def test_age_is_the_logarithm_of_the_events_since_an_item_had_its_first(described: Described) -> None:
    ages = described.clock - described.view.state.items.born[described.slots]
    np.testing.assert_allclose(described.column("age"), centred(np.log1p(ages)), atol=1e-5)


def test_slim_is_what_it_learned_of_the_history_s_pairs(described: Described) -> None:
    assert np.any(described.sums[:, SLIM])
    np.testing.assert_allclose(described.column("slim"), centred(described.sums[:, SLIM]), atol=1e-5)


def test_the_re_ranker_scores_what_it_knows_and_is_silent_about_the_rest(taught: Recommender) -> None:
    rng = np.random.default_rng(3)
    row_of = np.full(len(taught.view().state.items.number), -1, np.int32)
    row_of[:8] = np.arange(8)[::-1]
    items, bias = rng.normal(size=(8, 5)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    described = Described(taught, reranked=Reranked(True, items, bias, row_of))
    column = described.column(SETTINGS.ranker)
    known = row_of[described.slots] >= 0
    scores = (items @ described.vector + bias)[row_of[described.slots[known]]]
    np.testing.assert_allclose(column[known], centred(scores), atol=1e-5)
    assert not column[~known].any()
    assert known.sum() == 8


def test_without_a_re_ranker_its_column_says_nothing(described: Described) -> None:
    assert not described.column(SETTINGS.ranker).any()


def test_of_a_user_without_history_the_readings_and_the_ranking_say_nothing() -> None:
    recommender = new(SETTINGS)
    feed(recommender, [Event("u2", f"i{n}", ts=n, offset=n, event_id=n + 1) for n in range(12)])
    described = Described(recommender)
    silent = [f"covisit-{reading.name}" for reading in SETTINGS.covisit.readings]
    for name in (*silent, "asymmetric-mf", "biased-mf", "slim"):
        assert not described.column(name).any(), name


def test_no_item_is_further_below_than_the_floor() -> None:
    recommender = new(ModelSettings(blend=BlendSettings(floor=0.1)))
    feed(recommender, traffic(400))
    column, mass = Described(recommender).column("popularity"), recommender.view().state.popularity.mass
    shares = mass[:12, SETTINGS.popularity.half_lives.index(0)]
    low = shares / shares.sum() < 0.1
    assert 0 < low.sum() < 12
    assert (column[low] == column.min()).all()
    assert (column[~low] > column.min()).all()
