"""What may be shown: items that the user had, or that are not available, are blocked; the best k of the rest."""

from __future__ import annotations

from models.base import F32, I32, U8, U64
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


@inner
def push(heap: I32, score: F32, n: int, slot: int, value: float, order: U64) -> int:
    """Keep the best in a heap whose root is the worst of them; ties go to the lower item id. How many are kept."""
    if n == len(heap):
        root = heap[0]
        if value < score[0] or (value == score[0] and order[slot] >= order[root]):
            return n
        at = 0
        while True:
            child = 2 * at + 1
            if child >= n:
                break
            right = child + 1
            if right < n and (
                score[right] < score[child]
                or (score[right] == score[child] and order[heap[right]] > order[heap[child]])
            ):
                child = right
            if score[child] > value or (score[child] == value and order[heap[child]] < order[slot]):
                break
            heap[at], score[at] = heap[child], score[child]
            at = child
        heap[at], score[at] = slot, value
        return n
    at = n
    while at > 0:
        parent = (at - 1) // 2
        if score[parent] < value or (score[parent] == value and order[heap[parent]] > order[slot]):
            break
        heap[at], score[at] = heap[parent], score[parent]
        at = parent
    heap[at], score[at] = slot, value
    return n + 1


@inner
def offer(best: I32, score: F32, filled: int, slot: int, value: float, order: U64) -> int:
    """Insert an item into the k best so far, sorted; ties go to the lower item id. How many are filled."""
    k = len(best)
    if filled == k:
        last = best[k - 1]
        if value < score[k - 1] or (value == score[k - 1] and order[slot] >= order[last]):
            return filled
        at = k - 1
    else:
        at = filled
        filled += 1
    while at > 0:
        other = best[at - 1]
        if value < score[at - 1] or (value == score[at - 1] and order[slot] >= order[other]):
            break
        best[at] = other
        score[at] = score[at - 1]
        at -= 1
    best[at] = slot
    score[at] = value
    return filled
