"""Item state as keys and bytes: what a commit writes of an item, and how it comes back.

Three keys an item, since they change at different rates: ``i`` + number the id, ``h`` + number the head (counts,
popularity, explicit MF, input vector, sums), ``y`` + number the output vector, ``c`` + number the co-visitation row.
Numbers are big-endian, so that a scan gives items in the order of their admission. Never pickle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from models import covisit
from models.base import F32, F64, I32
from models.candidates import State
from models.catalogue import HEAD, OUTPUT, ROW

_NUMBER = struct.Struct(">cI")
_HEAD = struct.Struct("<Bqqqf4dff")
HEAD_VERSION = 1


def key(kind: bytes, number: int) -> bytes:
    """Key of one part of an item."""
    return _NUMBER.pack(kind, number)


def parse_key(data: bytes) -> tuple[bytes, int]:
    """Kind and number of a key."""
    kind, number = _NUMBER.unpack(data)
    return kind, number


def dump(state: State, slot: int, flags: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and bytes of the parts of an item whose dirty `flags` are set."""
    items, c = state.items, state.covisit
    number = int(items.number[slot])
    if flags & (HEAD | ROW):  # a row's sums are in the head
        head = _HEAD.pack(
            HEAD_VERSION, int(items.born[slot]), int(items.last[slot]), int(items.events[slot]),
            float(state.mf_bias[slot]), *map(float, c.row_sum[slot]), *map(float, c.column_sum[slot]),
            float(state.amf.x_square[slot]), float(items.shown[slot]),
        )  # fmt: skip
        yield (
            key(b"h", number),
            b"".join(
                (
                    head,
                    state.popularity.mass[slot].tobytes(),
                    state.popularity.epochs.tobytes(),
                    state.mf[slot].tobytes(),
                    state.amf.x[slot].tobytes(),
                )
            ),
        )
    if flags & ROW:
        keys, weight = covisit.row(c, slot)
        yield key(b"c", number), keys.tobytes() + weight.tobytes()
    if flags & OUTPUT:
        rest = np.array([state.amf.bias[slot], state.amf.y_square[slot]], np.float32)
        yield key(b"y", number), rest.tobytes() + state.amf.y[slot].tobytes()


def load_head(state: State, slot: int, data: bytes) -> None:
    """Put a head back. Masses that were written before the last rescalings are scaled as those were.

    Raises:
        ValueError: bytes of another version or length.
    """
    if data[0] != HEAD_VERSION:
        raise ValueError(f"the head of an item has version {data[0]}, not {HEAD_VERSION}")
    (
        _, state.items.born[slot], state.items.last[slot], state.items.events[slot], state.mf_bias[slot],
        state.covisit.row_sum[slot, 0], state.covisit.row_sum[slot, 1],
        state.covisit.column_sum[slot, 0], state.covisit.column_sum[slot, 1],
        state.amf.x_square[slot], shown,
    ) = _HEAD.unpack_from(data)  # fmt: skip
    state.items.shown[slot] = int(shown)
    at = _HEAD.size
    p, factors, d = len(state.popularity.total), state.mf.shape[1], state.amf.x.shape[1]
    expected = at + 12 * p + 4 * factors + 4 * d
    if len(data) != expected:
        raise ValueError(
            f"the head of an item has {len(data)} bytes, not {expected}: other settings wrote it"
        )
    mass: F64 = np.frombuffer(data, np.float64, p, at).copy()
    epochs: I32 = np.frombuffer(data, np.int32, p, at + 8 * p)
    for q in range(p):
        for _ in range(int(state.popularity.epochs[q] - epochs[q])):
            value = mass[q] * 2.0**-512
            mass[q] = value if value > 2.0**-500 else 0.0
    state.popularity.mass[slot] = mass
    at += 12 * p
    state.mf[slot] = np.frombuffer(data, np.float32, factors, at)
    state.amf.x[slot] = np.frombuffer(data, np.float32, d, at + 4 * factors)
    state.covisit.stale[slot] = 1


def load_output(state: State, slot: int, data: bytes) -> None:
    """Put an output vector back."""
    values: F32 = np.frombuffer(data, np.float32)
    state.amf.bias[slot], state.amf.y_square[slot] = values[:2]
    state.amf.y[slot] = values[2:]


def load_row(state: State, slot: int, data: bytes) -> None:
    """Put a co-visitation row back; the caller made sure of room."""
    n = len(data) // 12
    covisit.restore(
        state.covisit,
        slot,
        np.frombuffer(data, np.int32, n),
        np.frombuffer(data, np.float32, 2 * n, 4 * n).reshape(n, 2),
    )
