"""Online asymmetric matrix factorisation for ranking.

A user is the decayed sum of the input vectors X of their latest items, scaled to length 1; an item's score is that
vector's product with its output vector Y plus a bias (NSVD1 of Paterek, KDD Cup 2007, with the recency weights of a
session). Each event is one step of sampled softmax with uniform negatives and Adagrad, one accumulator a row (Duchi,
Hazan, Singer, JMLR 2011). There is no user vector to store: the sequence is the user.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.base import F32, I32, I64, U8
from models.kernels import inner, part
from models.randomness import below, mix, normal

EPSILON = np.float32(1e-8)


class AsymmetricMF(NamedTuple):
    """S item slots, d factors."""

    x: F32  # [S, d] input vectors
    y: F32  # [S, d] output vectors
    bias: F32  # [S]
    x_square: F32  # [S] Adagrad accumulators
    y_square: F32  # [S] also of the bias, whose gradient has the same square


class Rates(NamedTuple):
    """Settings of the update, as a kernel takes them."""

    items: int
    decay: float
    negatives: int
    lr: float


def create(slots: int, factors: int) -> AsymmetricMF:
    """All vectors 0; `initialise` draws an item's input vector when it is admitted."""
    return AsymmetricMF(
        x=np.zeros((slots, factors), np.float32),
        y=np.zeros((slots, factors), np.float32),
        bias=np.zeros(slots, np.float32),
        x_square=np.zeros(slots, np.float32),
        y_square=np.zeros(slots, np.float32),
    )


@inner
def initialise(m: AsymmetricMF, slot: int, stream: np.uint64) -> None:
    """An item's vectors as they are before its first event: a function of its id and the seed alone."""
    d = m.x.shape[1]
    scale = 1.0 / math.sqrt(d)
    for f in range(d):
        m.x[slot, f] = scale * normal(stream, f)
        m.y[slot, f] = 0.0
    m.bias[slot] = m.x_square[slot] = m.y_square[slot] = 0.0


@inner
def user_vector(m: AsymmetricMF, history: I32, n: int, items: int, decay: float, out: F32) -> float:
    """Fill `out` [d] with the user's vector of length 1; the length it had before, 0 for no history."""
    out[:] = 0.0
    weight = np.float32(1.0)
    for k in range(min(n, items)):
        if history[k] >= 0:
            row = m.x[history[k]]
            for f in range(len(out)):
                out[f] += weight * row[f]
        weight *= np.float32(decay)
    length = math.sqrt(dot(out, out))
    if length > 0.0:
        for f in range(len(out)):
            out[f] *= np.float32(1.0 / length)
    return length


@inner(here=True)
def dot(a: F32, b: F32) -> np.float32:
    """Product of two vectors of the same length.

    Eight sums side by side, in an order that is written down: a compiler that may choose the order gives other last
    bits from one compilation to the next, and a restarted worker another state.
    """
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    whole = len(a) - len(a) % 8
    for f in range(0, whole, 8):
        s0 += a[f] * b[f]
        s1 += a[f + 1] * b[f + 1]
        s2 += a[f + 2] * b[f + 2]
        s3 += a[f + 3] * b[f + 3]
        s4 += a[f + 4] * b[f + 4]
        s5 += a[f + 5] * b[f + 5]
        s6 += a[f + 6] * b[f + 6]
        s7 += a[f + 7] * b[f + 7]
    for f in range(whole, len(a)):
        s0 += a[f] * b[f]
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@inner
def score(m: AsymmetricMF, user: F32, slot: int) -> float:
    """The item's logit for a user vector."""
    return dot(user, m.y[slot]) + m.bias[slot]


@part
def learn(
    m: AsymmetricMF,
    rates: Rates,
    slot: int,
    slots: int,
    born: I64,
    history: I32,
    n: int,
    weight: float,
    stream: np.uint64,
    user: F32,
    gradient: F32,
    drawn: I32,
    logit: F32,
    dirty: U8,
    x_flag: int,
    y_flag: int,
) -> None:
    """One step: item `slot` against uniform negatives out of the first `slots` items.

    What was drawn and is no item with events (`born` < 0) is left out.
    A negative `weight` teaches that the item was not wanted. `user`, `gradient` [d], `drawn` and `logit`
    [negatives + 1] are scratch.
    """
    length = user_vector(m, history, n, rates.items, rates.decay, user)
    if length == 0.0 or slots < 2:
        return
    d = len(user)
    drawn[0] = slot
    count = 1
    drawing = mix(stream)
    for j in range(rates.negatives):
        other = below(drawing, j, slots)
        if other != slot and born[other] >= 0:
            drawn[count] = other
            count += 1
    top = np.float32(-1e30)
    for j in range(count):
        logit[j] = dot(user, m.y[drawn[j]]) + m.bias[drawn[j]]
        top = max(top, logit[j])
    total = np.float32(0.0)
    for j in range(count):
        logit[j] = math.exp(logit[j] - top)
        total += logit[j]
    gradient[:] = 0.0
    lr = np.float32(rates.lr)
    for j in range(count):
        row = drawn[j]
        g = logit[j] / total - (np.float32(1.0) if j == 0 else np.float32(0.0))
        g *= np.float32(weight)
        m.y_square[row] += g * g
        step = lr * g / (math.sqrt(m.y_square[row]) + EPSILON)
        y = m.y[row]
        for f in range(d):
            gradient[f] += g * y[f]
            y[f] -= step * user[f]
        m.bias[row] -= step
        dirty[row] |= y_flag
    along = np.float32(dot(gradient, user))
    for f in range(d):
        gradient[f] = (gradient[f] - along * user[f]) / np.float32(length)
    square = np.float32(dot(gradient, gradient))
    part = np.float32(1.0)
    for k in range(min(n, rates.items)):
        row = history[k]
        if row >= 0:
            m.x_square[row] += part * part * square
            step = lr * part / (math.sqrt(m.x_square[row]) + EPSILON)
            x = m.x[row]
            for f in range(d):
                x[f] -= step * gradient[f]
            dirty[row] |= x_flag
        part *= np.float32(rates.decay)
