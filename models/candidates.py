"""Retrieval and features: which items may come next for a user, and what every source says of each of them.

In: the learned state and one user's history. Out: a few hundred candidate slots and their feature matrix. It reads
state and writes only scratch (and derived column factors).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models import asymmetric_mf, biased_mf, covisit, policy
from models.asymmetric_mf import AsymmetricMF
from models.base import F32, F64, I32, U64
from models.blend import Blend
from models.catalogue import ItemColumns
from models.covisit import LANES, Covisit, Readings
from models.kernels import kernel
from models.popularity import TOP, Popularity


class State(NamedTuple):
    """Everything learned about items, and what is shared by all users."""

    items: ItemColumns
    popularity: Popularity
    covisit: Covisit
    amf: AsymmetricMF
    mf_bias: F32  # [S] explicit MF
    mf: F32  # [S, factors]
    mf_mean: F64  # [2] mean rating, number of ratings
    blend: Blend
    totals: F64  # see `models.totals`


class Fixed(NamedTuple):
    """Settings as the kernels take them."""

    readings: Readings
    amf: asymmetric_mf.Rates
    mf: biased_mf.Rates
    k: int
    repeats: bool
    seen: int  # remembered exactly
    candidates: int
    popular: int  # taken from each half-life
    dense: int  # taken from each model that scores the whole catalogue
    dense_limit: int  # ... up to this many items
    plain: int  # index of the slowest half-life
    baseline: int  # index of the half-life that stands for "popularity"
    floor: float
    blend_lr: float
    blend_within: int
    blend_share: float
    blend_all_until: int
    seed: U64


class Scratch(NamedTuple):
    """Buffers of one thread; nothing in them outlives a call. `C` candidates at most, F features."""

    mark: I32  # [1] the last mark given
    stamp: I32  # [S] sums are of this mark
    blocked: I32  # [S]
    chosen: I32  # [S] among the candidates of this mark
    touched: I32  # [S]
    sums: F32  # [S, LANES]
    dense: F32  # [S]
    history: I32  # [50] slots
    coefficient: F32  # [50, LANES]
    base: F32  # [LANES]
    heap: I32  # [candidates]
    heap_score: F32
    slots: I32  # [C]
    features: F32  # [C, F]
    scores: F32  # [C]
    weights: F32  # [F]
    gradient: F64  # [F]
    user: F32  # [d] of asymmetric MF
    user_gradient: F32
    drawn: I32
    logit: F32
    best: I32  # [k]
    best_score: F32


class Reranked(NamedTuple):
    """The re-ranker's item side: rows [V, d], a bias each, and each slot's row (-1: none)."""

    on: bool
    items: F32
    bias: F32
    row_of: I32  # [S]


def new_scratch(slots: int, fixed: Fixed, features: int, factors: int) -> Scratch:
    """Buffers for `slots` items."""
    c = fixed.candidates + TOP * 8 + 2 * fixed.dense + fixed.k + 8
    return Scratch(
        mark=np.zeros(1, np.int32), stamp=np.zeros(slots, np.int32), blocked=np.zeros(slots, np.int32),
        chosen=np.zeros(slots, np.int32), touched=np.zeros(slots, np.int32),
        sums=np.zeros((slots, LANES), np.float32), dense=np.zeros(slots, np.float32),
        history=np.zeros(50, np.int32), coefficient=np.zeros((50, LANES), np.float32),
        base=np.zeros(LANES, np.float32), heap=np.zeros(max(fixed.candidates, fixed.dense), np.int32),
        heap_score=np.zeros(max(fixed.candidates, fixed.dense), np.float32), slots=np.zeros(c, np.int32),
        features=np.zeros((c, features), np.float32), scores=np.zeros(c, np.float32),
        weights=np.zeros(features, np.float32), gradient=np.zeros(features), user=np.zeros(factors, np.float32),
        user_gradient=np.zeros(factors, np.float32), drawn=np.zeros(fixed.amf.negatives + 1, np.int32),
        logit=np.zeros(fixed.amf.negatives + 1, np.float32), best=np.zeros(fixed.k, np.int32),
        best_score=np.zeros(fixed.k, np.float32),
    )  # fmt: skip


@kernel
def _push(heap: I32, score: F32, n: int, slot: int, value: float, order: U64) -> int:
    """Keep the best in a heap whose root is the worst of them; ties go to the lower item id."""
    if n == len(heap):
        root = heap[0]
        if value < score[0] or (value == score[0] and order[slot] >= order[root]):
            return n
        at = 0
        while True:
            child = 2 * at + 1
            if child >= n:
                break
            right = child + 1
            if right < n and (
                score[right] < score[child]
                or (score[right] == score[child] and order[heap[right]] > order[heap[child]])
            ):
                child = right
            if score[child] > value or (score[child] == value and order[heap[child]] < order[slot]):
                break
            heap[at], score[at] = heap[child], score[child]
            at = child
        heap[at], score[at] = slot, value
        return n
    at = n
    while at > 0:
        parent = (at - 1) // 2
        if score[parent] < value or (score[parent] == value and order[heap[parent]] > order[slot]):
            break
        heap[at], score[at] = heap[parent], score[parent]
        at = parent
    heap[at], score[at] = slot, value
    return n + 1


@kernel
def _choose(x: Scratch, n: int, mark: int, slot: int) -> int:
    if x.chosen[slot] == mark or n >= len(x.slots):
        return n
    x.chosen[slot] = mark
    x.slots[n] = slot
    return n + 1


@kernel
def _read(state: State, fixed: Fixed, x: Scratch, slot: int, mark: int) -> None:
    """Finish an item's readings: what the history says, the back-off, the column's power."""
    r = fixed.readings
    covisit.column_factors(state.covisit, r, slot)
    if x.stamp[slot] != mark:
        x.stamp[slot] = mark
        for lane in range(LANES):
            x.sums[slot, lane] = 0.0
    total = state.popularity.total[fixed.plain]
    share = state.popularity.mass[slot, fixed.plain] / total if total > 0.0 else 0.0
    back = np.float32(r.popularity * r.shrinkage * share)
    for lane in range(r.count):
        x.sums[slot, lane] = (x.sums[slot, lane] + back * x.base[lane]) * state.covisit.column_factor[
            slot, lane
        ]


@kernel
def retrieve(
    state: State,
    fixed: Fixed,
    x: Scratch,
    slots: int,
    slot_of: I32,
    history: I32,
    n: int,
    vector: F32,
    reranked: Reranked,
    mark: int,
) -> tuple[int, int]:
    """Fill `x.slots` with candidates whose readings are done in `x.sums`.

    Args:
        slots: item slots in use.
        history: item numbers, newest first, `n` of them.
        vector: the user's vector of the re-ranker, [d].
        mark: of this call; `x.blocked` carries it already.

    Returns:
        The number of candidates, and of items that the history touched (`x.touched`).
    """
    items, r = state.items, fixed.readings
    for k in range(n):
        x.history[k] = slot_of[history[k]]
    covisit.coefficients(state.covisit, r, x.history, n, x.coefficient, x.base)
    touched = covisit.accumulate(
        state.covisit, r, slot_of, x.history, n, x.coefficient, x.sums, x.stamp, mark, x.touched
    )
    inverse = np.zeros(LANES, np.float32)
    for t in range(touched):
        slot = x.touched[t]
        _read(state, fixed, x, slot, mark)
        if policy.allowed(x.blocked, mark, items.available, slot):
            for lane in range(r.count):
                inverse[lane] += x.sums[slot, lane]
    for lane in range(r.count):
        inverse[lane] = 1.0 / inverse[lane] if inverse[lane] > 0.0 else 0.0
    kept = 0
    heap, heap_score = x.heap[: fixed.candidates], x.heap_score[: fixed.candidates]
    for t in range(touched):
        slot = x.touched[t]
        if policy.allowed(x.blocked, mark, items.available, slot):
            value = np.float32(0.0)
            for lane in range(LANES):
                value += x.sums[slot, lane] * inverse[lane]
            kept = _push(heap, heap_score, kept, slot, value, items.order)
    count = 0
    for j in range(kept):
        count = _choose(x, count, mark, heap[j])
    for p in range(len(state.popularity.total)):
        taken = 0
        for j in range(TOP):
            slot = state.popularity.top[p, j]
            if slot < 0 or taken == fixed.popular:
                break
            if policy.allowed(x.blocked, mark, items.available, slot):
                count = _choose(x, count, mark, slot)
                taken += 1
    if fixed.dense > 0 and slots <= fixed.dense_limit:
        heap, heap_score = x.heap[: fixed.dense], x.heap_score[: fixed.dense]
        if asymmetric_mf.user_vector(state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user) > 0.0:
            kept = 0
            for slot in range(slots):
                if items.born[slot] >= 0 and policy.allowed(x.blocked, mark, items.available, slot):
                    value = asymmetric_mf.score(state.amf, x.user, slot)
                    kept = _push(heap, heap_score, kept, slot, value, items.order)
            for j in range(kept):
                count = _choose(x, count, mark, heap[j])
        if reranked.on:
            kept = 0
            for slot in range(slots):
                row = reranked.row_of[slot]
                if (
                    row >= 0
                    and items.number[slot] >= 0
                    and policy.allowed(x.blocked, mark, items.available, slot)
                ):
                    value = asymmetric_mf.dot(reranked.items[row], vector) + reranked.bias[row]
                    kept = _push(heap, heap_score, kept, slot, value, items.order)
            for j in range(kept):
                count = _choose(x, count, mark, heap[j])
    if count < fixed.k:
        for slot in range(slots):
            if count >= 4 * fixed.k:
                break
            if items.born[slot] >= 0 and policy.allowed(x.blocked, mark, items.available, slot):
                count = _choose(x, count, mark, slot)
    for j in range(count):
        if x.stamp[x.slots[j]] != mark:
            _read(state, fixed, x, x.slots[j], mark)
    return count, touched


@kernel
def _log_shares(x: Scratch, n: int, f: int, floor: float) -> None:
    """Turn column `f` from masses into centred logarithms of shares, none below `floor`."""
    total = 0.0
    for j in range(n):
        total += x.features[j, f]
    if total <= 0.0:
        for j in range(n):
            x.features[j, f] = 0.0
        return
    scale, low = np.float32(1.0 / total), np.float32(floor)
    mean = 0.0
    for j in range(n):
        value = math.log(max(x.features[j, f] * scale, low))
        x.features[j, f] = value
        mean += value
    middle = np.float32(mean / n)
    for j in range(n):
        x.features[j, f] -= middle


@kernel
def _centre(x: Scratch, n: int, f: int) -> None:
    mean = 0.0
    for j in range(n):
        mean += x.features[j, f]
    middle = np.float32(mean / n)
    for j in range(n):
        x.features[j, f] -= middle


@kernel
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
) -> None:
    """Fill `x.features` [count, F]: readings, popularity, asymmetric MF, explicit MF, re-ranker, log age."""
    lanes, lives = fixed.readings.count, len(state.popularity.total)
    for j in range(count):
        slot = x.slots[j]
        for lane in range(lanes):
            x.features[j, lane] = x.sums[slot, lane]
        for p in range(lives):
            total = state.popularity.total[p]
            mass = state.popularity.mass[slot, p]
            x.features[j, lanes + p] = mass / total if total > 0.0 else 0.0
    for f in range(lanes + lives):
        _log_shares(x, count, f, fixed.floor)
    f = lanes + lives
    length = asymmetric_mf.user_vector(state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user)
    for j in range(count):
        slot = x.slots[j]
        x.features[j, f] = asymmetric_mf.score(state.amf, x.user, slot) if length > 0.0 else 0.0
        value = np.float32(0.0)
        if state.mf_mean[1] > 0.0:
            value = state.mf_bias[slot]
            if rated > 0:
                value += asymmetric_mf.dot(user_mf, state.mf[slot])
        x.features[j, f + 1] = value
        age = clock - state.items.born[slot] if state.items.born[slot] >= 0 else 0
        x.features[j, f + 3] = math.log(1.0 + age)
    _centre(x, count, f)
    _centre(x, count, f + 1)
    _centre(x, count, f + 3)
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


@kernel
def score(x: Scratch, count: int) -> None:
    """Fill `x.scores` from features and `x.weights`."""
    for j in range(count):
        total = np.float32(0.0)
        for f in range(x.features.shape[1]):
            total += x.weights[f] * x.features[j, f]
        x.scores[j] = total
