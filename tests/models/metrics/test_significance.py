"""Intervals and p-values: right on what is known, the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics.significance import holm, intervals, paired_p, resampled


def test_an_interval_is_that_of_the_normal_distribution_where_there_are_many_users() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, (5000, 1))
    low, high = intervals(values, np.ones(5000))[0]
    error = float(values.std() / np.sqrt(5000))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_lists_of_one_user_are_not_taken_for_independent() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200).astype(np.float64)
    alone, many = (
        intervals(kind[:, None], np.ones(200))[0],
        intervals(100 * kind[:, None], np.full(200, 100.0))[0],
    )
    np.testing.assert_allclose(alone, many)


def test_a_user_with_more_lists_weighs_more() -> None:
    means = resampled(np.array([[90.0], [0.0]]), np.array([90.0, 10.0]), 0)
    assert set(np.unique(means.round(9)).tolist()) == {0.0, 0.9, 1.0}


def test_metrics_share_their_users_and_the_seed_decides() -> None:
    values = np.random.default_rng(0).random((50, 1))
    both = resampled(np.hstack([values, 2 * values]), np.ones(50), 3)
    np.testing.assert_allclose(2 * both[:, 0], both[:, 1])
    np.testing.assert_array_equal(both, resampled(np.hstack([values, 2 * values]), np.ones(50), 3))
    assert not np.array_equal(both, resampled(np.hstack([values, 2 * values]), np.ones(50), 4))


def test_without_users_there_is_no_interval() -> None:
    assert np.isnan(intervals(np.zeros((0, 2)), np.zeros(0))).all()


@given(st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=8))
def test_a_p_value_is_the_share_of_sign_flips_at_least_as_extreme(difference: list[float]) -> None:
    flips = [
        abs(sum(sign * value for sign, value in zip(signs, difference, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(difference))
    ]
    exact = sum(flip >= abs(sum(difference)) for flip in flips) / len(flips)
    assert paired_p(np.array(difference)) == pytest.approx(exact, abs=0.03)


def test_equal_models_do_not_differ_and_unequal_ones_do() -> None:
    assert paired_p(np.zeros(100)) == 1.0
    assert paired_p(np.full(30, 0.1)) == pytest.approx(1 / 10_001)


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    corrected = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    rejected: set[int] = set()
    for rank, at in enumerate(order):
        if (len(p_values) - rank) * p_values[at] > 0.05:
            break
        rejected.add(at)
    assert {at for at, p in enumerate(corrected) if p <= 0.05} == rejected
