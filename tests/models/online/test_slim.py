"""SLIM against a dict of pairs."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from models.config import CovisitSettings, SlimSettings
from models.kernels import kernel
from models.online import covisit_readings, covisit_rows, slim
from models.online.covisit_rows import SLIM
from tests.models.online.covisit_matrix import FLAG, SLOTS, Matrix, traffic

SETTINGS = CovisitSettings(slim=SlimSettings(items=4, decay=0.5, lr=0.1))


@kernel
def learn_kernel(
    c: Any,
    r: Any,
    history: Any,
    n: Any,
    slots: Any,
    error: Any,
    listed: Any,
    taught: Any,
    step: Any,
    dirty: Any,
) -> Any:
    return slim.learn(c, r, history, n, slots, error, len(slots), listed, taught, step, dirty, FLAG)


@kernel
def learn_again_kernel(
    c: Any, r: Any, history: Any, n: Any, taught: Any, step: Any, m: Any, done: Any, dirty: Any
) -> Any:
    slim.learn_again(c, r, history, n, taught, step, m, done, dirty, FLAG)


class Pairs(Matrix):
    """Co-visitation rows, and lessons on them."""

    def __init__(self, settings: CovisitSettings = SETTINGS) -> None:
        super().__init__(settings)
        self.listed = np.zeros(1 + SLOTS, np.uint8)
        self.taught, self.step = np.zeros(slim.MOST, np.int32), np.zeros(slim.MOST, np.float32)

    def teach(self, history: list[int], errors: dict[int, float]) -> int:
        slots, error = np.array([*errors], np.int32), np.array([*errors.values()], np.float32)
        m = learn_kernel(
            self.c, self.rates, np.array([*history, -1], np.int32), len(history), slots, error, self.listed,
            self.taught, self.step, self.dirty,
        )  # fmt: skip
        assert not self.listed.any()
        return int(m)

    def learned(self, slot: int) -> dict[int, float]:
        keys, weights = covisit_rows.row(self.c, slot)
        return dict(zip(keys.tolist(), weights[:, 2].tolist(), strict=True))


def taught_rows(pairs: Pairs) -> list[bytes]:
    return [b"".join(part.tobytes() for part in covisit_rows.row(pairs.c, slot)) for slot in range(SLOTS)]


def lessons(n: int = 200, seed: int = 5) -> list[tuple[list[int], dict[int, float]]]:
    rng = random.Random(seed)
    return [
        (
            [rng.randrange(SLOTS) for _ in range(rng.randrange(1, 8))],
            {slot: rng.uniform(-1, 1) for slot in rng.sample(range(SLOTS), 9)},
        )
        for _ in range(n)
    ]


@pytest.fixture
def pairs() -> Pairs:
    """With rows of co-visitation, and nothing learned of pairs."""
    found = Pairs()
    for event in traffic(300):
        found.learn(*event)
    return found


def test_learns_what_a_dict_of_pairs_learns(pairs: Pairs) -> None:
    expected: dict[tuple[int, int], float] = defaultdict(float)
    for history, errors in lessons():
        pairs.teach(history, errors)
        for k, row in enumerate(history[:4]):
            for j, error in errors.items():
                if abs(error) >= slim.LEAST and j in pairs.rows(row):
                    expected[row, j] += 0.1 * 0.5**k * error
    assert len(expected) > 500
    for row in range(SLOTS):
        for j, value in pairs.learned(row).items():
            assert value == pytest.approx(expected[row, j], abs=1e-5)


def test_the_lane_is_the_decayed_sum_over_the_history(pairs: Pairs) -> None:
    for lesson in lessons():
        pairs.teach(*lesson)
    history = [3, 9, 27, 1, 50]
    read, _ = pairs.read(history, np.ones(SLOTS))
    for j in range(SLOTS):
        terms = [0.5**k * pairs.learned(row).get(j, 0.0) for k, row in enumerate(history[:4])]
        assert read[j, SLIM] == pytest.approx(sum(terms), abs=1e-5)
    assert read[:, SLIM].min() < -0.05
    assert read[:, SLIM].max() > 0.05


def test_pairs_that_are_not_kept_and_small_errors_learn_nothing(pairs: Pairs) -> None:
    alone = next(slot for slot in range(SLOTS) if 2 not in pairs.rows(slot))
    assert pairs.teach([alone, 5], {2: 0.009, 7: -0.5, 8: 0.0}) == 1
    assert not any(pairs.learned(alone).values()) or 7 in pairs.rows(alone)
    assert 2 not in pairs.learned(alone)
    assert pairs.taught[0] == 7


def test_the_rows_that_were_read_are_to_be_written(pairs: Pairs) -> None:
    pairs.dirty[:] = 0
    pairs.teach([3, 4, 5, 6, 7], {9: 0.5})
    assert np.flatnonzero(pairs.dirty).tolist() == [3, 4, 5, 6]


def test_a_neighbour_that_comes_back_begins_anew() -> None:
    pairs = Pairs(CovisitSettings(max_neighbours=16, slim=SETTINGS.slim))
    for j in range(2, 18):
        pairs.learn(j, [1])
    pairs.teach([1], dict.fromkeys(range(2, 18), 0.5))
    assert all(value > 0 for value in pairs.learned(1).values())
    for j in range(18, 50):
        pairs.learn(j, [1], weight=5.0)
    gone = next(j for j in range(2, 18) if j not in pairs.rows(1))
    pairs.learn(gone, [1], weight=50.0)
    assert pairs.learned(1)[gone] == 0.0
    covisit_rows.clear(pairs.c, 1)
    for j in range(2, 18):
        pairs.learn(j, [1])
    assert not any(pairs.learned(1).values())


def test_a_restored_row_has_what_was_learned(pairs: Pairs) -> None:
    for lesson in lessons():
        pairs.teach(*lesson)
    again = Pairs()
    again.c = covisit_rows.with_room(again.c, 1 << 15)
    for slot in range(SLOTS):
        covisit_rows.restore(again.c, slot, *(part.copy() for part in covisit_rows.row(pairs.c, slot)))
    assert taught_rows(again) == taught_rows(pairs)
    again.c = covisit_rows.with_room(again.c, 1 << 20)
    assert taught_rows(again) == taught_rows(pairs)


def test_learned_again_it_is_the_same_to_the_last_bit(pairs: Pairs) -> None:
    again = Pairs()
    for event in traffic(300):
        again.learn(*event)
    done = np.zeros(SLOTS, np.uint8)
    done[::7] = 1
    before = taught_rows(again)
    for history, errors in lessons():
        m = pairs.teach(history, errors)
        h = np.array([*history, -1], np.int32)
        learn_again_kernel(
            again.c, again.rates, h, len(history), pairs.taught, pairs.step, m, done, again.dirty
        )
    expected, got = taught_rows(pairs), taught_rows(again)
    assert [got[slot] for slot in range(SLOTS) if not done[slot]] == [
        expected[slot] for slot in range(SLOTS) if not done[slot]
    ]
    assert [got[slot] for slot in range(SLOTS) if done[slot]] == [
        before[slot] for slot in range(SLOTS) if done[slot]
    ]


def test_there_is_room_for_three_readings_of_the_first_matrix_and_four_of_the_second() -> None:
    def readings(first: int, second: int) -> CovisitSettings:
        return CovisitSettings.model_validate(
            {
                "readings": [
                    {"name": f"r{i}", "matrix": int(i >= first), "items": 5, "decay": 0.5, "row_power": 0.5,
                     "column_power": 0.5}
                    for i in range(first + second)
                ]
            }
        )  # fmt: skip

    lanes = covisit_readings.readings(readings(3, 4)).lanes.tolist()
    assert SLIM not in lanes
    assert len(set(lanes)) == 7
    with pytest.raises(ValueError, match="at most 3 readings of matrix 0"):
        readings(4, 0)
    with pytest.raises(ValueError, match="at most 4 readings of matrix 1"):
        readings(0, 5)
