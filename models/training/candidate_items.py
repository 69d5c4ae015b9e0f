"""Which items a training step compares: its targets, and a uniform sample of the others.

In: the targets' rows, how many rows there are, a seed and a step. Out: the rows compared, a correction for each,
and the targets' places among them. Never looks at the weights.

With few items, all of them are compared, and the loss is the full cross-entropy. With more, the sum over items in
the softmax is estimated: targets of the batch count as themselves, and each sampled item stands for as many as
it was drawn from, by a correction of -log(its chance) to its logit (Bengio and Senécal 2008; Jean et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.base import F32, I32, I64


@dataclass(frozen=True, slots=True)
class Choice:
    """Rows compared [c], added to their logits [c], and where among them the targets are [m]."""

    rows: I64
    correction: F32
    targets: I64


def choose(targets: I32, n_items: int, sampled: int, seed: int, step: int) -> Choice:
    """The items that a step compares; `targets` are rows from 1 to `n_items`."""
    distinct = np.unique(targets).astype(np.int64)
    others = n_items - len(distinct)
    if others <= sampled:
        rows = np.arange(1, n_items + 1)
        return Choice(rows, np.zeros(n_items, np.float32), targets.astype(np.int64) - 1)
    rng = np.random.Generator(np.random.SFC64([seed, step, 1]))
    drawn = np.sort(rng.choice(others, sampled, replace=False, shuffle=False))
    # The i-th row that is no target, for each i drawn.
    negatives = 1 + drawn + np.searchsorted(distinct - 1 - np.arange(len(distinct)), drawn, side="right")
    correction = np.zeros(len(distinct) + sampled, np.float32)
    correction[len(distinct) :] = np.log(others / sampled)
    return Choice(np.concatenate((distinct, negatives)), correction, np.searchsorted(distinct, targets))
