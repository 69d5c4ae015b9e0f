"""Pruning: the share that was asked for, to the entry, and the smallest entries."""

from __future__ import annotations

import pytest
import torch

from models.compression.prune import prunable, pruned
from models.config import TransformerSettings
from models.sequence.transformer import CausalTransformer


def model() -> CausalTransformer:
    torch.manual_seed(0)
    return CausalTransformer(TransformerSettings(d_model=16, heads=2), n_items=30, n_actions=2, band=8)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_exactly_the_share_of_each_matrix_is_zero_and_the_rest_is_as_it_was(share: float) -> None:
    whole = model()
    kept_as_it_was = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    smaller = pruned(whole, share)
    for (part, name), (other, _) in zip(prunable(whole), prunable(smaller), strict=True):
        before, after = getattr(part, name).detach(), getattr(other, name)
        gone = after == 0
        assert int(gone.sum()) == round(share * before.numel())
        assert torch.equal(after[~gone], before[~gone])
        if gone.any():
            assert before[gone].abs().max() <= before[~gone].abs().min()
    assert all(torch.equal(tensor, kept_as_it_was[name]) for name, tensor in whole.state_dict().items())


def test_norms_and_biases_are_left() -> None:
    whole = model()
    smaller = dict(pruned(whole, 0.9).named_parameters())
    touched = {"item"} | {
        f"layers.{n}.{part}.weight" for n in (0, 1) for part in ("qkv", "out", "up", "down")
    }
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, smaller[name]) == (name not in touched)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 0 and below 1, not 1\.5"):
        pruned(model(), 1.5)
