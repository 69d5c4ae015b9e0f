"""Losses, against torch's own or the papers' formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.family.parts.losses import bpr, gbce, in_batch_softmax, softmax

ITEMS, M, D = 30, 16, 4


@pytest.fixture
def parts() -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
    rng = np.random.default_rng(0)
    h, table = rng.standard_normal((M, D)), rng.standard_normal((ITEMS + 1, D))
    bias, targets = rng.standard_normal(ITEMS + 1), rng.integers(1, ITEMS + 1, M)
    h, table, bias = (torch.from_numpy(part.astype(np.float32)) for part in (h, table, bias))
    return h, table, bias, targets


def full(h: Tensor, table: Tensor, bias: Tensor, targets: np.ndarray) -> Tensor:
    return functional.cross_entropy(h @ table[1:].t() + bias[1:], torch.from_numpy(targets - 1))


class TestSoftmax:
    def test_with_few_items_it_is_the_cross_entropy_over_all(self, parts: tuple) -> None:
        torch.testing.assert_close(softmax(*parts, sampled=ITEMS, seed=0, step=0), full(*parts))

    def test_row_0_is_never_compared(self, parts: tuple) -> None:
        h, table, bias, targets = parts
        changed = table.clone()
        changed[0] = 1e3
        one, two = (softmax(h, some, bias, targets, sampled=5, seed=0, step=0) for some in (table, changed))
        assert torch.equal(one, two)

    def test_sampled_it_is_near_the_full_one_on_average(self, parts: tuple) -> None:
        sampled = [float(softmax(*parts, sampled=10, seed=0, step=step)) for step in range(300)]
        assert np.std(sampled) > 0
        # The logarithm of an estimate is a little low on average (Jensen); without correction it would be by .5.
        assert -0.1 < np.mean(sampled) - float(full(*parts)) < 0.0

    def test_a_step_always_draws_the_same(self, parts: tuple) -> None:
        one, two, other = (softmax(*parts, sampled=5, seed=0, step=step) for step in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


class TestInBatch:
    def test_items_that_are_always_there_are_not_corrected(self, parts: tuple) -> None:
        h, table, bias, targets = parts
        loss = in_batch_softmax(h, table[1:], bias[1:], torch.ones(ITEMS), torch.from_numpy(targets - 1))
        torch.testing.assert_close(loss, full(*parts))

    def test_an_item_that_is_rarely_there_counts_as_often_as_it_is_absent(self) -> None:
        # One rival that is in one batch of ten stands for ten: its odds against the target are 10 : 1.
        chance = torch.tensor([1.0, 0.1])
        loss = in_batch_softmax(
            torch.zeros(1, D), torch.zeros(2, D), torch.zeros(2), chance, torch.tensor([0])
        )
        assert float(loss) == pytest.approx(math.log(11.0))


class TestGBCE:
    def test_it_is_the_paper_s_formula(self, parts: tuple) -> None:
        h, table, bias, targets = parts
        negatives, t = torch.tensor([1, 5, 9]), 0.6
        alpha = 3 / (ITEMS - 1)
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        expected = 0.0
        for row, target in zip(h, targets.tolist(), strict=True):
            score = torch.sigmoid(table @ row + bias - math.log(ITEMS))
            expected -= beta * math.log(score[target])
            expected -= sum(math.log(1 - score[j]) for j in negatives.tolist() if j != target)
        loss = gbce(h, table, bias, torch.from_numpy(targets), negatives, t)
        assert float(loss) == pytest.approx(expected / M, rel=1e-4)

    def test_uncalibrated_it_is_binary_cross_entropy(self, parts: tuple) -> None:
        h, table, bias, _ = parts
        bias_of_all, bias = bias, bias - math.log(ITEMS)
        taken = h @ table[7] + bias[7]
        others = h @ table[[3, 4]].t() + bias[[3, 4]]
        logits = torch.cat((taken[:, None], others), 1)
        wanted = torch.tensor([1.0, 0.0, 0.0]).expand(M, 3)
        expected = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / M
        loss = gbce(h, table, bias_of_all, torch.full((M,), 7), torch.tensor([3, 4]), 0.0)
        torch.testing.assert_close(loss, expected)


class TestBPR:
    def test_it_is_the_log_of_the_chance_that_the_order_is_right(self) -> None:
        loss = bpr(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]))
        expected = -(math.log(1 / (1 + math.exp(-2))) + math.log(1 / (1 + math.exp(1)))) / 2
        assert float(loss) == pytest.approx(expected)
