"""The events after a candidate's cut, on which two snapshots are compared.

In: events in log order, with the user's sequence and the cheap candidates as they were just before each.
Out: NDCG@10 of each scored event when a snapshot re-ranks those candidates. Bounded, whether events are scored or not.
Never learns, and never knows which of two snapshots is the newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.base import F32, F64, I32, I64, U8
from models.sequence.encode import Events
from models.sequence.stored_events import gaps_after

K = 10
CHUNK = 128
MOST_PER_SCORED = 20
"""Events, and users, that are kept for each of those to be scored: where hardly any can be, the window ends without."""


class Sequences(NamedTuple):
    """Events, one row each, a user's oldest first: item number, action code, rating or NaN, ms UTC."""

    item: I32
    action: U8
    value: F32
    ts: I64


class Scorer(Protocol):
    """What is asked of a snapshot (`models.sequence.reranker.Reranker` is one)."""

    @property
    def item_vectors(self) -> F32: ...
    @property
    def item_bias(self) -> F32: ...
    def rows(self, item_ids: Sequence[str]) -> I32: ...
    def action_codes(self, names: Sequence[str]) -> I32: ...
    def encode_block(
        self, users: I64, events: Events, context: Events, offsets: I64, user_ids: Sequence[str] = ()
    ) -> tuple[F32, F32]: ...


class Names(Protocol):
    """What the numbers in a window stand for."""

    def item_ids(self, numbers: I32) -> list[str]: ...
    def action_names(self) -> list[str]: ...


@dataclass(slots=True)
class GateWindow:
    """Collects until `size` events are scored, or `MOST_PER_SCORED` times as many are here.

    An event is scored when its user is known and had not had the item, its type teaches positively, and so
    there was something to predict. Events that are not scored still belong to their user's sequence.
    """

    size: int
    _users: dict[str, int] = field(default_factory=dict)
    _context: list[Sequences] = field(default_factory=list)
    _user: list[int] = field(default_factory=list)
    _events: list[tuple[int, int, float, int]] = field(default_factory=list)
    _scored: list[int] = field(default_factory=list)
    _candidates: list[I32] = field(default_factory=list)
    _ids: dict[int, str] | None = None
    _actions: list[str] = field(default_factory=list)

    @property
    def scored(self) -> int:
        return len(self._scored)

    @property
    def full(self) -> bool:
        """Whether no more events are taken."""
        held = max(len(self._user), len(self._context))
        return self.scored >= self.size or held >= MOST_PER_SCORED * self.size or self._ids is not None

    def knows(self, user: str) -> bool:
        """Whether the user's sequence at the window's start is already here."""
        return user in self._users

    def meet(self, user: str, sequence: Sequences) -> None:
        """Keep a user's sequence as it is before their first event of this window; a full one keeps no more."""
        if self.full:
            return
        self._users[user] = len(self._context)
        self._context.append(
            Sequences(sequence.item.copy(), sequence.action.copy(), sequence.value.copy(), sequence.ts.copy())
        )

    def add(self, user: str, item: int, action: int, value: float, ts: int, candidates: I32 | None) -> None:
        """Add an event; `candidates` (item numbers, made just before it) where it is to be scored.

        A full window takes none: what comes after its last scored event is of no use to it.
        """
        if self.full:
            return
        if candidates is not None:
            self._scored.append(len(self._user))
            self._candidates.append(candidates.astype(np.int32, copy=True))
        self._user.append(self._users[user])
        self._events.append((item, action, value, ts))

    def close(self, names: Names) -> None:
        """Take no more events, and learn what the numbers stand for while whoever gave them still knows."""
        if self._ids is None:
            held: list[npt.ArrayLike] = [
                *self._candidates,
                *(c.item for c in self._context),
                [e[0] for e in self._events],
            ]
            numbers = (
                np.unique(np.concatenate(held).astype(np.int32)) if self._events else np.zeros(0, np.int32)
            )
            self._ids = dict(zip(numbers.tolist(), names.item_ids(numbers), strict=True))
            self._actions = names.action_names()

    def ndcg(self, snapshot: Scorer) -> F64:
        """NDCG@10 of each scored event, float64 [scored], 0 where the target is no candidate.

        A candidate that the snapshot lacks ranks behind all that it has; ties never favour the target.
        """
        assert self._ids is not None, "the window is still open"
        if not self._scored:
            return np.zeros(0)
        width = max(len(c) for c in self._candidates)
        items = np.full((len(self._scored), width), -1, np.int32)
        for row, candidates in zip(items, self._candidates, strict=True):
            row[: len(candidates)] = candidates
        n = self._scored[-1] + 1
        fresh = Sequences(*(np.array(column) for column in zip(*self._events[:n], strict=True)))
        held = Sequences(*(np.concatenate(column) for column in zip(*self._context, strict=True)))
        row_of = self._rows(snapshot, self._ids)
        before = self._before(snapshot, row_of, fresh, held)[self._scored]
        targets = fresh.item[self._scored]
        found = np.zeros(len(self._scored))
        for start in range(0, len(found), CHUNK):
            part = slice(start, start + CHUNK)
            rows = row_of[items[part]]
            scores = np.einsum("ncd,nd->nc", snapshot.item_vectors[rows], before[part])
            scores = np.where(rows < 0, -np.inf, scores + snapshot.item_bias[rows])
            found[part] = ndcg_of(scores, items[part], targets[part])
        return found

    def scored_users(self) -> I64:
        """A number for the user of each scored event, int64 [scored]."""
        return np.array([self._user[at] for at in self._scored], np.int64)

    def _rows(self, snapshot: Scorer, ids: dict[int, str]) -> I32:
        """The snapshot's row of each item number; -1 for one that it lacks, and for number -1."""
        row_of = np.full(max(ids, default=0) + 2, -1, np.int32)
        row_of[list(ids)] = snapshot.rows(list(ids.values()))
        return row_of

    def _before(self, snapshot: Scorer, row_of: I32, fresh: Sequences, held: Sequences) -> F32:
        lengths = np.array([len(c.item) for c in self._context], np.int64)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
        owners = np.repeat(np.arange(len(lengths)), lengths)
        users = np.array(self._user[: len(fresh.item)], np.int64)
        never = np.full(len(lengths), -1, np.int64)
        last = np.where(lengths > 0, np.append(held.ts, -1)[offsets[1:] - 1], -1)
        codes = snapshot.action_codes(self._actions)

        def events(rows: Sequences, of: I64, before: I64) -> Events:
            return Events(
                row_of[rows.item],
                codes[rows.action],
                rows.value.astype(np.float32),
                gaps_after(of, rows.ts, before),
            )

        vectors, _ = snapshot.encode_block(
            users, events(fresh, users, last), events(held, owners, never), offsets, list(self._users)
        )
        return vectors


def ndcg_of(scores: F32, items: I32, targets: I32, k: int = K) -> F64:
    """NDCG@k of one relevant item a row; -1 in `items` [n, m] is no item. Ties rank before the target.

    >>> scores = np.array([[3, 2, 1], [1, 1, 0]], np.float32)
    >>> ndcg_of(scores, np.array([[7, 8, 9], [7, 8, 9]]), np.array([7, 7])).round(3).tolist()
    [1.0, 0.631]
    """
    is_target = items == targets[:, None]
    target = np.max(np.where(is_target, scores, -np.inf), axis=1, initial=-np.inf)
    ahead = ((scores >= target[:, None]) & ~is_target & (items >= 0)).sum(axis=1)
    return np.where(is_target.any(axis=1) & (ahead < k), 1.0 / np.log2(ahead + 2.0), 0.0)
