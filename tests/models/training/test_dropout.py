"""Dropout by (seed, step)."""

from __future__ import annotations

import pytest
import torch

from models.training.dropout import KeyedDropout, Noise


def dropped(seed: int, step: int) -> torch.Tensor:
    noise = Noise()
    noise.key(seed, step)
    return KeyedDropout(0.25, noise).train()(torch.ones(500, 20))


def test_the_key_decides_what_is_dropped() -> None:
    assert torch.equal(dropped(1, 2), dropped(1, 2))
    assert not torch.equal(dropped(1, 2), dropped(1, 3))
    assert not torch.equal(dropped(1, 2), dropped(2, 2))


def test_share_and_scale() -> None:
    out = dropped(0, 0)
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert out.unique().tolist() == pytest.approx([0.0, 256 / 192])
    assert float(out.mean()) == pytest.approx(1.0, abs=0.03)


def test_layers_of_a_step_drop_differently() -> None:
    noise = Noise()
    layer = KeyedDropout(0.5, noise).train()
    assert not torch.equal(layer(torch.ones(100)), layer(torch.ones(100)))


def test_evaluation_and_zero_drop_nothing() -> None:
    x = torch.randn(10)
    assert torch.equal(KeyedDropout(0.5, Noise()).eval()(x), x)
    assert torch.equal(KeyedDropout(0.0, Noise()).train()(x), x)


def test_a_part_of_a_batch_drops_the_same_whoever_else_is_in_it() -> None:
    def dropped_of(parts: list[tuple[int, int]]) -> torch.Tensor:
        noise = Noise()
        noise.key_parts(0, 3, parts)
        layer = KeyedDropout(0.5, noise).train()
        layer(torch.ones(sum(rows for _, rows in parts), 8))
        return layer(torch.ones(sum(rows for _, rows in parts), 8))  # the second layer of a network

    both = dropped_of([(0, 5), (4, 7)])
    assert torch.equal(both[:5], dropped_of([(0, 5)]))
    assert torch.equal(both[5:], dropped_of([(4, 7)]))
    assert not torch.equal(dropped_of([(0, 7)]), dropped_of([(4, 7)]))
