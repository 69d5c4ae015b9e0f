"""The user table: what is kept of each user, in memory as columns, on disk as one row of bytes.

In: rows of bytes when a user is first met, event batches after that. Out: for each event the user's history
before and after it (which every online model learns from), and rows of bytes again. It never decides what is
learned, and it never forgets a change that was not yet taken by `dirty`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from models import arena
from models.base import ACCEPTED, DUPLICATE, F32, I32, I64, LATE, U8, U64, Bool, EventBatch
from models.columns import grown
from models.config import ModelSettings
from models.kernels import inner, kernel
from models.randomness import hash64
from models.user_rows import TOPICS, UserRow, pack_row, unpack_row

HISTORY = 50
"""Items of the history that models read, newest first."""

SEEN_RING_CLASS = 11  # 8 << 11 = 16,384 entries: 10,000 remembered and a batch of 5,000 on top

GAP_SHORT_MS = 1_000
GAP_LONG_MS = 3_600_000


class UserColumns(NamedTuple):
    """One row a user. `L` events, `R` event ids, `k` items a list."""

    partition: I32
    n_events: I64
    revision: I64
    positions: I64  # [TOPICS]: newest offset seen of each input topic, -1 for none
    last_used: I64
    dirty: U8
    seq_n: I32
    seq_item: I32  # [L] oldest first
    seq_action: U8
    seq_value: F32
    seq_ts: I64
    ids_n: I64
    ids: U64  # [R] ring
    seen_n: I64  # items ever added to `seen`
    seen_at: I64  # offset of the ring in the arena
    seen_class: I32
    served: I32  # [k] the last published list
    served_popular: I32  # [k] the popularity baseline's list of the same moment
    served_frozen: I32  # [k] the frozen first model's, for the sample of users
    mf_n: I64
    mf_bias: F32
    mf: F32  # [factors]


class Histories(NamedTuple):
    """What `advance` tells of each event: the user before (`b_`) and after (`a_`) it, `H` items newest first."""

    status: U8
    repeat: U8  # the user already had the item
    events: I64  # accepted from the user before this one
    b_items: I32
    b_n: I32
    b_gap: U8
    b_seen: I64
    a_items: I32
    a_n: I32
    a_gap: U8
    a_seen: I64


@inner
def had(seen: I32, at: int, size_class: int, n: int, limit: int, item: int) -> bool:
    """Whether `item` is among the last `limit` of the first `n` items that a user had."""
    mask = (8 << max(0, size_class)) - 1
    for j in range(max(0, n - limit), n):  # noqa: SIM110
        if seen[at + (j & mask)] == item:
            return True
    return False


@inner
def _gap_class(newer: int, older: int) -> int:
    gap = newer - older
    if gap <= GAP_SHORT_MS:
        return 0
    return 1 if gap <= GAP_LONG_MS else 2


@kernel
def history_of(users: UserColumns, u: int, weights: F32, items: I32) -> tuple[int, int]:
    """Fill `items` with the user's positive items, newest first; their number, and the newest gap's class."""
    n = 0
    m = users.seq_n[u]
    for j in range(m - 1, -1, -1):
        if weights[users.seq_action[u, j]] > 0.0:
            items[n] = users.seq_item[u, j]
            n += 1
            if n == len(items):
                break
    gap = 2 if m < 2 else _gap_class(users.seq_ts[u, m - 1], users.seq_ts[u, m - 2])
    return n, gap


@inner
def _see(users: UserColumns, header: I64, seen: I32, u: int, item: int) -> None:
    """Add an item to the user's ring, which doubles until it holds `SEEN_RING_CLASS`."""
    n = users.seen_n[u]
    size_class = users.seen_class[u]
    if size_class < 0:
        users.seen_at[u] = arena.allocate(header, seen, 0)
        users.seen_class[u] = 0
        size_class = 0
    elif n >= (8 << size_class) and size_class < SEEN_RING_CLASS:
        old = users.seen_at[u]
        size = 8 << size_class
        new = arena.allocate(header, seen, size_class + 1)
        for j in range(n - size, n):
            seen[new + (j & (2 * size - 1))] = seen[old + (j & (size - 1))]
        arena.release(header, seen, old, size_class)
        users.seen_at[u] = new
        size_class += 1
        users.seen_class[u] = size_class
    seen[users.seen_at[u] + (n & ((8 << size_class) - 1))] = item
    users.seen_n[u] = n + 1


@inner
def _insert(users: UserColumns, u: int, item: int, action: int, value: float, ts: int) -> bool:
    """Put an event into the sequence by (ts, arrival); False when it is older than all of a full one."""
    n = users.seq_n[u]
    length = users.seq_item.shape[1]
    at = n
    while at > 0 and users.seq_ts[u, at - 1] > ts:
        at -= 1
    if n == length:
        if at == 0:
            return False
        for j in range(at - 1):
            users.seq_item[u, j] = users.seq_item[u, j + 1]
            users.seq_action[u, j] = users.seq_action[u, j + 1]
            users.seq_value[u, j] = users.seq_value[u, j + 1]
            users.seq_ts[u, j] = users.seq_ts[u, j + 1]
        at -= 1
    else:
        for j in range(n, at, -1):
            users.seq_item[u, j] = users.seq_item[u, j - 1]
            users.seq_action[u, j] = users.seq_action[u, j - 1]
            users.seq_value[u, j] = users.seq_value[u, j - 1]
            users.seq_ts[u, j] = users.seq_ts[u, j - 1]
        users.seq_n[u] = n + 1
    users.seq_item[u, at] = item
    users.seq_action[u, at] = action
    users.seq_value[u, at] = value
    users.seq_ts[u, at] = ts
    return True


