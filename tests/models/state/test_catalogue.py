"""Items: numbers are for ever, slots are not."""

from __future__ import annotations

from models.state.catalogue import HEAD, NAME, Catalogue


def with_events(catalogue: Catalogue, *ids: str, clock: int = 0) -> None:
    """Give these items an event each, one tick apart."""
    for n, number in enumerate(catalogue.intern(ids)):
        slot = catalogue.slot_of[number]
        if catalogue.columns.born[slot] < 0:
            catalogue.columns.born[slot] = clock + n
        catalogue.columns.last[slot] = clock + n


def test_numbers_are_given_in_order_and_kept() -> None:
    catalogue = Catalogue(100)
    assert catalogue.intern(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert catalogue.intern(["a", "c"]).tolist() == [1, 2]
    assert (catalogue.id_of(1), catalogue.number("c"), len(catalogue)) == ("a", 2, 3)


def test_asking_creates_nothing() -> None:
    catalogue = Catalogue(100)
    assert (catalogue.number("x"), catalogue.id_of(0), catalogue.id_of(-1)) == (-1, None, None)
    assert (len(catalogue), catalogue.next_number, catalogue.admitted) == (0, 0, [])


def test_more_items_than_the_columns_had_room_for() -> None:
    catalogue = Catalogue(5000)
    numbers = catalogue.intern([f"i{n}" for n in range(3000)])
    assert numbers.tolist() == list(range(3000))
    assert all(catalogue.id_of(n) == f"i{n}" for n in range(3000))
    assert (catalogue.columns.born[:3000] == -1).all()


def test_the_items_longest_without_an_event_go_first() -> None:
    catalogue = Catalogue(100)
    with_events(catalogue, "a", "b", "c", "d")
    with_events(catalogue, "a", clock=10)
    catalogue.intern(["its event was a duplicate"])
    gone = catalogue.evict(2)
    assert gone == [4, 1, 2]
    assert set(catalogue.numbers) == {"a", "d"}
    assert catalogue.removed == [4, 1, 2]


def test_the_lowest_free_slot_is_given_first_whatever_the_order_of_the_evictions() -> None:
    catalogue = Catalogue(100)
    with_events(catalogue, "a", "b", "c", "d")
    with_events(catalogue, "a", clock=10)
    assert catalogue.evict(1) == [1, 2, 3]
    catalogue.intern(["x", "y", "z", "new"])
    assert [catalogue.id_at(slot) for slot in range(5)] == ["a", "x", "y", "z", "new"]


def test_ids_are_numbered_as_far_as_there_is_room() -> None:
    catalogue = Catalogue(16)
    ids = [f"i{n}" for n in range(20)]
    assert catalogue.intern(["i0", *ids]).tolist() == [0, *range(16)]
    assert catalogue.intern(["i3", "i16"]).tolist() == [3]
    assert len(catalogue) == 16
    catalogue.evict(15)
    assert catalogue.intern(["i16", "i0"]).tolist() == [16]  # i0 is gone, and the room is taken again


def test_a_number_is_never_given_again_but_a_slot_is() -> None:
    catalogue = Catalogue(100)
    with_events(catalogue, "a", "b")
    catalogue.evict(1)
    assert (catalogue.id_of(0), catalogue.number("a")) == (None, -1)
    assert catalogue.intern(["a"]).tolist() == [2]
    assert catalogue.slot_of.tolist()[:3] == [-1, 1, 0]
    assert catalogue.columns.born[0] == -1


def test_nothing_goes_while_there_is_room() -> None:
    catalogue = Catalogue(100)
    with_events(catalogue, "a", "b")
    assert catalogue.evict(2) == []


def test_an_item_admitted_now_is_to_be_written_and_one_from_the_state_is_not() -> None:
    catalogue = Catalogue(100)
    catalogue.admit("new")
    catalogue.restore("stored", 7, 1)
    assert catalogue.columns.dirty[:2].tolist() == [HEAD | NAME, 0]
    assert (catalogue.next_number, catalogue.id_of(7), catalogue.number("stored")) == (8, "stored", 7)


def test_a_number_far_ahead_has_room() -> None:
    catalogue = Catalogue(100)
    catalogue.restore("far", 50_000, 3)
    assert catalogue.id_of(50_000) == "far"
    assert catalogue.id_of(49_999) is None


def test_what_lies_between_the_slots_of_a_state_is_free() -> None:
    catalogue = Catalogue(100)
    catalogue.restore("b", 7, 3)
    catalogue.restore("a", 2, 1)
    catalogue.restored()
    assert catalogue.intern(["c", "d", "e"]).tolist() == [8, 9, 10]
    assert [catalogue.id_at(slot) for slot in range(5)] == ["c", "a", "d", "b", "e"]


def test_what_is_unavailable_before_its_first_event_stays_so() -> None:
    catalogue = Catalogue(100)
    catalogue.set_item("x", available=False)
    assert catalogue.number("x") == -1
    catalogue.intern(["x", "y"])
    assert catalogue.columns.available[:2].tolist() == [0, 1]
    assert catalogue.unavailable == {"x"}


def test_a_retired_item_can_come_back() -> None:
    catalogue = Catalogue(100)
    catalogue.intern(["x"])
    catalogue.retire("x")
    assert catalogue.columns.available[0] == 0
    catalogue.set_item("x", available=True)
    assert catalogue.columns.available[0] == 1
    assert catalogue.unavailable == frozenset()


def test_unavailable_items_without_events_are_remembered_up_to_a_bound() -> None:
    catalogue = Catalogue(16)
    for n in range(40):
        catalogue.set_item(f"x{n}", available=False)
    assert len(catalogue.unavailable) == 16


def test_ties_are_broken_in_the_order_of_the_ids() -> None:
    catalogue = Catalogue(100)
    ids = ["b", "a", "ab", "ä", "a" * 20]
    catalogue.intern(ids)
    order = catalogue.columns.order[: len(ids)]
    assert sorted(ids, key=lambda i: i.encode()) == [ids[j] for j in order.argsort()]
