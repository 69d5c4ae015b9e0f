"""From a data set to what models are given: what counts, what is left out, what describes an item."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from models.family.parts.descriptions import Description
from producers.columns import Dataset, catalogue, from_frame
from stream_app.evaluation.data import stream
from stream_app.evaluation.item_features import descriptions
from stream_app.events import Item
from stream_app.settings import EventSettings
from stream_app.training.catalogue_reader import take
from tests.records import Read

ROWS = [
    ("u1", "i1", "rating", 9.0, "a"),
    ("u1", "i2", "click", 2.0, "b"),
    ("u1", "i2", "click", None, "b"),
    ("u2", None, "erase", None, None),
    ("u2", "i3", "dislike", None, None),
    ("u2", "i2", "rating", 0.0, "b"),
    ("u2", "i1", "view", None, None),
]


def dataset(**options: Any) -> Dataset:
    rows = [(*row, 1000 * at) for at, row in enumerate(ROWS)]
    frame = pl.DataFrame(rows, schema=["user", "item", "type", "value", "event_id", "ts"], orient="row")
    return from_frame(frame, name="small", source="test", **options)


def films() -> pl.DataFrame:
    return catalogue(
        [
            {"item_id": "i1", "title": "The Third Man (1949)", "categories": ["Film-Noir"]},
            {"item_id": "i2"},
            {"item_id": "i9", "title": "Unseen", "categories": ["Drama"]},
        ]
    )


@pytest.fixture
def settings() -> EventSettings:
    return EventSettings(weights={"dislike": -1.0}, rating_low=1.0, rating_high=5.0)


def test_only_what_teaches_is_there_and_the_rest_is_counted(settings: EventSettings) -> None:
    got = stream(dataset(), settings)
    assert got.events.user.tolist() == [0, 0, 1, 1]
    assert got.events.item.tolist() == [0, 1, 1, 0]
    assert {why: n for why, n in got.left_out.items() if n} == {
        "an erasure": 1,
        "a type that does not teach positively": 1,
        "a repeated event id": 1,
    }
    assert (got.users, got.items) == (2, 2)


def test_ratings_are_clamped_and_other_types_have_none(settings: EventSettings) -> None:
    value = stream(dataset(), settings).events.value
    np.testing.assert_array_equal(value, np.array([5.0, np.nan, 1.0, np.nan], np.float32))


def test_ratings_that_had_to_be_clamped_are_counted(settings: EventSettings) -> None:
    got = stream(dataset(), settings)
    assert (got.scale, got.clamped, got.spread) == ((1.0, 5.0), 2, (0.0, 9.0))
    wide = stream(dataset(), EventSettings(rating_low=0.0, rating_high=9.0))
    assert (wide.scale, wide.clamped) == ((0.0, 9.0), 0)
    assert np.nanmax(wide.events.value) == 9.0
    assert stream(dataset(), settings, limit=3).spread == (9.0, 9.0)


def test_limit_and_rare_items_are_left_out(settings: EventSettings) -> None:
    got = stream(dataset(), settings, limit=6, min_item_events=2)
    assert got.events.item.tolist() == [0, 0]
    assert got.left_out["an item with fewer than 2 events"] == 1


def test_words_and_categories_are_content_and_categories_describe(settings: EventSettings) -> None:
    got = stream(dataset(items=films()), settings)
    assert got.content is not None
    assert got.content.tokens == [["the", "third", "man", "1949", "category:film-noir"], []]
    assert got.described == 1
    assert got.described_by == "categories"
    assert got.vectors.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_without_categories_an_item_is_described_by_who_had_it(settings: EventSettings) -> None:
    got = stream(dataset(), settings)
    assert got.content is None
    assert got.described_by == "the items' users"
    np.testing.assert_array_equal(got.vectors[0], got.vectors[1])  # both were had by the same two users


def test_items_are_described_as_the_trainer_would_take_them_from_their_topic() -> None:
    upsert = Item(
        item_id="i1",
        title="Up " * 100,
        text="A house flies",
        categories=["Drama"],
        tags=["kept"],
        price=9.5,
        embeddings={"e": [0.1, 2.0], "too large": [1e300]},
    )
    live: dict[str, Description] = {}
    take(live, Read(msgspec.json.encode(upsert), key=b"i1"), limit=10)
    vectors = [{"name": name, "vector": vector} for name, vector in upsert.embeddings.items()]
    items = catalogue([{**msgspec.structs.asdict(upsert), "embeddings": vectors}])
    found = descriptions(dataset(items=items))
    assert found["i1"].tokens == live["i1"].tokens
    assert "price:3" in found["i1"].tokens
    assert {name: v.tolist() for name, v in found["i1"].embeddings.items()} == {
        name: v.tolist() for name, v in live["i1"].embeddings.items()
    }
    assert list(found["i1"].embeddings) == ["e"]
