"""The blend's contexts, and its step against torch's gradient of the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.kernels import kernel
from models.online import blend
from models.online.blend import CONTEXTS, LAYER_ACCUMULATOR, LIMIT, SITUATION, Blend, BlendScratch, Rates

F, N, H = 5, 30, 8
RATES = Rates(lr=0.3, layer_lr=0.2, within=N)


@kernel
def context(events: Any, gap: Any) -> Any:
    return blend.context(events, gap)


@kernel
def score_kernel(b: Any, x: Any, features: Any, events: Any, gap: Any, scores: Any) -> Any:
    row = blend.situate(b, events, gap, x)
    blend.score(b, x, features, len(features), scores)
    return row


@kernel
def learn_kernel(b: Any, row: Any, x: Any, features: Any, scores: Any, target: Any, rates: Any) -> Any:
    return blend.learn(b, row, x, features, scores, len(features), target, rates)


def new(hidden: int = H) -> Blend:
    return blend.create(np.linspace(0.1, 0.5, F), 2.0, hidden, seed=1)


def awake(hidden: int = H) -> Blend:
    """With a layer that adds something."""
    b = new(hidden)
    b.out[:] = np.linspace(-0.5, 0.7, hidden)
    return b


def scored(
    b: Blend, features: np.ndarray[Any, Any], events: int = 5, gap: int = 1
) -> tuple[int, BlendScratch, np.ndarray[Any, Any]]:
    """The row of the context, the scratch and the scores."""
    x = blend.new_scratch(len(features), F, len(b.out))
    x.gradient[:], x.hidden_gradient[:], x.out_gradient[:], x.back[:] = 9.0, 9.0, 9.0, 9.0  # must not matter
    scores = np.zeros(len(features), np.float32)
    return score_kernel(b, x, features, events, gap, scores), x, scores


def learn(
    b: Blend, features: np.ndarray[Any, Any], target: int, rates: Rates = RATES, events: int = 5, gap: int = 1,
) -> bool:  # fmt: skip
    row, x, scores = scored(b, features, events, gap)
    return bool(learn_kernel(b, row, x, features, scores, target, rates))


def features(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(N, F), scale=2.0).astype(np.float32)


def definition(
    features: np.ndarray[Any, Any], linear: torch.Tensor, hidden: torch.Tensor, out: torch.Tensor, events: int, gap: int
) -> torch.Tensor:  # fmt: skip
    """Scores by the head of the module, in float64."""
    x = torch.tensor(features, dtype=torch.float64)
    situation = torch.tensor([1.0, np.log1p(max(events, 1)) / 3 - 1, *np.eye(3)[gap]], dtype=torch.float64)
    inputs = torch.cat([x.clamp(-float(LIMIT), float(LIMIT)), situation.expand(len(x), -1)], dim=1)
    return x @ linear + torch.relu(inputs @ hidden) @ out


def test_there_is_a_context_for_each_length_and_gap() -> None:
    rows = {(events, gap): context(events, gap) for events in range(1, 1000) for gap in range(3)}
    assert set(rows.values()) == set(range(1, CONTEXTS + 1))
    assert context(0, 0) == rows[1, 0] == 1
    assert rows[2, 1] == rows[3, 1] != rows[4, 1]
    assert rows[128, 2] == rows[999, 2] == CONTEXTS
    assert len({rows[5, gap] for gap in range(3)}) == 3


def test_weights_are_the_global_ones_and_the_context_s() -> None:
    b = new()
    b.weight[context(5, 1)] = 1.0
    _, x, _ = scored(b, features(), 5, 1)
    np.testing.assert_allclose(x.weights, np.linspace(1.1, 1.5, F), rtol=1e-6)
    _, x, _ = scored(b, features(), 5, 2)
    np.testing.assert_allclose(x.weights, np.linspace(0.1, 0.5, F), rtol=1e-6)


def test_a_layer_that_learned_nothing_adds_nothing() -> None:
    x = features()
    np.testing.assert_allclose(scored(new(), x)[2], x @ np.linspace(0.1, 0.5, F), rtol=1e-5, atol=1e-6)
    assert (scored(new(0), x)[2] == scored(new(), x)[2]).all()


@pytest.mark.parametrize(("events", "gap"), [(0, 0), (5, 1), (900, 2)])
def test_scores_are_those_of_the_definition(events: int, gap: int) -> None:
    b, x = awake(), features()
    expected = definition(
        x, torch.tensor(b.weight[0]), torch.tensor(b.hidden, dtype=torch.float64),
        torch.tensor(b.out, dtype=torch.float64), events, gap,
    )  # fmt: skip
    _, _, scores = scored(b, x, events, gap)
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert np.abs(scores - x @ b.weight[0]).max() > 0.1


@pytest.mark.parametrize("target", [0, 7, N - 1])
def test_a_step_is_that_of_the_softmax_gradient_with_adagrad(target: int) -> None:
    b, x = awake(), features()
    linear = torch.tensor(b.weight[0], requires_grad=True)
    hidden = torch.tensor(b.hidden, dtype=torch.float64, requires_grad=True)
    out = torch.tensor(b.out, dtype=torch.float64, requires_grad=True)
    torch.log_softmax(definition(x, linear, hidden, out, 5, 1), dim=0)[target].backward()
    assert linear.grad is not None
    assert hidden.grad is not None
    assert out.grad is not None
    before = [part.copy() for part in (b.weight[0], b.hidden, b.out)]
    assert learn(b, x, target)
    row = context(5, 1)
    for name, lr, start, gradient, changed, square in (
        ("global", 0.3, 2.0, linear.grad, b.weight[0] - before[0], b.square[0]),
        ("context", 0.3, 2.0, linear.grad, b.weight[row], b.square[row]),
        ("hidden", 0.2, LAYER_ACCUMULATOR, hidden.grad, b.hidden - before[1], b.hidden_square),
        ("out", 0.2, LAYER_ACCUMULATOR, out.grad, b.out - before[2], b.out_square),
    ):
        g = gradient.numpy()
        np.testing.assert_allclose(square, start + g * g, rtol=2e-2, err_msg=name)
        np.testing.assert_allclose(
            changed, lr * g / np.sqrt(start + g * g), rtol=2e-2, atol=2e-3, err_msg=name
        )
    others = [other for other in range(CONTEXTS + 1) if other not in (0, row)]
    assert not b.weight[others].any()
    assert (b.square[others] == 2.0).all()


def test_the_layers_steps_shrink_and_end_at_a_least_one() -> None:
    steps = []
    for lessons in (0.0, 15_000.0, 1e12):
        b, x = awake(), features()
        before = b.hidden.copy()
        b.lessons[0] = lessons
        learn(b, x, 3)
        assert b.lessons[0] == lessons + 1
        steps.append(float(np.abs(b.hidden - before).max()))
    assert steps[1] == pytest.approx(steps[0] / 2, rel=1e-3)
    assert steps[2] == pytest.approx(steps[0] / 10, rel=1e-3)


def test_a_rate_of_0_leaves_the_layer_as_it_is() -> None:
    b, x = awake(), features()
    hidden, out = b.hidden.copy(), b.out.copy()
    assert learn(b, x, 3, Rates(0.3, 0.0, N))
    assert (b.hidden == hidden).all()
    assert (b.out == out).all()


def test_what_ranked_too_low_teaches_nothing() -> None:
    b, x = awake(), features()
    order = np.argsort(-scored(b, x)[2])
    before = [part.copy() for part in b]
    assert not learn(b, x, int(order[5]), Rates(0.3, 0.2, 5))
    assert all((one == other).all() for one, other in zip(b, before, strict=True))
    assert learn(b, x, int(order[4]), Rates(0.3, 0.2, 5))


def test_large_scores_do_not_overflow() -> None:
    b, x = awake(), features() * np.float32(2000)
    assert learn(b, x, 3)
    assert all(np.isfinite(part).all() for part in b)


def test_the_feature_that_foretells_the_next_item_gains_weight_and_no_other_context_s() -> None:
    b, rng = new(), np.random.default_rng(2)
    for n in range(300):
        x = features(n) / np.float32(2.0)
        target = int(rng.integers(N))
        x[target, 2] += 3.0
        learn(b, x, target)
    gained = b.weight[0] - np.linspace(0.1, 0.5, F)
    assert np.argmax(gained) == 2
    assert gained[2] > 0.5
    assert np.argmax(b.weight[context(5, 1)]) == 2
    assert not b.weight[context(5, 0)].any()


def test_the_layer_learns_what_no_weights_can_say() -> None:
    """The next item is the one whose first two features agree in sign, whatever that sign is."""
    hits = {}
    for hidden in (0, 16):
        b, rng = new(hidden), np.random.default_rng(3)
        b.weight[0] = 0.0
        found = 0
        for n in range(4000):
            x = rng.normal(size=(N, F)).astype(np.float32)
            x[:, 1] = -np.sign(x[:, 0]) * np.abs(x[:, 1])
            target = int(rng.integers(N))
            x[target, 1] *= -1.0
            if n >= 3000:
                found += int(np.argmax(scored(b, x)[2]) == target)
            learn(b, x, target)
        hits[hidden] = found / 1000
    assert hits[0] < 0.2
    assert hits[16] > 0.5


def test_a_lesson_leaves_each_candidates_error() -> None:
    b, x = awake(), features()
    row, scratch, scores = scored(b, x)
    p = np.exp(scores - scores.max())
    assert learn_kernel(b, row, scratch, x, scores, 4, RATES)
    np.testing.assert_allclose(scores, (np.arange(N) == 4) - p / p.sum(), atol=1e-6)


def test_no_lesson_leaves_the_scores() -> None:
    b, x = awake(), features()
    row, scratch, scores = scored(b, x)
    before = scores.copy()
    assert not learn_kernel(b, row, scratch, x, scores, int(scores.argmin()), Rates(0.3, 0.2, 2))
    assert (scores == before).all()


def test_the_layer_begins_the_same_for_the_same_seed_and_in_all_situations_apart() -> None:
    one, same, other = new(), new(), blend.create(np.linspace(0.1, 0.5, F), 2.0, H, seed=2)
    assert (one.hidden == same.hidden).all()
    assert (one.hidden != other.hidden).all()
    assert one.hidden.shape == (F + SITUATION, H)
