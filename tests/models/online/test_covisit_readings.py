"""What a history says of items, against the formula over a dict of dicts."""

from __future__ import annotations

import numpy as np
import pytest

from models.online import covisit_rows, covisit_sums
from tests.models.online.covisit_matrix import (
    SETTINGS,
    SLOTS,
    Matrix,
    Pairs,
    forget,
    plain,
    strongest,
    traffic,
)


@pytest.fixture(scope="module")
def taught() -> tuple[Matrix, Pairs]:
    matrix, events = Matrix(), traffic()
    for event in events:
        matrix.learn(*event)
    return matrix, plain(events)


@pytest.mark.parametrize("history", [[4], [4, 17, 8], list(range(50))])
def test_readings_are_those_of_the_formula(taught: tuple[Matrix, Pairs], history: list[int]) -> None:
    matrix, a = taught
    mass = np.random.default_rng(1).random(SLOTS)
    got, touched = matrix.read(history, mass)
    assert touched == {j for (i, j) in a if i in history[: max(r.items for r in SETTINGS.readings)]}
    shrinkage = SETTINGS.shrinkage
    for lane, reading in zip(matrix.r.lanes, SETTINGS.readings, strict=True):
        expected = np.zeros(SLOTS)
        for k, h in enumerate(history[: reading.items]):
            w = reading.decay**k + reading.tail
            w *= (matrix.c.row_sum[h, reading.matrix] + shrinkage) ** -reading.row_power
            expected += SETTINGS.popularity * shrinkage * mass / mass.sum() * w
            for j in range(SLOTS):
                if (h, j) in a:
                    expected[j] += w * a[h, j][reading.matrix]
        expected *= (matrix.c.column_sum[:, reading.matrix] + shrinkage) ** -reading.column_power
        np.testing.assert_allclose(got[:, lane], expected, rtol=1e-3)


def test_what_may_be_shown_has_its_shares_of_all_readings_added_up(taught: tuple[Matrix, Pairs]) -> None:
    matrix, mass, history = taught[0], np.linspace(1.0, 3.0, SLOTS), [3, 1, 4]
    sums, neighbours = matrix.read(history, mass)
    blocked, gone = set(sorted(neighbours)[:4]), {sorted(neighbours)[5]}
    assert len(neighbours) > 10
    shown = sorted(neighbours - blocked - gone)
    lanes = matrix.r.lanes
    expected = (sums[shown][:, lanes] / sums[shown][:, lanes].sum(axis=0)).sum(axis=1)
    found = matrix.shares(history, mass, blocked, gone)
    assert sorted(found) == shown
    np.testing.assert_allclose([found[slot] for slot in shown], expected, rtol=1e-5)
    assert (matrix.sums.of[sorted(neighbours)] == sums[sorted(neighbours)]).all()


def test_masses_too_large_for_a_single_number_s_range_leave_readings_as_they_are(
    taught: tuple[Matrix, Pairs],
) -> None:
    """As those of a half-life are, before they are scaled back."""
    matrix, mass = taught[0], np.linspace(1.0, 3.0, SLOTS)
    assert (matrix.read([1, 2], mass * 2.0**500)[0] == matrix.read([1, 2], mass)[0]).all()


def test_a_reading_after_more_events_is_up_to_date() -> None:
    matrix, fresh = Matrix(), Matrix()
    events, mass = traffic(60), np.ones(SLOTS)
    for event in events:
        matrix.learn(*event)
        matrix.read([1, 2], mass)  # what is derived was computed in between
        fresh.learn(*event)
    assert (matrix.read([1, 2], mass)[0] == fresh.read([1, 2], mass)[0]).all()


@pytest.mark.parametrize("in_use", [SLOTS, covisit_sums.FEW + 1])
class TestFewAndManyItems:
    def test_an_evicted_item_is_passed_over(self, in_use: int) -> None:
        matrix = Matrix(in_use=in_use)
        matrix.learn(7, [1])
        matrix.learn(8, [1])
        gone = np.zeros(in_use, np.uint8)
        gone[7] = 1
        forget(matrix.c, gone)
        assert matrix.read([1], np.ones(SLOTS))[1] == {8}
        assert matrix.rows(7) == {}
        matrix.learn(7, [2])  # another item has its place now
        assert matrix.read([1], np.ones(SLOTS))[1] == {8}

    def test_sums_are_the_same(self, in_use: int) -> None:
        matrix, plain, mass = Matrix(in_use=in_use), Matrix(), np.ones(SLOTS)
        for event in traffic(80):
            matrix.learn(*event)
            plain.learn(*event)
            history = event[1] or [event[0]]
            (got, touched), (expected, neighbours) = matrix.read(history, mass), plain.read(history, mass)
            assert touched == neighbours
            assert (got == expected).all()


def test_the_history_item_that_speaks_loudest_is_found() -> None:
    matrix = Matrix()
    for _ in range(5):
        matrix.learn(20, [3])
    matrix.learn(20, [4])
    matrix.read([4, 3, 6], np.ones(SLOTS))
    h = np.array([4, 3, 6], np.int32)
    assert strongest(matrix, h, 3, [50, 20]) == [-1, 1]
    assert strongest(matrix, h, 1, [20]) == [0]


def test_the_loudest_is_that_of_every_item_looked_up(taught: tuple[Matrix, Pairs]) -> None:
    matrix = taught[0]
    for _, history, _ in traffic(20, seed=1):
        matrix.read(history, np.ones(SLOTS))
        expected = []
        for item in range(SLOTS):
            values = [
                matrix.coefficient[k, 0] * np.float32(w[0])
                + matrix.coefficient[k, covisit_rows.HALF] * np.float32(w[1])
                for k, other in enumerate(history)
                for w in [matrix.rows(other).get(item, [0.0, 0.0]) if other >= 0 else [0.0, 0.0]]
            ]
            expected.append(int(np.argmax(values)) if values and max(values) > 0.0 else -1)
        h = np.array([*history, -1], np.int32)
        assert strongest(matrix, h, len(history), list(range(SLOTS))) == expected
