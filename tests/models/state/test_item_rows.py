"""An item's parts survive their bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import ModelSettings
from models.online import covisit_rows
from models.pipeline.recommender import Recommender
from models.state import item_rows
from models.state.catalogue import HEAD, OUTPUT, ROW
from models.vocabulary import kind_of
from tests.batches import PLACES, Event, Store, feed

NUMBER = st.integers(0, 2**31 - 1)
ALL = HEAD | ROW | OUTPUT


@given(kind=st.sampled_from(item_rows.KINDS), number=NUMBER)
def test_a_key_says_kind_and_number(kind: bytes, number: int) -> None:
    assert item_rows.parse_key(item_rows.key(kind, number)) == (kind, number)


@given(a=NUMBER, b=NUMBER)
def test_keys_of_a_kind_sort_by_number(a: int, b: int) -> None:
    assert (item_rows.key(b"h", a) < item_rows.key(b"h", b)) == (a < b)


def learned(settings: ModelSettings | None = None) -> Recommender:
    recommender = Recommender(settings or ModelSettings())
    events = [
        Event(
            f"u{n % 5}",
            f"i{n * n % 23}",
            ts=n,
            offset=n,
            kind=kind_of("rating", PLACES[n % 3]),
            value=float(1 + n % 5),
        )
        for n in range(200)
    ]
    feed(recommender, events)
    return recommender


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return learned()


def parts_of(recommender: Recommender, slot: int, flags: int) -> list[tuple[bytes, bytes]]:
    return list(item_rows.dump(recommender._state, np.array([slot]), np.array([flags], np.uint8)))


def loaded(recommender: Recommender) -> Recommender:
    """A recommender that was given the parts of the other one's items."""
    store = Store()
    delta = recommender.take_dirty()
    store.items = {key: row for key, row in delta.items if row is not None}
    store.meta = dict(delta.meta)
    return store.into(Recommender(recommender.settings))


def test_every_part_is_the_same_bytes_after_loading(recommender: Recommender) -> None:
    other = loaded(recommender)
    for item, number in recommender.catalogue.numbers.items():
        slot = int(recommender.catalogue.slot_of[number])
        theirs = int(other.catalogue.slot_of[other.catalogue.number(item)])
        parts = dict(parts_of(recommender, slot, ALL))
        assert {key[:1] for key in parts} == {b"h", b"c", b"y", b"s"}
        assert dict(parts_of(other, theirs, ALL)) == parts


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [(HEAD, [b"h", b"s"]), (ROW, [b"c"]), (OUTPUT, [b"y"]), (ALL, [b"h", b"s", b"y", b"c"]), (0, [])],
)
def test_only_what_changed_is_dumped(recommender: Recommender, flags: int, kinds: list[bytes]) -> None:
    assert [key[:1] for key, _ in parts_of(recommender, 3, flags)] == kinds


@pytest.mark.parametrize(("mass", "scaled"), [(2.0**600, 2.0**88), (1.0, 0.0)])
def test_masses_written_before_a_rescaling_are_scaled_as_the_others_were(mass: float, scaled: float) -> None:
    recommender = learned()
    state = recommender._state
    pop = state.popularity
    pop.mass[0] = mass
    (_, head), _ = parts_of(recommender, 0, HEAD)
    pop.epochs[0] += 1
    item_rows.load_head(state, 0, head)
    assert pop.mass[0].tolist() == [scaled, mass, mass, mass]


def test_the_scenarios_of_an_item_are_scaled_as_the_others_were(recommender: Recommender) -> None:
    other = loaded(recommender)
    state = other._state
    state.here.mass[0, :2] = 2.0**600, 2.0**600
    _, (_, data) = parts_of(other, 0, HEAD)
    state.here.epochs[1] += 1
    item_rows.load_here(state, 0, data)
    assert state.here.mass[0, :3].tolist() == [2.0**600, 2.0**88, 0.0]


def test_an_item_that_is_in_no_scenario_has_no_row_of_them() -> None:
    recommender = Recommender(ModelSettings())
    feed(
        recommender, [Event("u", "somewhere", kind=kind_of("click", "home")), Event("u", "nowhere", offset=1)]
    )
    parts = {item: [key[:1] for key, _ in parts_of(recommender, int(recommender.catalogue.slot_of[number]), HEAD)]
             for item, number in recommender.catalogue.numbers.items()}  # fmt: skip
    assert parts == {"somewhere": [b"h", b"s"], "nowhere": [b"h"]}


@pytest.mark.parametrize("length", [1, 12 * 16])
def test_scenarios_of_another_length_are_refused(recommender: Recommender, length: int) -> None:
    with pytest.raises(ValueError, match=f"can't have {length} bytes"):
        item_rows.load_here(recommender._state, 0, bytes(length))


def test_a_head_of_another_version_is_refused(recommender: Recommender) -> None:
    (_, head), _ = parts_of(recommender, 0, HEAD)
    with pytest.raises(ValueError, match="has version 9, not 1"):
        item_rows.load_head(recommender._state, 0, b"\x09" + head[1:])


@pytest.mark.parametrize("length", [-4, 4])
def test_a_head_of_another_length_is_refused(recommender: Recommender, length: int) -> None:
    (_, head), _ = parts_of(recommender, 0, HEAD)
    data = head[:length] if length < 0 else head + bytes(length)
    with pytest.raises(ValueError, match="other settings wrote it"):
        item_rows.load_head(recommender._state, 0, data)


def test_a_row_from_before_slim_has_learned_nothing_of_pairs(recommender: Recommender) -> None:
    other, slot = loaded(recommender), int(recommender._state.covisit.n.argmax())
    keys, weights = covisit_rows.row(recommender._state.covisit, slot)
    assert weights[:, 2].any()
    old = recommender._state.items.number[keys].tobytes() + np.ascontiguousarray(weights[:, :2]).tobytes()
    item_rows.load_row(other._state, slot, old, other.catalogue.slot_of)
    found = covisit_rows.row(other._state.covisit, slot)
    assert np.array_equal(found[0], keys)
    assert np.array_equal(found[1][:, :2], weights[:, :2])
    assert not found[1][:, 2].any()


@pytest.mark.parametrize("data", [b"\x01" + bytes(15), b"\x02" + bytes(16), bytes(10), bytes(16)])
def test_a_row_of_another_version_or_length_is_refused(recommender: Recommender, data: bytes) -> None:
    with pytest.raises(ValueError, match=f"row of {len(data)} bytes is of another version"):
        item_rows.load_row(recommender._state, 0, data, recommender.catalogue.slot_of)


def test_neighbours_keep_their_order(recommender: Recommender) -> None:
    other = loaded(recommender)
    c, d = recommender._state.covisit, other._state.covisit
    assert c.n[:23].sum() > 50
    for slot in range(int(recommender.catalogue.slots)):
        at, to, n = int(c.at[slot]), int(d.at[slot]), int(c.n[slot])
        assert n == d.n[slot]
        assert np.array_equal(c.keys[at : at + n], d.keys[to : to + n])
