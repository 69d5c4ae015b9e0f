"""Blocks of rows that grow: they never overlap, and come back when they are released."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.state import arena

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("allocate"), st.integers(0, 4)), st.tuples(st.just("release"), st.integers(0, 50))
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS)
def test_blocks_in_use_never_overlap_and_start_empty(steps: list[tuple[str, int]]) -> None:
    header, keys = arena.new_header(), np.full(60 * 128, -1, np.int32)
    used: list[tuple[int, int]] = []
    for step, argument in steps:
        if step == "allocate":
            at = arena.allocate(header, keys, argument)
            size = arena.block_size(argument)
            assert (keys[at : at + size] == -1).all()
            keys[at : at + size] = at
            used.append((at, argument))
        elif used:
            arena.release(header, keys, *used.pop(argument % len(used)))
        for at, size_class in used:
            assert (keys[at : at + arena.block_size(size_class)] == at).all()


def test_a_released_block_is_the_next_of_its_size() -> None:
    header, keys = arena.new_header(), np.full(1000, -1, np.int32)
    first, second = arena.allocate(header, keys, 1), arena.allocate(header, keys, 1)
    arena.release(header, keys, first, 1)
    arena.release(header, keys, second, 1)
    left = arena.room(header, keys)
    assert [arena.allocate(header, keys, 1) for _ in range(2)] == [second, first]
    assert arena.room(header, keys) == left == 1000 - 32


def test_a_block_of_another_size_is_not_given_out() -> None:
    header, keys = arena.new_header(), np.full(1000, -1, np.int32)
    arena.release(header, keys, arena.allocate(header, keys, 2), 2)
    assert arena.allocate(header, keys, 0) == arena.block_size(2)


def test_sizes_double_from_eight() -> None:
    assert [arena.block_size(c) for c in range(4)] == [8, 16, 32, 64]


def test_what_does_not_fit_is_refused() -> None:
    header, keys = arena.new_header(), np.full(20, -1, np.int32)
    arena.allocate(header, keys, 1)
    with pytest.raises(MemoryError, match="no room"):
        arena.allocate(header, keys, 0)
