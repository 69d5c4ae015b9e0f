"""The event loop, compiled: score as served → let the blend learn → let every model learn → make the list.

In: one batch with each event's history (`models.users`), the learned state, the re-ranker's vectors. Out: changed
state and lists. The same loop runs in the worker (a list after each touched user's last event) and in a backtest (a
list after each event); where a batch is cut changes nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models import asymmetric_mf, biased_mf, blend, covisit, policy, popularity, selection, totals
from models.base import DUPLICATE, F32, F64, I32, I64, LATE, U8, U64, Bool
from models.candidates import (
    NO_ROWS,
    Fixed,
    Reranked,
    Scratch,
    State,
    describe,
    products,
    retrieve,
    score,
)
from models.catalogue import HEAD, OUTPUT, ROW
from models.kernels import inner, kernel, part
from models.randomness import mix, uniform
from models.users import Histories, UserColumns, history_of

LOG2 = math.log(2.0)


class Columns(NamedTuple):
    """The batch as the kernel takes it; vectors are those of the re-ranker before and after each event."""

    user: I32
    item: I32
    weight: F32
    value: F32
    key: U64
    offset: I64
    list_at: Bool
    in_sample: Bool
    before: F32  # [n, d]
    after: F32  # [n, d]
    frozen_after: F32  # [n, d], of the frozen first model
    history: Histories


class Output(NamedTuple):
    """Lists, one row each."""

    event: I64
    items: I32
    scores: F32
    source: U8
    because: I32
    revision: I64
    n: I64  # [1]


class Baselines(NamedTuple):
    """Every single source's last list for each user, and its totals; empty where none are wanted."""

    on: bool
    owner: U64  # [U] hash of the user whose lists they are
    lists: I32  # [U, sources, k] item numbers
    hits: F64  # [sources]
    ndcg: F64


@inner
def _place(served: I32, number: int) -> int:
    for j in range(len(served)):
        if served[j] == number:
            return j
    return -1


@inner
def _gain(place: int) -> float:
    return LOG2 / math.log(place + 2.0) if place >= 0 else 0.0


@part
def _score_as_served(
    t: F64, users: UserColumns, baselines: Baselines, u: int, number: int, in_sample: bool
) -> None:
    t[totals.SCORED] += 1.0
    place = _place(users.served[u], number)
    t[totals.HITS] += 1.0 if place >= 0 else 0.0
    t[totals.NDCG] += _gain(place)
    popular = _place(users.served_popular[u], number)
    t[totals.POPULARITY_HITS] += 1.0 if popular >= 0 else 0.0
    t[totals.POPULARITY_NDCG] += _gain(popular)
    if in_sample:
        t[totals.SAMPLE_SCORED] += 1.0
        t[totals.SAMPLE_HITS] += 1.0 if place >= 0 else 0.0
        t[totals.SAMPLE_NDCG] += _gain(place)
        frozen = _place(users.served_frozen[u], number)
        t[totals.FROZEN_HITS] += 1.0 if frozen >= 0 else 0.0
        t[totals.FROZEN_NDCG] += _gain(frozen)
    if baselines.on:
        for s in range(len(baselines.hits)):
            place = _place(baselines.lists[u, s], number)
            if place >= 0:
                baselines.hits[s] += 1.0
                baselines.ndcg[s] += _gain(place)


@inner
def _numbers(items_number: I32, best: I32, n: int, out: I32) -> None:
    for j in range(len(out)):
        out[j] = items_number[best[j]] if j < n else -1


@inner
def _baseline_lists(
    state: State,
    fixed: Fixed,
    x: Scratch,
    slots: int,
    touched: int,
    n: int,
    vector: F32,
    reranked: Reranked,
    mark: int,
    out: I32,
) -> None:
    """Each single source's own k best over everything that it scores, into `out` [sources, k]."""
    items = state.items
    readings, lives = len(fixed.readings.lanes), len(state.popularity.total)
    best, best_score = x.best, x.best_score
    blocked, available = x.blocked, items.available
    for q in range(readings):
        lane = fixed.readings.lanes[q]
        filled = 0
        for t in range(touched):
            slot = x.touched[t]
            if blocked[slot] != mark and available[slot] != 0:
                filled = selection.offer(best, best_score, filled, slot, x.sums[slot, lane], items.order)
        _numbers(items.number, best, filled, out[q])
    for p in range(lives):
        filled = 0
        for slot in range(slots):
            mass = state.popularity.mass[slot, p]
            if mass > 0.0 and blocked[slot] != mark and available[slot] != 0:
                filled = selection.offer(best, best_score, filled, slot, mass, items.order)
        _numbers(items.number, best, filled, out[readings + p])
    for source in range(2):
        found = 0
        if source == 0:
            length = asymmetric_mf.user_vector(
                state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user
            )
            if length > 0.0:
                found = products(x, items, state.amf.y, state.amf.bias, x.user, NO_ROWS, slots, mark)
        elif reranked.on:
            found = products(x, items, reranked.items, reranked.bias, vector, reranked.row_of, slots, mark)
        filled = 0
        for i in range(found):
            filled = selection.offer(best, best_score, filled, x.allowed[i], x.values[i], items.order)
        _numbers(items.number, best, filled, out[readings + lives + source])


