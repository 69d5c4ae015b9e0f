"""The event loop, compiled: score as served → let the blend learn → let every model learn → make the list.

In: one batch with each event's history (`models.state.sequences`), the learned state, the re-ranker's vectors. Out:
changed state and lists. The same loop runs in the worker (a list after each touched user's last event) and in a
backtest (a list after each event); where a batch is cut changes nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.base import DUPLICATE, F32, I32, I64, LATE, U8, U64, Bool
from models.kernels import inner, kernel, part
from models.online import (
    asymmetric_mf,
    biased_mf,
    blend,
    covisit,
    covisit_journal,
    covisit_rows,
    popularity,
    slim,
)
from models.pipeline import policy
from models.pipeline.candidates import Reranked, Scratch, retrieve
from models.pipeline.evaluation import Baselines, score_as_served
from models.pipeline.features import describe
from models.pipeline.fixed import Fixed
from models.pipeline.listing import Output, make_list
from models.randomness import mix, uniform
from models.state import totals
from models.state.catalogue import HEAD, OUTPUT, ROW
from models.state.learned import State
from models.state.sequences import Histories, UserColumns, history_of, scenario_of


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
    scenario: U8  # [n] where each event took place; 0 for nowhere in particular
    history: Histories


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
    scenario: int,
    seen_n: int,
    vector: F32,
    reranked: Reranked,
    listed: int,
) -> None:
    """One step of the blend and of SLIM, from what the sources say of this user's candidates at this moment.

    `listed`: candidates of the list that this very moment's state gave the user, still in the scratch; -1 for none.
    """
    if listed < 0:
        x.mark[0] += 1
        policy.block_seen(
            x.blocked, x.mark[0], slot_of, seen, users.seen_at[u], users.seen_class[u], seen_n, fixed.seen
        )
    mark, count = x.mark[0], listed
    if not policy.allowed(x.blocked, mark, state.items.available, slot):
        return
    if listed < 0:
        count, _ = retrieve(state, fixed, x, slots, slot_of, history, n, vector, reranked, mark, scenario)
    target = -1
    for j in range(count):
        if x.slots[j] == slot:
            target = j
            break
    if target < 0:
        return
    if listed < 0:
        clock = int(state.totals[totals.ACCEPTED])
        describe(state, fixed, x, count, n, users.mf[u], users.mf_n[u], vector, reranked, clock, scenario)
    row = blend.situate(state.blend, events, gap, x.blend)
    blend.score(state.blend, x.blend, x.features, count, x.scores)
    if blend.learn(state.blend, row, x.blend, x.features, x.scores, count, target, fixed.blend):
        state.totals[totals.BLEND_STEPS] += 1.0
        if fixed.covisit.slim[0] > 0.0:
            x.lesson[0] = slim.learn(
                state.covisit, fixed.covisit, x.history, n, x.slots, x.scores, count, x.listed, x.taught, x.step,
                state.items.dirty, ROW,
            )  # fmt: skip


@inner
def _same_moment(c: Columns, e: int, later: int) -> bool:
    """Whether event `later` finds what the list after event `e` was made of, nothing having been learned between them.

    It does if it is of the same user: that user's history is the same then. The re-ranker's vectors may differ in their
    last bits, if they were computed in different ways.
    """
    same = c.user[e] == c.user[later]
    for f in range(c.after.shape[1]):
        same = same and c.after[e, f] == c.before[later, f]
    return same


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
        if c.scenario[e] > 0:
            popularity.count(state.here, int(c.scenario[e]) - 1, slot, weight, clock)
        t[totals.POPULARITY_MASS] += weight
        t[totals.COVISIT_MASS] += covisit.learn(
            state.covisit,
            fixed.covisit,
            slot,
            x.history,
            n,
            weight,
            items.dirty,
            HEAD | ROW,
            x.probe,
        )
        covisit_journal.note(
            state.journal, fixed.covisit.window, c.item[e], c.history.b_items[e], n, weight,
            x.taught, x.step, x.lesson[0], items.number,
        )  # fmt: skip
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

    `ranking_apart`: asymmetric MF learns elsewhere (`models.pipeline.ranking_apart`), so that no list can be made.
    """
    t = state.totals
    # candidates that the list after event `at` left in the scratch, until anything is learned
    listed, at = -1, 0
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
        x.lesson[0] = 0
        if repeat:
            t[totals.REPEATS] += 1.0
        if c.weight[e] > 0.0 and not repeat and c.history.events[e] > 0:
            score_as_served(t, users, baselines, u, number, state.items.hash[slot], c.in_sample[e])
            young = t[totals.ACCEPTED] < fixed.blend_all_until
            if fixed.blend.lr > 0.0 and (young or uniform(stream, 1 << 20) < fixed.blend_share):
                _teach_blend(
                    state, fixed, x, users, seen, slot_of, slots, u, slot, c.history.events[e],
                    c.history.b_items[e], c.history.b_n[e], c.history.b_gap[e], c.history.b_scenario[e],
                    c.history.b_seen[e], c.before[e], reranked,
                    listed if listed >= 0 and _same_moment(c, at, e) else -1,
                )  # fmt: skip
        listed = -1
        slots = max(slots, slot + 1)
        t[totals.SLOTS_USED] = slots
        _learn(state, fixed, x, users, c, e, slot, slot_of, slots, stream, ranking_apart)
        t[totals.ACCEPTED] += 1.0
        # Events are counted, not lists: a redo that cuts its batches elsewhere gives what it repeats the same
        # revision, and what is newer a higher one.
        users.revision[u] += 1
        if c.list_at[e]:
            count = make_list(
                state, fixed, x, users, seen, slot_of, slots, u, c.history.events[e] + 1,
                c.history.a_items[e], c.history.a_n[e], c.history.a_gap[e], c.history.a_scenario[e],
                c.history.a_seen[e], c.after[e], c.frozen_after[e], c.in_sample[e], reranked, frozen,
                baselines, explain, out, e, stream,
            )  # fmt: skip
            # a list that may repeat blocks nothing, and one that explores blocks what it holds: lessons differ there
            listed, at = -1 if fixed.repeats or fixed.explored > 0 else count, e
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
    scenarios: U8,
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
        newest = np.uint64(users.seq_ts[u, users.seq_n[u] - 1]) if users.seq_n[u] > 0 else np.uint64(0)
        item = np.uint64(history[0]) if n > 0 else np.uint64(0)
        stream = mix(mix(mix(newest) ^ item) ^ np.uint64(users.revision[u]) ^ fixed.seed)
        make_list(
            state, fixed, x, users, seen, slot_of, used, u, users.n_events[u], history, n, gap,
            scenario_of(users, u, scenarios), users.seen_n[u], vectors[row], frozen_vectors[row],
            in_sample[row], reranked, frozen, baselines, True, out, -1, stream,
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
        state.here.mass[slot, :] = 0.0
        covisit_rows.clear(state.covisit, slot)
        state.covisit.row_sum[slot, :] = 0.0
        state.covisit.column_sum[slot, :] = 0.0
        state.covisit.stale[slot] = 1
