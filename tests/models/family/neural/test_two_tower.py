"""Two towers: tastes are told apart, and content speaks for an item that nobody took yet."""

from __future__ import annotations

import numpy as np

from models.family.contract import Content
from models.family.neural.two_tower import TwoTower, TwoTowerSettings
from tests.models.family.planted import asked, checkerboard, halves, interactions

SMALL = TwoTowerSettings(width=16, hidden=16, buckets=64, epochs=20, least_steps=150, batch=64, lr=1e-2)
EVEN = np.arange(0, 40, 2, dtype=np.int32)
NEW_EVEN, NEW_ODD = 20, 21


def taught(content: Content | None, **changed: object) -> TwoTower:
    model = TwoTower(SMALL.model_copy(update=changed), content=content)
    model.fit(checkerboard())
    return model


def test_all_items_of_the_own_taste_come_before_any_of_the_other() -> None:
    scores = taught(None).score(asked(checkerboard(), EVEN))
    assert (scores[:, ::2].min(1) > scores[:, 1::2].max(1)).all()


def test_a_new_item_with_content_is_scored_before_its_first_click() -> None:
    model = taught(halves(22))
    assert model.n_items == 22
    scores = model.score(asked(checkerboard(), EVEN))
    assert (scores[:, NEW_EVEN] > scores[:, 1:20:2].max(1)).all()
    assert (scores[:, NEW_ODD] < scores[:, 0:20:2].min(1)).all()


def test_words_alone_and_vectors_alone_are_enough_for_that() -> None:
    both = halves(22)
    for content in (Content(both.tokens), Content([], both.vectors)):
        scores = taught(content).score(asked(checkerboard(), EVEN))
        assert (scores[:, NEW_EVEN] > scores[:, NEW_ODD]).all()


def test_a_history_of_nothing_but_new_items_is_understood_by_their_content() -> None:
    stranger = asked(interactions([99], [NEW_ODD]), [99])
    scores = taught(halves(22)).score(stranger)[0]
    assert scores[1:20:2].mean() > scores[0:20:2].mean()


def test_it_goes_on_learning() -> None:
    model = taught(halves(22))
    swapped = checkerboard(seed=4)
    swapped.item[:] ^= 1  # now even users take odd items
    users = (swapped.user + 40).tolist()
    for _ in range(8):
        model.partial_fit(interactions(users, swapped.item.tolist()))
    own = asked(interactions(users, swapped.item.tolist()), EVEN + 40)
    scores = model.score(own)
    assert (scores[:, 1:20:2].mean(1) > scores[:, 0:20:2].mean(1)).all()
