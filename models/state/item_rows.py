"""Item state as keys and bytes: what a commit writes of an item, and how it comes back.

Parts of an item have keys of their own, since they change at different rates: ``i`` + number the slot and the id,
``h`` + number the head (counts, popularity, explicit MF, input vector, sums), ``y`` + number the output vector, ``c`` +
number the co-visitation row, ``s`` + number the popularity in each scenario, where it has any. (``j`` + number is a
segment of `models.online.covisit_journal`.) Numbers are big-endian, so that a scan gives items in the order of their
admission. Never pickle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from models.base import F32, I32, I64, U8
from models.online import covisit_rows, popularity
from models.state.catalogue import HEAD, OUTPUT, ROW

if TYPE_CHECKING:  # what it is made of is imported there
    from models.state.learned import State

_NUMBER = struct.Struct(">cI")
_KEYS = np.dtype([("kind", "S1"), ("number", ">u4")])
"""`_NUMBER`, for many at a time."""
_SLOT = struct.Struct("<I")
HEAD_VERSION = 1
ROW_VERSION = b"\1"
"""First byte of a co-visitation row. One of schema 4 or before has none: its length is a multiple of 4."""
ENTRY = 16
"""Bytes of a neighbour in a row: its number and three weights."""
KINDS = (b"i", b"h", b"y", b"c", b"s")
"""Of keys that belong to an item."""


def key(kind: bytes, number: int) -> bytes:
    """Key of one part of an item."""
    return _NUMBER.pack(kind, number)


def parse_key(data: bytes) -> tuple[bytes, int]:
    """Kind and number of a key."""
    kind, number = _NUMBER.unpack(data)
    return kind, number


def id_bytes(slot: int, item_id: str) -> bytes:
    """Where an item lies, and its id. The slot is state: negatives are drawn by slot."""
    return _SLOT.pack(slot) + item_id.encode()


def parse_id(data: bytes) -> tuple[int, str]:
    """Slot and id of an item."""
    return int(_SLOT.unpack_from(data)[0]), data[_SLOT.size :].decode()


def _head_type(state: State) -> np.dtype[np.void]:
    """The columns of a head, little-endian and without gaps."""
    p, factors, d = len(state.popularity.total), state.mf.shape[1], state.amf.x.shape[1]
    return np.dtype(
        [
            ("version", "u1"), ("born", "<i8"), ("last", "<i8"), ("events", "<i8"), ("mf_bias", "<f4"),
            ("row_sum", "<f8", 2), ("column_sum", "<f8", 2), ("x_square", "<f4"), ("shown", "<f4"),
            ("mass", "<f8", p), ("epochs", "<i4", p), ("mf", "<f4", factors), ("x", "<f4", d),
        ]
    )  # fmt: skip


def _head_columns(state: State) -> dict[str, np.ndarray]:
    """Where the columns of a head but for its version and epochs live, by item slot."""
    items, c = state.items, state.covisit
    return {
        "born": items.born, "last": items.last, "events": items.events, "mf_bias": state.mf_bias,
        "row_sum": c.row_sum, "column_sum": c.column_sum, "x_square": state.amf.x_square, "shown": items.shown,
        "mass": state.popularity.mass, "mf": state.mf, "x": state.amf.x,
    }  # fmt: skip


def dump(state: State, slots: I64, flags: U8) -> Iterator[tuple[bytes, bytes]]:
    """Keys and bytes of the parts of items whose dirty `flags` are set, but for names; both are [n]."""
    heads = slots[(flags & HEAD) != 0]
    yield from _parts(b"h", state, heads, _heads(state, heads))
    there = state.here.mass[heads] > 0.0
    widths = np.where(there.any(axis=1), there.shape[1] - there[:, ::-1].argmax(axis=1), 0)
    for width in np.unique(widths[widths > 0]).tolist():
        somewhere = heads[widths == width]
        yield from _parts(b"s", state, somewhere, _here(state, somewhere, width))
    outputs = slots[(flags & OUTPUT) != 0]
    rest = np.stack([state.amf.bias[outputs], state.amf.y_square[outputs]], axis=1)
    yield from _parts(b"y", state, outputs, np.concatenate([rest, state.amf.y[outputs]], axis=1))
    for slot in slots[(flags & ROW) != 0].tolist():
        neighbours, weight = covisit_rows.row(state.covisit, slot)
        numbers = np.where(neighbours >= 0, state.items.number[neighbours], covisit_rows.GONE).astype(
            np.int32
        )
        yield key(b"c", int(state.items.number[slot])), ROW_VERSION + numbers.tobytes() + weight.tobytes()


def _heads(state: State, slots: I64) -> np.ndarray:
    heads = np.zeros(len(slots), _head_type(state))
    heads["version"], heads["epochs"] = HEAD_VERSION, state.popularity.epochs
    for name, column in _head_columns(state).items():
        heads[name] = column[slots]
    return heads


def _here_type(scenarios: int) -> np.dtype[np.void]:
    return np.dtype([("mass", "<f8", scenarios), ("epochs", "<i4", scenarios)])


def _here(state: State, slots: I64, width: int) -> np.ndarray:
    """The masses of the first `width` scenarios, the last in which these items have any."""
    rows = np.zeros(len(slots), _here_type(width))
    rows["mass"], rows["epochs"] = state.here.mass[slots, :width], state.here.epochs[:width]
    return rows


def _parts(kind: bytes, state: State, slots: I64, rows: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    """One key and the bytes of one row for each slot; there are thousands, so that they are cut by numpy."""
    keys = np.empty(len(slots), _KEYS)
    keys["kind"], keys["number"] = kind, state.items.number[slots]
    size = rows.nbytes // max(1, len(rows))
    return zip(_pieces(keys.tobytes(), _KEYS.itemsize), _pieces(rows.tobytes(), size), strict=True)


def _pieces(data: bytes, size: int) -> list[bytes]:
    """The data in pieces of the same size."""
    pieces: list[bytes] = np.frombuffer(data, f"V{size}").tolist() if data else []
    return pieces


def load_head(state: State, slot: int, data: bytes) -> None:
    """Put a head back. Masses that were written before the last rescalings are scaled as those were.

    Raises:
        ValueError: bytes of another version or length.
    """
    if data[0] != HEAD_VERSION:
        raise ValueError(f"the head of an item has version {data[0]}, not {HEAD_VERSION}")
    expected = _head_type(state)
    if len(data) != expected.itemsize:
        raise ValueError(
            f"the head of an item has {len(data)} bytes, not {expected.itemsize}: other settings wrote it"
        )
    head = np.frombuffer(data, expected)[0]
    for name, column in _head_columns(state).items():
        column[slot] = head[name]
    _catch_up(state.popularity, slot, head["epochs"].tolist())
    state.covisit.stale[slot] = 1


def load_here(state: State, slot: int, data: bytes) -> None:
    """Put the masses of the scenarios back, scaled as they would be now.

    Raises:
        ValueError: bytes of another length.
    """
    scenarios = len(data) // _here_type(1).itemsize
    expected = _here_type(scenarios)
    if len(data) != expected.itemsize or scenarios > len(state.here.total):
        raise ValueError(f"the popularity of an item in each scenario can't have {len(data)} bytes")
    row = np.frombuffer(data, expected)[0]
    state.here.mass[slot, :scenarios] = row["mass"]
    _catch_up(state.here, slot, row["epochs"].tolist())


def _catch_up(table: popularity.Popularity, slot: int, epochs: list[int]) -> None:
    """Scale an item's masses that were written before the last rescalings as those were."""
    mass = table.mass[slot]
    for p, epoch in enumerate(epochs):
        for _ in range(int(table.epochs[p]) - epoch):
            popularity.rescale(mass[p : p + 1])


