"""The pipeline's own steps, one by one: what is proposed for a history, and what all sources say of given candidates.

In: the learned state, a history. Out: what `models.pipeline` leaves in its scratch. Changes nothing that was learned.
"""

from __future__ import annotations

import numpy as np

from models.base import F32, F64, I32
from models.kernels import kernel
from models.online import asymmetric_mf, blend, covisit_readings, covisit_sums
from models.online.covisit_rows import HALF, LANES, SLIM, find
from models.pipeline import policy
from models.pipeline.candidates import Reranked, Scratch, retrieve
from models.pipeline.features import describe
from models.pipeline.fixed import Fixed
from models.state.learned import State
from models.state.sequences import UserColumns


@kernel
def propose(
    state: State, fixed: Fixed, x: Scratch, users: UserColumns, seen: I32, slot_of: I32, slots: int, u: int,
    history: I32, n: int, vector: F32, reranked: Reranked, scenario: int, blocking: bool,
) -> tuple[int, int]:  # fmt: skip
    """Fill `x.slots` with the candidates: their number, and how many the co-visitation had to choose from.

    `blocking`: what the user had is left out, as in a list.
    """
    x.mark[0] += 1
    mark = x.mark[0]
    if blocking and not fixed.repeats:
        policy.block_seen(
            x.blocked, mark, slot_of, seen, users.seen_at[u], users.seen_class[u], users.seen_n[u], fixed.seen
        )
    count, touched = retrieve(state, fixed, x, slots, slot_of, history, n, vector, reranked, mark, scenario)
    free = 0
    for t in range(touched):
        if policy.allowed(x.blocked, mark, state.items.available, x.touched[t]):
            free += 1
    return count, free


@kernel
def rescore(
    state: State, fixed: Fixed, x: Scratch, slot_of: I32, slots: int, candidates: I32, history: I32, n: int,
    user_mf: F32, rated: int, vector: F32, reranked: Reranked, clock: int, scenario: int,
    events: int, gap: int,
) -> None:  # fmt: skip
    """Fill `x.features`, `x.scores` and the blend's weights for these candidates [c] and any history."""
    x.mark[0] += 1
    mark, count = x.mark[0], len(candidates)
    for k in range(n):
        x.history[k] = slot_of[history[k]]
    r, c = fixed.readings, state.covisit
    covisit_readings.coefficients(c, r, x.history, n, x.coefficient, x.base)
    covisit_sums.accumulate(
        c, x.history, min(n, r.any_items), r.second_items,
        x.coefficient, x.sums, slots, x.stamp, mark, x.touched,
    )  # fmt: skip
    mass, total = state.popularity.mass[:, fixed.plain], state.popularity.total[fixed.plain]
    covisit_readings.finish(c, r, candidates, count, mass, total, x.base, x.sums.of, x.stamp, mark)
    for j in range(count):
        x.slots[j] = candidates[j]
    describe(state, fixed, x, count, n, user_mf, rated, vector, reranked, clock, scenario)
    blend.situate(state.blend, events, gap, x.blend)
    blend.score(state.blend, x.blend, x.features, count, x.scores)


@kernel
def parts(state: State, fixed: Fixed, x: Scratch, n: int, slot: int, readings: F64, ranking: F64) -> None:
    """What each history item adds to one candidate, exactly; to be asked right after `rescore`.

    Args:
        n: length of the history.
        readings: [n, LANES], filled with the terms of each reading's sum: it is their sum over the history.
        ranking: [n], filled with the terms of asymmetric MF's logit: it is their sum and the item's bias.
    """
    r, c, pop = fixed.readings, state.covisit, state.popularity
    total = pop.total[fixed.plain]
    back = r.popularity * r.shrinkage * pop.mass[slot, fixed.plain] / total if total > 0.0 else 0.0
    weight = 1.0
    length = asymmetric_mf.user_vector(state.amf, x.history, n, fixed.amf.items, fixed.amf.decay, x.user)
    readings[:] = 0.0
    ranking[:] = 0.0
    for k in range(n):
        row = x.history[k]
        if row < 0:
            weight *= fixed.amf.decay
            continue
        p = find(c, row, slot)
        for lane in range(LANES):
            pair = 0.0
            if p >= 0:
                pair = np.float64(c.first[c.at[row] + p] if lane < HALF else c.second[c.at[row] + p])
            if lane == SLIM:
                readings[k, lane] = x.coefficient[k, lane] * c.learned[c.at[row] + p] if p >= 0 else 0.0
                continue
            readings[k, lane] = x.coefficient[k, lane] * (pair + back) * c.column_factor[slot, lane]
        if k < fixed.amf.items and length > 0.0:
            ranking[k] = weight * asymmetric_mf.dot(state.amf.x[row], state.amf.y[slot]) / length
        weight *= fixed.amf.decay
