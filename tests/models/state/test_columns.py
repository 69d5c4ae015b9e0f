from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from producers.columns import Dataset, from_frame


def dataset(**columns: list[object]) -> Dataset:
    base: dict[str, list[object]] = {
        "user": ["a", "b", "a"],
        "item": ["x", "y", "z"],
        "type": ["view", "click", "view"],
        "ts": [30, 10, 20],
    }
    return from_frame(pl.DataFrame(base | columns), name="test", source="test")


def test_rows_are_in_order_of_time_and_ids_numbered_by_first_appearance() -> None:
    data = dataset()
    assert data.ts.tolist() == [10, 20, 30]
    assert (data.user_ids, data.user.tolist()) == (["b", "a"], [0, 1, 1])
    assert (data.item_ids, data.item.tolist()) == (["y", "z", "x"], [0, 1, 2])
    assert (data.types, data.type.tolist()) == (["click", "view"], [0, 1, 1])


def test_rows_of_the_same_time_keep_their_order() -> None:
    n = 1000
    numbers: list[object] = [str(i) for i in range(n)]
    data = dataset(user=numbers, item=numbers, type=["view"] * n, ts=[i % 2 for i in range(n)])
    assert data.item_ids == [str(i) for i in range(0, n, 2)] + [str(i) for i in range(1, n, 2)]


def test_an_absent_value_is_not_a_number() -> None:
    assert np.isnan(dataset().value).all()
    assert dataset(value=[None, 2.5, 3]).value.tolist()[:2] == [2.5, 3.0]


def test_an_event_without_an_item_has_the_code_minus_one() -> None:
    assert dataset(item=[None, "y", None]).item.tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    "change",
    [
        {"user": ["a", "b", "c"]},
        {"item": ["x", "y", "w"]},
        {"type": ["view", "click", "like"]},
        {"ts": [31, 10, 20]},
        {"value": [1.0, None, None]},
        {"event_id": ["1", "2", "3"]},
    ],
)
def test_the_hash_is_that_of_the_content(change: dict[str, list[object]]) -> None:
    assert dataset().sha256 == dataset().sha256
    assert dataset(**change).sha256 != dataset().sha256
