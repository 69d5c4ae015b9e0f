"""Co-visitation against a dict of dicts."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from models.config import CovisitSettings
from models.kernels import kernel
from models.online import covisit, covisit_readings
from models.online.covisit import Covisit, Rates
from models.online.covisit_readings import Readings

SETTINGS = CovisitSettings()
SLOTS = 60
FLAG = 2


@kernel
def learn(
    c: Any, r: Any, slot: Any, history: Any, n: Any, weight: Any, dirty: Any, flag: Any, probe: Any
) -> Any:
    return covisit.learn(c, r, slot, history, n, weight, dirty, flag, probe)


@kernel
def read(
    c: Any, r: Any, history: Any, n: Any, slots: Any, in_use: Any, mass: Any, total: Any,
    coefficient: Any, base: Any, sums: Any, stamp: Any, mark: Any, touched: Any,
) -> Any:  # fmt: skip
    covisit_readings.coefficients(c, r, history, n, coefficient, base)
    found = covisit_readings.accumulate(c, r, history, n, coefficient, sums, in_use, stamp, mark, touched)
    covisit_readings.finish(c, r, slots, len(slots), mass, total, base, sums.of, stamp, mark)
    return found


@kernel
def share(
    c: Any, r: Any, history: Any, n: Any, in_use: Any, mass: Any, total: Any, coefficient: Any, base: Any,
    sums: Any, stamp: Any, mark: Any, touched: Any, blocked: Any, available: Any, allowed: Any, shares: Any,
) -> Any:  # fmt: skip
    covisit_readings.coefficients(c, r, history, n, coefficient, base)
    found = covisit_readings.accumulate(c, r, history, n, coefficient, sums, in_use, stamp, mark, touched)
    return covisit_readings.finish_and_share(
        c, r, touched, found, mass, total, base, sums.of, blocked, mark, available, allowed, shares
    )  # fmt: skip


@kernel
def forget(c: Any, gone: Any) -> Any:
    covisit.forget(c, gone)


@kernel
def strongest_kernel(
    c: Any, r: Any, history: Any, n: Any, items: Any, coefficient: Any, strength: Any, out: Any
) -> Any:
    covisit_readings.strongest(c, r, history, n, items, len(items), coefficient, strength, out)


def strongest(matrix: Matrix, history: Any, n: int, items: list[int]) -> list[int]:
    """Position in the history of the loudest item for each of `items`."""
    out = np.zeros(len(items), np.int32)
    strongest_kernel(
        matrix.c, matrix.r, history, n, np.array(items, np.int32), matrix.coefficient,
        np.ones(len(items), np.float32), out,
    )  # fmt: skip
    return out.tolist()


class Matrix:
    """The compiled model; `in_use` says how many items there are, of which the first SLOTS have events."""

    def __init__(self, settings: CovisitSettings = SETTINGS, in_use: int = SLOTS) -> None:
        self.settings, self.in_use = settings, in_use
        self.rates: Rates = covisit.rates(settings)
        self.r: Readings = covisit_readings.readings(settings)
        self.c: Covisit = covisit.create(in_use)
        self.dirty = np.zeros(in_use, np.uint8)
        self.mark = 0
        self.stamp = np.zeros(in_use, np.int32)
        self.sums = covisit_readings.new_sums(in_use)
        self.coefficient = np.zeros((50, covisit.LANES), np.float32)

    def learn(self, slot: int, history: list[int], weight: float = 1.0) -> float:
        self.c = covisit.with_room(self.c, covisit.needs(self.settings))
        h = np.array([*history, -1], np.int32)
        mass = learn(
            self.c,
            self.rates,
            slot,
            h,
            len(history),
            weight,
            self.dirty,
            FLAG,
            np.zeros((2, 100), np.int64),
        )
        return float(mass)

    def rows(self, slot: int) -> dict[int, list[float]]:
        keys, weights = covisit.row(self.c, slot)
        assert len(set(keys.tolist())) == len(keys)
        return {int(k): w for k, w in zip(keys, weights[:, :2].tolist(), strict=True)}

    def read(self, history: list[int], mass: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], set[int]]:
        """Readings of every slot [SLOTS, LANES], and the slots that were neighbours."""
        self.mark += 1
        touched, base = np.zeros(self.in_use, np.int32), np.zeros(covisit.LANES, np.float32)
        h = np.array([*history, -1], np.int32)
        found = read(
            self.c, self.r, h, len(history), np.arange(SLOTS, dtype=np.int32), self.in_use, mass, mass.sum(),
            self.coefficient, base, self.sums, self.stamp, self.mark, touched,
        )  # fmt: skip
        return self.sums.of[:SLOTS].copy(), set(touched[:found].tolist())

    def shares(self, history: list[int], mass: Any, blocked: set[int], gone: set[int]) -> dict[int, float]:
        """Of the neighbours that may be shown, the shares of all readings added up."""
        self.mark += 1
        touched, allowed = np.zeros((2, self.in_use), np.int32)
        base, shares = np.zeros(covisit.LANES, np.float32), np.zeros(self.in_use, np.float32)
        marks, available = np.zeros(self.in_use, np.int32), np.ones(self.in_use, np.uint8)
        marks[list(blocked)], available[list(gone)] = self.mark, 0
        h = np.array([*history, -1], np.int32)
        n = share(
            self.c, self.r, h, len(history), self.in_use, mass, mass.sum(), self.coefficient, base, self.sums,
            self.stamp, self.mark, touched, marks, available, allowed, shares,
        )  # fmt: skip
        return dict(zip(allowed[:n].tolist(), shares[:n].tolist(), strict=True))


Pairs = dict[tuple[int, int], np.ndarray[Any, Any]]


def plain(events: list[tuple[int, list[int], float]], settings: CovisitSettings = SETTINGS) -> Pairs:
    """A[a, b] of both matrices, by the definition at the head of the module."""
    a: Pairs = defaultdict(lambda: np.zeros(2))
    for item, history, weight in events:
        for m in range(2):
            for g, other in enumerate(history[: settings.window[m]]):
                if other != item and other >= 0:
                    gain = weight * settings.decay[m] ** g
                    a[other, item][m] += gain
                    a[item, other][m] += settings.back[m] * gain
    return a


def traffic(n: int = 300, seed: int = 0) -> list[tuple[int, list[int], float]]:
    rng = random.Random(seed)
    return [
        (
            rng.randrange(SLOTS),
            [rng.randrange(-1, SLOTS) for _ in range(rng.randrange(50))],
            rng.choice([1.0, 0.5]),
        )
        for _ in range(n)
    ]


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


def test_neighbours_stay_in_the_order_of_their_arrival() -> None:
    matrix = Matrix()
    for item in (9, 2, 30, 2, 11):
        matrix.learn(item, [1])
    assert list(matrix.rows(1)) == [9, 2, 30, 11]


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


@pytest.mark.parametrize("in_use", [SLOTS, covisit_readings.FEW + 1])
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
                + matrix.coefficient[k, covisit.HALF] * np.float32(w[1])
                for k, other in enumerate(history)
                for w in [matrix.rows(other).get(item, [0.0, 0.0]) if other >= 0 else [0.0, 0.0]]
            ]
            expected.append(int(np.argmax(values)) if values and max(values) > 0.0 else -1)
        h = np.array([*history, -1], np.int32)
        assert strongest(matrix, h, len(history), list(range(SLOTS))) == expected


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
    again.c = covisit.with_room(again.c, 1 << 15)
    for slot in range(SLOTS):
        keys, weights = covisit.row(matrix.c, slot)
        covisit.restore(again.c, slot, keys.copy(), weights.copy())
    again.c.row_sum[:], again.c.column_sum[:] = matrix.c.row_sum, matrix.c.column_sum
    mass = np.ones(SLOTS)
    assert (again.read([5, 6, 7], mass)[0] == matrix.read([5, 6, 7], mass)[0]).all()
    assert again.rows(9) == matrix.rows(9)


def test_a_restored_row_learns_and_sheds_as_the_one_that_stayed() -> None:
    settings = CovisitSettings(max_neighbours=20)
    stayed, restored = Matrix(settings), Matrix(settings)
    for event in traffic(400, seed=2):
        for slot in range(SLOTS):
            keys, weights = covisit.row(restored.c, slot)
            covisit.restore(restored.c, slot, keys.copy(), weights.copy())
        stayed.learn(*event)
        restored.learn(*event)
        for slot in range(SLOTS):
            a, b = covisit.row(stayed.c, slot), covisit.row(restored.c, slot)
            assert a[0].tobytes() + a[1].tobytes() == b[0].tobytes() + b[1].tobytes()


def test_a_cleared_row_is_empty_and_its_block_is_used_again() -> None:
    matrix = Matrix()
    matrix.learn(2, [1])
    used = int(matrix.c.header[0])
    covisit.clear(matrix.c, 1)
    assert matrix.rows(1) == {}
    assert int(matrix.c.size_class[1]) == -1
    matrix.learn(2, [3])
    assert int(matrix.c.header[0]) == used


def test_more_room_keeps_the_rows(taught: tuple[Matrix, Pairs]) -> None:
    matrix, _ = taught
    before = [matrix.rows(slot) for slot in range(SLOTS)]
    c = covisit.with_room(matrix.c, 1 << 18)
    assert len(c.keys) - int(c.header[0]) >= 1 << 18
    bigger = Matrix()
    bigger.c = c
    assert [bigger.rows(slot) for slot in range(SLOTS)] == before


def test_a_window_beyond_the_history_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond the 50"):
        Matrix(CovisitSettings(window=(51, 3)))
