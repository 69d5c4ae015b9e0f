"""A user's row survives its bytes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.state.user_rows import ROW_VERSION, TOPICS, RowError, UserRow, pack_row, unpack_row

COUNT = st.integers(0, 2**62)
F32 = st.floats(width=32)


def array(dtype: Any, n: int) -> st.SearchStrategy[Any]:
    elements = F32 if dtype is np.float32 else None
    return arrays(dtype, n, elements=elements)


@st.composite
def rows(draw: st.DrawFn) -> UserRow:
    n, ids, seen, k, factors = (draw(st.integers(0, 12)) for _ in range(5))
    return UserRow(
        events=draw(COUNT),
        revision=draw(COUNT),
        positions=draw(array(np.int64, TOPICS)),
        items=draw(array(np.int32, n)),
        actions=draw(array(np.uint8, n)),
        values=draw(array(np.float32, n)),
        ts=draw(array(np.int64, n)),
        ids_n=draw(COUNT),
        ids=draw(array(np.uint64, ids)),
        seen_n=draw(COUNT),
        seen=draw(array(np.int32, seen)),
        served=draw(array(np.int32, k)),
        served_popular=draw(array(np.int32, k)),
        served_frozen=draw(array(np.int32, k)),
        mf_n=draw(COUNT),
        mf_bias=draw(F32),
        mf=draw(array(np.float32, factors)),
    )


@settings(deadline=None)
@given(rows())
def test_a_row_comes_back_and_equal_rows_are_equal_bytes(row: UserRow) -> None:
    data = pack_row(row)
    again = unpack_row(data)
    for f in fields(UserRow):
        np.testing.assert_array_equal(getattr(again, f.name), getattr(row, f.name), err_msg=f.name)
    assert pack_row(again) == data


@settings(deadline=None)
@given(rows(), st.data())
def test_a_row_that_is_cut_short_is_refused(row: UserRow, data: st.DataObject) -> None:
    whole = pack_row(row)
    with pytest.raises(RowError, match=r"cut short|not of version"):
        unpack_row(whole[: data.draw(st.integers(0, len(whole) - 1))])


EMPTY = UserRow(
    events=1, revision=2, positions=np.full(TOPICS, -1), items=np.zeros(0, np.int32),
    actions=np.zeros(0, np.uint8), values=np.zeros(0, np.float32), ts=np.zeros(0, np.int64), ids_n=0,
    ids=np.zeros(0, np.uint64), seen_n=0, seen=np.zeros(0, np.int32), served=np.full(3, -1, np.int32),
    served_popular=np.full(3, -1, np.int32), served_frozen=np.full(3, -1, np.int32), mf_n=0, mf_bias=0.0,
    mf=np.zeros(0, np.float32),
)  # fmt: skip


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(RowError, match="2 bytes too many"):
        unpack_row(pack_row(EMPTY) + b"xx")


def test_another_version_is_refused() -> None:
    data = bytes([ROW_VERSION + 1]) + pack_row(EMPTY)[1:]
    with pytest.raises(RowError, match="not of version 1"):
        unpack_row(data)


def test_a_row_takes_no_room_for_what_is_not_there() -> None:
    assert len(pack_row(EMPTY)) < 150
