"""Magnitude pruning: the weights that are nearest to zero become zero.

In: a model and a share. Out: a copy of it in which exactly that share of each matrix's entries is zero. Never trains:
what is lost is not learned again.

Each matrix of the layers, and the item table, loses its own smallest entries (Han et al.: Learning both Weights and
Connections for Efficient Neural Networks, NIPS 2015). One ranking for all would empty the item table first: its
entries are smaller than those of the layers, and no less needed.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils import prune as torch_prune

from models.sequence.transformer import CausalTransformer


def prunable(model: CausalTransformer) -> list[tuple[nn.Module, str]]:
    """The matrices that are pruned: the item table, and those of the layers."""
    linear = [(part, "weight") for part in model.layers.modules() if isinstance(part, nn.Linear)]
    return [(model, "item"), *linear]


def pruned(model: CausalTransformer, share: float) -> CausalTransformer:
    """A copy with the `share` of smallest entries of each matrix set to zero, to the entry: round(share * entries).

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share to prune must be at least 0 and below 1, not {share}")
    smaller = copy.deepcopy(model)
    places = prunable(smaller)
    for part, name in places:
        torch_prune.l1_unstructured(part, name, amount=round(share * getattr(part, name).numel()))  # type: ignore[no-untyped-call]
        torch_prune.remove(part, name)  # type: ignore[no-untyped-call]
    return smaller.eval().requires_grad_(False)
