"""The trainer's own bounded history: columns in arrival order, the oldest events dropped.

In: accepted events with their ids, in batches, and the offsets up to which they were read. Out: columns, and
the same events sorted into one sequence a user. Never reads a clock or a broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from models.base import F32, I32, I64, U8
from models.training.event_segments import SEGMENT, Segment, load_log, save_log
from models.training.interner import Interner
from models.vocabulary import Scenarios

COLUMNS: dict[str, npt.DTypeLike] = {
    "user": np.int32,
    "item": np.int32,
    "action": np.uint8,
    "value": np.float32,
    "weight": np.float32,
    "ts": np.int64,
}
MAX_ACTIONS = 255
"""Event types told apart; all further ones count as the last of these."""
ERASED = ""
"""Who an event belongs to whose user was erased; no real id is empty."""


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


@dataclass(frozen=True, slots=True)
class Arrived:
    """The events of a log in the order of their arrival, with the ids that their codes stand for.

    Attributes:
        first: absolute number of the first event.
        user, item, action, value, weight, ts: columns of the log, [n].
        users, items: id of each code; None for a code that is not in use.
    """

    first: int
    user: I32
    item: I32
    action: U8
    value: F32
    weight: F32
    ts: I64
    users: list[str | None]
    items: list[str | None]


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
        self._scenarios = Scenarios()
        self._columns = {name: np.empty(1024, dtype) for name, dtype in COLUMNS.items()}
        self._start = self._stop = 0
        self._folder: Path | None = None
        self._segments: list[Segment] = []
        self._changed: set[int] = set()
        self._saved: tuple[int, int, dict[str, int]] | None = None

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
            users, items, actions: ids, and kinds of events (`models.vocabulary`), [n].
            values: rating, or NaN, float32 [n].
            weights: teaching weight of the kind of event, float32 [n].
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

    def erase(self, user: str) -> int:
        """Forget whose events this user's were: they belong to no sequence any more. Returns their number.

        The user's id is out of the files after the next save.
        """
        code = self.users.codes.get(user)
        if code is None or user == ERASED:
            return 0
        column = self._columns["user"][self._start : self._stop]
        theirs = np.flatnonzero(column == code)
        gone = column[theirs]
        column[theirs] = self.users.intern([ERASED] * len(theirs))
        self.users.release(gone)
        numbers = np.append(self.first + theirs, self.first)  # the first segment may hold dropped events too
        self._changed |= set((numbers - numbers % SEGMENT).tolist())
        return len(theirs)

    def save(self, folder: Path) -> None:
        """Bring `folder` up to date: only what is new since the last save is written."""
        state = (self.first, self.end, dict(self.offsets))
        if folder == self._folder and state == self._saved and not self._changed:
            return
        known = self._segments if folder == self._folder else []
        self._segments = save_log(self, folder, known, self._changed)
        self._folder, self._saved, self._changed = folder, state, set()

    @classmethod
    def load(cls, folder: Path, capacity: int) -> Self:
        """The log that was saved to `folder`; raises EventLogError where it can't be used."""
        log = cls(capacity)
        log._segments = load_log(log, folder)
        log._folder = folder
        return log

    def start_at(self, first: int, actions: Sequence[str]) -> None:
        """Make an empty log begin with event number `first`, and know these kinds of events."""
        assert not len(self), "the log has events"
        self.first = first
        for name in actions:
            self._action(name)

    def items_held(self) -> list[str]:
        """The items of the events held, by their first event."""
        item = self._columns["item"][self._start : self._stop]
        first = np.full(len(self.items.ids), -1, np.int64)
        first[item[::-1]] = np.arange(len(item))[::-1]  # the last assignment wins
        codes = np.flatnonzero(first >= 0)
        ids = [self.items.ids[code] for code in codes[np.argsort(first[codes])]]
        return [name for name in ids if name is not None]

    def arrived(self) -> Arrived:
        """Everything held, in the order of arrival, as a copy."""
        columns: dict[str, Any] = {name: self.column(name).copy() for name in COLUMNS}
        return Arrived(first=self.first, users=list(self.users.ids), items=list(self.items.ids), **columns)

    def sequences(self) -> Sequences:
        """Everything held, sorted into one sequence a user."""
        columns = {name: column[self._start : self._stop] for name, column in self._columns.items()}
        number = np.arange(self.first, self.end)
        erased = self.users.codes.get(ERASED)
        if erased is not None:
            kept = columns["user"] != erased
            columns = {name: column[kept] for name, column in columns.items()}
            number = number[kept]
        n, user, ts = len(number), columns["user"], columns["ts"]
        rank = np.zeros(len(self.users.ids) + 1, np.int64)
        rank[user[::-1]] = np.arange(n)[::-1]  # the last assignment wins: each user's first event
        ranks = rank[user]
        order = np.argsort(ranks, kind="stable")
        same = ranks[order][1:] == ranks[order][:-1]
        if (same & (np.diff(ts[order]) < 0)).any():
            order = np.lexsort((ts, ranks))
        gap = np.full(n, -1, np.int64)
        gap[1:][same] = np.diff(ts[order])[same]
        first = np.concatenate(([0], 1 + np.flatnonzero(~same), [n])) if n else np.zeros(1, np.int64)
        return Sequences(
            number=number[order],
            item=columns["item"][order],
            action=columns["action"][order],
            value=columns["value"][order],
            weight=columns["weight"][order],
            gap=gap,
            starts=first,
        )

    def _action(self, name: str) -> int:
        code = self._action_codes.get(name)
        if code is None:
            kept = self._scenarios.kept(name, len(self.actions))
            if kept != name:
                return self._action(kept)
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
