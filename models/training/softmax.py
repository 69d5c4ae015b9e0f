"""Cross-entropy over the item table, forward and backward in one go.

In: query vectors, the tied item table with biases, targets and their weights. Out: the mean loss, and
gradients. Never keeps the logits: they are turned into probabilities and into the gradient where they lie.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class SoftmaxLoss(torch.autograd.Function):
    """Weighted mean of -log softmax(h · tableᵀ + bias)[target].

    Both products that the backward pass needs are made at once, so that the [m, items] matrix is touched
    while it is in cache and never saved.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, table: Tensor, bias: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        m = torch.arange(len(h), device=h.device)
        share = weights / len(h)
        p = torch.softmax(torch.addmm(bias, h, table.t()), 1)
        hit = p[m, targets]
        loss = -(hit.clamp_min(1e-30).log() * share).sum()
        p.mul_(share[:, None])
        p[m, targets] -= share
        ctx.save_for_backward(p @ table, p.t() @ h, p.sum(0))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        h, table, bias = ctx.saved_tensors
        return h * grads[0], table * grads[0], bias * grads[0], None, None


def softmax_loss(h: Tensor, table: Tensor, bias: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over m predictions of weight times cross-entropy.

    h is [m, d], table [items, d], bias [items], targets int64 [m], weights [m].
    """
    loss: Tensor = SoftmaxLoss.apply(h, table, bias, targets, weights)  # type: ignore[no-untyped-call]
    return loss
