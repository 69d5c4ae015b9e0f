"""The vectors of the users in a user table, before and after each event of a batch.

In: the user table before a batch, the batch, what became of its events. Out: vectors. Never changes the
table.

Three ways to the same vectors. A user whose keys and values are cached and who has few new events is
advanced one event at a time. Most others are encoded from the stored sequence, together with the new events,
in one causal pass. Where an event is older than one before it, it is put into the sequence by its time, as
the table does, and the vector after it is that of the sequence as it then is. A batch that needs the first way
alone goes it compiled (`models.sequence.follow`), and so does one whose missing users have few stored events; so are
vectors made without an event.
"""

from __future__ import annotations

from functools import cached_property, partial

import numpy as np

from models.base import F32, I32, I64, Bool, EventBatch
from models.sequence.encode import Events, encode, encode_block, ragged
from models.sequence.follow import Cached, Known, follow, survey
from models.sequence.incremental import IncrementalEncoder
from models.sequence.late_events import vectors_by_time
from models.sequence.stored_events import RowsOf, Stored, gaps_after, newest, out_of_order
from models.sequence.transformer import CausalTransformer
from models.state.users import UserTable

ROUNDS = 16
"""A cached user with at most so many events in a batch is advanced one event at a time."""

REPLAYED = 128
"""Stored events of missing users that are replayed one by one, 0.03 ms each, and not in one pass, 4 ms at least."""


class UserVectors:
    """A model, and a cache of keys and values by user slot.

    A cached user is as good as the table's only while their stamp is the same: hash of the id, number of
    accepted events, time of the newest. Whatever happened in between (an erasure, an eviction and a return,
    events that were not encoded) changes it.
    """

    def __init__(self, model: CausalTransformer, scale: tuple[float, float], cached_users: int) -> None:
        self.model, self.scale = model, scale
        self._cached_users = cached_users
        self._stamps: I64 = np.full((0, 3), -1, np.int64)
        self._row: I32 = np.zeros(0, np.int32)

    @cached_property
    def cache(self) -> IncrementalEncoder | None:
        """Made at the first use: a snapshot that is only compared needs none."""
        return IncrementalEncoder(self.model, self._cached_users, self.scale) if self._cached_users else None

    def current(self, users: UserTable, slots: I64, rows: RowsOf) -> F32:
        """The vectors as they are now, [n, d]; zero for a user without events."""
        distinct, inverse = np.unique(slots, return_inverse=True)
        vectors = np.zeros((len(distinct), self.model.config.d_model), np.float32)
        cached, cache = self.is_cached(users, distinct), self.cache
        if cache is not None and not cached.all():
            cached |= self._replay(users, distinct[~cached], distinct, rows)
        if cache is not None and cached.any():
            vectors[cached] = cache.vector(distinct[cached])
        missing = np.flatnonzero(~cached)
        for start in range(0, len(missing), self.room):
            part = missing[start : start + self.room]
            held = Stored.take(users, distinct[part], np.full(len(part), self.model.reach + 1))
            every = self.encode(users, distinct[part], held.events(rows), held.offsets)
            some = np.diff(held.offsets) > 0
            vectors[part[some]] = every[held.offsets[1:][some] - 1]
        return vectors[inverse]

    @property
    def room(self) -> int:
        """How many users are encoded at a time."""
        return 512 if self.cache is None else min(self.cache.capacity, 512)

    def is_cached(self, users: UserTable, slots: I64) -> Bool:
        """Which users' keys and values are those of the table, bool [m]."""
        if self.cache is None:
            return np.zeros(len(slots), np.bool_)
        self._fit(slots)
        same: Bool = (self._stamps[slots] == _stamps(users, slots)).all(1) & self.cache.has(slots)
        return same

    def mark(self, users: UserTable, slots: I64) -> None:
        """The cache now holds these users as the table does."""
        self._fit(slots)
        self._stamps[slots] = _stamps(users, slots)

    def encode(self, users: UserTable, slots: I64, events: Events, offsets: I64) -> F32:
        """Vectors after each of the users' events [n, d]; the users are cached as the table now has them."""
        if self.cache is None:
            return encode(self.model, events, offsets, self.scale)
        every = self.cache.rebuild(slots, events, offsets)
        self.mark(users, slots)
        return every

    def _fit(self, slots: I64) -> None:
        if len(slots) and (highest := int(slots.max())) >= len(self._stamps):
            grown = np.full((max(highest + 1, 2 * len(self._stamps)), 3), -1, np.int64)
            grown[: len(self._stamps)] = self._stamps
            self._stamps = grown

    def survey(self, users: UserTable, slots: I32, ts: I64, rows: RowsOf) -> tuple[I32, I64] | None:
        """`first` and `newest` of `sequence.follow.survey` for a batch that can be followed; None for others.

        Users that are not cached are, if that is soon done.
        """
        cache = self.cache
        if cache is None or not len(slots):
            return None
        if len(self._row) < len(users.hashes):
            self._row = np.zeros(len(users.hashes), np.int32)
        first, newest_ts = np.empty(len(slots), np.int32), np.empty(len(slots), np.int64)
        missing = np.empty(len(slots), np.int32)
        known, cached = _known(users), Cached(self._stamps, cache.place)
        absent = survey(known, cached, self._row, slots, ts, ROUNDS, first, newest_ts, missing)
        if absent > 0:
            every = slots[first == np.arange(len(slots))].astype(np.int64)
            if self._replay(users, missing[:absent].astype(np.int64), every, rows):
                absent = 0
        return (first, newest_ts) if absent == 0 else None

    def _replay(self, users: UserTable, missing: I64, every: I64, rows: RowsOf) -> bool:
        """Whether the missing ones of a batch's users, having few stored events, are now cached like the others."""
        cache = self.cache
        assert cache is not None
        stored = np.minimum(users.columns.seq_n[missing], self.model.reach + 1)
        if stored.sum() > REPLAYED or len(every) > cache.capacity:
            return False
        cache.touch(every[cache.has(every)])  # so that none of them is forgotten for the missing ones
        held = Stored.take(users, missing, stored.astype(np.int64))
        cache.replay(missing, held.events(rows), held.offsets)
        self.mark(users, missing)
        return True

    def follow(
        self,
        users: UserTable,
        batch: EventBatch,
        index: I64,
        found: tuple[I32, I64],
        rows: RowsOf,
        accepted: Bool,
    ) -> tuple[F32, F32]:
        """The vectors around the events at `index`, which `survey` found simple; the table has taken them in since."""
        cache = self.cache
        assert cache is not None
        shape = len(batch), self.model.config.d_model
        before, after = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        slots = batch.user[index]
        follow(
            *cache.parts(slots), _known(users), Cached(self._stamps, cache.place), index, slots, batch.ts[index],
            *found, rows.item, batch.item, rows.action, batch.action, batch.value, *self.scale, accepted,
            before, after,
        )  # fmt: skip
        return before, after


