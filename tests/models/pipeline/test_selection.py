"""The best of many are those of a full sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels import kernel
from models.pipeline import selection

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, 7.0]), max_size=40)


@kernel
def push_all(heap: Any, score: Any, values: Any, order: Any) -> Any:
    n = 0
    for slot in range(len(values)):
        n = selection.push(heap, score, n, slot, values[slot], order)
    return n


@kernel
def offer_all(best: Any, score: Any, values: Any, order: Any) -> Any:
    n = 0
    for slot in range(len(values)):
        n = selection.offer(best, score, n, slot, values[slot], order)
    return n


@kernel
def best_of(slots: Any, values: Any, order: Any, k: Any, out: Any) -> Any:
    n = len(values)
    heap, score = np.empty(k, np.int32), np.empty(k, np.float32)
    return selection.best(slots, values, n, order, k, heap, score, out)


@kernel
def nth(values: Any, n: Any) -> Any:
    return selection.nth(values, n)


@kernel
def kth_highest(values: Any, k: Any) -> Any:
    return selection.kth_highest(values, len(values), k, np.empty(k, np.float32))


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


@settings(deadline=None)
@given(values=SCORES, k=st.integers(1, 12))
def test_the_best_are_taken_whole_and_stay_in_their_order(values: list[float], k: int) -> None:
    _, _, column, order = arrays(values, k)
    slots, out = np.arange(len(values), dtype=np.int32), np.full(k, -1, np.int32)
    found = out[: best_of(slots, column, order, k, out)].tolist()
    expected = sorted_best(values, order.tolist(), k)
    assert sorted(found) == sorted(expected)
    above = [s for s in found if values[s] > min((values[s] for s in expected), default=0.0)]
    assert found[: len(above)] == sorted(above) or found == sorted(found)


@settings(deadline=None)
@given(values=st.lists(st.integers(0, 9), min_size=1, max_size=60), data=st.data())
def test_the_nth_is_that_of_the_sorted_values(values: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(values) - 1))
    assert nth(np.array(values, np.float32), n) == sorted(values)[n]
    assert kth_highest(np.array(values, np.float32), len(values) - n) == sorted(values)[n]
    different = [100 * v + at for at, v in enumerate(values)]
    assert nth(np.array(different, np.uint64), n) == sorted(different)[n]
