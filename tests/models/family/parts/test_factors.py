"""Vectors of factorisations: the same whatever the steps in which they came; the best vector is the best."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.parts.factors import grown, least_squares, restored


def test_rows_begin_with_the_spread_that_was_asked_for() -> None:
    rows = grown(np.zeros((0, 50), np.float32), 400, seed=1, side="item", std=0.2)
    assert rows.std() == pytest.approx(0.2, rel=0.02)
    assert abs(rows.mean()) < 0.01


def test_sides_and_seeds_are_unlike_and_old_rows_stay() -> None:
    none = np.zeros((0, 4), np.float32)
    user = grown(none, 3, seed=1, side="user", std=1.0)
    assert not np.isclose(user, grown(none, 3, seed=1, side="item", std=1.0)).any()
    assert not np.isclose(user, grown(none, 3, seed=2, side="user", std=1.0)).any()
    learned = user + 1.0
    np.testing.assert_array_equal(grown(learned, 5, seed=1, side="user", std=1.0)[:3], learned)


def test_the_best_vector_leaves_no_slope() -> None:
    rng = np.random.default_rng(0)
    whole, others = rng.normal(size=(50, 6)), rng.normal(size=(9, 6)).astype(np.float32)
    every = (whole.T @ whole).astype(np.float32)
    weight, pull = rng.random(9).astype(np.float32), rng.random(9).astype(np.float32)
    x = least_squares(every, others, weight, pull, 0.5).astype(np.float64)
    slope = every @ x + others.T @ (weight * (others @ x)) + 0.5 * x - others.T @ pull
    assert slope == pytest.approx(np.zeros(6), abs=1e-4)


def test_a_system_without_a_single_solution_says_what_to_do() -> None:
    none = np.zeros((0, 2), np.float32)
    with pytest.raises(ValueError, match="a higher one is needed"):
        least_squares(np.zeros((2, 2), np.float32), none, none[:, 0], none[:, 0], 0.0)


def test_stored_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"users has shape \(2, 3\), not \(2, 4\)"):
        restored(np.zeros((2, 3), np.float32), 2, 4, "users")
