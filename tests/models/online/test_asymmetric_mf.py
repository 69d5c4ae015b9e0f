"""The ranking model: its step is the gradient's, and it learns a checkerboard."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from models.kernels import kernel
from models.online import asymmetric_mf
from models.online.asymmetric_mf import AsymmetricMF, Rates
from models.randomness import below, mix

D = 8
RATES = Rates(items=4, decay=0.8, negatives=6, lr=0.3)
X, Y = 1, 4


@kernel
def initialise(m: Any, slot: Any, stream: Any) -> None:
    asymmetric_mf.initialise(m, slot, stream)


@kernel
def user_vector(m: Any, history: Any, n: Any, items: Any, decay: Any, out: Any) -> Any:
    return asymmetric_mf.user_vector(m, history, n, items, decay, out)


@kernel
def score(m: Any, user: Any, slot: Any) -> Any:
    return asymmetric_mf.score(m, user, slot)


@kernel
def dot(a: Any, b: Any) -> Any:
    return asymmetric_mf.dot(a, b)


@kernel
def learn(
    m: Any, rates: Any, slot: Any, slots: Any, born: Any, history: Any, n: Any, weight: Any, stream: Any,
    user: Any, gradient: Any, drawn: Any, logit: Any, dirty: Any, x_flag: Any, y_flag: Any,
) -> None:  # fmt: skip
    asymmetric_mf.learn(
        m, rates, slot, slots, born, history, n, weight, stream, user, gradient, drawn, logit, dirty, x_flag, y_flag,
    )  # fmt: skip


def stream_of(number: int) -> np.uint64:
    return np.uint64(mix(np.uint64(number)))


class Model:
    def __init__(self, slots: int, rates: Rates = RATES) -> None:
        self.slots, self.rates = slots, rates
        self.m: AsymmetricMF = asymmetric_mf.create(slots, D)
        for slot in range(slots):
            initialise(self.m, slot, stream_of(slot))
        self.dirty = np.zeros(slots, np.uint8)
        self.born = np.zeros(slots, np.int64)

    def learn(self, slot: int, history: list[int], *, weight: float = 1.0, stream: int = 0) -> None:
        n = self.rates.negatives + 1
        learn(
            self.m, self.rates, slot, self.slots, self.born, np.array([*history, -1], np.int32), len(history),
            weight, np.uint64(stream), np.zeros(D, np.float32), np.zeros(D, np.float32), np.zeros(n, np.int32),
            np.zeros(n, np.float32), self.dirty, X, Y,
        )  # fmt: skip

    def user(self, history: list[int]) -> tuple[np.ndarray[Any, Any], float]:
        out = np.zeros(D, np.float32)
        h = np.array([*history, -1], np.int32)
        return out, float(user_vector(self.m, h, len(history), self.rates.items, self.rates.decay, out))

    def scores(self, history: list[int]) -> np.ndarray[Any, Any]:
        user, _ = self.user(history)
        return np.array([score(self.m, user, slot) for slot in range(self.slots)])


def random_model(slots: int = 12) -> Model:
    """Vectors, biases and accumulators of a model that has learned for a while."""
    model, rng = Model(slots), np.random.default_rng(3)
    model.m.y[:] = rng.normal(size=(slots, D)) / 2
    model.m.bias[:] = rng.normal(size=slots) / 3
    for column in (model.m.x_square, model.m.y_square):
        column[:] = rng.random(slots) + 0.5
    return model


def loss(
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any],
    drawn: list[int],
    h: list[int],
) -> float:
    """Sampled softmax of the first of `drawn`, in float64."""
    user = sum(RATES.decay**k * x[i] for k, i in enumerate(h[: RATES.items]) if i >= 0)
    user = user / np.linalg.norm(user)
    logits = y[drawn] @ user + bias[drawn]
    return float(np.log(np.exp(logits).sum()) - logits[0])


def drawn_for(stream: int, slot: int, slots: int) -> list[int]:
    draws = [below(stream_of(stream), j, slots) for j in range(RATES.negatives)]
    return [slot, *(d for d in draws if d != slot)]


def numeric(f: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Gradient of `f` by central differences over the entries of `array`."""
    out = np.zeros_like(array)
    for at in np.ndindex(array.shape):
        held = array[at]
        array[at] = held + 1e-5
        high = f()
        array[at] = held - 1e-5
        out[at] = (high - f()) / 2e-5
        array[at] = held
    return out


def test_the_input_vectors_step_along_the_gradient_of_the_loss() -> None:
    model, history, slot = random_model(), [3, 7, -1, 5, 9], 2
    x, y, bias = (a.astype(np.float64) for a in (model.m.x, model.m.y, model.m.bias))
    drawn = drawn_for(11, slot, model.slots)
    g = numeric(lambda: loss(x, y, bias, drawn, history), x)
    before = model.m.x_square.astype(np.float64)
    model.learn(slot, history, stream=11)
    square = before + (g**2).sum(axis=1)
    np.testing.assert_allclose(model.m.x_square, square, rtol=1e-3)
    np.testing.assert_allclose(model.m.x, x - RATES.lr * g / np.sqrt(square)[:, None], atol=2e-5)
    assert not np.allclose(g[[3, 7, 5]], 0)
    assert np.allclose(g[9], 0)  # beyond the items that make the user


