"""Items that were announced and had no event yet."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.randomness import hash64
from models.state.announced import Announced, code_of
from models.state.catalogue import Catalogue


def code(item_id: str) -> int:
    return code_of(np.uint64(hash64(item_id)))


def told(limit: int, *ids: str) -> Announced:
    announced = Announced(limit)
    for item_id in ids:
        announced.tell(item_id, -1, True, 0)
    return announced


@given(st.integers(0, 2**64 - 1))
def test_a_code_is_no_number_and_fits_a_list(item_hash: int) -> None:
    assert -(2**31) <= code_of(np.uint64(item_hash)) <= -2


def test_an_announced_item_is_found_by_its_code() -> None:
    announced = told(10, "a", "b")
    assert [announced.id_of(code(item)) for item in ("a", "b", "c")] == ["a", "b", None]


@given(st.lists(st.sets(st.text(min_size=1, max_size=3), max_size=20), max_size=4))
def test_rows_are_in_the_order_of_their_hashes_however_they_came(groups: list[set[str]]) -> None:
    announced = Announced(1000)
    for group in groups:
        for item_id in group:
            announced.tell(item_id, -1, True, 0)
        c = announced.columns()
        assert len(c.order) == len(announced)
        assert (np.diff(c.hash[c.order].astype(object)) > 0).all()
    assert len(announced) == len(set().union(*groups))


def test_what_can_not_be_had_any_more_makes_room() -> None:
    announced = told(3, "a", "b", "c", "d")
    assert len(announced) == 3
    assert announced.id_of(code("d")) is None
    announced.tell("b", -1, False, 0)
    announced.tell("d", 7, True, 5)
    c = announced.columns()
    assert [announced.id_of(code(item)) for item in "abcd"] == ["a", None, "c", "d"]
    assert sorted(c.slot[c.order].tolist()) == [-1, -1, 7]
    assert c.hash[c.order].tolist() == sorted(hash64(item) for item in "acd")


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_what_was_retired_leaves_no_trace(news: list[tuple[str, bool]]) -> None:
    """So that a worker that is told the catalogue anew, without what is gone, draws the same."""
    announced, there = Announced(100), set()
    for item, available in news:
        announced.tell(item, -1, available, 0)
        (there.add if available else there.discard)(item)
    one, other = announced.columns(), told(100, *there).columns()
    assert one.hash[one.order].tolist() == other.hash[other.order].tolist()
    assert len(announced) == len(there)


def test_what_was_never_to_be_had_is_not_taken_in() -> None:
    announced = Announced(3)
    announced.tell("a", -1, False, 0)
    assert len(announced) == 0


def test_the_catalogue_says_where_an_item_is_kept_and_that_it_is_no_more() -> None:
    catalogue = Catalogue(100, announce=True)
    catalogue.set_item("x", available=True, categories=["war"])
    columns = catalogue.announced.columns()
    assert columns.slot[0] == -1
    (number,) = catalogue.intern(["x"])
    assert columns.slot[0] == catalogue.slot_of[number]
    catalogue.evict(0)
    assert columns.slot[0] == -1
    assert catalogue.id_of(code("x")) == "x"
