"""The candidate tower: tastes are told apart, and the times that it learned from are told from the present."""

from __future__ import annotations

import numpy as np

from models.family.contract import NOBODY, Interactions, Queries
from models.family.neural.youtube_dnn import YouTubeDNN, YouTubeSettings
from tests.models.family.planted import asked, checkerboard, interactions

SMALL = YouTubeSettings(width=16, hidden=32, epochs=20, least_steps=200, batch=64, lr=1e-2)
EVEN = np.arange(0, 40, 2, dtype=np.int32)
DAY_MS = 86_400_000


def taught(events: Interactions) -> YouTubeDNN:
    model = YouTubeDNN(SMALL)
    model.fit(events)
    return model


def test_all_items_of_the_own_taste_come_before_any_of_the_other() -> None:
    scores = taught(checkerboard()).score(asked(checkerboard(), EVEN))
    assert (scores[:, ::2].min(1) > scores[:, 1::2].max(1)).all()


def test_a_stranger_is_known_by_their_history() -> None:
    stranger = asked(interactions([999, 999], [3, 7]), [999])
    scores = taught(checkerboard()).score(stranger)[0]
    assert scores[1::2].min() > scores[::2].max()


def test_what_is_taken_now_comes_before_what_was_taken_more_often_once() -> None:
    # A user's first item is 0 for the first 90 users, a year ago, and 1 for the last 30.
    events = interactions(list(range(120)), [0] * 90 + [1] * 30)
    ts = np.where(np.arange(120) < 90, np.arange(120), np.arange(120) + 365 * 24 * 60) * 60_000
    model = taught(Interactions(events.user, events.item, events.value, ts))
    nobody = Queries(
        np.array([500], np.int32),
        np.full((1, 3), NOBODY, np.int32),
        np.full((1, 3), np.nan, np.float32),
        np.zeros((1, 3), np.int64),
    )
    assert model.retrieve(nobody, 2)[0].tolist() == [[1, 0]]


def test_it_goes_on_learning() -> None:
    model = taught(checkerboard())
    new = checkerboard(seed=4)
    shifted = interactions((new.user + 40).tolist(), (new.item + 20).tolist())
    for _ in range(6):
        model.partial_fit(shifted)
    scores = model.score(asked(shifted, EVEN + 40))
    assert (scores[:, 20::2].min(1) > scores[:, 21::2].max(1)).all()
