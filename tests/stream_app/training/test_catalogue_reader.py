"""What the `items` topic says, as the trainer takes it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.family.parts.descriptions import MAX_NUMBERS, Description
from stream_app.training.catalogue_reader import take
from tests.records import Read


def upsert(item_id: str, **more: Any) -> Read:
    return Read(
        json.dumps({"v": 1, "item_id": item_id, **more}).encode(), key=item_id.encode(), topic="items"
    )


def taken(*records: Read, limit: int = 10) -> dict[str, Description]:
    known: dict[str, Description] = {}
    for record in records:
        take(known, record, limit)
    return known


def test_all_that_is_said_of_an_item_describes_it() -> None:
    known = taken(
        upsert(
            "x",
            title="Up",
            text="a house",
            categories=["Film"],
            tags=["new"],
            price=8,
            embeddings={"m": [1, 2]},
        )
    )
    assert known["x"].tokens == ("up", "a", "house", "category:film", "tag:new", "price:3")
    np.testing.assert_array_equal(known["x"].embeddings["m"], [1.0, 2.0])


def test_the_newest_record_counts_and_a_tombstone_takes_the_item_away() -> None:
    known = taken(
        upsert("x", title="old"), upsert("y", title="other"), upsert("x", title="new"),
        Read(None, key=b"y", topic="items"),
    )  # fmt: skip
    assert {name: one.tokens for name, one in known.items()} == {"x": ("new",)}


def test_beyond_the_limit_those_told_of_last_are_kept() -> None:
    known = taken(upsert("a"), upsert("b"), upsert("a", title="again"), upsert("c"), limit=2)
    assert list(known) == ["a", "c"]


@pytest.mark.parametrize(
    "record",
    [
        Read(b"{", key=b"x", topic="items"),
        upsert("x", title=7),
        Read(upsert("x").value, key=b"y", topic="items"),
    ],
)
def test_a_bad_record_changes_nothing(record: Read) -> None:
    assert list(taken(upsert("x", title="up"), record)) == ["x"]
    assert taken(upsert("x", title="up"), record)["x"].tokens == ("up",)


@pytest.mark.parametrize("odd", [{"tags": "new"}, {"price": "9.99"}, {"embeddings": {"m": "1"}}])
def test_of_a_record_with_an_odd_field_that_the_worker_does_not_read_the_title_counts(
    odd: dict[str, Any],
) -> None:
    assert taken(upsert("x", title="up", **odd))["x"].tokens == ("up",)


def test_an_embedding_that_is_too_long_is_left_out() -> None:
    given = {"m": [1.0] * (MAX_NUMBERS + 1), "n": [1.0]}
    assert taken(upsert("x", embeddings=given))["x"].embeddings.keys() == {"n"}


def test_an_embedding_beyond_float32_is_left_out() -> None:
    assert taken(upsert("x", embeddings={"m": [1e300], "n": [1.0]}))["x"].embeddings.keys() == {"n"}
