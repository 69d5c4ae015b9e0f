"""Every metric against a slow definition in plain Python, whatever the lists are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import lists as metrics

ITEMS = 12
rows = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=0, max_size=6, unique=True), min_size=1, max_size=8
)


def packed(lists: list[list[int]], k: int = 6) -> npt.NDArray[np.int32]:
    table = np.full((len(lists), k), -1, np.int32)
    for row, items in zip(table, lists, strict=True):
        row[: len(items)] = items
    return table


@given(rows, st.data(), st.integers(1, 6))
def test_hits_and_ndcg_equal_their_definitions(lists: list[list[int]], data: st.DataObject, k: int) -> None:
    targets = [data.draw(st.integers(0, ITEMS - 1)) for _ in lists]
    rank = metrics.ranks(packed(lists), np.array(targets, np.int32))

    expected_hits, expected_ndcg = [], []
    for items, target in zip(lists, targets, strict=True):
        gains = [1.0 if item == target else 0.0 for item in items[:k]]
        expected_hits.append(sum(gains))
        expected_ndcg.append(sum(gain / math.log2(place + 2) for place, gain in enumerate(gains)))

    assert metrics.hits(rank, k).tolist() == expected_hits
    assert metrics.ndcg(rank, k).tolist() == pytest.approx(expected_ndcg)


def test_filler_is_never_a_hit() -> None:
    rank = metrics.ranks(packed([[3], []]), np.array([-1, -1], np.int32))
    assert rank.tolist() == [metrics.MISSED, metrics.MISSED]


def test_lists_of_no_length_are_misses() -> None:
    assert metrics.ranks(np.zeros((2, 0), np.int32), np.array([1, 2], np.int32)).tolist() == [-1, -1]


@given(rows)
def test_coverage_counts_each_listed_item_once(lists: list[list[int]]) -> None:
    shown = np.zeros(ITEMS, np.int64)
    for item in itertools.chain.from_iterable(lists):
        shown[item] += 1
    distinct = {item for items in lists for item in items}
    assert metrics.coverage(shown, ITEMS) == pytest.approx(len(distinct) / ITEMS)


def test_an_empty_catalogue_has_no_coverage() -> None:
    assert metrics.coverage(np.zeros(0, np.int64), 0) == 0.0


@given(rows, st.lists(st.integers(0, 50), min_size=ITEMS, max_size=ITEMS))
def test_novelty_is_the_mean_of_minus_log2_of_the_share(lists: list[list[int]], counts: list[int]) -> None:
    total = max(sum(counts), 1)
    bits = [-math.log2(max(counts[item], 1) / total) for items in lists for item in items]
    got = metrics.novelty(packed(lists), metrics.self_information(np.array(counts)))
    if bits:
        assert got == pytest.approx(sum(bits) / len(bits), abs=1e-9)
    else:
        assert math.isnan(got)


@given(rows, st.integers(0, 2**32 - 1))
def test_diversity_is_the_mean_distance_over_pairs(lists: list[list[int]], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, 3))
    vectors[0] = 0.0  # describes nothing
    for items, got in zip(lists, metrics.diversity(packed(lists), vectors), strict=True):
        distances = [
            1 - float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))
            for a, b in itertools.combinations([item for item in items if item != 0], 2)
        ]
        if distances:
            assert got == pytest.approx(sum(distances) / len(distances), abs=1e-9)
        else:
            assert math.isnan(got)


def test_items_of_one_kind_have_no_diversity_and_of_two_kinds_have_all() -> None:
    vectors = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    same, different = metrics.diversity(np.array([[0, 1], [0, 2]], np.int32), vectors)
    assert same == pytest.approx(0.0)
    assert different == pytest.approx(1.0)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.floats(-5, 5)), min_size=1, max_size=60),
    st.integers(1, 40),
    st.integers(0, 60),
)
def test_a_curve_is_the_same_however_the_stream_was_cut(
    events: list[tuple[int, float]], window: int, cut: int
) -> None:
    events.sort()
    position = np.array([p for p, _ in events], np.int64)
    value = np.array([v for _, v in events])
    curve = metrics.Progressive(window)
    curve.add(position[:cut], value[:cut])
    curve.add(position[cut:], value[cut:])

    for index, (end, got, n) in enumerate(zip(curve.positions(), curve.means(), curve.counts(), strict=True)):
        inside = [v for p, v in events if index * window <= p < end]
        assert n == len(inside)
        if inside:
            assert got == pytest.approx(sum(inside) / len(inside), abs=1e-9)
        else:
            assert math.isnan(got)
    assert curve.mean() == pytest.approx(sum(v for _, v in events) / len(events), abs=1e-9)


def test_a_curve_takes_sums_with_their_counts() -> None:
    curve = metrics.Progressive(window=100)
    curve.add(np.array([50, 150]), np.array([3.0, 8.0]), np.array([6.0, 10.0]))
    assert curve.means().tolist() == [0.5, 0.8]
    assert math.isnan(curve.mean(5))


def test_a_row_of_a_table_has_its_count_and_mean() -> None:
    values = np.array([1.0, 0.0, 1.0])
    assert metrics.chosen(np.array([True, True, False]), values) == (2, 0.5)
    n, mean = metrics.chosen(np.zeros(3, np.bool_), values)
    assert n == 0
    assert math.isnan(mean)
