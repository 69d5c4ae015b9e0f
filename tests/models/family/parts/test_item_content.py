"""Content as numbers: what items share is found, what one item alone has is left out."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.contract import Content
from models.family.parts.item_content import described

TOKENS = [["drama", "slow", "only-here"], ["drama", "slow"], [], ["drama"]]


def test_items_with_the_same_words_are_described_the_same() -> None:
    content = described(Content(TOKENS), 1 << 20)
    one, two = content.take(np.array([1])), content.take(np.array([2]))
    assert one.buckets.tolist() == two.buckets.tolist()
    np.testing.assert_array_equal(one.weights, two.weights)


def test_a_rarer_word_weighs_more_and_the_weights_have_length_1() -> None:
    drama, slow = described(Content(TOKENS), 1 << 20).take(np.array([2])).weights.tolist()
    assert slow > drama
    assert drama**2 + slow**2 == pytest.approx(1.0)


def test_rows_without_content_say_nothing() -> None:
    content = described(Content(TOKENS), 64)
    assert content.described().tolist() == [False, True, True, False, True]
    assert content.take(np.array([0, 3, 99])).described().tolist() == [False] * 3


def test_rows_are_taken_in_any_order() -> None:
    content = described(Content(TOKENS), 1 << 20)
    taken = content.take(np.array([4, 0, 1]))
    assert taken.starts.tolist() == [0, 1, 1, 3]
    assert taken.buckets[0] == content.take(np.array([4])).buckets[0]


def test_ready_made_vectors_are_brought_to_length_1() -> None:
    content = described(Content([], np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)), 8)
    np.testing.assert_allclose(content.vectors, [[0, 0], [0.6, 0.8], [0, 0]])
    assert content.described().tolist() == [False, True, False]


def test_no_content_describes_nothing() -> None:
    assert described(None, 8).take(np.array([0, 1])).described().tolist() == [False, False]
