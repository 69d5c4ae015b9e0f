"""A model of the family where the worker re-ranks: in the Transformer's place, by a setting.

In: a snapshot of the model, the user table as it is, event batches. Out: each event's user before and after it as a
vector, whose product with an item's vector is the model's score, as the recommender takes them. Never learns.

Where a model's scores are products already (`Factored`), these are the vectors. For any other, a user's vector are
the scores of all items, and the items' vectors are those of the identity, which bounds their number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from models.base import F32, I32, I64, Bool, EventBatch
from models.family.contract import NOBODY, Factored, Queries
from models.family.serving.snapshot import FamilySnapshot
from models.sequence.encode import Events
from models.sequence.snapshot import SnapshotError
from models.sequence.stored_events import Stored
from models.state.users import UserTable
from models.vocabulary import Actions, codes_of, parted, row_of

MOST_ITEMS = 4096
"""Of a model without factors: the identity of so many takes 64 MiB."""
History: TypeAlias = list[tuple[int, float, int, int]]
"""A user's events, oldest first: item row, value, ts, number of the kind of event."""
LOWEST = -1e4
"""Stands for a score of -inf, which no product of finite vectors is."""


@dataclass(slots=True)
class _Asked:
    """Histories that vectors are wanted of, as lists; `kinds` are the model's codes of each kind: action, scenario."""

    kinds: tuple[I32, I32]
    user: list[int] = field(default_factory=list)
    rows: list[History] = field(default_factory=list)

    def add(self, user: int, history: History) -> int:
        """Its number; what the model does not know, or did not learn from, is left out."""
        self.user.append(user)
        self.rows.append([entry for entry in history if entry[0] >= 0 and entry[3] >= 0])
        return len(self.rows) - 1

    def queries(self) -> Queries:
        """As the model is asked."""
        n, length = len(self.rows), max(map(len, self.rows), default=0)
        asked = Queries(
            np.array(self.user, np.int32),
            np.full((n, max(length, 1)), NOBODY, np.int32),
            np.full((n, max(length, 1)), np.nan, np.float32),
            np.zeros((n, max(length, 1)), np.int64),
        )
        for at, history in enumerate(self.rows):
            if history:
                items, values, ts, kinds = zip(*history, strict=True)
                part = slice(-len(history), None)
                asked.items[at, part], asked.values[at, part] = items, values
                asked.ts[at, part] = ts
                asked.actions[at, part], asked.scenarios[at, part] = (
                    code[list(kinds)] for code in self.kinds
                )
        return asked


class FamilyReranker:
    """What the recommender asks of a snapshot (`models.pipeline.reranking.Reranker`).

    Attributes:
        item_vectors: float32 [V, d], a row an item code; item_bias: float32 [V].
    """

    def __init__(self, snapshot: FamilySnapshot, length: int) -> None:
        """`length` newest events of a user are shown to the model.

        Raises:
            SnapshotError: a model without factors has too many items.
        """
        self.model, manifest = snapshot.model, snapshot.manifest
        self.version, self.length = manifest.version, length
        self._item = {name: code for code, name in enumerate(manifest.item_ids[: self.model.n_items])}
        self._user = {name: code for code, name in enumerate(manifest.user_ids) if name}
        wherever = dict.fromkeys(parted(kind)[0] for kind in manifest.actions)
        kinds = list(dict.fromkeys((*manifest.actions, *wherever)))
        self._action = {name: code for code, name in enumerate(kinds, 1)}
        self.kinds = codes_of(kinds)
        if isinstance(self.model, Factored):
            factors = self.model.factors()
        else:
            n = self.model.n_items
            if n > MOST_ITEMS:
                raise SnapshotError(
                    f"snapshot {manifest.version}: {self.model.name} scores every item at once, and can re-rank at most"
                    f" {MOST_ITEMS} items, not {n}; take a model with vectors of items (sasrec, gru4rec, unified, …)"
                )
            factors = np.eye(n, dtype=np.float32), np.zeros(n, np.float32)
        self.item_vectors: F32 = np.ascontiguousarray(factors[0], np.float32)
        self.item_bias: F32 = np.ascontiguousarray(factors[1], np.float32)

    def rows(self, item_ids: Sequence[str]) -> I32:
        """Row of each item, int32 [n]; -1 for one that the snapshot lacks."""
        return np.array([self._item.get(name, -1) for name in item_ids], np.int32)

    def action_codes(self, names: Sequence[str]) -> I32:
        """1 + the number of each kind of event, int32 [n]; 0 for one that the model did not learn from."""
        return np.array([row_of(name, self._action) for name in names], np.int32)

    def user_codes(self, names: Sequence[str]) -> list[int]:
        """The code of each user; NOBODY for one that the model does not know."""
        return [self._user.get(name, NOBODY) for name in names]

    def vectors(self, queries: Queries) -> F32:
        """The users' side of the scores, float32 [n, d]."""
        if not len(queries):
            return np.zeros((0, self.item_vectors.shape[1]), np.float32)
        if isinstance(self.model, Factored):
            return self.model.embed(queries)
        return np.maximum(self.model.score(queries), np.float32(LOWEST))

    def plan(
        self, users: UserTable, batch: EventBatch, row_of: I32, actions: Actions, wanted: Bool | None = None
    ) -> FamilyPlan:
        """Take what is needed of the users as they are now; `row_of` [item numbers] gives each item's row."""
        return FamilyPlan(self, users, batch, row_of, self._of_action(actions), wanted)

    def current(self, users: UserTable, slots: I32, row_of: I32, actions: Actions) -> F32:
        """The users' vectors as they are now, float32 [n, d]."""
        asked, of_action = _Asked(self.kinds), self._of_action(actions)
        held = histories(users, slots.astype(np.int64), row_of, of_action, self.length)
        for code, history in zip(self.user_codes([users.id_of(int(s)) for s in slots]), held, strict=True):
            asked.add(code, history)
        return self.vectors(asked.queries())

    def encode_block(
        self, users: I64, events: Events, context: Events, offsets: I64, user_ids: Sequence[str] = ()
    ) -> tuple[F32, F32]:
        """The vectors [n, d] of each event's user before and after it (arguments: `models.sequence.encode`).

        Times are counted from each user's first event here: what a model makes of the calendar is not asked for.
        """
        codes = self.user_codes(user_ids) if user_ids else [NOBODY] * (len(offsets) - 1)
        held = [self._history(context, slice(int(a), int(b))) for a, b in pairwise(offsets)]
        clock = [history[-1][2] if history else 0 for history in held]
        asked, last = _Asked(self.kinds), [-1] * len(held)
        before, after = np.empty(len(events), np.int64), np.empty(len(events), np.int64)
        for at, u in enumerate(users.tolist()):
            if last[u] < 0:
                last[u] = asked.add(codes[u], held[u][-self.length :])
            before[at] = last[u]
            clock[u] += max(int(events.gaps[at]), 0)
            held[u].append(
                (int(events.rows[at]), float(events.values[at]), clock[u], int(events.actions[at]) - 1)
            )
            last[u] = asked.add(codes[u], held[u][-self.length :])
            after[at] = last[u]
        vectors = self.vectors(asked.queries())
        return vectors[before], vectors[after]

    def _history(self, events: Events, rows: slice) -> History:
        clock = np.cumsum(np.maximum(events.gaps[rows], 0)).tolist()
        actions = (events.actions[rows] - 1).tolist()
        return list(
            zip(events.rows[rows].tolist(), events.values[rows].tolist(), clock, actions, strict=True)
        )

    def _of_action(self, actions: Actions) -> I32:
        of_action = np.zeros(256, np.int32)
        for name, code in actions.codes.items():
            of_action[code] = row_of(name, self._action)
        return of_action


