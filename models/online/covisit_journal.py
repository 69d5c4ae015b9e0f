"""A journal of what co-visitation learned, so that a commit need not write every row that changed.

A few thousand events change nearly every row a little, and rows are most of what a commit would weigh. So each commit
writes what was *learned* since the last one as a segment (the items and their histories, a hundred bytes an event, and
as much again for the candidates of a lesson), and
a `TURNS`-th of the rows: row r at commit k where (r + k) is a multiple of `TURNS`, r being the item's number. After
`TURNS` commits a segment is in every row, and is deleted. Loading learns the segments again into the rows that were
last written before them; what comes out is the same to the last bit, since a row's learning depends on nothing but the
row and the event.

In: events as they are learned. Out: what a commit writes instead of all changed rows, and rows made whole at loading.
Sums of rows and columns are in the items' heads, which every commit writes: the journal is about neighbours alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import F32, I32, I64, U8, Bool
from models.kernels import inner, kernel
from models.online import covisit, covisit_rows, slim
from models.online.covisit import Rates
from models.online.covisit_rows import Covisit
from models.state import item_rows
from models.state.catalogue import ROW

TURNS = 12
"""Commits until every changed row was written once."""
KIND = b"j"
_ROOM = 1 << 21
"""Words of a segment at most (8 MB): where more is learned between two commits, the rows are written."""
_HEAD = 3


class Words(NamedTuple):
    """A segment: for each event the item's number, the length n of the history and how many candidates m its lesson
    had (n + 256 m), the weight, the history's numbers, and each candidate's number and error (`models.online.slim`)."""

    words: I32
    floats: F32  # the same memory, for the weights
    used: I64  # [0] words; [1] events that found no room


def new_words(room: int = _ROOM) -> Words:
    """An empty segment."""
    words = np.zeros(room, np.int32)
    return Words(words, words.view(np.float32), np.zeros(2, np.int64))


@inner
def note(
    j: Words, window: int, number: int, history: I32, n: int, weight: float, taught: I32, step: F32, m: int,
    numbers: I32,
) -> None:  # fmt: skip
    """Add one event that `covisit.learn` learned, and the lesson of `slim.learn` before it, if any.

    Args:
        history: numbers, newest first, `n` of them.
        taught: slots of the `m` candidates of the lesson, and their errors `step`.
        numbers: by slot.
    """
    at, n = j.used[0], min(n, window)
    if j.used[1] > 0 or at + _HEAD + n + 2 * m > len(j.words):
        j.used[1] += 1
        return
    j.words[at], j.words[at + 1] = number, n + 256 * m
    j.floats[at + 2] = weight
    for g in range(n):
        j.words[at + _HEAD + g] = history[g]
    at += _HEAD + n
    for i in range(m):
        j.words[at + 2 * i] = numbers[taught[i]]
        j.floats[at + 2 * i + 1] = step[i]
    j.used[0] = at + 2 * m


@kernel(allocates=True)
def _learn_again(
    j: Words, at: int, c: Covisit, r: Rates, slot_of: I32, done: U8, dirty: U8, room: int
) -> int:
    """Learn a segment from word `at` on; the first word not learned, before which the rows need room."""
    history = np.empty(r.window, np.int32)
    taught, step = np.empty(slim.MOST, np.int32), np.empty(slim.MOST, np.float32)
    while at < j.used[0]:
        if len(c.keys) - c.header[0] < room:
            break
        n, m = j.words[at + 1] % 256, j.words[at + 1] // 256
        for g in range(n):
            history[g] = slot_of[j.words[at + _HEAD + g]]
        lesson = at + _HEAD + n
        for i in range(m):
            taught[i], step[i] = slot_of[j.words[lesson + 2 * i]], j.floats[lesson + 2 * i + 1]
        slim.learn_again(c, r, history, n, taught, step, m, done, dirty, ROW)
        covisit.learn_again(c, r, slot_of[j.words[at]], history, n, j.floats[at + 2], done, dirty, ROW)
        at = lesson + 2 * m
    return int(at)


class Plan(NamedTuple):
    """What a commit writes."""

    whole: bool  # all changed rows, and no segment is left
    rows: Bool  # [S] the changed rows to write
    entries: list[tuple[bytes, bytes | None]]


class Journal:
    """The segment in hand, and which ones are stored.

    Attributes:
        words: the segment in hand, which the event loop fills.
    """

    def __init__(self) -> None:
        self.words = new_words()
        self._first = self._next = 0
        self._broken = False

    @property
    def stored(self) -> bool:
        """Whether the stored rows are whole only together with segments."""
        return self._next > self._first

    def break_off(self) -> None:
        """Items were evicted: what was noted can't be learned again, so the next commit writes all rows."""
        self._broken = True

    def saves(self, row_bytes: int) -> bool:
        """Whether a segment is smaller than the changed rows, and complete."""
        used = self.words.used
        return not self._broken and not used[1] and 4 * int(used[0]) < row_bytes

    def plan(self, dirty: U8, number: I32, row_bytes: int, *, whole: bool) -> Plan:
        """What to write of the rows whose `dirty` flags say that they changed; call `written` when it was."""
        rows = (dirty & ROW) != 0
        if whole or not self.saves(row_bytes):
            gone = [(item_rows.key(KIND, k), None) for k in range(self._first, self._next)]
            return Plan(True, rows, list(gone))
        used, k = int(self.words.used[0]), self._next
        if not used:
            return Plan(False, np.zeros(len(rows), np.bool_), [])
        entries: list[tuple[bytes, bytes | None]] = [
            (item_rows.key(KIND, k), self.words.words[:used].astype("<i4").tobytes())
        ]
        entries += [(item_rows.key(KIND, j), None) for j in range(self._first, k - TURNS + 2)]
        return Plan(False, rows & ((number + k) % TURNS == 0), entries)

    def written(self, plan: Plan) -> None:
        """What `plan` said was committed."""
        if plan.whole:
            self._first = self._next
            self._broken = False
        elif self.words.used[0]:
            self._next += 1
            self._first = max(self._first, self._next - TURNS + 1)
        self.words.used[:] = 0

    def load(
        self,
        segments: dict[int, bytes],
        c: Covisit,
        r: Rates,
        number: I32,
        slot_of: I32,
        dirty: U8,
        room: int,
    ) -> Covisit:
        """Make the loaded rows whole.

        Args:
            segments: bytes by the number of the commit.
            dirty: gets the flag of each row that is still to be written.
            room: entries that one event can need.

        Raises:
            ValueError: a segment is missing.
        """
        if not segments:
            return c
        self._first, self._next = min(segments), max(segments) + 1
        if len(segments) != self._next - self._first:
            raise ValueError(f"the co-visitation journal has {sorted(segments)}: a segment is missing")
        for k in range(self._first, self._next):
            words: I32 = np.frombuffer(segments[k], "<i4").astype(np.int32)
            segment = Words(words, words.view(np.float32), np.array([len(words), 0], np.int64))
            written_at = k + (-(number.astype(np.int64) + k)) % TURNS
            done = ((number < 0) | (written_at < self._next)).astype(np.uint8)
            at = 0
            while at < len(words):
                c = covisit_rows.with_room(c, 2 * room)
                at = _learn_again(segment, at, c, r, slot_of, done, dirty, room)
        return c