def load_output(state: State, slot: int, data: bytes) -> None:
    """Put an output vector back."""
    values: F32 = np.frombuffer(data, np.float32)
    state.amf.bias[slot], state.amf.y_square[slot] = values[:2]
    state.amf.y[slot] = values[2:]


def load_row(state: State, slot: int, data: bytes, slot_of: I32) -> None:
    """Put a co-visitation row back; the caller made sure of room. `slot_of` [item numbers] is -1 for an evicted one.

    Raises:
        ValueError: bytes of another version or length.
    """
    version, size = len(data) % 4, ENTRY if len(data) % 4 else 12
    n = len(data) // size
    if len(data) != version + n * size or data[:version] != ROW_VERSION[:version]:
        raise ValueError(f"a co-visitation row of {len(data)} bytes is of another version")
    numbers: I32 = np.frombuffer(data, np.int32, n, version)
    weights = np.zeros((n, 3), np.float32)
    columns = size // 4 - 1
    weights[:, :columns] = np.frombuffer(data, np.float32, columns * n, version + 4 * n).reshape(n, columns)
    known = (numbers >= 0) & (numbers < len(slot_of))
    covisit_rows.restore(
        state.covisit,
        slot,
        np.where(known, slot_of[np.where(known, numbers, 0)], covisit_rows.GONE).astype(np.int32),
        weights,
    )