@inner
def _measure_list(t: F64, state: State, fixed: Fixed, x: Scratch, filled: int) -> None:
    """Coverage, novelty (-log2 of the popularity share) and distance (1 - cosine of output vectors)."""
    total = state.popularity.total[fixed.plain]
    t[totals.LISTS] += 1.0
    t[totals.ITEMS_LISTED] += filled
    for j in range(filled):
        slot = x.best[j]
        if state.items.shown[slot] == 0:
            state.items.shown[slot] = 1
            state.items.dirty[slot] |= HEAD
            t[totals.ITEMS_SHOWN] += 1.0
        mass = state.popularity.mass[slot, fixed.plain]
        if mass > 0.0:
            t[totals.NOVELTY] -= math.log(mass / total) / LOG2
    d = state.amf.y.shape[1]
    summed = np.zeros(d, np.float32)
    for j in range(filled):
        y = state.amf.y[x.best[j]]
        square = asymmetric_mf.dot(y, y)
        if square > 0.0:
            scale = np.float32(1.0 / math.sqrt(square))
            for f in range(d):
                summed[f] += scale * y[f]
    pairs = filled * (filled - 1) / 2.0
    if pairs > 0.0:
        # the squared length of a sum of n unit vectors is n + 2 times the sum of all their cosines
        cosines = (float(asymmetric_mf.dot(summed, summed)) - filled) / 2.0
        t[totals.PAIRS] += pairs
        t[totals.DISTANCE] += pairs - cosines


@inner
def make_list(
    state: State,
    fixed: Fixed,
    x: Scratch,
    users: UserColumns,
    seen: I32,
    slot_of: I32,
    slots: int,
    u: int,
    events: int,
    history: I32,
    n: int,
    gap: int,
    seen_n: int,
    vector: F32,
    frozen_vector: F32,
    in_sample: bool,
    reranked: Reranked,
    frozen: Reranked,
    baselines: Baselines,
    explain: bool,
    out: Output,
    event: int,
) -> None:
    items, t = state.items, state.totals
    x.mark[0] += 1
    mark = x.mark[0]
    if not fixed.repeats:
        policy.block_seen(
            x.blocked, mark, slot_of, seen, users.seen_at[u], users.seen_class[u], seen_n, fixed.seen
        )
    count, touched = retrieve(state, fixed, x, slots, slot_of, history, n, vector, reranked, mark)
    row = out.n[0]
    out.n[0] += 1
    users.dirty[u] = 1
    out.event[row], out.revision[row] = event, users.revision[u]
    if baselines.on:
        _baseline_lists(state, fixed, x, slots, touched, n, vector, reranked, mark, baselines.lists[u])
    popularity.exact_top(
        state.popularity, fixed.baseline, slots, x.blocked, mark, items.order, items.available, x.best
    )
    for j in range(fixed.k):
        users.served_popular[u, j] = items.number[x.best[j]] if x.best[j] >= 0 else -1
    clock = int(t[totals.ACCEPTED])
    describe(state, fixed, x, count, n, users.mf[u], users.mf_n[u], vector, reranked, clock)
    blend.weights_of(state.blend, blend.context(events, gap), x.weights)
    score(x, count)
    order = items.order
    readings, lives = len(fixed.readings.lanes), len(state.popularity.total)
    transformer = readings + lives + 2
    if in_sample and frozen.on:
        filled, known, mean = 0, 0, 0.0
        for j in range(count):
            r = frozen.row_of[x.slots[j]]
            if r >= 0:
                x.dense[j] = asymmetric_mf.dot(frozen.items[r], frozen_vector) + frozen.bias[r]
                known += 1
                mean += x.dense[j]
        for j in range(count):
            r = frozen.row_of[x.slots[j]]
            theirs = x.dense[j] - mean / known if r >= 0 else 0.0
            value = x.scores[j] + x.weights[transformer] * (theirs - x.features[j, transformer])
            filled = selection.offer(x.best, x.best_score, filled, x.slots[j], value, order)
        _numbers(items.number, x.best, filled, users.served_frozen[u])
    elif in_sample:
        users.served_frozen[u, :] = -1
    filled = 0
    top, total = np.float32(-1e30), 0.0
    for j in range(count):
        filled = selection.offer(x.best, x.best_score, filled, x.slots[j], x.scores[j], order)
        top = max(top, x.scores[j])
    _numbers(items.number, x.best, filled, users.served[u])
    if in_sample and not frozen.on:
        users.served_frozen[u, :] = users.served[u]
    _measure_list(t, state, fixed, x, filled)
    out.items[row, :] = users.served[u]
    if not explain:
        return
    for j in range(count):
        total += math.exp(x.scores[j] - top)
        x.dense[x.slots[j]] = j
    sources = transformer + 1
    for j in range(fixed.k):
        out.scores[row, j] = 0.0
        out.because[row, j] = -1
        if j >= filled:
            continue
        slot = x.best[j]
        out.scores[row, j] = math.exp(x.best_score[j] - top) / total
        at = int(x.dense[slot])
        best_source, best_part = 0, np.float32(-1e30)
        for f in range(sources):
            part = x.weights[f] * x.features[at, f]
            if part > best_part:
                best_source, best_part = f, part
        out.source[row, j] = best_source
        if readings <= best_source < readings + lives:
            continue  # it is popular, whatever the user had
        k = covisit.strongest(state.covisit, x.history, n, items.number[slot], x.coefficient)
        if k >= 0:
            out.because[row, j] = history[k]


