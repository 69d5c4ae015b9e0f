"""Seen and unavailable items are blocked."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.kernels import kernel
from models.pipeline import policy


@kernel
def block_seen(blocked: Any, mark: Any, slot_of: Any, seen: Any, at: Any, c: Any, n: Any, limit: Any) -> None:
    policy.block_seen(blocked, mark, slot_of, seen, at, c, n, limit)


@kernel
def allowed(blocked: Any, mark: Any, available: Any, slot: Any) -> Any:
    return policy.allowed(blocked, mark, available, slot)


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
