"""The user table: what is kept of each user, in memory as columns, on disk as one row of bytes.

In: rows of bytes when a user is first met, event batches after that. Out: for each event the user's history
before and after it (which every online model learns from), and rows of bytes again. It never decides what is
learned, and it never forgets a change that was not yet taken by `dirty`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from models.base import F32, I32, I64, U8, U64, Bool, EventBatch, Served
from models.config import ModelSettings
from models.randomness import hash64
from models.state import arena
from models.state.columns import grown
from models.state.sequences import (
    MAX_BATCH,
    Histories,
    UserColumns,
    advance,
    history_of,
    ring_class,
)
from models.state.user_rows import TOPICS, UserRow, pack_row, unpack_row


class UserTable:
    """Users in memory, at most `settings.max_cached_users` of them.

    Rows that a commit has not yet taken are pinned; only clean ones can be evicted.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        k, length = settings.policy.k, settings.sequence.length
        self._fill = {
            "positions": -1,
            "seen_class": -1,
            "served": -1,
            "served_popular": -1,
            "served_frozen": -1,
        }
        empty: dict[str, Any] = {
            "positions": np.empty((0, TOPICS), np.int64),
            "seq_item": np.empty((0, length), np.int32),
            "seq_action": np.empty((0, length), np.uint8),
            "seq_value": np.empty((0, length), np.float32),
            "seq_ts": np.empty((0, length), np.int64),
            "ids": np.empty((0, settings.sequence.recent_ids), np.uint64),
            "served": np.empty((0, k), np.int32),
            "served_popular": np.empty((0, k), np.int32),
            "served_frozen": np.empty((0, k), np.int32),
            "mf": np.empty((0, settings.biased_mf.factors), np.float32),
        }
        plain: dict[str, Any] = {
            "partition": np.int32, "n_events": np.int64, "revision": np.int64, "last_used": np.int64,
            "dirty": np.uint8, "seq_n": np.int32, "ids_n": np.int64, "seen_n": np.int64, "seen_at": np.int64,
            "seen_class": np.int32, "mf_n": np.int64, "mf_bias": np.float32,
        }  # fmt: skip
        empty.update({name: np.empty(0, dtype) for name, dtype in plain.items()})
        columns = UserColumns(**{name: empty[name] for name in UserColumns._fields})
        self.columns = grown(columns, min(1024, settings.max_cached_users), self._fill)
        self._largest = ring_class(settings.sequence.seen, settings.sequence.seen + MAX_BATCH)
        self.header = arena.new_header()
        self.seen = np.full(1 << 16, -1, np.int32)
        self.hashes: U64 = np.zeros(len(self.columns.partition), np.uint64)
        """64-bit hash of the id in each slot."""
        self._slot: dict[str, int] = {}
        self._id: list[str | None] = []
        self._free: list[int] = []
        self._tick = 0
        self._erased: dict[tuple[int, str], None] = {}

    # -- who is here -------------------------------------------------------------------------------------------
    def slot(self, user_id: str) -> int:
        """Slot of a user in memory, -1 for one who is not."""
        return self._slot.get(user_id, -1)

    @property
    def slots(self) -> dict[str, int]:
        """User id → slot, of everyone in memory (read only: the decoder looks users up in it)."""
        return self._slot

    def id_of(self, slot: int) -> str:
        user_id = self._id[slot]
        assert user_id is not None, f"slot {slot} holds nobody"
        return user_id

    def partition_of(self, slot: int) -> int:
        return int(self.columns.partition[slot])

    def events(self, slot: int) -> int:
        """Events accepted from this user so far."""
        return int(self.columns.n_events[slot])

    def revision(self, slot: int) -> int:
        return int(self.columns.revision[slot])

    def last_list(self, slot: int) -> I32:
        """Item numbers of the last published list, int32 [k]; -1 where there is none."""
        return self.columns.served[slot]

    def shown(self, slot: int) -> Served:
        """What the user is shown, as it stands."""
        c = self.columns
        return Served(c.served[slot].copy(), c.served_popular[slot].copy(), c.served_frozen[slot].copy())

    def show(self, slot: int, lists: Served) -> None:
        """The user is shown these lists from now on."""
        c = self.columns
        c.served[slot], c.served_popular[slot] = lists.served, lists.popular
        c.served_frozen[slot], c.dirty[slot] = lists.frozen, 1

    def positions(self, slot: int) -> I64:
        """Newest offset seen of each input topic, int64 [TOPICS]; -1 for none. Writable: the caller advances it."""
        return self.columns.positions[slot]

    def __len__(self) -> int:
        return len(self._slot)

    def room(self) -> int:
        """How many more users can be admitted before some must be evicted."""
        return self.settings.max_cached_users - len(self._slot)

    def admit(self, user_id: str, partition: int, row: bytes | None) -> int:
        """Bring a user into memory; `row` is what the state holds of them, None for a new user."""
        assert user_id not in self._slot, f"{user_id!r} is already in memory"
        if self.room() <= 0:
            raise MemoryError(
                f"{len(self._slot)} users are in memory, as many as models.max_cached_users allows"
            )
        if self._free:
            slot = self._free.pop()
            self._id[slot] = user_id
        else:
            slot = len(self._id)
            self._id.append(user_id)
            if slot >= len(self.columns.partition):
                rows = min(2 * slot, self.settings.max_cached_users)
                self.columns = grown(self.columns, rows, self._fill)
                self.hashes = np.concatenate([self.hashes, np.zeros(rows - len(self.hashes), np.uint64)])
        self._slot[user_id] = slot
        self.hashes[slot] = hash64(user_id)
        self.columns.partition[slot] = partition
        self.columns.last_used[slot] = self._tick
        if row is not None:
            self._fill_from(slot, unpack_row(row))
        return slot

    def evict(self, n: int) -> int:
        """Drop up to `n` clean users, those unused for longest; how many it were."""
        used = np.fromiter(self._slot.values(), np.int64, len(self._slot))
        clean = used[self.columns.dirty[used] == 0]
        order = np.lexsort((clean, self.columns.last_used[clean]))[:n]
        for slot in clean[order]:
            self._drop(int(slot))
        return len(order)

    def erase(self, slot: int) -> None:
        """Forget a user; their row is deleted by the next commit."""
        user_id = self.id_of(slot)
        self._erased[self.partition_of(slot), user_id] = None
        self._drop(slot)

    # -- events ------------------------------------------------------------------------------------------------
    def advance(self, batch: EventBatch, list_at: Bool, weights: F32, scenarios: U8, out: Histories) -> None:
        """Apply a batch to the sequences, in order, and tell each event's history into `out`.

        Args:
            batch: at most `len(out.status)` events.
            list_at: events after which the history is wanted too, bool [n].
            weights, scenarios: teaching weight and scenario of each action code, float32 and uint8 [256].
            out: buffers; the first n rows are written.
        """
        self._tick += 1
        self.columns.last_used[batch.user] = self._tick
        # a ring of n items that m are added to doubles up to less than 2 (n + m), and takes twice that on the way
        classes = np.maximum(self.columns.seen_class[np.unique(batch.user)], 0)
        need = 16 * len(batch) + 4 * int((arena.SMALLEST << classes.astype(np.int64)).sum())
        while arena.room(self.header, self.seen) < need:
            self.seen = np.concatenate([self.seen, np.full(len(self.seen), -1, np.int32)])
        advance(
            self.columns, self.header, self.seen, batch.user, batch.item, batch.action, batch.value, batch.ts,
            batch.event_id, list_at, weights, scenarios, self.settings.sequence.seen, self._largest, out,
        )  # fmt: skip

    def history(self, slot: int, weights: F32, items: I32) -> tuple[int, int]:
        """Fill `items` with a user's positive items, newest first; their number, and the newest gap's class."""
        n, gap = history_of(self.columns, slot, weights, items)
        return int(n), int(gap)

    # -- persistence -------------------------------------------------------------------------------------------
    def dirty(self) -> Iterator[tuple[int, str, bytes | None]]:
        """(partition, user id, row) of every user changed since `mark_clean`; row None for an erased one."""
        for partition, user_id in self._erased:
            slot = self.slot(user_id)
            if slot < 0 or self.partition_of(slot) != partition or not self.columns.dirty[slot]:
                yield partition, user_id, None
        for slot in map(int, np.flatnonzero(self.columns.dirty)):
            yield self.partition_of(slot), self.id_of(slot), self.row(slot)

    def dirty_bytes(self) -> int:
        """About what `dirty` would write."""
        return int(self.columns.dirty.sum()) * 1200 + 40 * len(self._erased)

    def mark_clean(self) -> None:
        self.columns.dirty[:] = 0
        self._erased.clear()

    def row(self, slot: int) -> bytes:
        """The user's row as it is written to the state."""
        c = self.columns
        n = int(c.seq_n[slot])
        ids_n, recent = int(c.ids_n[slot]), c.ids.shape[1]
        seen_n, at = int(c.seen_n[slot]), int(c.seen_at[slot])
        size = arena.SMALLEST << max(0, int(c.seen_class[slot]))
        oldest = max(0, seen_n - self.settings.sequence.seen)
        kept: slice | I64 = slice(at + oldest, at + seen_n)
        if seen_n > size:  # beyond the end of its block it went on at the beginning
            kept = at + (np.arange(oldest, seen_n) & (size - 1))
        return pack_row(
            UserRow(
                events=int(c.n_events[slot]),
                revision=int(c.revision[slot]),
                positions=c.positions[slot],
                items=c.seq_item[slot, :n],
                actions=c.seq_action[slot, :n],
                values=c.seq_value[slot, :n],
                ts=c.seq_ts[slot, :n],
                ids_n=ids_n,
                ids=c.ids[slot, : min(ids_n, recent)],
                seen_n=seen_n,
                seen=self.seen[kept],
                served=c.served[slot],
                served_popular=c.served_popular[slot],
                served_frozen=c.served_frozen[slot],
                mf_n=int(c.mf_n[slot]),
                mf_bias=float(c.mf_bias[slot]),
                mf=c.mf[slot],
            )
        )

    def _fill_from(self, slot: int, row: UserRow) -> None:
        c = self.columns
        c.n_events[slot], c.revision[slot], c.positions[slot] = row.events, row.revision, row.positions
        n = len(row.items)
        c.seq_n[slot] = n
        c.seq_item[slot, :n], c.seq_action[slot, :n] = row.items, row.actions
        c.seq_value[slot, :n], c.seq_ts[slot, :n] = row.values, row.ts
        c.ids_n[slot] = row.ids_n
        c.ids[slot, : len(row.ids)] = row.ids
        c.served[slot], c.served_popular[slot] = row.served, row.served_popular
        c.served_frozen[slot] = row.served_frozen
        c.mf_n[slot], c.mf_bias[slot], c.mf[slot] = row.mf_n, row.mf_bias, row.mf
        size_class = ring_class(self.settings.sequence.seen, row.seen_n)
        while arena.room(self.header, self.seen) < arena.block_size(size_class):
            self.seen = np.concatenate([self.seen, np.full(len(self.seen), -1, np.int32)])
        if row.seen_n:
            at = arena.allocate(self.header, self.seen, size_class)
            numbers = np.arange(row.seen_n - len(row.seen), row.seen_n)
            self.seen[at + (numbers & (arena.block_size(size_class) - 1))] = row.seen
            c.seen_n[slot], c.seen_at[slot], c.seen_class[slot] = row.seen_n, at, size_class

    def _clear(self, slot: int) -> None:
        columns: tuple[Any, ...] = self.columns
        for name, column in zip(UserColumns._fields, columns, strict=True):
            column[slot] = self._fill.get(name, 0)

    def _drop(self, slot: int) -> None:
        if self.columns.seen_class[slot] >= 0:
            at, size_class = int(self.columns.seen_at[slot]), int(self.columns.seen_class[slot])
            arena.release(self.header, self.seen, at, size_class)
        del self._slot[self.id_of(slot)]
        self._id[slot] = None
        self._clear(slot)
        self._free.append(slot)
