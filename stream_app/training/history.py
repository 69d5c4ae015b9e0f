"""Two ways to read the trainer's history: frozen for a thread that trains, and again from its beginning.

In: an event log. Out: a copy that later events don't reach, or the events in arrival order as they were first
taken in. Never changes the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.training.event_log import COLUMNS, ERASED, Arrived, EventLog, Sequences
from stream_app.training.shadow import Events

REPLAYED = 200_000
"""The shadow recommender is rebuilt from at most so many events."""

BATCH = 5_000


@dataclass(frozen=True, slots=True)
class FrozenNames:
    """Ids by their code."""

    ids: list[str | None]


@dataclass(frozen=True, slots=True)
class FrozenLog:
    """What training reads of a log, as it was at one moment."""

    items: FrozenNames
    actions: list[str]
    end: int
    _items_held: list[str]
    _sequences: Sequences
    _arrived: Arrived | None

    @classmethod
    def of(cls, log: EventLog, *, arrived: bool = False) -> Self:
        """A copy of the log as it is now; in the order of arrival too, where that is read."""
        names = FrozenNames(list(log.items.ids))
        by_arrival = log.arrived() if arrived else None
        return cls(names, list(log.actions), log.end, log.items_held(), log.sequences(), by_arrival)

    def arrived(self) -> Arrived:
        """The events in the order of arrival."""
        assert self._arrived is not None, "the order of arrival was not frozen"
        return self._arrived

    def items_held(self) -> list[str]:
        """The items of the events held."""
        return self._items_held

    def sequences(self) -> Sequences:
        """The events, one sequence a user."""
        return self._sequences


def replay(log: EventLog, start: int | None = None, stop: int | None = None) -> Iterator[Events]:
    """The events from number `start` up to `stop` in arrival order, as far as they are held.

    Those of users who were erased are nobody's, and are left out: taken for one user's, they would teach pairs of items
    that nobody had together. Partitions and event ids are not kept: what a producer sends again across a restart is not
    recognised.
    """
    stop = log.end if stop is None else stop
    first = max(log.first, stop - REPLAYED if start is None else start)
    for begin in range(first, stop, BATCH):
        at = slice(begin - log.first, min(begin + BATCH, stop) - log.first)
        columns = {name: log.column(name)[at] for name in COLUMNS}
        rows = np.flatnonzero(columns["user"] != log.users.codes.get(ERASED, -1))
        user, item, action, value, weight, ts = (column[rows] for column in columns.values())
        n = len(rows)
        yield Events(
            user=[log.users.ids[code] or "" for code in user],
            item=[log.items.ids[code] or "" for code in item],
            kind=[log.actions[code] for code in action],
            value=value.astype(np.float32),
            weight=weight.astype(np.float32),
            ts=ts.astype(np.int64),
            partition=np.zeros(n, np.int32),
            event_id=np.zeros(n, np.uint64),
            key=np.zeros(n, np.uint64),
            offset=begin + rows,
        )
