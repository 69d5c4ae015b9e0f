"""Rows of item pairs: their order, what a full one sheds, and that they come back from what was stored."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import CovisitSettings
from models.online import covisit_rows
from tests.models.online.covisit_matrix import SLOTS, Matrix, Pairs, forget, plain, traffic


@pytest.fixture(scope="module")
def taught() -> tuple[Matrix, Pairs]:
    matrix, events = Matrix(), traffic()
    for event in events:
        matrix.learn(*event)
    return matrix, plain(events)


def test_neighbours_stay_in_the_order_of_their_arrival() -> None:
    matrix = Matrix()
    for item in (9, 2, 30, 2, 11):
        matrix.learn(item, [1])
    assert list(matrix.rows(1)) == [9, 2, 30, 11]


class TestShedding:
    SMALL = CovisitSettings(max_neighbours=16)

    def test_a_full_row_drops_its_lightest_quarter(self) -> None:
        matrix = Matrix(self.SMALL)
        for j in range(2, 18):
            matrix.learn(j, [1], weight=float(j % 7) + j / 100)
        full = matrix.rows(1)
        assert len(full) == 16
        matrix.learn(40, [1])
        lightest = sorted(full, key=lambda j: sum(full[j]))[:4]
        assert matrix.rows(1).keys() == full.keys() - set(lightest) | {40}
        assert {j: w for j, w in matrix.rows(1).items() if j != 40} == {
            j: w for j, w in full.items() if j not in lightest
        }

    def test_of_equals_the_higher_slots_go(self) -> None:
        matrix = Matrix(self.SMALL)
        for j in [17, 2, 16, *range(3, 16)]:
            matrix.learn(j, [1])
        matrix.learn(40, [1])
        assert list(matrix.rows(1)) == [2, *range(3, 14), 40]

    def test_what_is_gone_goes_first(self) -> None:
        matrix = Matrix(self.SMALL)
        for j in range(2, 18):
            matrix.learn(j, [1], weight=float(j))
        gone = np.zeros(SLOTS, np.uint8)
        gone[[16, 17]] = 1
        forget(matrix.c, gone)
        matrix.learn(40, [1])
        assert list(matrix.rows(1)) == [*range(4, 16), 40]

    def test_the_row_can_still_be_looked_up(self) -> None:
        matrix = Matrix(self.SMALL)
        for n in range(400):
            matrix.learn(2 + n % 45, [1], weight=1.0 + n % 5)
            assert len(matrix.rows(1)) <= 16
        kept = matrix.rows(1)
        for j, (w0, w1) in kept.items():
            matrix.learn(j, [1])
            assert matrix.rows(1)[j] == pytest.approx([w0 + 1.0, w1 + 1.0])
        assert matrix.rows(1).keys() == kept.keys()


def test_a_row_comes_back_from_what_was_stored(taught: tuple[Matrix, Pairs]) -> None:
    matrix, _ = taught
    again = Matrix()
    again.c = covisit_rows.with_room(again.c, 1 << 15)
    for slot in range(SLOTS):
        keys, weights = covisit_rows.row(matrix.c, slot)
        covisit_rows.restore(again.c, slot, keys.copy(), weights.copy())
    again.c.row_sum[:], again.c.column_sum[:] = matrix.c.row_sum, matrix.c.column_sum
    mass = np.ones(SLOTS)
    assert (again.read([5, 6, 7], mass)[0] == matrix.read([5, 6, 7], mass)[0]).all()
    assert again.rows(9) == matrix.rows(9)


def test_a_restored_row_learns_and_sheds_as_the_one_that_stayed() -> None:
    settings = CovisitSettings(max_neighbours=20)
    stayed, restored = Matrix(settings), Matrix(settings)
    for event in traffic(400, seed=2):
        for slot in range(SLOTS):
            keys, weights = covisit_rows.row(restored.c, slot)
            covisit_rows.restore(restored.c, slot, keys.copy(), weights.copy())
        stayed.learn(*event)
        restored.learn(*event)
        for slot in range(SLOTS):
            a, b = covisit_rows.row(stayed.c, slot), covisit_rows.row(restored.c, slot)
            assert a[0].tobytes() + a[1].tobytes() == b[0].tobytes() + b[1].tobytes()


def test_a_cleared_row_is_empty_and_its_block_is_used_again() -> None:
    matrix = Matrix()
    matrix.learn(2, [1])
    used = int(matrix.c.header[0])
    covisit_rows.clear(matrix.c, 1)
    assert matrix.rows(1) == {}
    assert int(matrix.c.size_class[1]) == -1
    matrix.learn(2, [3])
    assert int(matrix.c.header[0]) == used


def test_more_room_keeps_the_rows(taught: tuple[Matrix, Pairs]) -> None:
    matrix, _ = taught
    before = [matrix.rows(slot) for slot in range(SLOTS)]
    c = covisit_rows.with_room(matrix.c, 1 << 18)
    assert len(c.keys) - int(c.header[0]) >= 1 << 18
    bigger = Matrix()
    bigger.c = c
    assert [bigger.rows(slot) for slot in range(SLOTS)] == before
