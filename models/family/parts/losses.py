"""Losses of the neural recommenders: what is made of scores of what users took, and of what they did not.

In: query vectors, item vectors with biases, targets. Out: a mean loss. Never draws from a running generator: which
items are compared is keyed by a seed and a step.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.base import I64
from models.training.candidate_items import choose
from models.training.softmax import softmax_loss


def softmax(
    h: Tensor, table: Tensor, bias: Tensor, targets: I64, *, sampled: int, seed: int, step: int
) -> Tensor:
    """Cross-entropy over all items; estimated, with a correction of -log Q, where that is fewer (`candidate_items`).

    Bengio and Senécal: Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model,
    IEEE Trans. Neural Networks 19 (2008).

    Args:
        h: query vectors [m, d].
        table, bias: of all items, with row 0 for "nothing": [n_items + 1, d], [n_items + 1].
        targets: row of what was taken, int64 [m].
        sampled: items beside the targets that are compared at most.
    """
    n_items = len(table) - 1
    choice = choose(targets.astype(np.int32), n_items, sampled, seed, step)
    at = torch.from_numpy(choice.targets).to(h.device)
    weights = torch.ones(len(h), device=h.device)
    if len(choice.rows) == n_items:
        return softmax_loss(h, table[1:], bias[1:], at, weights)
    rows = torch.from_numpy(choice.rows).to(h.device)
    shifted = bias[rows] + torch.from_numpy(choice.correction).to(h.device)
    return softmax_loss(h, functional.embedding(rows, table), shifted, at, weights)


def in_batch_softmax(h: Tensor, vectors: Tensor, bias: Tensor, chance: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy among the distinct items of a batch, each logit lowered by the log of its chance to be in one.

    Yi et al.: Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019, equation 4.

    Args:
        h: query vectors [m, d].
        vectors, bias: of the c distinct items: [c, d], [c].
        chance: of each of them to be in a batch of this size [c].
        targets: which of them was taken, int64 [m].
    """
    return softmax_loss(h, vectors, bias - chance.log(), targets, torch.ones(len(h), device=h.device))


def gbce(h: Tensor, table: Tensor, bias: Tensor, targets: Tensor, negatives: Tensor, t: float) -> Tensor:
    """Binary cross-entropy whose positive part is tempered, so that few negatives don't make it overconfident.

    Petrov and Macdonald: gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
    Sampling, RecSys 2023, equations 9 and 10. The k negatives are shared by the batch, so that they are one product.
    All scores are lowered by the log of the number of items, so that learning begins where an item is one of many:
    from even odds for each, it takes thousands of steps to get there.

    Args:
        h: query vectors [m, d].
        table, bias: of all items, with row 0 for "nothing": [n_items + 1, d], [n_items + 1].
        targets: row of what was taken, int64 [m].
        negatives: rows drawn uniformly, int64 [k]; one that is the target itself does not count.
        t: calibration: 0 is plain binary cross-entropy, at 1 the scores are calibrated as probabilities.
    """
    alpha = min(1.0, len(negatives) / max(len(table) - 2, 1))
    beta = alpha * (t * (1.0 - 1.0 / alpha) + 1.0 / alpha)
    bias = bias - math.log(len(table) - 1)
    taken = (h * functional.embedding(targets, table)).sum(1) + bias[targets]
    others = torch.addmm(bias[negatives], h, functional.embedding(negatives, table).t())
    others = others.masked_fill(negatives == targets[:, None], -torch.inf)
    return (functional.softplus(others).sum(1) - beta * functional.logsigmoid(taken)).mean()


def bpr(taken: Tensor, other: Tensor) -> Tensor:
    """How little what was taken scores above what was not: mean of -log σ(taken - other), both of one shape.

    Rendle et al.: BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009, equation 4.
    """
    return -functional.logsigmoid(taken - other).mean()
