"""Tables: what is in a row does not depend on how the table grew."""

from __future__ import annotations

import numpy as np
import torch

from models.family.parts.tables import Table, fresh_rows


def table(of: str = "items", seed: int = 0) -> Table:
    return Table("items" if of == "items" else "users", 6, seed=seed, number=2, scale=0.1)


def test_a_table_that_grew_in_steps_is_the_same_as_one_that_grew_at_once() -> None:
    one, two = table(), table()
    one.grow(0, 50)
    for items in (3, 4, 20, 50):
        two.grow(0, items)
    assert torch.equal(one.weight, two.weight)


def test_growing_keeps_what_was_learned() -> None:
    grown = table("users")
    grown.grow(4, 0)
    with torch.no_grad():
        grown.weight[2] = 7.0
    grown.grow(9, 0)
    assert grown.weight.shape == (9, 6)
    assert (grown.weight[2] == 7.0).all()


def test_a_table_never_shrinks() -> None:
    grown = table("users")
    grown.grow(4, 0)
    grown.grow(2, 0)
    assert len(grown.weight) == 4


def test_a_table_of_items_has_a_row_for_nothing() -> None:
    grown = table("items")
    grown.grow(100, 3)
    assert len(grown.weight) == 4


def test_fresh_rows_have_the_scale_that_was_asked_for() -> None:
    rows = fresh_rows(0, 0, 0, 10_000, 8, 0.1)
    assert abs(rows.mean()) < 0.002
    assert abs(rows.std() - 0.1) < 0.002


def test_rows_of_other_seeds_and_tables_are_others() -> None:
    rows = [fresh_rows(seed, number, 0, 5, 4, 1.0) for seed, number in ((0, 0), (0, 1), (1, 0))]
    assert len({row.tobytes() for row in rows}) == 3
    assert len(np.unique(rows[0])) == 20
