"""BPR-MF: what a user's like take comes before what they don't, and popular before rare for a stranger."""

from __future__ import annotations

import numpy as np

from models.family.neural.bpr_mf import BPRMF, BPRSettings
from tests.models.family.planted import asked, checkerboard, interactions

SMALL = BPRSettings(width=8, epochs=20, least_steps=200, batch=128, lr=1e-2, weight_decay=0.01)
EVEN = np.arange(0, 40, 2, dtype=np.int32)


def test_items_of_the_own_taste_that_were_not_taken_come_before_all_of_the_other() -> None:
    model = BPRMF(SMALL)
    model.fit(checkerboard())
    scores = model.score(asked(checkerboard(), EVEN))
    assert (scores[:, ::2].min(1) > scores[:, 1::2].max(1)).mean() > 0.9


def test_a_stranger_is_shown_what_most_users_take() -> None:
    model = BPRMF(SMALL)
    users = list(range(30)) * 2
    model.fit(interactions(users, [5] * 30 + [u % 5 for u in range(30)]))
    assert model.retrieve(asked(interactions([0], [0]), [999]), 1)[0].item() == 5


def test_it_goes_on_learning() -> None:
    model = BPRMF(SMALL)
    model.fit(checkerboard())
    new = checkerboard(seed=4)
    shifted = interactions((new.user + 40).tolist(), (new.item + 20).tolist())
    for _ in range(15):
        model.partial_fit(shifted)
    scores = model.score(asked(shifted, EVEN + 40))
    assert (scores[:, 20::2].min(1) > scores[:, 21::2].max(1)).mean() > 0.9
