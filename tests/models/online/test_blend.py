"""The blend's contexts, and its step against the definition in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.kernels import kernel
from models.online import blend
from models.online.blend import CONTEXTS, Blend

F, N = 5, 30


@kernel
def context(events: Any, gap: Any) -> Any:
    return blend.context(events, gap)


@kernel
def weights_of(b: Any, row: Any, out: Any) -> None:
    blend.weights_of(b, row, out)


@kernel
def step(
    b: Any, row: Any, features: Any, scores: Any, n: Any, target: Any, lr: Any, within: Any, gradient: Any
) -> Any:
    return blend.learn(b, row, features, scores, n, target, lr, within, gradient)


def new() -> Blend:
    return blend.create(np.linspace(0.1, 0.5, F), 2.0)


def learn(b: Blend, row: int, features: np.ndarray[Any, Any], target: int, within: int = N) -> bool:
    weights = np.zeros(F, np.float32)
    weights_of(b, row, weights)
    scores = features @ weights
    return bool(step(b, row, features, scores, len(features), target, 0.3, within, np.full(F, 9.0)))


def features(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(N, F)).astype(np.float32)


def test_there_is_a_context_for_each_length_and_gap() -> None:
    rows = {(events, gap): context(events, gap) for events in range(1, 1000) for gap in range(3)}
    assert set(rows.values()) == set(range(1, CONTEXTS + 1))
    assert context(0, 0) == rows[1, 0] == 1
    assert rows[2, 1] == rows[3, 1] != rows[4, 1]
    assert rows[128, 2] == rows[999, 2] == CONTEXTS
    assert len({rows[5, gap] for gap in range(3)}) == 3


def test_weights_are_the_global_ones_and_the_context_s() -> None:
    b, out = new(), np.zeros(F, np.float32)
    weights_of(b, 3, out)
    np.testing.assert_allclose(out, np.linspace(0.1, 0.5, F), rtol=1e-6)
    b.weight[3] = 1.0
    weights_of(b, 3, out)
    np.testing.assert_allclose(out, np.linspace(1.1, 1.5, F), rtol=1e-6)


@pytest.mark.parametrize("target", [0, 7, N - 1])
def test_a_step_is_that_of_the_softmax_gradient_with_adagrad(target: int) -> None:
    b, x = new(), features()
    scores = (x @ b.weight[0].astype(np.float32)).astype(np.float64)
    p = np.exp(scores) / np.exp(scores).sum()
    g = x[target].astype(np.float64) - p @ x
    assert learn(b, 4, x, target)
    np.testing.assert_allclose(b.square[[0, 4]], np.broadcast_to(2.0 + g * g, (2, F)), rtol=1e-5)
    change = 0.3 * g / np.sqrt(2.0 + g * g)
    np.testing.assert_allclose(b.weight[0], np.linspace(0.1, 0.5, F) + change, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(b.weight[4], change, rtol=1e-4, atol=1e-6)
    others = [row for row in range(CONTEXTS + 1) if row not in (0, 4)]
    assert not b.weight[others].any()
    assert (b.square[others] == 2.0).all()


def test_what_ranked_too_low_teaches_nothing() -> None:
    b, x = new(), features()
    order = np.argsort(-(x @ b.weight[0].astype(np.float32)))
    before = (b.weight.copy(), b.square.copy())
    assert not learn(b, 4, x, int(order[5]), within=5)
    assert (b.weight == before[0]).all()
    assert (b.square == before[1]).all()
    assert learn(b, 4, x, int(order[4]), within=5)


def test_large_scores_do_not_overflow() -> None:
    b, x = new(), features() * np.float32(2000)
    assert learn(b, 1, x, 3)
    assert np.isfinite(b.weight).all()


def test_the_feature_that_foretells_the_next_item_gains_weight_and_no_other_context_s() -> None:
    b, rng = new(), np.random.default_rng(2)
    for n in range(300):
        x = features(n)
        target = int(rng.integers(N))
        x[target, 2] += 3.0
        learn(b, 6, x, target)
    gained = b.weight[0] - np.linspace(0.1, 0.5, F)
    assert np.argmax(gained) == 2
    assert gained[2] > 0.5
    assert np.argmax(b.weight[6]) == 2
    assert not b.weight[5].any()


def test_a_lesson_leaves_each_candidates_error() -> None:
    b, x = new(), features()
    weights = np.zeros(F, np.float32)
    weights_of(b, 3, weights)
    scores = x @ weights
    p = np.exp(scores - scores.max())
    assert step(b, 3, x, scores, N, 4, 0.3, N, np.zeros(F))
    np.testing.assert_allclose(scores, (np.arange(N) == 4) - p / p.sum(), atol=1e-6)


def test_no_lesson_leaves_the_scores() -> None:
    b, x = new(), features()
    scores = np.arange(N, dtype=np.float32)
    assert not step(b, 3, x, scores, N, 0, 0.3, 2, np.zeros(F))
    assert scores.tolist() == list(range(N))