def _known(users: UserTable) -> Known:
    c = users.columns
    return Known(users.hashes, c.n_events, c.seq_n, c.seq_ts)


def _stamps(users: UserTable, slots: I64) -> I64:
    c = users.columns
    return np.stack((users.hashes[slots].view(np.int64), c.n_events[slots], newest(users, slots)), 1)


class Plan:
    """One batch: made before the table takes it in, finished after that."""

    def __init__(
        self,
        vectors: UserVectors,
        users: UserTable,
        batch: EventBatch,
        rows: RowsOf,
        wanted: Bool | None,
    ) -> None:
        self._vectors, self._users, self._batch, self._rows = vectors, users, batch, rows
        self._index = np.arange(len(batch)) if wanted is None else np.flatnonzero(wanted)
        self._simple = vectors.survey(users, batch.user[self._index], batch.ts[self._index], rows)
        if self._simple is not None:
            return
        slots = batch.user[self._index].astype(np.int64)
        self._slots, self._of = np.unique(slots, return_inverse=True)
        self._newest = newest(users, self._slots)
        self._late = out_of_order(self._of, batch.ts[self._index], self._newest)
        few = np.bincount(self._of, minlength=len(self._slots)) <= ROUNDS
        self._stepwise = few & ~self._late & vectors.is_cached(users, self._slots)
        length = users.columns.seq_ts.shape[1]
        most = np.where(self._late, length, vectors.model.reach + 1)
        self._held = Stored.take(users, self._slots, np.where(self._stepwise, 0, most))

    def finish(self, accepted: Bool) -> tuple[F32, F32]:
        """Each event's user before and after it, [n, d]; rows of events not accepted or wanted are zero."""
        if self._simple is not None:
            return self._vectors.follow(
                self._users, self._batch, self._index, self._simple, self._rows, accepted
            )
        d = self._vectors.model.config.d_model
        before = np.zeros((len(self._batch), d), np.float32)
        after = np.zeros((len(self._batch), d), np.float32)
        kept = accepted[self._index]
        index, of = self._index[kept], self._of[kept]
        for ways, way in (
            (self._stepwise, self._one_at_a_time),
            (~self._stepwise & ~self._late, self._in_one_pass),
            (self._late, self._by_time),
        ):
            mine = ways[of]
            if mine.any():
                before[index[mine]], after[index[mine]] = way(index[mine], of[mine])
        return before, after

    def _one_at_a_time(self, index: I64, of: I64) -> tuple[F32, F32]:
        cache = self._vectors.cache
        assert cache is not None
        around = cache.advance(self._slots[of], self._new_events(index, of))
        self._vectors.mark(self._users, self._slots[np.unique(of)])
        return around

    def _in_one_pass(self, index: I64, of: I64) -> tuple[F32, F32]:
        before = np.empty((len(index), self._vectors.model.config.d_model), np.float32)
        after = np.empty_like(before)
        events, held = self._new_events(index, of), self._held.events(self._rows)
        chosen = np.unique(of)
        for start in range(0, len(chosen), self._vectors.room):
            some = chosen[start : start + self._vectors.room]
            mine = np.flatnonzero((of >= some[0]) & (of <= some[-1]))
            lengths = self._held.lengths[some]
            context = held.take(ragged(self._held.offsets[some], lengths))
            before[mine], after[mine] = encode_block(
                self._vectors.model,
                np.searchsorted(some, of[mine]),
                events.take(mine),
                context,
                np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
                self._vectors.scale,
                partial(self._vectors.encode, self._users, self._slots[some]),
            )
        return before, after

    def _by_time(self, index: I64, of: I64) -> tuple[F32, F32]:
        batch, length = self._batch, self._users.columns.seq_ts.shape[1]
        none = np.zeros(1, np.int64)
        new = Stored(batch.item[index], batch.action[index], batch.value[index], batch.ts[index], none)
        if self._vectors.cache is not None:
            self._vectors.cache.invalidate(self._slots[np.unique(of)])

        def encoded(events: Stored) -> F32:
            return encode(self._vectors.model, events.events(self._rows), events.offsets, self._vectors.scale)

        return vectors_by_time(self._held, new, of, length, self._vectors.model.reach, encoded)

    def _new_events(self, index: I64, of: I64) -> Events:
        """The batch's events as the model reads them; gaps go back into the stored sequences."""
        batch = self._batch
        return Events(
            self._rows.item[batch.item[index]],
            self._rows.action[batch.action[index]],
            batch.value[index],
            gaps_after(of, batch.ts[index], self._newest),
        )
