"""One list: candidates, what every source says of them, the best, and why each of them is there.

In: one user's history and vectors, the learned state. Out: a row of the output, the lists of the baselines, the running
totals of what lists are like. It learns nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models import selection
from models.base import F32, I32, I64, U8, U64
from models.kernels import inner
from models.online import asymmetric_mf, blend, covisit_readings, popularity
from models.pipeline import policy
from models.pipeline.candidates import Reranked, Scratch, retrieve
from models.pipeline.evaluation import Baselines, baseline_lists, item_numbers, listed_numbers, measure_list
from models.pipeline.exploration import explore
from models.pipeline.features import describe
from models.pipeline.fixed import Fixed
from models.state import totals
from models.state.learned import State
from models.state.sequences import UserColumns


class Output(NamedTuple):
    """Lists, one row each."""

    event: I64
    items: I32
    scores: F32
    source: U8
    because: I32
    revision: I64
    n: I64  # [1]


def new_output(rows: int, k: int) -> Output:
    """Room for so many lists of k items."""
    return Output(
        event=np.zeros(rows, np.int64), items=np.full((rows, k), -1, np.int32),
        scores=np.zeros((rows, k), np.float32), source=np.zeros((rows, k), np.uint8),
        because=np.full((rows, k), -1, np.int32), revision=np.zeros(rows, np.int64), n=np.zeros(1, np.int64),
    )  # fmt: skip


@inner(here=True)
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
    scenario: int,
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
    stream: U64,
) -> int:
    """Make one list; how many candidates it had, which stay in the scratch with their features."""
    items, t = state.items, state.totals
    x.mark[0] += 1
    mark = x.mark[0]
    if not fixed.repeats:
        policy.block_seen(
            x.blocked, mark, slot_of, seen, users.seen_at[u], users.seen_class[u], seen_n, fixed.seen
        )
    count, touched = retrieve(state, fixed, x, slots, slot_of, history, n, vector, reranked, mark, scenario)
    row = out.n[0]
    out.n[0] += 1
    users.dirty[u] = 1
    out.event[row], out.revision[row] = event, users.revision[u]
    if baselines.on:
        baseline_lists(
            state,
            fixed,
            x,
            slots,
            touched,
            n,
            users.mf[u],
            vector,
            reranked,
            mark,
            scenario,
            baselines.lists[u],
        )
    filled = popularity.exact_top(
        state.popularity, fixed.baseline, slots, x.blocked, mark, items.order, items.available, x.best, x.best_mass
    )  # fmt: skip
    item_numbers(items.number, x.best, filled, users.served_popular[u])
    clock = int(t[totals.ACCEPTED])
    describe(state, fixed, x, count, n, users.mf[u], users.mf_n[u], vector, reranked, clock, scenario)
    blend.situate(state.blend, events, gap, x.blend)
    blend.score(state.blend, x.blend, x.features, count, x.scores)
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
            x.dense[j], x.features[j, transformer] = x.features[j, transformer], theirs
        blend.score(state.blend, x.blend, x.features, count, x.values)
        for j in range(count):
            x.features[j, transformer] = x.dense[j]
            filled = selection.offer(x.best, x.best_score, filled, x.slots[j], x.values[j], order)
        item_numbers(items.number, x.best, filled, users.served_frozen[u])
    elif in_sample:
        users.served_frozen[u, :] = -1
    filled = 0
    top, total = np.float32(-1e30), 0.0
    for j in range(count):
        filled = selection.offer(x.best, x.best_score, filled, x.slots[j], x.scores[j], order)
        top = max(top, x.scores[j])
    explored = 0
    if fixed.explored > 0:
        filled, explored = explore(state, fixed, x, slots, slot_of, history, n, mark, filled, stream)
    listed_numbers(state, x.best, filled, users.served[u])
    if in_sample and not frozen.on:
        listed_numbers(state, x.best, filled, users.served_frozen[u])
    measure_list(t, state, fixed, x, filled)
    listed_numbers(state, x.best, filled, out.items[row])
    if not explain:
        return int(count)
    for j in range(count):
        total += math.exp(x.scores[j] - top)
        x.dense[x.slots[j]] = j
    sources = transformer + 1
    covisit_readings.strongest(
        state.covisit, fixed.readings, x.history, n, x.best, filled - explored, x.coefficient,
        x.strength, x.cause,
    )  # fmt: skip
    for j in range(fixed.k):
        out.scores[row, j] = 0.0
        out.because[row, j] = -1
        if j >= filled:
            continue
        slot = x.best[j]
        if j >= filled - explored:
            out.scores[row, j], out.source[row, j] = x.best_score[j], sources
            continue
        out.scores[row, j] = math.exp(x.best_score[j] - top) / total
        at = int(x.dense[slot])
        best_source, best_part = 0, np.float32(-1e30)
        for f in range(sources):
            part = x.blend.weights[f] * x.features[at, f]
            if part > best_part:
                best_source, best_part = f, part
        out.source[row, j] = best_source
        if readings <= best_source < readings + lives:
            continue  # it is popular, whatever the user had
        if x.cause[j] >= 0:
            out.because[row, j] = history[x.cause[j]]
    return int(count)
