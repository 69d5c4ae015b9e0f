"""The always-on evaluation, compiled: is the next item on the list that was served, and what are the lists like?

In: an event that is about to be learned, with what its user had been shown; a list that was just made. Out: running
totals (`models.state.totals`), and, where wanted, the list that every single source would have made.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models import selection
from models.base import F32, F64, I32, U64
from models.kernels import inner, part
from models.online import asymmetric_mf, popularity
from models.pipeline.candidates import NO_ROWS, Reranked, Scratch, products
from models.pipeline.fixed import Fixed
from models.state import totals
from models.state.announced import code_of
from models.state.catalogue import HEAD, ItemColumns
from models.state.learned import State
from models.state.sequences import UserColumns

LOG2 = math.log(2.0)


class Baselines(NamedTuple):
    """Every single source's last list for each user, and its totals; empty where none are wanted."""

    on: bool
    owner: U64  # [U] hash of the user whose lists they are
    lists: I32  # [U, sources, k] item numbers
    hits: F64  # [sources]
    ndcg: F64


@inner
def _place(served: I32, number: int, code: int) -> int:
    for j in range(len(served)):
        if served[j] == number or served[j] == code:
            return j
    return -1


@inner
def _gain(place: int) -> float:
    return LOG2 / math.log(place + 2.0) if place >= 0 else 0.0


@part
def score_as_served(
    t: F64, users: UserColumns, baselines: Baselines, u: int, number: int, item_hash: U64, in_sample: bool
) -> None:
    """Was item `number`, which user `u` takes next, on the lists that were served and on those beside them?

    Where it was listed before it had a number, its code stands there (`models.state.announced`).
    """
    t[totals.SCORED] += 1.0
    code = code_of(item_hash)
    place = _place(users.served[u], number, code)
    t[totals.HITS] += 1.0 if place >= 0 else 0.0
    t[totals.NDCG] += _gain(place)
    popular = _place(users.served_popular[u], number, code)
    t[totals.POPULARITY_HITS] += 1.0 if popular >= 0 else 0.0
    t[totals.POPULARITY_NDCG] += _gain(popular)
    if in_sample:
        t[totals.SAMPLE_SCORED] += 1.0
        t[totals.SAMPLE_HITS] += 1.0 if place >= 0 else 0.0
        t[totals.SAMPLE_NDCG] += _gain(place)
        frozen = _place(users.served_frozen[u], number, code)
        t[totals.FROZEN_HITS] += 1.0 if frozen >= 0 else 0.0
        t[totals.FROZEN_NDCG] += _gain(frozen)
    if baselines.on:
        for s in range(len(baselines.hits)):
            place = _place(baselines.lists[u, s], number, code)
            if place >= 0:
                baselines.hits[s] += 1.0
                baselines.ndcg[s] += _gain(place)


@inner
def item_numbers(items_number: I32, best: I32, n: int, out: I32) -> None:
    """Fill `out` [k] with the numbers of the first `n` slots of `best`, and -1 after them."""
    for j in range(len(out)):
        out[j] = items_number[best[j]] if j < n else -1


@inner
def listed_numbers(state: State, best: I32, n: int, out: I32) -> None:
    """The same of a list that may hold what is only announced: such an item's code stands for its number."""
    for j in range(len(out)):
        if j < n and best[j] < 0:
            out[j] = code_of(state.announced.hash[-1 - best[j]])
        else:
            out[j] = state.items.number[best[j]] if j < n else -1


@inner
def _sorted_best(x: Scratch, items: ItemColumns, n: int) -> int:
    """Fill `x.best` with the best of the first n of `x.allowed` by `x.values`, best first; how many they are."""
    k, filled = len(x.best), 0
    n = selection.reach(x.allowed, x.values, n, k, x.maxima)
    for i in range(n):
        filled = selection.offer(x.best, x.best_score, filled, x.allowed[i], x.values[i], items.order)
    return filled


