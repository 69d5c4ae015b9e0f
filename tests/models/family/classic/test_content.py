"""Content-based filtering: what is described like what was liked comes first, clicked or not."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.classic.content import ContentBased, ContentSettings, described
from models.family.contract import Content
from tests.models.family.planted import asked, interactions

TOKENS = [["war"], ["war", "love"], ["love"], ["space"], []]
VECTORS = np.array([[3.0, 0.0], [0.0, 2.0], [3.0, 4.0]], np.float32)


def fitted(content: Content | None, value: list[float], **settings: float) -> ContentBased:
    """One that learned of one user's two events on items 0 and 3."""
    model = ContentBased(ContentSettings(**settings), content=content)
    model.fit(interactions([0, 0], [0, 3], value))
    return model


class TestContentBased:
    def test_an_item_is_scored_before_its_first_click(self) -> None:
        model = fitted(Content(TOKENS), [5.0, 5.0])
        items, scores = model.retrieve(asked(interactions([1], [0], [5.0]), [1]), 3)
        assert items.tolist() == [[0, 1, 2]]
        assert scores[0, 0] == pytest.approx(1.0)
        assert scores[0, 1] == pytest.approx(np.sqrt(0.5))
        assert scores[0, 2] == 0.0

    def test_a_rating_below_the_middle_of_the_scale_repels(self) -> None:
        model = fitted(Content(TOKENS), [1.0, 5.0])
        scores = model.score(asked(interactions([1, 1], [0, 3], [2.0, 4.0]), [1]))[0]
        assert scores[3] > 0 > scores[0]
        assert scores[1] < 0 == scores[2]

    def test_a_rating_in_the_middle_says_nothing(self) -> None:
        model = fitted(Content(TOKENS), [1.0, 5.0])
        assert not model.score(asked(interactions([1], [0], [3.0]), [1])).any()

    def test_an_event_without_a_rating_attracts(self) -> None:
        model = fitted(Content(TOKENS), [1.0, 5.0])
        assert model.score(asked(interactions([1], [0]), [1]))[0, 0] == pytest.approx(1.0)

    def test_old_events_fade(self) -> None:
        model = fitted(Content(TOKENS), [5.0, 5.0], half_life=1.0)
        scores = model.score(asked(interactions([1, 1], [0, 3]), [1]))[0]
        assert scores[[0, 3]] == pytest.approx(np.array([0.5, 1.0]) / np.sqrt(1.25))

    def test_given_embeddings_alone_are_enough(self) -> None:
        model = fitted(Content(vectors=VECTORS), [5.0, 5.0])
        assert model.score(asked(interactions([1], [0]), [1]))[0, :3] == pytest.approx([1.0, 0.0, 0.6])

    def test_words_and_embeddings_count_the_same(self) -> None:
        content = Content([["war"], ["war"], ["love"]], np.array([[1, 0], [0, 1], [1, 0]], np.float32))
        model = fitted(content, [5.0, 5.0])
        assert model.score(asked(interactions([1], [0]), [1]))[0, :3] == pytest.approx([1.0, 0.5, 0.5])

    def test_without_content_nothing_is_said(self) -> None:
        scores = fitted(None, [5.0, 5.0]).score(asked(interactions([1], [0]), [1]))
        assert scores.tolist() == [[0.0, 0.0, 0.0, 0.0]]

    def test_an_item_that_came_without_content_is_known_and_scores_0(self) -> None:
        model = fitted(Content(TOKENS), [5.0, 5.0])
        model.partial_fit(interactions([0], [8], [5.0]))
        scores = model.score(asked(interactions([1, 1], [8, 0]), [1]))
        assert scores.shape == (1, 9)
        assert scores[0, 8] == 0.0 < scores[0, 0]


def test_a_word_counts_by_how_often_it_is_there_and_how_rare_it_is() -> None:
    rows = described(Content([["a", "a", "b"], ["a"], ["b", "c"], ["c"]]), 4).toarray()
    # a, b and c are in two items of four each: log 2
    assert rows[0] == pytest.approx(np.array([2.0, 1.0, 0.0]) / np.sqrt(5.0))
    assert rows[3] == pytest.approx([0.0, 0.0, 1.0])
