"""Why an item is on a user's list: by source, by history item, and what the policy changed.

In: a recommender and a user in its memory. Out: an `Explanation`. Nothing is learned and no list is published.

What is computed, exactly:

* *By source.* The blended score is Σ_f weight_f · feature_f and what the blend's layer adds (`together`: it belongs to
  no single source); each feature is centred over the user's candidates, so a part says how far a source lifts the item
  above the average candidate. The parts add up to the score.
* *By history item, of the whole score.* Leave-one-out: all stored events of the item are taken away, the candidates and
  the blend's weights stay, what reads the history is asked again (co-visitation, SLIM and asymmetric MF with the
  shorter history, the Transformer with the shorter sequence encoded anew), and the score falls by `loss`. It is
  no attention weight. Explicit MF is one vector a user, learned as ratings came: no single item can be taken out of
  it, so it has a part by source and none by history item; so have popularity and age, which read no history.
* *By history item, of the additive sources.* A reading of the co-visitation is a sum over the history, and so is the
  logit of asymmetric MF, but for the item's bias, and so is SLIM: `terms` are the summands themselves, as shares of the
  reading's sum, in the logit's units, and as SLIM's weights, which can speak against an item. The blend takes a
  logarithm of the first, so they say the same as `loss` in order only.
* *The policy.* The list without one of its rules: what would be listed if the user's own items were not blocked, what
  would be if everything were available, and what the blend would put where the lot puts new items. Who is drawn can't
  be said: that depends on the place in the log of the event that a list is made for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.base import F32, F64, I32, Bool
from models.explanation import lot, rescored
from models.explanation.histories import leave_one_out
from models.explanation.lot import Lot
from models.online.covisit_rows import LANES, SLIM
from models.pipeline.candidates import Scratch
from models.pipeline.recommender import Recommender, View
from models.state import totals
from models.state.learned import State
from models.state.sequences import HISTORY

TOGETHER = "together"
"""The part of what the blend's layer makes of all features together."""
HAD, UNAVAILABLE = "had already", "not available"
BY_LOT, IN_LOT = "the place is given by lot", "the place is given by lot, and it may be drawn"
THE_LOT = "the lot"


@dataclass(frozen=True, slots=True)
class Cause:
    """What one item of the history does for a candidate; `loss` and `by_source` are the score's fall without it."""

    item: int
    loss: float
    by_source: dict[str, float]
    terms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explained:
    """One candidate. `place` counts from 1, None where it is beyond the list; `causes` begin with the largest."""

    item: int
    place: int | None
    score: float
    source: str
    proposed_by: list[str]
    parts: dict[str, float]
    causes: list[Cause]


@dataclass(frozen=True, slots=True)
class Withheld:
    """An item that would stand at `place` if it were not held back for this reason."""

    item: int
    place: int
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one user's list as it would be made now; items are numbers. `lot` is None where no place is given by lot."""

    history: list[int]
    explained: list[Explained]
    withheld: list[Withheld] = field(default_factory=list)
    lot: Lot | None = None


class UnknownItemError(ValueError):
    """The item has no row: nothing was learned of it."""


def explain(recommender: Recommender, user: int, item: int | None = None) -> Explanation:
    """Explain the list of the user in slot `user`, or of item number `item` alone, listed or not.

    Raises:
        UnknownItemError: nothing is known of `item`.
    """
    return _Explainer(recommender, user).explain(item)


