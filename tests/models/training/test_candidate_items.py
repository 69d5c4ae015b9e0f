"""The items compared by a training step."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.candidate_items import choose


def test_few_items_are_all_compared() -> None:
    choice = choose(np.array([3, 1, 3], np.int32), n_items=5, sampled=4, seed=0, step=0)
    assert choice.rows.tolist() == [1, 2, 3, 4, 5]
    assert choice.targets.tolist() == [2, 0, 2]
    assert not choice.correction.any()


@pytest.mark.parametrize("step", range(20))
def test_targets_come_once_and_others_are_sampled(step: int) -> None:
    targets = np.array([7, 1, 50, 7, 2], np.int32)
    choice = choose(targets, n_items=50, sampled=20, seed=0, step=step)
    assert choice.rows[choice.targets].tolist() == targets.tolist()
    assert len(set(choice.rows.tolist())) == len(choice.rows) == 24
    assert choice.rows.min() >= 1
    assert choice.rows.max() <= 50


def test_every_other_item_is_drawn_equally_often() -> None:
    targets = np.array([1, 5, 6, 30], np.int32)
    drawn = np.zeros(31)
    for step in range(3000):
        drawn[choose(targets, 30, 13, 0, step).rows[4:]] += 1
    assert not drawn[[0, 1, 5, 6, 30]].any()
    others = np.setdiff1d(np.arange(1, 30), targets)
    np.testing.assert_allclose(drawn[others] / 3000, 0.5, atol=0.05)


def test_estimate_of_the_sum_is_unbiased() -> None:
    logits = np.random.default_rng(0).normal(0, 1, 101)
    targets = np.array([4, 90], np.int32)
    estimates = []
    for step in range(2000):
        choice = choose(targets, 100, 30, 0, step)
        estimates.append(np.exp(logits[choice.rows] + choice.correction).sum())
    assert np.mean(estimates) == pytest.approx(np.exp(logits[1:]).sum(), rel=0.01)


def test_step_decides_the_sample() -> None:
    targets = np.array([1], np.int32)
    rows = [choose(targets, 1000, 10, 0, step).rows.tolist() for step in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]
