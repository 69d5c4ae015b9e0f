"""Ranking metrics against two independent libraries, whatever is listed and whatever is relevant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ir_measures
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import F64, I32
from models.metrics import lists as metrics
from models.metrics.rankings import RANKING, Relevant, hits

ITEMS, WIDTH = 15, 7
codes = st.integers(0, ITEMS - 1)
cases = st.lists(
    st.tuples(
        st.lists(codes, max_size=WIDTH, unique=True), st.lists(codes, min_size=1, max_size=ITEMS, unique=True)
    ),
    min_size=1,
    max_size=8,
)
Cases = list[tuple[list[int], list[int]]]


def packed(rows: list[list[int]], k: int) -> I32:
    table = np.full((len(rows), k), -1, np.int32)
    for row, items in zip(table, rows, strict=True):
        row[: len(items[:k])] = items[:k]
    return table


def relevant(rows: list[list[int]]) -> Relevant:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Relevant(starts, np.array([item for row in rows for item in row], np.int32))


def ours(drawn: Cases, k: int) -> dict[str, F64]:
    right = relevant([row for _, row in drawn])
    hit = hits(packed([row for row, _ in drawn], k), right)
    return {name: metric(hit, right.sizes) for name, metric in RANKING.items()}


def as_text(drawn: Cases) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Judgements and runs as both libraries take them; a list without items gets a wrong one far down."""
    judged = {f"q{at}": {f"d{item}": 1 for item in row} for at, (_, row) in enumerate(drawn)}
    runs = {
        f"q{at}": {f"d{item}": 1000.0 - place for place, item in enumerate(row)} or {"nothing": 0.0}
        for at, (row, _) in enumerate(drawn)
    }
    return judged, runs


@contextmanager
def interpreted() -> Iterator[None]:
    """ranx compiles its metrics for half a minute where numba compiles; as plain Python they say the same."""
    before = numba.config.DISABLE_JIT
    numba.config.DISABLE_JIT = True
    try:
        yield
    finally:
        numba.config.DISABLE_JIT = before


@pytest.fixture(scope="module")
def ranx() -> Iterator[Any]:
    with interpreted():
        import ranx

        yield ranx


@settings(max_examples=60, deadline=None)
@given(drawn=cases, k=st.integers(1, WIDTH))
def test_they_agree_with_ranx(ranx: Any, drawn: Cases, k: int) -> None:
    names = {"hr": "hit_rate", **{name: name for name in RANKING if name != "hr"}}
    judged, runs = as_text(drawn)
    theirs = ranx.evaluate(
        ranx.Qrels(judged), ranx.Run(runs), [f"{name}@{k}" for name in names.values()], return_mean=False
    )
    for name, values in ours(drawn, k).items():
        np.testing.assert_allclose(values, theirs[f"{names[name]}@{k}"], atol=1e-9, err_msg=name)


@settings(max_examples=100, deadline=None)
@given(drawn=cases, k=st.integers(1, WIDTH))
def test_they_agree_with_ir_measures(drawn: Cases, k: int) -> None:
    of = ir_measures
    measures = {
        "hr": of.Success @ k,
        "recall": of.R @ k,
        "precision": of.P @ k,
        "ndcg": of.nDCG @ k,
        "mrr": of.RR @ k,
        "map": of.AP @ k,
    }
    mine = ours(drawn, k)
    for row in of.iter_calc(measures.values(), *as_text(drawn)):
        name = next(name for name, measure in measures.items() if measure == row.measure)
        assert mine[name][int(row.query_id[1:])] == pytest.approx(row.value, abs=1e-9), name


@given(drawn=cases, k=st.integers(1, WIDTH))
def test_with_one_relevant_item_they_are_the_metrics_of_the_next_item(drawn: Cases, k: int) -> None:
    single = [(listed, right[:1]) for listed, right in drawn]
    rank = metrics.ranks(packed([row for row, _ in single], k), np.array([r[0] for _, r in single], np.int32))
    mine = ours(single, k)
    np.testing.assert_array_equal(mine["hr"], metrics.hits(rank, k))
    np.testing.assert_allclose(mine["ndcg"], metrics.ndcg(rank, k))


@given(drawn=cases, mask=st.lists(st.booleans(), min_size=8 * ITEMS, max_size=8 * ITEMS))
def test_narrowing_keeps_the_lists_that_have_a_relevant_item_left(drawn: Cases, mask: list[bool]) -> None:
    right = relevant([row for _, row in drawn])
    chosen = np.array(mask[: len(right.item)])
    kept, narrowed = right.narrowed(chosen)
    flags = iter(mask)
    expected = {at: [item for item in row if next(flags)] for at, (_, row) in enumerate(drawn)}
    assert {
        int(at): narrowed.item[narrowed.starts[n] : narrowed.starts[n + 1]].tolist()
        for n, at in enumerate(kept)
    } == {at: row for at, row in expected.items() if row}


def test_a_filler_is_no_hit_even_where_the_next_list_wants_the_last_item() -> None:
    lists = np.array([[0, -1], [-1, -1]], np.int32)
    right = Relevant(np.array([0, 1, 2]), np.array([3, 3], np.int32))
    assert not hits(lists, right).any()


def test_lists_of_no_length_hit_nothing() -> None:
    right = relevant([[1], [2, 3]])
    hit = hits(np.zeros((2, 0), np.int32), right)
    assert {name: metric(hit, right.sizes).tolist() for name, metric in RANKING.items()} == {
        name: [0.0, 0.0] for name in RANKING
    }
