"""What a catalogue says of items becomes tokens and embeddings, a row an item."""

from __future__ import annotations

import numpy as np
import pytest

from models.base import F32
from models.family.parts.descriptions import MAX_NUMBERS, MAX_TOKENS, Description, content_of, tokens_of


def embedding(*numbers: float) -> F32:
    return np.array(numbers, np.float32)


def test_what_is_said_is_marked_with_where_it_was_said() -> None:
    found = tokens_of("The Drama", "A long_night!", ["Drama"], ["Cult"], 12.5)
    assert found == ("the", "drama", "a", "long", "night", "category:drama", "tag:cult", "price:3")


@pytest.mark.parametrize("price", [None, 0.0, -3.0, float("inf"), float("nan")])
def test_a_price_that_is_none_says_nothing(price: float | None) -> None:
    assert tokens_of(price=price) == ()


def test_a_long_text_leaves_room_for_the_categories() -> None:
    found = tokens_of(text="word " * 1000, categories=["drama"])
    assert len(found) == MAX_TOKENS
    assert found[-1] == "category:drama"
    assert len(tokens_of(categories=map(str, range(1000)))) == MAX_TOKENS


def test_each_item_has_a_row_and_embeddings_lie_side_by_side_by_name() -> None:
    known = {
        "a": Description(("x",), {"text": embedding(3.0, 4.0), "image": embedding(2.0)}),
        "c": Description((), {"text": embedding(0.0, 0.0)}),
    }
    content = content_of(["a", "b", "c"], known)
    assert content is not None
    assert content.tokens == [["x"], [], []]
    assert content.vectors is not None
    np.testing.assert_allclose(content.vectors, [[0.6, 0.8, 1.0], [0, 0, 0], [0, 0, 0]])


def test_an_embedding_of_another_length_than_most_is_left_out() -> None:
    known = {name: Description((), {"text": embedding(1.0, 0.0)}) for name in "ab"}
    known["c"] = Description((), {"text": embedding(1.0, 0.0, 0.0)})
    content = content_of(["c", "a", "b"], known)
    assert content is not None
    assert content.vectors is not None
    assert content.vectors.tolist() == [[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]


def test_embeddings_are_taken_as_far_as_there_is_room_those_that_most_items_have_first() -> None:
    known = {name: Description((), {"text": embedding(1.0)}) for name in "xyz"}
    known["odd"] = Description((), {"a": np.ones(MAX_NUMBERS, np.float32)})
    content = content_of(list(known), known)
    assert content is not None
    assert content.vectors is not None
    assert content.vectors.tolist() == [[1.0], [1.0], [1.0], [0.0]]


def test_where_nothing_is_said_there_is_no_content() -> None:
    assert content_of(["a"], {}) is None
    assert content_of(["a"], {"a": Description(), "b": Description(("x",))}) is None
