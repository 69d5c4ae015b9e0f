"""Popularity against counts that are decayed at every event."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from models.kernels import kernel
from models.online import popularity
from models.online.popularity import TOP, Popularity

LIVES = (3, 50, 0)


@kernel
def learn_all(pop: Any, slots: Any, weights: Any, start: Any) -> Any:
    rescaled = 0
    for n in range(len(slots)):
        if popularity.learn(pop, slots[n], weights[n], start + n):
            rescaled += 1
    return rescaled


@kernel
def exact_top(
    pop: Any, p: Any, slots: Any, blocked: Any, mark: Any, order: Any, available: Any, out: Any, mass_of: Any
) -> Any:
    return popularity.exact_top(pop, p, slots, blocked, mark, order, available, out, mass_of)


def events(n: int, slots: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = random.Random(seed)
    items = [min(rng.randrange(slots), rng.randrange(slots)) for _ in range(n)]
    return np.array(items, np.int64), np.array([rng.choice([1.0, 0.5, 3.0]) for _ in range(n)])


def taught(n: int, slots: int, lives: tuple[int, ...] = LIVES) -> Popularity:
    pop = popularity.create(lives, slots)
    learn_all(pop, *events(n, slots), 0)
    return pop


def decayed(n: int, slots: int, life: int) -> np.ndarray[Any, Any]:
    """Counts that lose their half each `life` events."""
    counts = np.zeros(slots)
    for slot, weight in zip(*events(n, slots), strict=True):
        if life:
            counts *= 2.0 ** (-1 / life)
        counts[slot] += weight
    return counts


@pytest.mark.parametrize("n", [1, 40, 1500, 6000])
def test_shares_are_those_of_decayed_counts(n: int) -> None:
    pop = taught(n, 30)
    for p, life in enumerate(LIVES):
        counts = decayed(n, 30, life)
        np.testing.assert_allclose(
            pop.mass[:, p] / pop.total[p], counts / counts.sum(), rtol=1e-8, atol=1e-40
        )


def test_numbers_stay_small_however_long_the_stream_is() -> None:
    pop = popularity.create((1,), 4)
    rescaled = learn_all(pop, np.arange(20_000) % 4, np.ones(20_000), 0)
    assert rescaled == pop.epochs[0] == 39
    assert np.isfinite(pop.mass).all()
    assert pop.mass.max() < 2.0**513
    assert pop.top[0, :4].tolist() == [3, 2, 1, 0]


def test_what_is_lost_in_the_noise_becomes_0() -> None:
    mass = np.array([2.0**600, 2.0**20, 2.0**12, 1.0])
    popularity.rescale(mass)
    assert mass.tolist() == [2.0**88, 2.0**-492, 0.0, 0.0]


@pytest.mark.parametrize("slots", [20, 400])
def test_the_stored_top_is_the_exact_one_at_every_event(slots: int) -> None:
    pop = popularity.create(LIVES, slots)
    items, weights = events(900, slots)
    for n in range(0, 900, 30):
        learn_all(pop, items[n : n + 30], weights[n : n + 30], n)
        for p in range(len(LIVES)):
            top = pop.top[p][pop.top[p] >= 0]
            best = np.sort(pop.mass[:, p])[::-1]
            assert len(set(top.tolist())) == len(top) == min(TOP, np.count_nonzero(best))
            assert (pop.mass[top, p] == best[: len(top)]).all()


def test_found_anew_the_top_holds_the_same_masses() -> None:
    pop = taught(900, 400)
    before = [pop.mass[pop.top[p], p].tolist() for p in range(len(LIVES))]
    pop.top[:] = -1
    popularity.find_top(pop, 400)
    assert [pop.mass[pop.top[p], p].tolist() for p in range(len(LIVES))] == before


def test_found_anew_the_top_of_a_few_items_is_filled_up() -> None:
    pop = taught(5, 30)
    popularity.find_top(pop, 30)
    assert (pop.top[0] >= 0).sum() == len(set(events(5, 30)[0].tolist()))


@pytest.mark.parametrize("blocked_below", [0, 5, 300, 390, 400])
def test_the_best_that_may_be_shown_are_exact_also_beyond_the_stored_top(blocked_below: int) -> None:
    slots = 400
    pop = taught(3000, slots, (0,))
    by_mass = np.argsort(-pop.mass[:, 0], kind="stable")
    blocked = np.zeros(slots, np.int32)
    blocked[by_mass[:blocked_below]] = 9
    available = np.ones(slots, np.uint8)
    available[by_mass[blocked_below : blocked_below + 2]] = 0
    order = np.arange(slots, dtype=np.uint64)[::-1].copy()
    out = np.zeros(10, np.int32)
    filled = out[: exact_top(pop, 0, slots, blocked, 9, order, available, out, np.zeros(10))]
    expected = [s for s in by_mass if blocked[s] != 9 and available[s] and pop.mass[s, 0] > 0]
    expected.sort(key=lambda s: (-pop.mass[s, 0], order[s]))
    assert filled.tolist() == expected[:10]


@kernel
def share_of(pop: Any, p: Any, here: Any, column: Any, clock: Any, slot: Any) -> Any:
    return popularity.share(pop, p, here, column, popularity.trust(here, column, clock), slot)


@kernel
def count_all(here: Any, slots: Any, weights: Any) -> None:
    for n in range(len(slots)):
        if n % 3 == 0:
            popularity.count(here, 1, slots[n], weights[n], n)


@pytest.mark.parametrize("n", [2, 300, 6000])
@pytest.mark.parametrize("life", [50, 0])
def test_a_share_in_a_scenario_leans_on_that_of_everywhere_while_little_is_known(n: int, life: int) -> None:
    """The posterior mean with a prior of some events, of counts that are decayed at every event of any scenario."""
    pop, here = popularity.create((life,), 30), popularity.create((life, life, life), 30)
    items, weights = events(n, 30)
    learn_all(pop, items, weights, 0)
    count_all(here, items, weights)
    there = np.zeros(30)
    for number in range(n):
        there *= 2.0 ** (-1 / life) if life else 1.0
        there[items[number]] += weights[number] if number % 3 == 0 else 0.0
    everywhere = decayed(n, 30, life)
    prior = popularity.PRIOR
    expected = (there + prior * everywhere / everywhere.sum()) / (there.sum() + prior)
    found = [share_of(pop, 0, here, 1, n - 1, slot) for slot in range(30)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert sum(found) == pytest.approx(1.0)


def test_a_scenario_that_slept_for_long_goes_on_with_numbers_that_can_be_kept() -> None:
    here = popularity.create((1,), 4)
    learn_all(here, np.array([2]), np.ones(1), 0)
    learn_all(here, np.array([1]), np.ones(1), 5000)
    assert here.epochs[0] == 9
    assert here.mass[1, 0] < 2.0**512
    assert here.mass[2, 0] == 0.0