@kernel
def _advance(
    users: UserColumns,
    header: I64,
    seen: I32,
    batch_user: I32,
    batch_item: I32,
    batch_action: U8,
    batch_value: F32,
    batch_ts: I64,
    batch_id: U64,
    list_at: Bool,
    weights: F32,
    limit: int,
    out: Histories,
) -> None:
    recent = users.ids.shape[1]
    for e in range(len(batch_user)):
        u = batch_user[e]
        item = batch_item[e]
        event_id = batch_id[e]
        out.b_n[e] = out.a_n[e] = 0
        if event_id != 0:
            duplicate = False
            for j in range(min(users.ids_n[u], recent)):
                if users.ids[u, j] == event_id:
                    duplicate = True
                    break
            if duplicate:
                out.status[e] = DUPLICATE
                continue
            users.ids[u, users.ids_n[u] % recent] = event_id
            users.ids_n[u] += 1
        out.b_n[e], out.b_gap[e] = history_of(users, u, weights, out.b_items[e])
        out.b_seen[e] = users.seen_n[u]
        out.events[e] = users.n_events[u]
        repeat = had(seen, users.seen_at[u], users.seen_class[u], users.seen_n[u], limit, item)
        out.repeat[e] = repeat
        if not repeat:
            _see(users, header, seen, u, item)
        inserted = _insert(users, u, item, batch_action[e], batch_value[e], batch_ts[e])
        out.status[e] = ACCEPTED if inserted else LATE
        users.n_events[u] += 1
        users.dirty[u] = 1
        out.a_seen[e] = users.seen_n[u]
        if list_at[e]:
            out.a_n[e], out.a_gap[e] = history_of(users, u, weights, out.a_items[e])


def new_histories(n: int) -> Histories:
    """Buffers for a batch of `n` events."""
    n = max(n, 256)
    items = np.zeros((n, HISTORY), np.int32)
    return Histories(
        status=np.zeros(n, np.uint8), repeat=np.zeros(n, np.uint8), events=np.zeros(n, np.int64),
        b_items=items, b_n=np.zeros(n, np.int32), b_gap=np.zeros(n, np.uint8), b_seen=np.zeros(n, np.int64),
        a_items=items.copy(), a_n=np.zeros(n, np.int32), a_gap=np.zeros(n, np.uint8), a_seen=np.zeros(n, np.int64),
    )  # fmt: skip


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
        self.header = arena.new_header()
        self.seen = np.full(1 << 16, -1, np.int32)
        self.hashes: U64 = np.zeros(len(self.columns.partition), np.uint64)
        """64-bit hash of the id in each slot."""
        self._slot: dict[str, int] = {}
        self._id: list[str | None] = []
        self._free: list[int] = []
        self._tick = 0
        self._erased: dict[str, int] = {}

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
        self._erased[user_id] = self.partition_of(slot)
        self._drop(slot)

    # -- events ------------------------------------------------------------------------------------------------
    def advance(self, batch: EventBatch, list_at: Bool, weights: F32, out: Histories) -> None:
        """Apply a batch to the sequences, in order, and tell each event's history into `out`.

        Args:
            batch: at most `len(out.status)` events.
            list_at: events after which the history is wanted too, bool [n].
            weights: teaching weight of each action code, float32 [256].
            out: buffers; the first n rows are written.
        """
        self._tick += 1
        self.columns.last_used[batch.user] = self._tick
        need = 2 * arena.block_size(SEEN_RING_CLASS) + 16 * len(batch)
        classes = np.maximum(self.columns.seen_class[np.unique(batch.user)], 0)
        need += 4 * int((arena.SMALLEST << classes.astype(np.int64)).sum())
        while arena.room(self.header, self.seen) < need:
            self.seen = np.concatenate([self.seen, np.full(len(self.seen), -1, np.int32)])
        _advance(
            self.columns, self.header, self.seen, batch.user, batch.item, batch.action, batch.value, batch.ts,
            batch.event_id, list_at, weights, self.settings.sequence.seen, out,
        )  # fmt: skip

    def history(self, slot: int, weights: F32, items: I32) -> tuple[int, int]:
        """Fill `items` with a user's positive items, newest first; their number, and the newest gap's class."""
        n, gap = history_of(self.columns, slot, weights, items)
        return int(n), int(gap)

    # -- persistence -------------------------------------------------------------------------------------------
    def dirty(self) -> Iterator[tuple[int, str, bytes | None]]:
        """(partition, user id, row) of every user changed since `mark_clean`; row None for an erased one."""
        for user_id, partition in self._erased.items():
            if user_id not in self._slot:
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
        seen_n = int(c.seen_n[slot])
        kept = np.arange(max(0, seen_n - self.settings.sequence.seen), seen_n)
        mask = arena.block_size(max(0, int(c.seen_class[slot]))) - 1
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
                seen=self.seen[int(c.seen_at[slot]) + (kept & mask)],
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
        size_class = 0
        while arena.block_size(size_class) < len(row.seen):
            size_class += 1
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
