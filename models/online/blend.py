"""Blend of the sources, learned online: log-linear by context, and a small layer for what is not linear.

An item's score is ``Σ_f (global_f + context_f) · x_f + Σ_h v_h · relu(Σ_f W_fh · x_f + b_h)`` over features x, most of
them logarithms of a source's share of the candidates, each centred over them. Contexts are the logarithm of the
history's length and the gap between the user's last two events; the layer reads both, too (they are in b_h), and its
features no further than LIMIT from their mean. It begins with v = 0, as if it were not there.

All weights follow the softmax gradient of the item that came next, with Adagrad (Duchi, Hazan, Singer, JMLR 2011), and
only when that item ranked among the first few already: an item that no source foresaw teaches the blend nothing but
noise. The layer's steps also shrink with the root of the lessons had, down to LEAST_LR: it has hundreds of weights,
and on a long stream large steps wear out what it learned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.base import F32, F64
from models.kernels import inner
from models.online.asymmetric_mf import dot
from models.randomness import hash64, normal

GAPS = 3
CONTEXTS = 8 * GAPS
SITUATION = 2 + GAPS
"""What the layer knows of the user: a constant, the logarithm of the history's length, and the gap's class."""
LIMIT = np.float32(3.0)
ZERO = np.float32(0.0)
LAYER_ACCUMULATOR = 10.0
HALVING = 5000.0
"""Lessons until the layer's steps have shrunk by the root of 2."""
LEAST_LR = 0.02
FAINT = np.float32(1e-3)
"""Errors below this do not reach the layer: most candidates have one, and hardly any of the gradient."""


class Blend(NamedTuple):
    """F features, H hidden units; row 0 of the weights is global, the others one context each."""

    weight: F64  # [1 + CONTEXTS, F]
    square: F64  # [1 + CONTEXTS, F] Adagrad accumulators
    hidden: F32  # [F + SITUATION, H]
    hidden_square: F32
    out: F32  # [H]
    out_square: F32
    lessons: F64  # [1] that the layer had


class BlendScratch(NamedTuple):
    """Buffers of one thread: what `situate` and `score` leave for `learn`. `C` candidates at most."""

    weights: F32  # [F] those that hold in the context
    near: F32  # [F] a candidate's features, no further than LIMIT from 0
    situation: F32  # [SITUATION]
    bias: F32  # [H] what the situation adds to each hidden unit
    units: F32  # [C, H]
    gradient: F64  # [F]
    hidden_gradient: F32  # [F + SITUATION, H]
    out_gradient: F32  # [H]
    back: F32  # [H]


class Rates(NamedTuple):
    """Settings of the learning, as a kernel takes them."""

    lr: float
    layer_lr: float
    within: int  # learn only where the target ranks under this


def create(start: F64, accumulator: float, hidden: int, seed: int) -> Blend:
    """Weights `start` [F] everywhere, contexts at 0, a layer of `hidden` units that adds nothing yet."""
    inputs = len(start) + SITUATION
    weight = np.zeros((1 + CONTEXTS, len(start)))
    weight[0] = start
    stream = np.uint64(hash64(f"blend {seed}"))
    layer = np.array([normal(stream, i) for i in range(inputs * hidden)], np.float32)
    return Blend(
        weight=weight,
        square=np.full((1 + CONTEXTS, len(start)), accumulator),
        hidden=layer.reshape(inputs, hidden) / np.float32(math.sqrt(inputs)),
        hidden_square=np.full((inputs, hidden), LAYER_ACCUMULATOR, np.float32),
        out=np.zeros(hidden, np.float32),
        out_square=np.full(hidden, LAYER_ACCUMULATOR, np.float32),
        lessons=np.zeros(1),
    )


def new_scratch(candidates: int, features: int, hidden: int) -> BlendScratch:
    """Buffers for so many candidates."""
    return BlendScratch(
        weights=np.zeros(features, np.float32), near=np.zeros(features, np.float32),
        situation=np.zeros(SITUATION, np.float32),
        bias=np.zeros(hidden, np.float32), units=np.zeros((candidates, hidden), np.float32),
        gradient=np.zeros(features), hidden_gradient=np.zeros((features + SITUATION, hidden), np.float32),
        out_gradient=np.zeros(hidden, np.float32), back=np.zeros(hidden, np.float32),
    )  # fmt: skip


@inner
def context(events: int, gap: int) -> int:
    """Row of a user with so many events and this class of gap."""
    size = 0
    while size < 7 and (1 << (size + 1)) <= events:
        size += 1
    return 1 + GAPS * size + gap


@inner
def situate(b: Blend, events: int, gap: int, x: BlendScratch) -> int:
    """Fill `x.weights`, `x.situation` and `x.bias` for a user; the row of the context."""
    row = context(events, gap)
    for f in range(len(x.weights)):
        x.weights[f] = b.weight[0, f] + b.weight[row, f]
    x.situation[:] = 0.0
    x.situation[0] = 1.0
    x.situation[1] = math.log(1.0 + max(events, 1)) / 3.0 - 1.0  # no event teaches what none is like
    x.situation[2 + gap] = 1.0
    features = len(x.weights)
    x.bias[:] = 0.0
    for s in range(SITUATION):
        for h in range(len(x.bias)):
            x.bias[h] += x.situation[s] * b.hidden[features + s, h]
    return row


