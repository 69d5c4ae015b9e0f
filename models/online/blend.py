"""Log-linear blend of the sources, its weights learned online by context.

An item's score is ``Σ_f (global_f + context_f) · x_f`` over features x, most of them logarithms of a source's share of
the candidates. The weights follow the softmax gradient of the item that came next, with Adagrad, and only when that
item ranked among the first few already: an item that no source foresaw teaches the blend nothing but noise.
Contexts are the logarithm of the history's length and the gap between the user's last two events.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.base import F32, F64
from models.kernels import inner

CONTEXTS = 24


class Blend(NamedTuple):
    """F features; row 0 is global, the others one context each."""

    weight: F64  # [1 + CONTEXTS, F]
    square: F64  # [1 + CONTEXTS, F] Adagrad accumulators


def create(start: F64, accumulator: float) -> Blend:
    """Weights `start` [F] everywhere, contexts at 0."""
    weight = np.zeros((1 + CONTEXTS, len(start)))
    weight[0] = start
    return Blend(weight, np.full((1 + CONTEXTS, len(start)), accumulator))


@inner
def context(events: int, gap: int) -> int:
    """Row of a user with so many events and this class of gap."""
    size = 0
    while size < 7 and (1 << (size + 1)) <= events:
        size += 1
    return 1 + 3 * size + gap


@inner
def weights_of(blend: Blend, row: int, out: F32) -> None:
    """Fill `out` [F] with the weights that hold in a context."""
    for f in range(len(out)):
        out[f] = blend.weight[0, f] + blend.weight[row, f]


@inner
def learn(
    blend: Blend,
    row: int,
    features: F32,
    scores: F32,
    n: int,
    target: int,
    lr: float,
    within: int,
    gradient: F64,
) -> bool:
    """One step towards candidate `target` of `n`; False where it ranked too low to teach.

    Args:
        features: [n, F].
        scores: [n], made with the weights of this context; after a lesson they are its errors: 1 for the target and
            0 for the others, less the probability that the blend gave them.
        gradient: [F], scratch.
    """
    rank = 0
    top = scores[0]
    for j in range(n):
        if scores[j] > scores[target]:
            rank += 1
        top = max(top, scores[j])
    if rank >= within:
        return False
    gradient[:] = 0.0
    total = 0.0
    for j in range(n):
        p = math.exp(scores[j] - top)
        scores[j] = p
        total += p
        for f in range(len(gradient)):
            gradient[f] += p * features[j, f]
    for f in range(len(gradient)):
        g = features[target, f] - gradient[f] / total
        blend.square[0, f] += g * g
        blend.square[row, f] += g * g
        blend.weight[0, f] += lr * g / math.sqrt(blend.square[0, f])
        blend.weight[row, f] += lr * g / math.sqrt(blend.square[row, f])
    scale = np.float32(-1.0 / total)
    for j in range(n):
        scores[j] *= scale
    scores[target] += np.float32(1.0)
    return True
