"""Seen and unavailable items are blocked; the best of the rest are those of a full sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import policy
from models.kernels import kernel

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, 7.0]), max_size=40)


@kernel
def push_all(heap: Any, score: Any, values: Any, order: Any) -> Any:
    n = 0
    for slot in range(len(values)):
        n = policy.push(heap, score, n, slot, values[slot], order)
    return n


@kernel
def offer_all(best: Any, score: Any, values: Any, order: Any) -> Any:
    n = 0
    for slot in range(len(values)):
        n = policy.offer(best, score, n, slot, values[slot], order)
    return n


@kernel
def block_seen(blocked: Any, mark: Any, slot_of: Any, seen: Any, at: Any, c: Any, n: Any, limit: Any) -> None:
    policy.block_seen(blocked, mark, slot_of, seen, at, c, n, limit)


@kernel
def allowed(blocked: Any, mark: Any, available: Any, slot: Any) -> Any:
    return policy.allowed(blocked, mark, available, slot)


def sorted_best(values: list[float], order: list[int], k: int) -> list[int]:
    return sorted(range(len(values)), key=lambda s: (-values[s], order[s]))[:k]


def arrays(values: list[float], k: int) -> tuple[Any, Any, Any, Any]:
    order = [(7 * s + 3) % 41 for s in range(len(values))]
    return (
        np.full(k, -1, np.int32),
        np.zeros(k, np.float32),
        np.array(values, np.float32),
        np.array(order, np.uint64),
    )


@settings(deadline=None)
@given(values=SCORES, k=st.integers(1, 12))
def test_offered_items_stay_sorted_with_ties_by_id(values: list[float], k: int) -> None:
    best, score, column, order = arrays(values, k)
    filled = offer_all(best, score, column, order)
    expected = sorted_best(values, order.tolist(), k)
    assert best[:filled].tolist() == expected
    assert score[:filled].tolist() == [values[s] for s in expected]


@settings(deadline=None)
@given(values=SCORES, k=st.integers(1, 12))
def test_a_heap_keeps_the_best_with_ties_by_id(values: list[float], k: int) -> None:
    heap, score, column, order = arrays(values, k)
    n = push_all(heap, score, column, order)
    expected = sorted_best(values, order.tolist(), k)
    assert sorted(heap[:n].tolist()) == sorted(expected)
    assert all(score[j] == values[heap[j]] for j in range(n))
    if n == k:
        assert heap[0] == expected[-1]


def test_the_items_that_a_user_had_are_blocked() -> None:
    seen = np.full(64, -1, np.int32)
    seen[16:32] = np.arange(50, 66)  # a ring of 16 at 16: item 50 + j at place j
    slot_of = np.full(100, -1, np.int32)
    slot_of[50:66] = np.arange(16)
    slot_of[53] = -1  # evicted
    blocked = np.zeros(20, np.int32)
    block_seen(blocked, 5, slot_of, seen, 16, 1, 6, 4)
    assert np.flatnonzero(blocked == 5).tolist() == [2, 4, 5]
    block_seen(blocked, 6, slot_of, seen, 16, 1, 18, 3)  # the ring went round
    assert np.flatnonzero(blocked == 6).tolist() == [0, 1, 15]


def test_a_user_without_items_blocks_nothing() -> None:
    blocked = np.zeros(4, np.int32)
    block_seen(blocked, 5, np.zeros(4, np.int32), np.zeros(4, np.int32), 0, -1, 0, 10)
    assert not blocked.any()


def test_only_what_is_available_and_not_blocked_is_allowed() -> None:
    blocked, available = np.array([5, 5, 4, 4], np.int32), np.array([1, 0, 1, 0], np.uint8)
    assert [allowed(blocked, 5, available, slot) for slot in range(4)] == [False, False, True, False]