@inner
def _teach_blend(
    state: State,
    fixed: Fixed,
    x: Scratch,
    users: UserColumns,
    seen: I32,
    slot_of: I32,
    slots: int,
    u: int,
    slot: int,
    events: int,
    history: I32,
    n: int,
    gap: int,
    seen_n: int,
    vector: F32,
    reranked: Reranked,
) -> None:
    """One step of the blend, from what the sources say of this user's candidates at this moment."""
    x.mark[0] += 1
    mark = x.mark[0]
    policy.block_seen(
        x.blocked, mark, slot_of, seen, users.seen_at[u], users.seen_class[u], seen_n, fixed.seen
    )
    if not policy.allowed(x.blocked, mark, state.items.available, slot):
        return
    count, _ = retrieve(state, fixed, x, slots, slot_of, history, n, vector, reranked, mark)
    target = -1
    for j in range(count):
        if x.slots[j] == slot:
            target = j
            break
    if target < 0:
        return
    clock = int(state.totals[totals.ACCEPTED])
    describe(state, fixed, x, count, n, users.mf[u], users.mf_n[u], vector, reranked, clock)
    row = blend.context(events, gap)
    blend.weights_of(state.blend, row, x.weights)
    score(x, count)
    if blend.learn(
        state.blend, row, x.features, x.scores, count, target, fixed.blend_lr, fixed.blend_within, x.gradient
    ):
        state.totals[totals.BLEND_STEPS] += 1.0


@part
def _learn(
    state: State, fixed: Fixed, x: Scratch, users: UserColumns, c: Columns, e: int, slot: int, slot_of: I32,
    slots: int, stream: U64, ranking_apart: bool,
) -> None:  # fmt: skip
    """Every online model learns one event; asymmetric MF does not where it is taught elsewhere."""
    t, items = state.totals, state.items
    weight = c.weight[e]
    clock = int(t[totals.ACCEPTED])
    u = c.user[e]
    n = c.history.b_n[e]
    for k in range(n):
        x.history[k] = slot_of[c.history.b_items[e, k]]
    if weight > 0.0:
        popularity.learn(state.popularity, slot, weight, clock)
        t[totals.POPULARITY_MASS] += weight
        t[totals.COVISIT_MASS] += covisit.learn(
            state.covisit, fixed.readings, slot, items.number, x.history, n, weight, items.dirty, ROW, x.probe
        )
    if weight != 0.0 and not ranking_apart:
        asymmetric_mf.learn(
            state.amf, fixed.amf, slot, slots, items.born, x.history, n, weight, stream,
            x.user, x.user_gradient, x.drawn, x.logit, items.dirty, HEAD, OUTPUT,
        )  # fmt: skip
    t[totals.RANKED_UPDATES] += 1.0 if weight != 0.0 else 0.0
    value = c.value[e]
    if not math.isnan(value):
        error = biased_mf.learn(
            state.mf_mean, users.mf_bias, state.mf_bias, u, slot, users.mf[u], state.mf[slot], value, fixed.mf
        )
        error = min(max(value + error, fixed.low), fixed.high) - value
        users.mf_n[u] += 1
        t[totals.RATINGS] += 1.0
        t[totals.RATING_ABSOLUTE_ERROR] += abs(error)
        t[totals.RATING_SQUARED_ERROR] += error * error
    if items.born[slot] < 0:
        items.born[slot] = clock
        t[totals.ITEMS_WITH_EVENTS] += 1.0
    items.last[slot] = clock
    items.events[slot] += 1
    items.dirty[slot] |= HEAD


