"""Lessons: which events are learned how often, and what is kept for the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.family.neural.bpr_mf import BPRMF, BPRSettings
from models.family.parts.negatives import NotTaken
from models.family.storage import StoredModelError, load_model, save_model
from tests.models.family.parts.test_padded import lesson
from tests.models.family.planted import asked, checkerboard, interactions


class TestExamples:
    def test_a_fit_goes_through_all_events_as_often_as_it_is_told(self) -> None:
        batches = lesson(interactions([0, 1, 2, 1, 0], [0, 1, 2, 3, 4]), passes=3).examples(4)
        assert np.bincount(np.concatenate(batches)).tolist() == [3] * 5
        assert max(len(batch) for batch in batches) <= 4

    def test_new_events_are_all_learned_without_replay(self) -> None:
        taught = lesson(interactions([0, 1, 0, 1], [5, 6, 7, 8]), new=2)
        rows = np.concatenate(taught.examples(10))
        assert sorted(taught.events.item[rows].tolist()) == [7, 8]

    def test_the_same_lesson_is_shuffled_the_same(self) -> None:
        events = checkerboard()
        one, two = (np.concatenate(lesson(events).examples(32)).tolist() for _ in range(2))
        assert one == two
        assert one != sorted(one)


class TestNegatives:
    def test_what_a_user_has_is_not_drawn_for_them(self) -> None:
        events = checkerboard()
        free = NotTaken(lesson(events), 20)
        users = np.repeat(np.arange(40), 50)
        drawn = free.draw(users, 2, np.random.default_rng(0))
        had = np.zeros((40, 20), np.bool_)
        had[events.user, events.item] = True
        # 8 of 20 items are taken: one in 5 ** 4 / 2 ** 4 stays after four attempts.
        assert had[users[:, None], drawn].mean() < 0.05
        assert len(np.unique(drawn)) == 20

    def test_a_user_who_has_everything_is_given_something(self) -> None:
        free = NotTaken(lesson(interactions([0, 0], [0, 1])), 2)
        assert free.draw(np.array([0]), 3, np.random.default_rng(0)).shape == (1, 3)


SMALL = BPRSettings(width=4, epochs=1, least_steps=2, batch=64, kept=100)


class TestKept:
    def test_the_newest_events_are_kept_and_no_more_than_allowed(self) -> None:
        events = checkerboard()
        model = BPRMF(SMALL)
        model.fit(events.take(slice(0, 90)))
        model.partial_fit(events.take(slice(90, 130)))
        np.testing.assert_array_equal(model.kept.item, events.item[30:130])
        model.partial_fit(events.take(slice(130, 300)))
        np.testing.assert_array_equal(model.kept.user, events.user[200:300])

    def test_a_lesson_of_nothing_is_none(self) -> None:
        model = BPRMF(SMALL)
        model.fit(checkerboard())
        model.partial_fit(checkerboard().take(slice(0, 0)))
        assert model.lessons == 1

    def test_a_model_that_was_taught_nothing_scores_no_items(self) -> None:
        model = BPRMF(SMALL)
        model.fit(checkerboard().take(slice(0, 0)))
        assert model.score(asked(checkerboard(), [0])).shape == (1, 0)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    model = BPRMF(SMALL)
    model.fit(checkerboard())
    model.n_items += 1
    save_model(model, tmp_path)
    with pytest.raises(StoredModelError, match=r"item\.weight has shape \(21, 4\), not \(22, 4\)"):
        load_model(tmp_path)
