"""Serendipity, popularity and concentration of lists against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import I32
from models.metrics.beyond_accuracy import gini, mean_of_listed, serendipity

ITEMS, K = 9, 4
rows = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=K, unique=True), min_size=1, max_size=6)


def packed(lists: list[list[int]]) -> I32:
    table = np.full((len(lists), K), -1, np.int32)
    for row, items in zip(table, lists, strict=True):
        row[: len(items)] = items
    return table


@given(rows, st.data())
def test_what_is_right_and_not_on_the_popularity_list_is_serendipitous(
    lists: list[list[int]], data: st.DataObject
) -> None:
    expected = [data.draw(st.lists(st.integers(0, ITEMS - 1), max_size=K, unique=True)) for _ in lists]
    right = [data.draw(st.sets(st.integers(0, ITEMS - 1))) for _ in lists]
    hit = np.array(
        [[item in wanted for item in row] for row, wanted in zip(packed(lists), right, strict=True)]
    )
    got = serendipity(packed(lists), hit, packed(expected))
    for value, row, usual, wanted in zip(got, lists, expected, right, strict=True):
        assert value == pytest.approx(len((set(row) - set(usual)) & wanted) / K)


@given(rows)
def test_the_mean_of_a_list_is_over_what_it_holds(lists: list[list[int]]) -> None:
    of_item = np.arange(ITEMS) ** 2
    for got, row in zip(mean_of_listed(packed(lists), of_item), lists, strict=True):
        if row:
            assert got == pytest.approx(sum(item**2 for item in row) / len(row))
        else:
            assert math.isnan(got)


def test_a_list_of_an_empty_catalogue_has_no_mean() -> None:
    assert np.isnan(mean_of_listed(packed([[]]), np.zeros(0))).all()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12))
def test_gini_is_half_the_mean_difference_over_the_mean(shown: list[int]) -> None:
    got = gini(np.array(shown))
    if sum(shown):
        differences = sum(abs(a - b) for a in shown for b in shown)
        assert got == pytest.approx(differences / (2 * len(shown) * sum(shown)))
    else:
        assert math.isnan(got)
