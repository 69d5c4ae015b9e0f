"""The trainer's own bounded history: columns in arrival order, the oldest events dropped.

In: accepted events with their ids, in batches, and the offsets up to which they were read. Out: columns, and
the same events sorted into one sequence a user. Never reads a clock or a broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.base import F32, I32, I64, U8
from models.interner import Interner

COLUMNS: dict[str, npt.DTypeLike] = {
    "user": np.int32,
    "item": np.int32,
    "action": np.uint8,
    "value": np.float32,
    "weight": np.float32,
    "ts": np.int64,
}
MAX_ACTIONS = 256


@dataclass(frozen=True, slots=True)
class Sequences:
    """The events of a log, user after user, each user's by (ts, arrival); users by their first event held.

    Attributes:
        number: absolute number of the event in the log's life, int64 [n].
        item, action, value, weight: columns of the log, [n].
        gap: ms since the user's previous event, int64 [n]; -1 at a user's first.
        starts: where each user's run begins, and n at the end, int64 [users + 1].
    """

    number: I64
    item: I32
    action: U8
    value: F32
    weight: F32
    gap: I64
    starts: I64

    def __len__(self) -> int:
        return len(self.number)


class EventLog:
    """At most `capacity` events; the event with absolute number `n` is at index `n - first`.

    `offsets` holds the next offset of each topic-partition: what has been read into the log.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity of the event log must be at least 1, not {capacity}")
        self.capacity = capacity
        self.first = 0
        self.users, self.items = Interner(), Interner()
        self.actions: list[str] = []
        self.offsets: dict[str, int] = {}
        self._action_codes: dict[str, int] = {}
        self._columns = {name: np.empty(1024, dtype) for name, dtype in COLUMNS.items()}
        self._start = self._stop = 0

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def end(self) -> int:
        """Absolute number of the next event."""
        return self.first + len(self)

    def column(self, name: str) -> npt.NDArray[np.generic]:
        """A column, in arrival order, as a view that the next `append` may make stale."""
        return self._columns[name][self._start : self._stop]

    def append(
        self,
        users: Sequence[str],
        items: Sequence[str],
        actions: Sequence[str],
        values: F32,
        weights: F32,
        ts: I64,
        offsets: Mapping[str, int],
    ) -> None:
        """Take in a batch of accepted events.

        Args:
            users, items, actions: ids and event types, [n].
            values: rating, or NaN, float32 [n].
            weights: teaching weight of the event type, float32 [n].
            ts: event time in ms UTC, int64 [n].
            offsets: next offset of each topic-partition that the batch touched.
        """
        n = len(users)
        self._reserve(n)
        codes = [self._action(a) for a in actions]
        columns = (self.users.intern(users), self.items.intern(items), codes, values, weights, ts)
        at = slice(self._stop, self._stop + n)
        for name, column in zip(COLUMNS, columns, strict=True):
            self._columns[name][at] = column
        self._stop += n
        self.offsets.update(offsets)
        self._drop(len(self) - self.capacity)

    def items_held(self) -> list[str]:
        """The items of the events held, by their first event."""
        item = self._columns["item"][self._start : self._stop]
        first = np.full(len(self.items.ids), -1, np.int64)
        first[item[::-1]] = np.arange(len(item))[::-1]  # the last assignment wins
        codes = np.flatnonzero(first >= 0)
        ids = [self.items.ids[code] for code in codes[np.argsort(first[codes])]]
        return [name for name in ids if name is not None]

    def sequences(self) -> Sequences:
        """Everything held, sorted into one sequence a user."""
        n = len(self)
        user = self._columns["user"][self._start : self._stop]
        ts = self._columns["ts"][self._start : self._stop]
        rank = np.zeros(len(self.users.ids) + 1, np.int64)
        rank[user[::-1]] = np.arange(n)[::-1]  # the last assignment wins: each user's first event
        ranks = rank[user]
        order = np.argsort(ranks, kind="stable")
        same = ranks[order][1:] == ranks[order][:-1]
        if (same & (np.diff(ts[order]) < 0)).any():
            order = np.lexsort((ts, ranks))
        gap = np.full(n, -1, np.int64)
        gap[1:][same] = np.diff(ts[order])[same]
        columns = {
            k: self._columns[k][self._start : self._stop][order] for k in COLUMNS if k not in ("user", "ts")
        }
        starts = np.concatenate((np.flatnonzero(gap < 0), [n])) if n else np.zeros(1, np.int64)
        return Sequences(number=self.first + order, gap=gap, starts=starts, **columns)

    def _action(self, name: str) -> int:
        code = self._action_codes.get(name)
        if code is None:
            code = min(len(self.actions), MAX_ACTIONS - 1)
            if code == len(self.actions):
                self.actions.append(name)
            self._action_codes[name] = code
        return code

    def _reserve(self, n: int) -> None:
        """Room for `n` more events; what was dropped is overwritten first."""
        size, held = len(self._columns["ts"]), len(self)
        if self._stop + n <= size:
            return
        grown = max(size, 2 * held if held + n > size // 2 else size, held + n)
        for name, column in self._columns.items():
            moved = np.empty(grown, column.dtype)
            moved[:held] = column[self._start : self._stop]
            self._columns[name] = moved
        self._start, self._stop = 0, held

    def _drop(self, n: int) -> None:
        """Forget the `n` oldest events."""
        if n <= 0:
            return
        gone = slice(self._start, self._start + n)
        self.users.release(self._columns["user"][gone])
        self.items.release(self._columns["item"][gone])
        self._start += n
        self.first += n
