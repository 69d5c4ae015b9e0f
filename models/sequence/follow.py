"""A batch whose users are all cached and in order, compiled from end to end: the way of nearly every live batch.

In: the user table's columns before and after it took the batch in, the cache, the batch. Out: whether the batch is so
simple, or would be if some users were in the cache too, and then the vectors around each of its events. What is not
simple goes the ways of `models.sequence.user_vectors`, which give the same.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.base import F32, I32, I64, U8, U64, Bool
from models.kernels import inner, kernel
from models.sequence.advance import Scratch, Weights, step
from models.sequence.transformer import GAPS, LEVELS


class Known(NamedTuple):
    """What the user table says of each slot."""

    hashes: U64  # [U]
    events: I64  # [U] accepted so far
    stored: I32  # [U] events in the stored sequence
    times: I64  # [U, length] of the stored events


class Cached(NamedTuple):
    """What the cache says of each slot."""

    stamps: I64  # [U, 3] hash, events and newest time of a user as the cache has them
    place: I64  # [U] where a user lies, below 0 for nowhere


@inner
def _newest(known: Known, slot: int) -> int:
    n = known.stored[slot]
    return known.times[slot, n - 1] if n > 0 else -1


@inner
def _is_cached(known: Known, cached: Cached, slot: int) -> bool:
    if slot >= len(cached.stamps) or slot >= len(cached.place) or cached.place[slot] < 0:
        return False
    stamp = cached.stamps[slot]
    return bool(
        stamp[0] == np.int64(known.hashes[slot])
        and stamp[1] == known.events[slot]
        and stamp[2] == _newest(known, slot)
    )


@kernel(allocates=True)
def survey(
    known: Known,
    cached: Cached,
    row: I32,
    slots: I32,
    ts: I64,
    most: int,
    first: I32,
    newest: I64,
    missing: I32,
) -> int:
    """How many users of the batch are not cached; -1 where one comes out of the order of time or over `most` times.

    Args:
        row: scratch by slot, whatever it holds.
        slots, ts: of the events, [n].
        first: gets the row of the first event of the same user, [n].
        newest: gets, in that row, the time of the user's newest stored event, -1 for none, [n].
        missing: gets the slots of the users that are not cached, [n].
    """
    times, last = np.zeros(len(slots), np.int32), np.empty(len(slots), np.int64)
    absent = 0
    for e in range(len(slots)):
        slot = slots[e]
        r = row[slot]
        if r < 0 or r >= e or slots[r] != slot or first[r] != r:
            if not _is_cached(known, cached, slot):
                missing[absent] = slot
                absent += 1
            r = row[slot] = e
            newest[e] = last[e] = _newest(known, slot)
        first[e] = r
        times[r] += 1
        if times[r] > most or ts[e] < last[r]:
            return -1
        last[r] = ts[e]
    return absent


@inner
def gap_bucket(gap: int) -> int:
    """As `models.sequence.transformer.gap_buckets`, of one gap in ms."""
    if gap < 0:
        return 0
    seconds, bucket = gap // 1000, 1
    while seconds > 0 and bucket < GAPS - 1:
        seconds >>= 1
        bucket += 1
    return bucket


@inner
def value_bucket(value: float, low: float, high: float) -> int:
    """As `models.sequence.transformer.value_buckets`, of one rating."""
    if math.isnan(value):
        return 0
    share = min(max((value - low) / max(high - low, 1e-9), 0.0), 1.0)
    return 1 + math.floor(share * (LEVELS - 1) + 0.5)


@kernel
def follow(
    w: Weights, s: Scratch, rings: F32, vectors: F32, length: I64, known: Known, cached: Cached,
    index: I64, slots: I32, ts: I64, first: I32, newest: I64, item_row: I32, items: I32, action_row: I32, actions: U8,
    values: F32, low: float, high: float, accepted: Bool, before: F32, after: F32,
) -> None:  # fmt: skip
    """The vectors before and after each accepted event; the cache then has the users as the table has them.

    Args:
        index: rows of the batch that are followed, [m]; `slots` to `newest` are of these events.
        items, actions, values, accepted, before, after: of the whole batch.
    """
    for i in range(len(slots)):
        e = index[i]
        if not accepted[e]:
            continue
        r = first[i]
        gap = ts[i] - newest[r] if newest[r] >= 0 else -1
        newest[r] = ts[i]
        step(
            w, s, rings, vectors, length, cached.place[slots[i]],
            max(item_row[items[e]], 0), action_row[actions[e]], value_bucket(values[e], low, high),
            gap_bucket(gap), before[e], after[e],
        )  # fmt: skip
    for i in range(len(slots)):
        if first[i] == i:
            slot = slots[i]
            cached.stamps[slot, 0] = np.int64(known.hashes[slot])
            cached.stamps[slot, 1] = known.events[slot]
            cached.stamps[slot, 2] = _newest(known, slot)