@inner
def score(b: Blend, x: BlendScratch, features: F32, n: int, scores: F32) -> None:
    """Fill `scores` [n] from `features` [n, F], in the situation that `situate` set; and `x.units`."""
    hidden, bias = b.hidden, x.bias
    count, width = np.uint64(features.shape[1]), np.uint64(len(b.out))
    u, whole = np.uint64, width - width % np.uint64(8)
    for j in range(np.uint64(n)):
        total = np.float32(0.0)
        for f in range(count):
            total += x.weights[f] * features[j, f]
            x.near[f] = min(max(features[j, f], -LIMIT), LIMIT)
        h = u(0)
        while h < whole:  # eight sums side by side, which stay in one register
            s0, s1, s2, s3 = bias[h], bias[h + u(1)], bias[h + u(2)], bias[h + u(3)]
            s4, s5, s6, s7 = bias[h + u(4)], bias[h + u(5)], bias[h + u(6)], bias[h + u(7)]
            for f in range(count):
                v = x.near[f]
                s0, s1 = s0 + v * hidden[f, h], s1 + v * hidden[f, h + u(1)]
                s2, s3 = s2 + v * hidden[f, h + u(2)], s3 + v * hidden[f, h + u(3)]
                s4, s5 = s4 + v * hidden[f, h + u(4)], s5 + v * hidden[f, h + u(5)]
                s6, s7 = s6 + v * hidden[f, h + u(6)], s7 + v * hidden[f, h + u(7)]
            x.units[j, h], x.units[j, h + u(1)] = max(s0, ZERO), max(s1, ZERO)
            x.units[j, h + u(2)], x.units[j, h + u(3)] = max(s2, ZERO), max(s3, ZERO)
            x.units[j, h + u(4)], x.units[j, h + u(5)] = max(s4, ZERO), max(s5, ZERO)
            x.units[j, h + u(6)], x.units[j, h + u(7)] = max(s6, ZERO), max(s7, ZERO)
            h += u(8)
        while h < width:
            s0 = bias[h]
            for f in range(count):
                s0 += x.near[f] * hidden[f, h]
            x.units[j, h] = max(s0, ZERO)
            h += u(1)
        scores[j] = total + dot(x.units[j], b.out)


@inner
def learn(
    b: Blend, row: int, x: BlendScratch, features: F32, scores: F32, n: int, target: int, rates: Rates
) -> bool:  # fmt: skip
    """One step towards candidate `target` of `n`; False where it ranked too low to teach.

    Args:
        row: of `situate`.
        features: [n, F].
        scores: [n] of `score`; after a lesson they are its errors: 1 for the target and 0 for the others, less the
            probability that the blend gave them.
    """
    rank = 0
    top = scores[0]
    for j in range(n):
        if scores[j] > scores[target]:
            rank += 1
        top = max(top, scores[j])
    if rank >= rates.within:
        return False
    total = 0.0
    for j in range(n):
        scores[j] = math.exp(scores[j] - top)
        total += scores[j]
    scale = np.float32(-1.0 / total)
    for j in range(n):
        scores[j] *= scale
    scores[target] += np.float32(1.0)
    gradient = x.gradient
    gradient[:] = 0.0
    for j in range(n):
        for f in range(len(gradient)):
            gradient[f] += scores[j] * features[j, f]
    for f in range(len(gradient)):
        g = gradient[f]
        b.square[0, f] += g * g
        b.square[row, f] += g * g
        b.weight[0, f] += rates.lr * g / math.sqrt(b.square[0, f])
        b.weight[row, f] += rates.lr * g / math.sqrt(b.square[row, f])
    least = min(LEAST_LR, rates.layer_lr)
    lr = max(least, rates.layer_lr / math.sqrt(1.0 + b.lessons[0] / HALVING))
    b.lessons[0] += 1.0
    _learn_layer(b, x, features, scores, n, lr)
    return True


@inner
def _learn_layer(b: Blend, x: BlendScratch, features: F32, errors: F32, n: int, lr: float) -> None:
    """The layer's step, from the errors of the candidates and the units that `score` left."""
    count, hidden = features.shape[1], len(b.out)
    x.hidden_gradient[:] = 0.0
    x.out_gradient[:] = 0.0
    x.bias[:] = 0.0  # now the gradient of the situation
    for j in range(n):
        error = errors[j]
        if abs(error) < FAINT:
            continue
        units = x.units[j]
        for h in range(hidden):
            x.out_gradient[h] += error * units[h]
            x.back[h] = error * b.out[h] if units[h] > 0.0 else np.float32(0.0)
            x.bias[h] += x.back[h]
        for f in range(count):
            value = min(max(features[j, f], -LIMIT), LIMIT)
            along = x.hidden_gradient[f]
            for h in range(hidden):
                along[h] += value * x.back[h]
    for s in range(SITUATION):
        for h in range(hidden):
            x.hidden_gradient[count + s, h] = x.situation[s] * x.bias[h]
    step = np.float32(lr)
    for f in range(count + SITUATION):
        _adagrad(b.hidden[f], b.hidden_square[f], x.hidden_gradient[f], step)
    _adagrad(b.out, b.out_square, x.out_gradient, step)


@inner
def _adagrad(weight: F32, square: F32, gradient: F32, lr: np.float32) -> None:
    for h in range(len(weight)):
        g = gradient[h]
        square[h] += g * g
        weight[h] += lr * g / np.float32(math.sqrt(square[h]))
