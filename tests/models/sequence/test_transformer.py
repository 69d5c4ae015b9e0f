"""The banded Transformer: what a vector depends on, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import TransformerSettings
from models.sequence.transformer import (
    GAPS,
    LEVELS,
    PERIOD,
    CausalTransformer,
    band_for,
    gap_buckets,
    rotate,
    rotations,
    value_buckets,
)


def make(layers: int, band: int) -> CausalTransformer:
    torch.manual_seed(0)
    model = CausalTransformer(TransformerSettings(d_model=16, layers=layers, heads=2), 30, 3, band).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


def random_inputs(n: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    sizes = (31, 4, LEVELS + 1, GAPS)
    return torch.from_numpy(np.stack([rng.integers(0, size, n) for size in sizes]))


def query(model: CausalTransformer, inputs: torch.Tensor, first_position: int = 0) -> torch.Tensor:
    n = inputs.shape[1]
    positions = torch.arange(first_position, first_position + n)
    with torch.inference_mode():
        return model(inputs, torch.zeros(n, dtype=torch.int64), positions)


@pytest.mark.parametrize(("length", "layers"), [(100, 2), (12, 1), (12, 2), (13, 3), (20, 4)])
def test_stored_events_determine_the_vector(length: int, layers: int) -> None:
    model = make(layers, band_for(length, layers))
    stored = random_inputs(length, seed=1)
    longer = torch.cat((random_inputs(150, seed=2), stored), 1)
    # The gap of the oldest stored event is unknown to whoever has only the row.
    stored[3, 0] = 0
    torch.testing.assert_close(query(model, longer)[-1], query(model, stored)[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_reach_is_exact(layers: int) -> None:
    model = make(layers, band=5)
    inputs = random_inputs(40)
    last = query(model, inputs)[-1]
    for back, matters in ((model.reach, True), (model.reach + 1, False)):
        changed = inputs.clone()
        changed[0, -back] = (changed[0, -back] + 1) % 31
        assert torch.allclose(query(model, changed)[-1], last, atol=1e-7) is not matters


def test_later_events_change_nothing() -> None:
    model, inputs = make(2, band=5), random_inputs(30)
    torch.testing.assert_close(query(model, inputs)[:20], query(model, inputs[:, :20]), atol=1e-5, rtol=0)


def test_order_matters() -> None:
    model, inputs = make(2, band=5), random_inputs(6)
    swapped = inputs[:, [0, 2, 1, 3, 4, 5]]
    assert not torch.allclose(query(model, inputs)[-1], query(model, swapped)[-1], atol=1e-3)


@pytest.mark.parametrize("first", [1, PERIOD - 5, 10**9])
def test_only_relative_positions_count(first: int) -> None:
    model, inputs = make(2, band=5), random_inputs(20)
    torch.testing.assert_close(query(model, inputs), query(model, inputs, first), atol=1e-5, rtol=0)


@pytest.mark.parametrize("column", range(4))
def test_every_input_is_heard(column: int) -> None:
    model, inputs = make(2, band=5), random_inputs(6)
    changed = inputs.clone()
    changed[column, -1] = (changed[column, -1] + 1) % 4
    assert not torch.allclose(query(model, inputs)[-1], query(model, changed)[-1], atol=1e-3)


def test_eval_is_deterministic_and_training_drops() -> None:
    model, inputs = make(2, band=5), random_inputs(20)
    torch.testing.assert_close(query(model, inputs), query(model, inputs), atol=0, rtol=0)
    model.train()
    assert not torch.allclose(query(model, inputs), query(model, inputs), atol=1e-3)


def test_rotation_keeps_lengths_and_depends_on_the_difference() -> None:
    turns, x, y = rotations(8, 5), torch.randn(1, 8), torch.randn(1, 8)
    assert torch.linalg.norm(rotate(x, turns[70:71])) == pytest.approx(float(torch.linalg.norm(x)), rel=1e-5)
    near = (rotate(x, turns[3:4]) * rotate(y, turns[1:2])).sum()
    far = (rotate(x, turns[1003:1004]) * rotate(y, turns[1001:1002])).sum()
    torch.testing.assert_close(near, far, atol=1e-5, rtol=0)


def test_buckets_stay_in_their_tables() -> None:
    gaps = gap_buckets(np.array([-(2**62), -1, 0, 1, 2**40, 2**62]))
    assert gaps.min() == 0
    assert gaps.max() == GAPS - 1
    values = value_buckets(np.array([-1e9, 1, 5, 1e9, np.nan, np.inf], np.float32), 1.0, 5.0)
    assert values.tolist() == [1, 1, LEVELS, LEVELS, 0, LEVELS]


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice the number of heads"):
        TransformerSettings(d_model=18, heads=2)
