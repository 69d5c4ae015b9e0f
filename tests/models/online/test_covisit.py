"""Co-visitation against a dict of dicts."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import CovisitSettings
from tests.models.online.covisit_matrix import FLAG, SLOTS, Matrix, Pairs, plain, traffic


@pytest.fixture(scope="module")
def taught() -> tuple[Matrix, Pairs]:
    matrix, events = Matrix(), traffic()
    for event in events:
        matrix.learn(*event)
    return matrix, plain(events)


def test_learns_what_a_dict_of_dicts_learns(taught: tuple[Matrix, Pairs]) -> None:
    matrix, a = taught
    for slot in range(SLOTS):
        expected = {j: w for (i, j), w in a.items() if i == slot}
        got = matrix.rows(slot)
        assert got.keys() == expected.keys()
        for j, weights in got.items():
            np.testing.assert_allclose(weights, expected[j], rtol=1e-4)


def test_keeps_the_sums_of_rows_and_columns(taught: tuple[Matrix, Pairs]) -> None:
    matrix, a = taught
    rows, columns = np.zeros((SLOTS, 2)), np.zeros((SLOTS, 2))
    for (i, j), w in a.items():
        rows[i] += w
        columns[j] += w
    np.testing.assert_allclose(matrix.c.row_sum, rows)
    np.testing.assert_allclose(matrix.c.column_sum, columns)


def test_says_how_much_it_added_and_which_rows_changed() -> None:
    matrix = Matrix()
    history = [3, 5, 3, -1, 9]
    before = matrix.c.row_sum.sum()
    added = matrix.learn(9, history, 2.0)
    assert added == pytest.approx(matrix.c.row_sum.sum() - before)
    assert added == pytest.approx(sum(w.sum() for w in plain([(9, history, 2.0)]).values()))
    assert np.flatnonzero(matrix.dirty).tolist() == [3, 5, 9]
    assert set(matrix.dirty.tolist()) == {0, FLAG}


def test_a_window_beyond_the_history_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond the 50"):
        Matrix(CovisitSettings(window=(51, 3)))
