"""What may be shown: items that the user had, or that are not available, are blocked."""

from __future__ import annotations

from models.base import I32, U8
from models.kernels import inner


@inner
def block_seen(
    blocked: I32, mark: int, slot_of: I32, seen: I32, at: int, size_class: int, n: int, limit: int
) -> None:
    """Set `blocked[slot] = mark` for the last `limit` of the first `n` items that a user had."""
    if size_class < 0:
        return
    mask = (8 << size_class) - 1
    for j in range(max(0, n - limit), n):
        slot = slot_of[seen[at + (j & mask)]]
        if slot >= 0:
            blocked[slot] = mark


@inner
def allowed(blocked: I32, mark: int, available: U8, slot: int) -> bool:
    """Whether an item may be shown to the user whose items carry `mark`."""
    return blocked[slot] != mark and available[slot] != 0