class _Explainer:
    def __init__(self, recommender: Recommender, user: int) -> None:
        self.names, self.sources = (*recommender.features, TOGETHER), len(recommender.sources)
        self.users, self.user = recommender.users, user
        self.teaching = recommender.actions.weights
        self.view: View = recommender.view()
        self.slots = int(self.view.state.totals[totals.SLOTS_USED])
        self.clock = int(self.view.state.totals[totals.ACCEPTED])
        self.variants, self.items = leave_one_out(self.users, user)
        everyone = np.arange(1 + len(self.items), dtype=np.int32)
        self.vectors = recommender.vectors_of(self.variants, everyone)
        self.histories = [self._history(int(v)) for v in everyone]
        self.gap = self.variants.history(0, self.teaching, np.zeros(HISTORY, np.int32))[1]
        c = self.users.columns
        n = int(c.seq_n[user])
        self.scenario = int(recommender.actions.scenarios[c.seq_action[user, n - 1]]) if n else 0

    def explain(self, item: int | None) -> Explanation:
        candidates, free = self._propose(self.view.state, blocking=True)
        proposed = len(candidates)
        new = lot.new_items(self.view.state, self.view.fixed, self._blocked())
        _, scores = self._rescore(candidates, 0)
        blended = self._best(candidates, scores)
        listed, by_lot = lot.share(self.view.state, self.view.fixed, blended, new)
        wanted = listed
        if item is not None:
            slot = int(self.view.slot_of[item]) if 0 <= item < len(self.view.slot_of) else -1
            if slot < 0:
                raise UnknownItemError(f"no item has the number {item}")
            wanted = [slot]
            if slot not in candidates:
                candidates = np.append(candidates, np.int32(slot))
        at = [int(np.flatnonzero(candidates == slot)[0]) for slot in wanted]
        runs = [self._rescore(candidates, v) for v in range(len(self.histories))]
        parts = np.stack([p[at] for p, _ in runs])  # [1 + items, wanted, F + 1]
        self._rescore(candidates, 0)  # the scratch is the whole history's again
        explained = [
            Explained(
                item=self._number(slot),
                place=listed.index(slot) + 1 if slot in listed else None,
                score=float(parts[0, j].sum()),
                source=self.names[int(parts[0, j, : self.sources].argmax())],
                proposed_by=self._proposers(slot, at[j], proposed, free)
                + ([THE_LOT] if by_lot and new[slot] and slot not in listed else []),
                parts=self._named(parts[0, j]),
                causes=self._causes(slot, parts[:, j]),
            )
            for j, slot in enumerate(wanted)
        ]
        withheld = [
            Withheld(self._number(slot), place, IN_LOT if new[slot] else BY_LOT)
            for place, slot in enumerate(blended, 1)
            if slot not in listed
        ]
        withheld += self._withheld(len(listed))
        return Explanation(self.items.tolist(), explained, withheld, by_lot)

    # -- pieces ------------------------------------------------------------------------------------------------
    def _history(self, variant: int) -> I32:
        items = np.zeros(HISTORY, np.int32)
        n, _ = self.variants.history(variant, self.teaching, items)
        return items[:n]

    def _propose(self, state: State, *, blocking: bool) -> tuple[I32, int]:
        v, history = self.view, self.histories[0]
        count, free = rescored.propose(
            state, v.fixed, v.scratch, self.users.columns, self.users.seen, v.slot_of, self.slots, self.user,
            history, len(history), self.vectors[0], v.reranked, self.scenario, blocking,
        )  # fmt: skip
        return v.scratch.slots[:count].copy(), free

    def _rescore(self, candidates: I32, variant: int) -> tuple[F64, F32]:
        """Each candidate's parts [c, F + 1] and score [c] for one of the histories."""
        v, history, c = self.view, self.histories[variant], self.users.columns
        rescored.rescore(
            v.state, v.fixed, v.scratch, v.slot_of, self.slots, candidates, history, len(history),
            c.mf[self.user], int(c.mf_n[self.user]), self.vectors[variant], v.reranked, self.clock,
            self.scenario, self.users.events(self.user), self.gap,
        )  # fmt: skip
        x: Scratch = v.scratch
        n = len(candidates)
        scores: F32 = x.scores[:n].copy()
        linear = x.features[:n].astype(np.float64) * x.blend.weights
        return np.column_stack([linear, scores - linear.sum(axis=1)]), scores

    def _best(self, candidates: I32, scores: F32) -> list[int]:
        ties = self.view.state.items.order[candidates]
        order = np.lexsort((ties, -scores.astype(np.float64)))
        best: list[int] = candidates[order[: self.view.fixed.k]].tolist()
        return best

    def _causes(self, slot: int, scaled: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[Cause]:
        fall = scaled[0] - scaled[1:]  # [items, F]
        terms = self._terms(slot)
        causes = [
            Cause(item, float(fall[m].sum()), self._named(fall[m]), terms[item])
            for m, item in enumerate(self.items.tolist())
        ]
        return sorted(causes, key=lambda cause: -cause.loss)

    def _terms(self, slot: int) -> dict[int, dict[str, float]]:
        """Each history item's summands; an item that comes more than once has the sum of all its own."""
        v, history = self.view, self.histories[0]
        readings, ranking = np.zeros((len(history), LANES)), np.zeros(len(history))
        rescored.parts(v.state, v.fixed, v.scratch, len(history), slot, readings, ranking)
        sums = readings.sum(axis=0)
        found: dict[int, dict[str, float]] = {item: {} for item in self.items.tolist()}
        lanes = v.fixed.readings.lanes.tolist()
        for k, item in enumerate(history.tolist()):
            terms = found[item]
            for q, lane in enumerate(lanes):
                if sums[lane] > 0.0:
                    share = float(readings[k, lane] / sums[lane])
                    terms[self.names[q]] = terms.get(self.names[q], 0.0) + share
            terms["slim"] = terms.get("slim", 0.0) + float(readings[k, SLIM])
            terms["asymmetric-mf"] = terms.get("asymmetric-mf", 0.0) + float(ranking[k])
        return found

    def _proposers(self, slot: int, at: int, proposed: int, free: int) -> list[str]:
        """Which retrievals would have brought the item on their own."""
        v = self.view
        if at >= proposed:
            return []
        found = ["co-visitation"] if at < min(v.fixed.candidates, free) else []
        readings = len(v.fixed.readings.lanes)
        x, mark = v.scratch, self._mark_blocked()
        tops = list(enumerate(v.state.popularity.top))
        if self.scenario:
            tops.append((v.fixed.baseline, v.state.here.top[self.scenario - 1]))
        for p, top in tops:
            shown = [
                s for s in top.tolist() if s >= 0 and x.blocked[s] != mark and v.state.items.available[s]
            ]
            if slot in shown[: v.fixed.popular]:
                found.append(self.names[readings + p])
        return list(dict.fromkeys(found)) or ["the whole catalogue"]

    def _mark_blocked(self) -> int:
        """Block what the user had under a fresh mark."""
        self._propose(self.view.state, blocking=True)
        return int(self.view.scratch.mark[0])

    def _blocked(self) -> Bool:
        """Which slots are blocked under the present mark."""
        blocked: Bool = self.view.scratch.blocked == self.view.scratch.mark[0]
        return blocked

    def _withheld(self, places: int) -> list[Withheld]:
        """What would be at one of the first places."""
        state = self.view.state
        self._mark_blocked()
        had = self._blocked()
        all_there = state.items.available.copy()
        all_there[state.items.number >= 0] = 1
        everything = state._replace(items=state.items._replace(available=all_there))
        missing = state.items.available == 0
        return [
            Withheld(self._number(slot), place, reason)
            for reason, learned, blocking, held in (
                (UNAVAILABLE, everything, True, missing),
                (HAD, state, False, had),
            )
            for place, slot in enumerate(self._best_of(learned, blocking=blocking)[:places], 1)
            if held[slot]
        ]

    def _best_of(self, state: State, *, blocking: bool) -> list[int]:
        candidates, _ = self._propose(state, blocking=blocking)
        _, scores = self._rescore(candidates, 0)
        return self._best(candidates, scores)

    def _number(self, slot: int) -> int:
        return int(self.view.state.items.number[slot])

    def _named(self, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.names, values, strict=True)}