@inner
def baseline_lists(
    state: State,
    fixed: Fixed,
    x: Scratch,
    slots: int,
    touched: int,
    n: int,
    user_mf: F32,
    vector: F32,
    reranked: Reranked,
    mark: int,
    scenario: int,
    out: I32,
) -> None:
    """Each single source's own k best over everything that it scores, into `out` [sources, k]."""
    items = state.items
    readings, lives = len(fixed.readings.lanes), len(state.popularity.total)
    best, best_score = x.best, x.best_score
    blocked, available, this = x.blocked, items.available, np.int32(mark)
    for q in range(readings):
        lane, found = np.uint64(fixed.readings.lanes[q]), np.uint64(0)
        for t in range(np.uint64(touched)):
            j = np.uint64(x.touched[t])
            x.allowed[found], x.values[found] = j, x.sums.of[j, lane]
            found += np.uint64(1) if blocked[j] != this and available[j] != 0 else np.uint64(0)
        item_numbers(items.number, best, _sorted_best(x, items, int(np.int64(found))), out[q])
    column = max(0, scenario - 1)
    trusted = (
        popularity.trust(state.here, column, int(state.totals[totals.ACCEPTED])) if scenario > 0 else 0.0
    )
    for p in range(lives):
        if p != fixed.baseline or trusted <= 0.0:
            filled = popularity.exact_top(
                state.popularity, p, slots, blocked, mark, items.order, available, best, x.best_mass
            )
        else:
            filled = 0
            for slot in range(slots):
                share = popularity.share(state.popularity, p, state.here, column, trusted, slot)
                if share > 0.0 and blocked[slot] != mark and available[slot] != 0:
                    filled = selection.offer(best, best_score, filled, slot, share, items.order)
        item_numbers(items.number, best, filled, out[readings + p])
    found = np.uint64(0)
    if state.mf_mean[1] > 0.0:
        for slot in range(np.uint64(slots)):
            # an item that was never rated has a bias of exactly 0
            if state.mf_bias[slot] != 0.0 and blocked[slot] != this and available[slot] != 0:
                x.allowed[found] = slot
                x.values[found] = state.mf_bias[slot] + asymmetric_mf.dot(user_mf, state.mf[slot])
                found += np.uint64(1)
    item_numbers(items.number, best, _sorted_best(x, items, int(np.int64(found))), out[readings + lives + 1])
    for source in range(2):
        some = 0
        if source == 0:
            length = asymmetric_mf.user_vector(
                state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user
            )
            if length > 0.0:
                some = products(x, items, state.amf.y, state.amf.bias, x.user, NO_ROWS, slots, mark)
        elif reranked.on:
            some = products(x, items, reranked.items, reranked.bias, vector, reranked.row_of, slots, mark)
        item_numbers(items.number, best, _sorted_best(x, items, some), out[readings + lives + 2 * source])


@inner(allocates=True)
def measure_list(t: F64, state: State, fixed: Fixed, x: Scratch, filled: int) -> None:
    """Coverage, novelty (-log2 of the popularity share) and distance (1 - cosine of output vectors)."""
    total = state.popularity.total[fixed.plain]
    t[totals.LISTS] += 1.0
    t[totals.ITEMS_LISTED] += filled
    for j in range(filled):
        slot = x.best[j]
        if slot < 0:
            continue  # nothing is known of it
        if state.items.shown[slot] == 0:
            state.items.shown[slot] = 1
            state.items.dirty[slot] |= HEAD
            t[totals.ITEMS_SHOWN] += 1.0
        mass = state.popularity.mass[slot, fixed.plain]
        if mass > 0.0:
            t[totals.NOVELTY] -= math.log(mass / total) / LOG2
    d = state.amf.y.shape[1]
    summed = np.zeros(d, np.float32)
    known = 0
    for j in range(filled):
        if x.best[j] < 0:
            continue
        known += 1
        y = state.amf.y[x.best[j]]
        square = asymmetric_mf.dot(y, y)
        if square > 0.0:
            scale = np.float32(1.0 / math.sqrt(square))
            for f in range(d):
                summed[f] += scale * y[f]
    pairs = known * (known - 1) / 2.0
    if pairs > 0.0:
        # the squared length of a sum of n unit vectors is n + 2 times the sum of all their cosines
        cosines = (float(asymmetric_mf.dot(summed, summed)) - known) / 2.0
        t[totals.PAIRS] += pairs
        t[totals.DISTANCE] += pairs - cosines
