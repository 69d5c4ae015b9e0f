"""Features: what every source says of each candidate.

In: the learned state, candidates as `models.pipeline.candidates` left them. Out: a matrix with a row for each,
centred column by column. It reads state and writes only scratch.
"""

from __future__ import annotations

import math

import numpy as np

from models.base import F32, F64
from models.config import ModelSettings
from models.kernels import inner
from models.logarithms import TINIEST, Logarithms, logarithms
from models.online import asymmetric_mf, popularity
from models.online.covisit_rows import SLIM
from models.pipeline.candidates import Reranked, Scratch
from models.pipeline.fixed import Fixed
from models.state.learned import State


def sources(settings: ModelSettings) -> tuple[str, ...]:
    """Names of what speaks for an item, in the order of their features."""
    lives = settings.popularity.half_lives
    return (
        *(f"covisit-{reading.name}" for reading in settings.covisit.readings),
        *(f"popularity-{life}" if life else "popularity" for life in lives),
        "asymmetric-mf",
        "biased-mf",
        settings.ranker,
    )


def names(settings: ModelSettings) -> tuple[str, ...]:
    """Names of all features: the sources, and two that propose nothing."""
    return (*sources(settings), "age", "slim")


def start_weights(settings: ModelSettings) -> F64:
    """The blend's weight of each feature before its first lesson."""
    readings, blend = len(settings.covisit.readings), settings.blend
    return np.array(
        [
            *[blend.start_covisit / max(1, readings)] * readings,
            *[blend.start_popularity] * len(settings.popularity.half_lives),
            blend.start_asymmetric_mf,
            0.0,
            blend.start_transformer,
            0.0,
            blend.start_slim,
        ]
    )


@inner
def _log_shares(features: F32, n: int, f: int, floor: float, c: Logarithms) -> None:
    """Turn column `f` from masses into centred logarithms of shares, none below `floor`."""
    total = 0.0
    for j in range(n):
        total += features[j, f]
    if total <= 0.0:
        for j in range(n):
            features[j, f] = 0.0
        return
    scale, low = np.float32(1.0 / total), max(np.float32(floor), TINIEST)
    for j in range(np.uint64(n)):
        c.value[j] = max(features[j, f] * scale, low)
    logarithms(c, n)
    mean = 0.0
    for j in range(n):
        mean += c.value[j]
    middle = np.float32(mean / n)
    for j in range(np.uint64(n)):
        features[j, f] = c.value[j] - middle


@inner
def _centre(features: F32, n: int, f: int) -> None:
    mean = 0.0
    for j in range(n):
        mean += features[j, f]
    middle = np.float32(mean / n)
    for j in range(n):
        features[j, f] -= middle


@inner(here=True)
def describe(
    state: State,
    fixed: Fixed,
    x: Scratch,
    count: int,
    n: int,
    user_mf: F32,
    rated: int,
    vector: F32,
    reranked: Reranked,
    clock: int,
    scenario: int,
) -> None:
    """Fill `x.features` [count, F]: readings, popularity, asymmetric MF, explicit MF, re-ranker, log age, SLIM.

    The popularity of the baseline's half-life is that of the user's scenario, as far as that one is known.
    """
    readings, lives = len(fixed.readings.lanes), len(state.popularity.total)
    column = max(0, scenario - 1)
    trusted = popularity.trust(state.here, column, clock) if scenario > 0 else 0.0
    for j in range(count):
        slot = x.slots[j]
        for q in range(readings):
            x.features[j, q] = x.sums.of[slot, fixed.readings.lanes[q]]
        for p in range(lives):
            here = trusted if p == fixed.baseline else 0.0
            x.features[j, readings + p] = popularity.share(
                state.popularity, p, state.here, column, here, slot
            )
    for f in range(readings + lives):
        _log_shares(x.features, count, f, fixed.floor, x.logarithms)
    f = readings + lives
    length = asymmetric_mf.user_vector(state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user)
    for j in range(count):
        slot = x.slots[j]
        x.features[j, f] = (
            asymmetric_mf.dot(x.user, state.amf.y[slot]) + state.amf.bias[slot] if length > 0.0 else 0.0
        )
        value = np.float32(0.0)
        if state.mf_mean[1] > 0.0:
            value = state.mf_bias[slot]
            if rated > 0:
                value += asymmetric_mf.dot(user_mf, state.mf[slot])
        x.features[j, f + 1] = value
        age = clock - state.items.born[slot] if state.items.born[slot] >= 0 else 0
        x.features[j, f + 3] = math.log(1.0 + age)
        x.features[j, f + 4] = x.sums.of[slot, SLIM]
    _centre(x.features, count, f)
    _centre(x.features, count, f + 1)
    _centre(x.features, count, f + 3)
    _centre(x.features, count, f + 4)
    known, mean = 0, 0.0
    if reranked.on:
        for j in range(count):
            row = reranked.row_of[x.slots[j]]
            if row >= 0:
                value = asymmetric_mf.dot(reranked.items[row], vector) + reranked.bias[row]
                x.features[j, f + 2] = value
                known += 1
                mean += value
    middle = np.float32(mean / known) if known > 0 else np.float32(0.0)
    for j in range(count):
        if known > 0 and reranked.row_of[x.slots[j]] >= 0:
            x.features[j, f + 2] -= middle
        else:
            x.features[j, f + 2] = 0.0