@kernel
def run(
    state: State,
    fixed: Fixed,
    x: Scratch,
    users: UserColumns,
    seen: I32,
    slot_of: I32,
    room_needed: int,
    c: Columns,
    start: int,
    reranked: Reranked,
    frozen: Reranked,
    baselines: Baselines,
    explain: bool,
    ranking_apart: bool,
    out: Output,
) -> int:
    """Run the batch from row `start` on; the first row not run, before which the co-visitation needs room.

    `ranking_apart`: asymmetric MF learns elsewhere (`models.ranking_apart`), so that no list can be made.
    """
    t = state.totals
    for e in range(start, len(c.user)):
        if len(state.covisit.keys) - state.covisit.header[0] < room_needed:
            return e
        u = c.user[e]
        status = c.history.status[e]
        if status == DUPLICATE:
            t[totals.DUPLICATES] += 1.0
            continue
        if status == LATE:
            t[totals.LATE] += 1.0
        number = c.item[e]
        slot = slot_of[number]
        stream = mix(c.key[e] ^ mix(np.uint64(c.offset[e]) ^ fixed.seed))
        slots = int(t[totals.SLOTS_USED])
        repeat = c.history.repeat[e] != 0
        if repeat:
            t[totals.REPEATS] += 1.0
        if c.weight[e] > 0.0 and not repeat and c.history.events[e] > 0:
            _score_as_served(t, users, baselines, u, number, c.in_sample[e])
            young = t[totals.ACCEPTED] < fixed.blend_all_until
            if fixed.blend_lr > 0.0 and (young or uniform(stream, 1 << 20) < fixed.blend_share):
                _teach_blend(
                    state, fixed, x, users, seen, slot_of, slots, u, slot, c.history.events[e],
                    c.history.b_items[e], c.history.b_n[e], c.history.b_gap[e], c.history.b_seen[e],
                    c.before[e], reranked,
                )  # fmt: skip
        slots = max(slots, slot + 1)
        t[totals.SLOTS_USED] = slots
        _learn(state, fixed, x, users, c, e, slot, slot_of, slots, stream, ranking_apart)
        t[totals.ACCEPTED] += 1.0
        # Events are counted, not lists: a redo that cuts its batches elsewhere gives what it repeats the same
        # revision, and what is newer a higher one.
        users.revision[u] += 1
        if c.list_at[e]:
            make_list(
                state, fixed, x, users, seen, slot_of, slots, u, c.history.events[e] + 1,
                c.history.a_items[e], c.history.a_n[e], c.history.a_gap[e], c.history.a_seen[e], c.after[e],
                c.frozen_after[e], c.in_sample[e], reranked, frozen, baselines, explain, out, e,
            )  # fmt: skip
    return len(c.user)


@kernel
def refresh(
    state: State,
    fixed: Fixed,
    x: Scratch,
    users: UserColumns,
    seen: I32,
    slot_of: I32,
    slots: I32,
    weights: F32,
    vectors: F32,
    frozen_vectors: F32,
    in_sample: Bool,
    reranked: Reranked,
    frozen: Reranked,
    baselines: Baselines,
    history: I32,
    out: Output,
    counted: bool,
) -> None:
    """A list for each user in `slots`, without an event; `counted` ones are a revision of their own."""
    used = int(state.totals[totals.SLOTS_USED])
    for row in range(len(slots)):
        u = slots[row]
        n, gap = history_of(users, u, weights, history)
        if counted:
            users.revision[u] += 1
        make_list(
            state, fixed, x, users, seen, slot_of, used, u, users.n_events[u], history, n, gap,
            users.seen_n[u], vectors[row], frozen_vectors[row], in_sample[row], reranked, frozen, baselines,
            True, out, -1,
        )  # fmt: skip


@kernel
def admit(state: State, slots: I64, seed: U64, init_std: float) -> None:
    """Set the rows of newly admitted items to what they are before their first event."""
    for slot in slots:
        stream = mix(state.items.hash[slot] ^ seed)
        asymmetric_mf.initialise(state.amf, slot, stream)
        biased_mf.initialise(state.mf[slot], mix(stream), init_std)
        state.mf_bias[slot] = 0.0
        state.popularity.mass[slot, :] = 0.0
        covisit.clear(state.covisit, slot)
        state.covisit.row_sum[slot, :] = 0.0
        state.covisit.column_sum[slot, :] = 0.0
        state.covisit.stale[slot] = 1
