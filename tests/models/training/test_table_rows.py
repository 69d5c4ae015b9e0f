"""Rows of the model's table for items that come and go."""

from __future__ import annotations

from models.training.table_rows import Rows


def test_rows_are_given_in_order_and_kept() -> None:
    rows = Rows(limit=10)
    assert rows.admit(["a", "b"]) == [1, 2]
    assert rows.admit(["b", "c", "a"]) == [3]
    assert rows.of(["c", "a", "x", None]).tolist() == [3, 1, 0, 0]


def test_items_stay_when_there_is_room() -> None:
    rows = Rows(limit=3)
    rows.admit(["a", "b"])
    assert rows.admit(["c"]) == [3]
    assert rows.of(["a"]).tolist() == [1]


def test_items_that_left_make_room() -> None:
    rows = Rows(limit=3)
    rows.admit(["a", "b", "c"])
    assert rows.admit(["b", "d", "e"]) == [1, 3]
    assert rows.ids == ["d", "b", "e"]
    assert rows.of(["a"]).tolist() == [0]


def test_what_does_not_fit_has_no_row() -> None:
    rows = Rows(limit=2)
    assert rows.admit(["a", "b", "c"]) == [1, 2]
    assert rows.of(["c"]).tolist() == [0]
    assert len(rows) == 2


def test_restored_rows_go_on() -> None:
    rows = Rows(limit=3)
    rows.restore(["a", None, "c"])
    assert rows.of(["a", "c"]).tolist() == [1, 3]
    rows.admit(["a", "c", "d"])
    assert rows.ids == ["a", "d", "c"]
