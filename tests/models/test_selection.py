"""The best of many are those of a full sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import selection
from models.kernels import kernel

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
def best_kernel(
    slots: Any, values: Any, order: Any, k: Any, heap: Any, score: Any, maxima: Any, out: Any
) -> Any:
    return selection.best(slots, values, len(values), order, k, heap, score, maxima, out)


def best_of(slots: Any, values: Any, order: Any, k: Any, out: Any) -> Any:
    heap, score = np.empty(k, np.int32), np.empty(k, np.float32)
    maxima = np.empty(selection.GROUPS * k, np.float32)
    return best_kernel(slots.copy(), values.copy(), order, k, heap, score, maxima, out)


@kernel
def nth(values: Any, n: Any) -> Any:
    return selection.nth(values, n)


@kernel
def kth_highest_kernel(values: Any, k: Any, heap: Any) -> Any:
    return selection.kth_highest(values, len(values), k, heap)


def kth_highest(values: Any, k: Any) -> Any:
    return kth_highest_kernel(values, k, np.empty(k, np.float32))


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
@given(seed=st.integers(0, 1000), n=st.integers(1, 400), k=st.integers(1, 12), kind=st.sampled_from("usent"))
def test_the_best_of_very_many_are_those_of_a_full_sort(seed: int, n: int, k: int, kind: str) -> None:
    """Most are passed over by a bound, which must hold where all are equal, far apart, or below 0."""
    draw = np.random.default_rng(seed)
    of_kind = {
        "u": draw.random(n), "s": np.sort(draw.random(n)), "e": np.full(n, 0.25),
        "n": -np.exp(8 * draw.normal(size=n)), "t": draw.integers(0, 4, n),
    }  # fmt: skip
    values = of_kind[kind].astype(np.float32)
    slots, order = np.arange(n, dtype=np.int32), draw.permutation(n).astype(np.uint64)
    out = np.full(k, -1, np.int32)
    found = out[: best_of(slots, values, order, k, out)].tolist()
    assert sorted(found) == sorted(sorted_best(values.tolist(), order.tolist(), k))


@settings(deadline=None)
@given(values=st.lists(st.integers(0, 9), min_size=1, max_size=60), data=st.data())
def test_the_nth_is_that_of_the_sorted_values(values: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(values) - 1))
    assert nth(np.array(values, np.float32), n) == sorted(values)[n]
    assert kth_highest(np.array(values, np.float32), len(values) - n) == sorted(values)[n]
    different = [100 * v + at for at, v in enumerate(values)]
    assert nth(np.array(different, np.uint64), n) == sorted(different)[n]
