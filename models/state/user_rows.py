"""A user's row as bytes: little-endian, versioned, trimmed to what is there; never pickle.

`unpack_row(pack_row(row))` gives the row back, and equal rows give equal bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from models.base import F32, I32, I64, U8, U64

ROW_VERSION = 1
TOPICS = 4
"""Input topics whose newest offset a row can hold."""

_HEAD = struct.Struct("<BBHHHHqqqqqf")


class RowError(ValueError):
    """The bytes are not a row of this version."""


@dataclass(slots=True, eq=False)
class UserRow:
    """One user: counters, the sequence (oldest first), recent event ids, seen items, last lists, MF factors."""

    events: int
    revision: int
    positions: I64
    items: I32
    actions: U8
    values: F32
    ts: I64
    ids_n: int
    ids: U64
    seen_n: int
    seen: I32
    served: I32
    served_popular: I32
    served_frozen: I32
    mf_n: int
    mf_bias: float
    mf: F32


def pack_row(row: UserRow) -> bytes:
    """The row's bytes."""
    head = _HEAD.pack(
        ROW_VERSION, len(row.served), len(row.items), len(row.ids), len(row.seen), len(row.mf),
        row.events, row.revision, row.ids_n, row.seen_n, row.mf_n, row.mf_bias,
    )  # fmt: skip
    return b"".join(
        (
            head,
            row.positions.tobytes(),
            row.ts.tobytes(),
            row.ids.tobytes(),
            row.items.tobytes(),
            row.values.tobytes(),
            row.seen.tobytes(),
            row.served.tobytes(),
            row.served_popular.tobytes(),
            row.served_frozen.tobytes(),
            row.mf.tobytes(),
            row.actions.tobytes(),
        )
    )


def unpack_row(data: bytes) -> UserRow:
    """The row in these bytes.

    Raises:
        RowError: another version, or bytes that are too short or too long.
    """
    if len(data) < _HEAD.size or data[0] != ROW_VERSION:
        raise RowError(f"a user row of {len(data)} bytes is not of version {ROW_VERSION}")
    _, k, n, n_ids, n_seen, factors, events, revision, ids_n, seen_n, mf_n, mf_bias = _HEAD.unpack_from(data)
    at = _HEAD.size

    def take(dtype: type[np.generic], count: int) -> np.ndarray:
        nonlocal at
        size = np.dtype(dtype).itemsize * count
        if at + size > len(data):
            raise RowError(f"a user row of {len(data)} bytes is cut short")
        part = np.frombuffer(data, dtype, count, at)
        at += size
        return part

    row = UserRow(
        events=events, revision=revision, positions=take(np.int64, TOPICS),
        ts=take(np.int64, n), ids_n=ids_n, ids=take(np.uint64, n_ids), items=take(np.int32, n),
        values=take(np.float32, n), seen_n=seen_n, seen=take(np.int32, n_seen), served=take(np.int32, k),
        served_popular=take(np.int32, k), served_frozen=take(np.int32, k), mf_n=mf_n, mf_bias=mf_bias,
        mf=take(np.float32, factors), actions=take(np.uint8, n),
    )  # fmt: skip
    if at != len(data):
        raise RowError(f"a user row has {len(data) - at} bytes too many")
    return row