def test_the_output_vectors_step_along_the_gradient_of_the_loss() -> None:
    model, history, slot = random_model(200), [3, 7, 5], 2
    stream = next(s for s in range(99) if len(set(drawn_for(s, slot, 200))) == 7)  # each drawn once
    y, bias = (a.astype(np.float64) for a in (model.m.y, model.m.bias))
    drawn, (user, _) = drawn_for(stream, slot, 200), model.user(history)
    logits = y[drawn] @ user.astype(np.float64) + bias[drawn]
    g = np.exp(logits) / np.exp(logits).sum()
    g[0] -= 1
    square = model.m.y_square[drawn] + g**2
    model.learn(slot, history, stream=stream)
    np.testing.assert_allclose(
        model.m.y[drawn], y[drawn] - RATES.lr * (g / np.sqrt(square))[:, None] * user, atol=2e-5
    )
    np.testing.assert_allclose(model.m.bias[drawn], bias[drawn] - RATES.lr * g / np.sqrt(square), atol=2e-5)
    others = np.setdiff1d(np.arange(200), drawn)
    assert (model.m.y[others] == y[others].astype(np.float32)).all()
    assert (model.dirty[drawn] & Y).all()
    assert not (model.dirty[others] & Y).any()
    assert np.flatnonzero(model.dirty & X).tolist() == [3, 5, 7]


def test_a_repeated_pattern_costs_less_and_less() -> None:
    model = Model(12)
    losses = []
    for stream in range(40):
        drawn = drawn_for(stream, 2, 12)
        losses.append(loss(model.m.x, model.m.y, model.m.bias, drawn, [3, 7]))
        model.learn(2, [3, 7], stream=stream)
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:5])


def test_a_negative_weight_pushes_the_item_away() -> None:
    model = Model(12)
    for stream in range(5):
        model.learn(2, [3, 7], weight=-0.5, stream=stream)
    scores = model.scores([3, 7])
    assert scores[2] == scores.min() < 0


def test_a_checkerboard_is_learned() -> None:
    model, rng = Model(20), random.Random(1)
    for n in range(3000):
        parity = n % 2
        history = [2 * rng.randrange(10) + parity for _ in range(3)]
        item = 2 * rng.randrange(10) + parity
        model.learn(item, history, stream=n)
    for parity in range(2):
        scores = model.scores([parity, parity + 4, parity + 10])
        assert {int(s) % 2 for s in np.argsort(-scores)[:10]} == {parity}


def test_a_user_is_the_decayed_sum_of_the_latest_items_at_length_1() -> None:
    model = random_model()
    history = [3, -1, 5, 6, 8, 9]
    expected = model.m.x[3] + 0.64 * model.m.x[5] + 0.512 * model.m.x[6]
    vector, length = model.user(history)
    assert length == pytest.approx(float(np.linalg.norm(expected)), rel=1e-5)
    np.testing.assert_allclose(vector, expected / length, rtol=1e-5, atol=1e-6)


def test_without_a_history_nothing_is_learned() -> None:
    model = random_model()
    before = [column.copy() for column in model.m]
    model.learn(2, [])
    model.learn(2, [-1])
    assert all((a == b).all() for a, b in zip(before, model.m, strict=True))
    assert model.user([])[1] == 0.0


def test_first_vectors_are_a_function_of_the_stream_alone() -> None:
    model, other = random_model(), Model(12)
    initialise(model.m, 4, stream_of(99))
    initialise(other.m, 7, stream_of(99))
    assert (model.m.x[4] == other.m.x[7]).all()
    assert np.count_nonzero(model.m.x[4]) == D
    assert not model.m.y[4].any()
    assert (model.m.bias[4], model.m.x_square[4], model.m.y_square[4]) == (0, 0, 0)
    assert abs(float(np.mean(np.linalg.norm(Model(500).m.x, axis=1))) - 1) < 0.05


@pytest.mark.parametrize("d", [1, 7, 8, 9, 64, 71])
def test_a_product_covers_every_factor(d: int) -> None:
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(2, d)).astype(np.float32)
    assert float(dot(a, b)) == pytest.approx(float(a.astype(np.float64) @ b), rel=1e-4, abs=1e-5)


def test_what_is_no_item_with_events_is_no_negative() -> None:
    model = random_model(40)
    model.born[20:] = -1
    before = model.m.y.copy()
    for stream in range(30):
        model.learn(2, [3, 7], stream=stream)
    assert (model.m.y[20:] == before[20:]).all()
    assert (model.m.y[:20] != before[:20]).any(axis=1).all()
    assert not model.dirty[20:].any()
