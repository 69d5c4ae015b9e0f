"""Scores every event against the list that its user had before it, from outside of the recommender.

In: batches with their outcomes, in the order of the stream. Out: for each event whether it is scored, at
which place its item stood and how long the user had been away; what was listed; and tables of these. It keeps
lists of its own and never asks the recommender, whose running counters can therefore be checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.base import ACCEPTED, F64, I32, I64, LATE, U8, Bool
from models.metrics import lists as metrics
from stream_app.backtests.report import Score, Slice

GAPS = (
    (1_000, "within a second"),
    (60_000, "up to a minute"),
    (3_600_000, "up to an hour"),
    (86_400_000, "up to a day"),
)
NO_GAP = 255
DIVERSITY_EVERY = 5
"""One list in so many is taken for the intra-list diversity."""

SKETCH = 64


@dataclass(slots=True)
class Marks:
    """What became of the events of a block, one row each.

    Attributes:
        scored: whether the event counts in HR and NDCG.
        rank: place of its item on the list, from 0; -1 for a miss (or no list).
        first: the user's first event; repeat: the user already had the item; dropped: a duplicate;
            disliked: the type of the event does not teach positively.
        gap: index into GAPS of the time since the user's last event, len(GAPS) above, NO_GAP for a first one.
        ordinal: accepted events of the user before this one.
    """

    scored: Bool
    rank: I32
    first: Bool
    repeat: Bool
    dropped: Bool
    disliked: Bool
    gap: U8
    ordinal: I64


class Prequential:
    """Keeps each user's newest list and what they had.

    An event is scored when its user is known, did not have its item, and its type teaches positively.

    Args:
        users: how many users the stream has; they are numbered 0 … users - 1.
        items: how many items at first; more may come.
        k: length of a list.
        features: a description of each item number, float [items, d], that intra-list diversity is measured
            on; None measures it on who had the items, as a random sketch of their users.
    """

    def __init__(self, users: int, items: int, k: int, *, features: F64 | None = None) -> None:
        self.lists = np.full((users, k), -1, np.int32)
        self.events = np.zeros(users, np.int64)
        self.last_ts = np.zeros(users, np.int64)
        self.had: set[int] = set()
        self.shown = np.zeros(items, np.int64)
        self.counts = np.zeros(items, np.int64)
        self.features = features
        self._sketch = np.zeros((items, SKETCH), np.float64)
        signs = np.random.default_rng(0).integers(0, 2, (users, SKETCH)) if features is None else None
        self._signs = None if signs is None else (2 * signs - 1).astype(np.int8)
        self.n_lists = 0
        self._distance, self._n_distance = 0.0, 0

    def mark(self, user: I32, item: I32, ts: I64, status: U8, liked: Bool) -> Marks:
        """Judge the events of a block, before its lists are known; call `place` next.

        Args:
            user: user number, int32 [n]; item: item number, int32 [n]; ts: event time in ms, int64 [n].
            status: as in `Outcome.status`.
            liked: whether the event's type teaches positively, bool [n]: a dislike is no target for a list.
        """
        n = len(user)
        counted = (status == ACCEPTED) | (status == LATE)
        order = np.argsort(user, kind="stable")
        order = order[counted[order]]
        grouped = user[order]
        starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]]) if len(order) else order
        lengths = np.diff(np.r_[starts, len(order)])
        within = np.arange(len(order)) - np.repeat(starts, lengths)
        ordinal = np.full(n, -1, np.int64)
        ordinal[order] = self.events[grouped] + within
        previous = np.zeros(n, np.int64)
        previous[order] = np.where(
            within > 0, np.r_[0, ts[order][:-1]] if len(order) else 0, self.last_ts[grouped]
        )
        first = counted & (ordinal == 0)
        gap = np.searchsorted([limit for limit, _ in GAPS], np.maximum(ts - previous, 0)).astype(np.uint8)
        gap[~counted | first] = NO_GAP
        self.events[grouped[starts]] += lengths
        if len(order):
            self.last_ts[grouped[starts]] = ts[order[starts + lengths - 1]]

        repeat = np.zeros(n, np.bool_)
        pairs = (user.astype(np.int64) << 32) | item
        for row in np.flatnonzero(counted):
            pair = int(pairs[row])
            if pair in self.had:
                repeat[row] = True
            else:
                self.had.add(pair)
        scored = counted & ~first & ~repeat & liked
        return Marks(
            scored, np.full(n, metrics.MISSED, np.int32), first, repeat, ~counted, ~liked, gap, ordinal
        )

    def place(self, marks: Marks, user: I32, item: I32, made_at: I64, made_for: I32, lists: I32) -> None:
        """Fill in the rank of each event on the newest list made before it.

        Args:
            made_at: row of the block after which each list was made, ascending, int64 [m].
            made_for: user number of each list, int32 [m].
            lists: item numbers, int32 [m, k].
        """
        n = len(user)
        keys = made_for.astype(np.int64) * (n + 1) + made_at
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        newest = np.searchsorted(keys, user.astype(np.int64) * (n + 1) + np.arange(n)) - 1
        inside = newest >= 0
        inside[inside] = keys[newest[inside]] // (n + 1) == user[inside]
        in_force = self.lists[user]
        in_force[inside] = lists[order[newest[inside]]]
        marks.rank[:] = np.where(marks.scored, metrics.ranks(in_force, item), metrics.MISSED)
        self.publish(made_for, lists)
        self._learn(user[~marks.dropped], item[~marks.dropped])

    def publish(self, made_for: I32, lists: I32) -> None:
        """Lists become what their users have; of several for a user the last one stays."""
        if not len(lists):
            return
        self._grow(int(lists.max()) + 1)
        self.lists[made_for] = lists
        listed = lists[lists >= 0]
        self.shown += np.bincount(listed, minlength=len(self.shown))
        sample = lists[(-self.n_lists) % DIVERSITY_EVERY :: DIVERSITY_EVERY]
        self.n_lists += len(lists)
        distance = metrics.diversity(sample, self._vectors())
        distance = distance[np.isfinite(distance)]
        self._distance += float(distance.sum())
        self._n_distance += len(distance)

    def forget(self, user: int) -> None:
        """The user was erased."""
        self.lists[user] = -1
        self.events[user] = 0
        self.had = {pair for pair in self.had if pair >> 32 != user}

    def coverage(self) -> float:
        """Share of the items that occurred (or were listed) which were on a list."""
        return metrics.coverage(self.shown, int(np.count_nonzero((self.counts > 0) | (self.shown > 0))))

    def diversity(self) -> float:
        """Mean intra-list diversity of the sampled lists."""
        return self._distance / self._n_distance if self._n_distance else float("nan")

    def _vectors(self) -> F64:
        if self.features is None:
            return self._sketch
        missing = len(self.counts) - len(self.features)
        if missing > 0:
            self.features = np.concatenate([self.features, np.zeros((missing, self.features.shape[1]))])
        return self.features

    def _learn(self, user: I32, item: I32) -> None:
        if not len(item):
            return
        self._grow(int(item.max()) + 1)
        self.counts += np.bincount(item, minlength=len(self.counts))
        if self._signs is not None:
            # one dimension and one type: five times as fast as rows of another type
            cells = item.astype(np.intp)[:, None] * SKETCH + np.arange(SKETCH)
            np.add.at(self._sketch.reshape(-1), cells.ravel(), self._signs[user].ravel().astype(np.float64))

    def _grow(self, items: int) -> None:
        if items > len(self.counts):
            rows = max(items, 2 * len(self.counts)) - len(self.counts)
            self.counts = np.concatenate([self.counts, np.zeros(rows, np.int64)])
            self.shown = np.concatenate([self.shown, np.zeros(rows, np.int64)])
            self._sketch = np.concatenate([self._sketch, np.zeros((rows, SKETCH))])


def slice_of(name: str, rank: I32, scored: Bool, chosen: Bool, k: int) -> Slice:
    """HR@k and NDCG@k of the chosen events among the scored ones."""
    some = rank[scored & chosen]
    return Slice(
        name=name,
        score=Score.of(len(some), float(metrics.hits(some, k).sum()), float(metrics.ndcg(some, k).sum())),
    )


def gap_slices(rank: I32, scored: Bool, gap: U8, k: int) -> list[Slice]:
    """The score by the time since the user's last event."""
    names = [name for _, name in GAPS] + ["above a day"]
    return [slice_of(name, rank, scored, gap == index, k) for index, name in enumerate(names)]
