"""The fused cross-entropy against torch's own."""

from __future__ import annotations

import torch
from torch.nn import functional

from models.training.softmax import softmax_loss


def test_loss_and_gradients_are_those_of_cross_entropy() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(7, 5), torch.randn(11, 5), torch.randn(11)]
    targets, weights = torch.randint(0, 11, (7,)), torch.rand(7)
    ours = [x.clone().requires_grad_() for x in inputs]
    theirs = [x.clone().requires_grad_() for x in inputs]

    loss = softmax_loss(*ours, targets, weights)
    h, table, bias = theirs
    expected = (functional.cross_entropy(h @ table.T + bias, targets, reduction="none") * weights).mean()
    torch.testing.assert_close(loss, expected)

    (loss * 3).backward()
    (expected * 3).backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_hopeless_target_has_a_finite_loss() -> None:
    table = torch.tensor([[100.0], [-100.0]], requires_grad=True)
    h = torch.tensor([[10.0]], requires_grad=True)
    loss = softmax_loss(h, table, torch.zeros(2, requires_grad=True), torch.tensor([1]), torch.ones(1))
    loss.backward()
    assert torch.isfinite(loss)
    assert table.grad is not None
    assert torch.isfinite(table.grad).all()
