"""The best of many: by a bound, a heap or a sorted list.

In: slots with their scores. Out: the slots of the highest scores; ties go to the lower item id. Never allocates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.base import F32, I32, U64
from models.kernels import inner

GROUPS = 4
"""Groups for each of those wanted, of whose maxima a bound is found: more of them, a better bound."""
HALVINGS = 24
"""At most, in the search for that bound."""


@inner
def nth(values: Any, n: int) -> Any:
    """The n-th smallest value (0 the smallest); the values are shuffled on the way (Hoare's FIND, CACM 1961)."""
    low, high = 0, len(values) - 1
    while low < high:
        a, b, m = values[low], values[high], values[(low + high) >> 1]
        pivot = max(min(a, b), min(max(a, b), m))
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if n <= j:
            high = j
        elif n >= i:
            low = i
        else:
            break
    return values[n]


@inner
def _sink(heap: F32, n: int, at: int, value: float) -> None:
    """Put a value at `at` of a heap whose root is the lowest, or where it belongs below."""
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value


@inner
def kth_highest(values: F32, n: int, k: int, heap: F32) -> Any:
    """The k-th highest of the first n values, of which there are as many; `heap` [>= k] is scratch."""
    for i in range(k):
        heap[i] = values[i]
    for at in range(k // 2 - 1, -1, -1):
        _sink(heap, k, at, heap[at])
    for i in range(k, n):
        if values[i] > heap[0]:
            _sink(heap, k, 0, values[i])
    return heap[0]


@inner
def _bound(values: F32, n: int, k: int, maxima: F32) -> Any:
    """A bound that at least k of the first n values reach, and few more; n >= GROUPS k. `maxima` [GROUPS k] is scratch.

    Of GROUPS k groups of values each has its maximum, and k of those that are not below the bound are enough. It is
    sought by halving. Only loops without a branch on a value: a processor can't foresee such a branch, and compares
    many values at once where there is none.
    """
    groups = np.uint64(GROUPS * k)
    for g in range(groups):
        maxima[g] = values[g]
    start, end = groups, np.uint64(n)
    while start < end:
        for g in range(min(groups, end - start)):
            maxima[g] = max(maxima[g], values[start + g])
        start += groups
    low = high = maxima[0]
    for g in range(groups):
        low, high = min(low, maxima[g]), max(high, maxima[g])
    for _ in range(HALVINGS):
        middle = np.float32(0.5) * (low + high)
        reached = 0
        for g in range(groups):
            reached += 1 if maxima[g] >= middle else 0
        if reached >= k:
            low = middle
        else:
            high = middle
        if k <= reached <= k + k // 8:
            break
    return low


@inner
def reach(slots: I32, values: F32, n: int, k: int, maxima: F32) -> int:
    """Keep, of the first n (slot, value), those that reach a bound that at least k reach; how many they are.

    They stand as they stood before. Where there are few, all are kept. `maxima` [>= GROUPS k] is scratch.
    """
    if n < 2 * GROUPS * k:
        return n
    bound = _bound(values, n, k, maxima)
    kept = np.uint64(0)
    for i in range(np.uint64(n)):
        slots[kept], values[kept] = slots[i], values[i]
        kept += np.uint64(1) if values[i] >= bound else np.uint64(0)
    return int(np.int64(kept))


@inner
def best(
    slots: I32, values: F32, n: int, order: U64, k: int, heap: I32, heap_score: F32, maxima: F32, out: I32
) -> int:
    """Fill `out` with the k best of the first n (slot, value); how many they are.

    They stand as they stood before; where not all of those that tie for the last places fit, the lower ids come last.
    `slots` and `values` are left in disorder; `heap`, `heap_score` [>= k] and `maxima` [>= GROUPS k] are scratch.
    """
    n = reach(slots, values, n, k, maxima)
    if n <= k:
        for i in range(n):
            out[i] = slots[i]
        return n
    bound = kth_highest(values, n, k, heap_score)
    above = 0
    for i in range(n):
        above += 1 if values[i] > bound else 0
    ties = 0
    for i in range(n):
        ties += 1 if values[i] == bound else 0
    fit = above + ties == k
    filled = 0
    for i in range(n):
        if values[i] > bound or (fit and values[i] == bound):
            out[filled] = slots[i]
            filled += 1
    if not fit:
        held, tied, tied_score = 0, heap[: k - above], heap_score[: k - above]
        for i in range(n):
            if values[i] == bound:
                held = push(tied, tied_score, held, slots[i], bound, order)
        for i in range(held):
            out[filled + i] = tied[i]
        filled += held
    return filled


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
