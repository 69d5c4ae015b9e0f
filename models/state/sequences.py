"""Users' sequences, compiled: an event enters its user's row, and what the user's history was before and after it.

In: columns of users, a batch in order. Out: changed columns, and for each event whether it was accepted, a duplicate or
late, with the history that every online model learns from. It never decides what is learned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import ACCEPTED, DUPLICATE, F32, I32, I64, LATE, U8, U64, Bool
from models.kernels import inner, kernel
from models.state import arena

HISTORY = 50
"""Items of the history that models read, newest first."""

MAX_BATCH = 5000
"""Events that `advance` takes at once."""

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
    b_scenario: U8  # of the newest event; 0 for none
    b_seen: I64
    a_items: I32
    a_n: I32
    a_gap: U8
    a_scenario: U8
    a_seen: I64


def ring_class(limit: int, items: int) -> int:
    """Size class of the ring of a user who had so many items, `limit` of which are remembered.

    It holds them all, up to those remembered and a batch on top: within one, what came before is still asked for.
    """
    size_class = 0
    while arena.block_size(size_class) < min(items, limit + MAX_BATCH):
        size_class += 1
    return size_class


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
def scenario_of(users: UserColumns, u: int, scenarios: U8) -> int:
    """The scenario of the user's newest event, 0 for none; `scenarios` [256] is by action code."""
    n = users.seq_n[u]
    return int(scenarios[users.seq_action[u, n - 1]]) if n > 0 else 0


@inner
def _see(users: UserColumns, header: I64, seen: I32, u: int, item: int, largest: int) -> None:
    """Add an item to the user's ring, which doubles up to the size class `largest`."""
    n = users.seen_n[u]
    size_class = users.seen_class[u]
    if size_class < 0:
        users.seen_at[u] = arena.allocate(header, seen, 0)
        users.seen_class[u] = 0
        size_class = 0
    elif n >= (8 << size_class) and size_class < largest:
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
def advance(
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
    scenarios: U8,
    limit: int,
    largest: int,
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
        out.b_scenario[e] = scenario_of(users, u, scenarios)
        out.b_seen[e] = users.seen_n[u]
        out.events[e] = users.n_events[u]
        repeat = had(seen, users.seen_at[u], users.seen_class[u], users.seen_n[u], limit, item)
        out.repeat[e] = repeat
        if not repeat:
            _see(users, header, seen, u, item, largest)
        inserted = _insert(users, u, item, batch_action[e], batch_value[e], batch_ts[e])
        out.status[e] = ACCEPTED if inserted else LATE
        users.n_events[u] += 1
        users.dirty[u] = 1
        out.a_seen[e] = users.seen_n[u]
        if list_at[e]:
            out.a_n[e], out.a_gap[e] = history_of(users, u, weights, out.a_items[e])
            out.a_scenario[e] = scenario_of(users, u, scenarios)


def new_histories(n: int) -> Histories:
    """Buffers for a batch of `n` events."""
    n = max(n, 256)
    items = np.zeros((n, HISTORY), np.int32)
    return Histories(
        status=np.zeros(n, np.uint8), repeat=np.zeros(n, np.uint8), events=np.zeros(n, np.int64),
        b_items=items, b_n=np.zeros(n, np.int32), b_gap=np.zeros(n, np.uint8),
        b_scenario=np.zeros(n, np.uint8), b_seen=np.zeros(n, np.int64),
        a_items=items.copy(), a_n=np.zeros(n, np.int32), a_gap=np.zeros(n, np.uint8),
        a_scenario=np.zeros(n, np.uint8), a_seen=np.zeros(n, np.int64),
    )  # fmt: skip
