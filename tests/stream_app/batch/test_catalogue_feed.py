"""What the catalogue topic says, and what of it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream_app.batch import refusals
from stream_app.batch.catalogue_feed import MAX_CATEGORIES, MAX_TITLE, CatalogueFeed
from tests.records import Read


class Told:
    """A catalogue that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def set_item(self, item_id: str, *, available: bool, categories: Iterable[str] = ()) -> bool:
        self.said.append((item_id, available, tuple(categories)))
        return available or item_id != "one too many"

    def retire(self, item_id: str) -> bool:
        self.said.append((item_id,))
        return item_id != "one too many"


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def feed(told: Told) -> CatalogueFeed:
    return CatalogueFeed(told, limit=3)


def upsert(item_id: Any = "x", *, key: bytes | None = b"?", **more: Any) -> Read:
    raw = json.dumps({"v": 1, "item_id": item_id, **more}).encode()
    return Read(raw, key=str(item_id).encode() if key == b"?" else key, topic="items")


def tombstone(key: bytes | None) -> Read:
    return Read(None, key=key, topic="items")


def test_an_upsert_tells_the_catalogue_and_keeps_the_title(feed: CatalogueFeed, told: Told) -> None:
    applied = feed.apply([upsert(title="The X", categories=["a", "b"], price=3, embeddings={"m": [1.0]})])
    assert (applied.updated, applied.retired, applied.dead_letters) == (1, 0, [])
    assert told.said == [("x", True, ("a", "b"))]
    assert feed.title("x") == "The X"


def test_fields_that_are_null_are_absent(feed: CatalogueFeed, told: Told) -> None:
    feed.apply([upsert(title=None, categories=None, available=None)])
    assert told.said == [("x", True, ())]
    assert feed.title("x") == ""


def test_an_integer_id_becomes_a_string(feed: CatalogueFeed, told: Told) -> None:
    feed.apply([upsert(7, available=False)])
    assert told.said == [("7", False, ())]


def test_a_tombstone_retires_the_item_and_its_title_is_still_known(feed: CatalogueFeed, told: Told) -> None:
    applied = feed.apply([upsert(title="The X"), tombstone(b"x")])
    assert applied.retired == 1
    assert told.said[-1] == ("x",)
    assert feed.title("x") == "The X"
    feed.admitted(["x"])
    assert told.said[-1] == ("x", False, ())


def test_an_item_that_is_met_later_is_told_then(feed: CatalogueFeed, told: Told) -> None:
    feed.apply([upsert(categories=["a"])])
    told.said.clear()
    feed.admitted(["unknown", "x"])
    assert told.said == [("x", True, ("a",))]


def test_the_first_told_is_forgotten_beyond_the_limit(feed: CatalogueFeed) -> None:
    feed.apply([upsert(n, title=f"title {n}") for n in range(5)])
    assert len(feed) == 3
    assert [feed.title(str(n)) for n in range(5)] == ["", "", "title 2", "title 3", "title 4"]


def test_long_titles_and_many_categories_are_cut(feed: CatalogueFeed, told: Told) -> None:
    feed.apply([upsert(title="é" * 1000, categories=[str(n) for n in range(1000)])])
    assert len(feed.title("x")) == MAX_TITLE
    assert len(told.said[0][2]) == MAX_CATEGORIES


@pytest.mark.parametrize("record", [upsert("one too many", available=False), Read(None, key=b"one too many")])
def test_one_unavailable_item_too_many_is_warned_of_once(
    feed: CatalogueFeed, record: Read, caplog: pytest.LogCaptureFixture
) -> None:
    feed.apply([upsert("x", available=False), tombstone(b"y")])
    assert not caplog.records
    feed.apply([record, record])
    (warning,) = caplog.records
    assert "more items are unavailable" in warning.message


@pytest.mark.parametrize(
    ("record", "reason", "field"),
    [
        (upsert(v=2), refusals.WRONG_VERSION, "v"),
        (upsert(1.5), refusals.WRONG_TYPE, "item_id"),
        (upsert(""), refusals.ID_LENGTH, "item_id"),
        (upsert(key=b"y"), refusals.MISROUTED, "item_id"),
        (upsert(key=None), refusals.MISROUTED, "item_id"),
        (upsert(title=3), refusals.WRONG_TYPE, "title"),
        (upsert(categories="a"), refusals.WRONG_TYPE, "categories"),
        (upsert(categories=["a", 1]), refusals.WRONG_TYPE, "categories"),
        (upsert(available="yes"), refusals.WRONG_TYPE, "available"),
        (Read(b"", key=b"x"), refusals.EMPTY, ""),
        (Read(b"{}", key=b"x"), refusals.MISSING, "item_id"),
        (tombstone(None), refusals.MISSING, ""),
        (tombstone(b"\xff"), refusals.WRONG_TYPE, ""),
    ],
)
def test_what_is_wrong_becomes_a_dead_letter(
    feed: CatalogueFeed, told: Told, record: Read, reason: str, field: str
) -> None:
    applied = feed.apply([record, upsert("good")])
    (letter,) = applied.dead_letters
    assert (letter.record, letter.reason, letter.field) == (record, reason, field)
    assert told.said == [("good", True, ())]


@given(st.binary(max_size=60) | st.none(), st.binary(max_size=3) | st.none())
@hypothesis_settings(deadline=None)
def test_no_bytes_raise_and_none_are_lost(value: bytes | None, key: bytes | None) -> None:
    applied = CatalogueFeed(Told(), limit=3).apply([Read(value, key=key)])
    assert applied.updated + applied.retired + len(applied.dead_letters) == 1
