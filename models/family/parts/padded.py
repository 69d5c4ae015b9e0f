"""Users' events as rows of one length, which is what a network over sequences reads.

In: a lesson's events, or the histories of queries. Out: item rows, padded with 0 behind; where in them a prediction is
made, and of what. A sequence begins with one 0, "nothing": so a user's first event has something to be predicted from,
and a user without a history is asked for like any other. Never looks at ratings or times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.base import I64, Bool
from models.family.contract import Queries
from models.family.parts.training import Lesson
from models.training.event_log import Sequences
from models.training.windows import Windows, plan

CONTEXT = 24
"""Events read, but not predicted, before a window that is not full."""
SORTED = 64
"""Batches whose windows are put in order of length before they are divided, so that little is padded."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of a network over sequences.

    Attributes:
        rows: item rows [b, l]; 0 at the beginning of a user's sequence, and where it has ended.
        predicts: places in `rows` after which the next event is predicted, bool [b, l].
        targets: row of the next event at each of these m places, row by row, int64 [m].
    """

    rows: I64
    predicts: Bool
    targets: I64


class Windowed:
    """A lesson as sequences, in batches.

    Args:
        length: events in a window, at most.
        batch: predictions in a batch, about.
    """

    def __init__(self, lesson: Lesson, length: int, batch: int) -> None:
        users = len(lesson.starts) - 1
        runs = np.diff(lesson.starts)
        at = np.arange(len(lesson.events)) + np.repeat(np.arange(1, users + 1), runs)
        n = len(lesson.events) + users
        self._rows = np.zeros(n, np.int64)
        self._rows[at] = lesson.events.item.astype(np.int64) + 1
        number = np.full(n, -1, np.int64)
        number[at] = lesson.number
        nothing = np.zeros(n, np.uint8)
        sequences = Sequences(
            number=number,
            item=self._rows.astype(np.int32),
            action=nothing,
            value=nothing.astype(np.float32),
            weight=nothing.astype(np.float32),
            gap=nothing.astype(np.int64),
            starts=lesson.starts + np.arange(users + 1),
        )
        rng = lesson.rng(0)
        self._windows = plan(
            sequences, lesson.new_from, lesson.predictions, lesson.replay, length, CONTEXT, rng
        )
        self._steps = _divided(self._windows, batch, rng)

    def __len__(self) -> int:
        return len(self._steps)

    def take(self, step: int) -> Batch:
        """The batch of one step."""
        some = self._windows.take(self._steps[step])
        place = some.context[:, None] + np.arange(int((some.stop - 1 - some.context).max()))
        read = place < some.stop[:, None] - 1
        predicts = read & (place >= some.start[:, None] - 1)
        return Batch(
            np.where(read, self._rows[np.where(read, place, 0)], 0), predicts, self._rows[place[predicts] + 1]
        )


def _divided(windows: Windows, batch: int, rng: np.random.Generator) -> list[I64]:
    """Window numbers in batches of about `batch` predictions; those of a batch are of about one length."""
    ends = np.cumsum(windows.targets)
    if not len(ends):
        return []
    stretch = (ends - 1) // (batch * SORTED)
    order = np.lexsort((windows.stop - windows.context, stretch))
    number = (np.cumsum(windows.targets[order]) - 1) // batch
    divided = np.split(order, np.flatnonzero(np.diff(number)) + 1)
    return [divided[at] for at in rng.permutation(len(divided))]


def known_rows(queries: Queries, n_items: int, length: int) -> I64:
    """Rows of the last `length` known items of each history, int64 [n, length]; 0 in front of shorter ones."""
    known = (queries.items >= 0) & (queries.items < n_items)
    rows = np.where(known, queries.items.astype(np.int64) + 1, 0)
    rows = np.take_along_axis(rows, np.argsort(known, axis=1, kind="stable"), 1)[:, -length:]
    return np.pad(rows, ((0, 0), (length - rows.shape[1], 0)))


def asked_rows(queries: Queries, n_items: int, length: int) -> tuple[I64, I64]:
    """Histories as a network over sequences reads them: rows [n, l], and the place of the newest event [n].

    A history that is shorter than `length` begins with "nothing", as in training.
    """
    rows = known_rows(queries, n_items, length)
    sizes = np.minimum((rows > 0).sum(1) + 1, length)
    place = (length - sizes)[:, None] + np.arange(int(sizes.max(initial=1)))
    return np.where(place < length, np.take_along_axis(rows, np.minimum(place, length - 1), 1), 0), sizes - 1