def histories(users: UserTable, slots: I64, row_of: I32, of_action: I32, length: int) -> list[History]:
    """The newest events of each user; row or action is below 0 for what the model does not know."""
    stored = Stored.take(users, slots, np.full(len(slots), length))
    rows, actions = row_of[stored.item], of_action[stored.action]
    entries = list(
        zip(rows.tolist(), stored.value.tolist(), stored.ts.tolist(), (actions - 1).tolist(), strict=True)
    )
    return [entries[a:b] for a, b in pairwise(stored.offsets.tolist())]


class FamilyPlan:
    """The vectors of one batch: histories are taken before the user table advances, and asked for after it."""

    def __init__(
        self,
        reranker: FamilyReranker,
        users: UserTable,
        batch: EventBatch,
        row_of: I32,
        of_action: I32,
        wanted: Bool | None,
    ) -> None:
        self._reranker, self._n = reranker, len(batch)
        chosen = np.arange(self._n) if wanted is None else np.flatnonzero(wanted)
        slots, of = np.unique(batch.user[chosen].astype(np.int64), return_inverse=True)
        self._chosen, self._of = chosen.tolist(), of.tolist()
        self._held = histories(users, slots, row_of, of_action, reranker.length)
        self._codes = reranker.user_codes([users.id_of(slot) for slot in slots.tolist()])
        self._rows, self._actions = row_of[batch.item].tolist(), (of_action[batch.action] - 1).tolist()
        self._values, self._ts = batch.value.tolist(), batch.ts.tolist()

    def finish(self, accepted: Bool) -> tuple[F32, F32]:
        """Each event's user before and after it, [n, d]; rows of events that were not accepted mean nothing."""
        asked, last, length = _Asked(self._reranker.kinds), [-1] * len(self._held), self._reranker.length
        before, after = np.full(self._n, -1), np.full(self._n, -1)
        for at, u in zip(self._chosen, self._of, strict=True):
            if not accepted[at]:
                continue
            history = self._held[u]
            if last[u] < 0:
                last[u] = asked.add(self._codes[u], history)
            before[at] = last[u]
            entry = (self._rows[at], self._values[at], self._ts[at], self._actions[at])
            history.insert(bisect_right(history, entry[2], key=lambda one: one[2]), entry)
            del history[:-length]
            last[u] = asked.add(self._codes[u], history)
            after[at] = last[u]
        vectors = self._reranker.vectors(asked.queries())
        nothing = np.zeros((1, self._reranker.item_vectors.shape[1]), np.float32)
        vectors = np.concatenate((vectors, nothing))  # row -1
        return vectors[before], vectors[after]
