"""The gate: a candidate that may be worse does not go live."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.base import F64
from models.training import gate
from models.training.gate import MIN_USERS, Decision

RNG = np.random.default_rng(0)
LIVE = np.where(RNG.random(3000) < 0.3, 1 / np.log2(2 + RNG.integers(0, 10, 3000)), 0.0)


def decide(candidate: F64, live: F64, **options: Any) -> Decision:
    """The decision where each event is another user's."""
    return gate.decide(candidate, live, np.arange(len(candidate)), **options)


def test_better_goes() -> None:
    better = np.where(RNG.random(3000) < 0.05, 1.0, LIVE)
    decision = decide(better, LIVE)
    assert decision.go
    assert 0 < decision.lower < decision.mean


def test_equal_goes() -> None:
    assert decide(LIVE, LIVE) == Decision(go=True, lower=0.0, mean=0.0, n=3000, users=3000)


def test_worse_stays() -> None:
    worse = np.where(RNG.random(3000) < 0.05, 0.0, LIVE)
    decision = decide(worse, LIVE)
    assert not decision.go
    assert decision.lower < decision.mean < 0


def test_uncertain_stays_and_a_margin_lets_it_go() -> None:
    noise = LIVE.copy()
    RNG.shuffle(noise)
    decision = decide(noise, LIVE)
    assert decision.lower < -0.001
    assert not decision.go
    assert decide(noise, LIVE, margin=-decision.lower + 1e-9).go


def test_bound_is_the_tenth_percentile_of_the_mean() -> None:
    difference = RNG.normal(0.01, 0.2, 5000)
    decision = decide(difference, np.zeros(5000))
    expected = difference.mean() - 1.2816 * difference.std() / np.sqrt(5000)
    assert decision.lower == pytest.approx(expected, abs=3e-4)


def test_the_events_of_one_user_are_one_observation() -> None:
    """Whether a candidate is better depends on the user: 2,000 events of 20 users are 20 draws, not 2,000."""
    rng = np.random.default_rng(1)
    of_user = rng.normal(0.01, 0.1, 20)
    users = np.repeat(np.arange(20), 100)
    difference = of_user[users] + rng.normal(0, 0.05, 2000)
    decision = gate.decide(difference, np.zeros(2000), users)
    expected = difference.mean() - 1.2816 * of_user.std() / np.sqrt(20)
    assert decision.users == 20
    assert decision.lower == pytest.approx(expected, abs=5e-3)
    assert decision.lower < decide(difference, np.zeros(2000)).lower - 0.01


def test_a_user_with_many_events_weighs_as_many() -> None:
    users = np.concatenate([np.zeros(900, np.int64), np.arange(1, 101)])
    difference = np.where(users == 0, -0.1, 0.1)
    decision = gate.decide(difference, np.zeros(1000), users)
    assert decision.mean == pytest.approx(-0.08)
    assert decision.lower < decision.mean


def test_the_events_of_too_few_users_stand_for_themselves() -> None:
    users = np.arange(1000) % (MIN_USERS - 1)
    difference = RNG.normal(0.01, 0.2, 1000)
    few, each = gate.decide(difference, np.zeros(1000), users), decide(difference, np.zeros(1000))
    assert few.users == MIN_USERS - 1
    assert few.lower == each.lower


def test_pairing_counts() -> None:
    """A small gain on every event is certain, however much the events differ from one another."""
    assert decide(LIVE + 0.002, LIVE).lower == pytest.approx(0.002)


def test_seed_decides_the_resamples() -> None:
    worse = np.where(RNG.random(3000) < 0.05, 0.0, LIVE)
    assert decide(worse, LIVE, seed=1) == decide(worse, LIVE, seed=1)
    assert decide(worse, LIVE, seed=1) != decide(worse, LIVE, seed=2)


def test_nothing_scored_does_not_go() -> None:
    decision = decide(np.zeros(0), np.zeros(0))
    assert (decision.go, decision.n) == (False, 0)


def test_scores_of_other_events_are_refused() -> None:
    with pytest.raises(ValueError, match="same events"):
        decide(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="same events"):
        gate.decide(np.zeros(3), np.zeros(3), np.arange(4))
    with pytest.raises(ValueError, match="finite"):
        decide(np.array([np.nan]), np.zeros(1))
