"""Where candidates come from: what a user's items point to, what is popular, and, where wanted, the whole catalogue."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.config import AsymmetricMFSettings, BlendSettings, ModelSettings, PopularitySettings
from models.pipeline.recommender import Recommender
from tests.batches import Event, feed, slots_of

ONLY_AMF = BlendSettings(lr=0.0, start_covisit=0.0, start_popularity=0.0, start_asymmetric_mf=1.0)
FEW = {"candidates": 10, "popularity": PopularitySettings(candidates=1), "blend": ONLY_AMF}
USERS = [f"u{n}" for n in range(30)]


def events() -> list[Event]:
    rng = random.Random(7)
    return [
        Event(rng.choice(USERS), f"i{rng.randrange(150)}", ts=n, offset=n, event_id=n + 1) for n in range(900)
    ]


def taught(settings: ModelSettings) -> Recommender:
    recommender = Recommender(settings, seed=5)
    feed(recommender, events(), lists=False)
    return recommender


def best_of_all(recommender: Recommender, user: int, had: set[int]) -> list[int]:
    """The ten item numbers that asymmetric MF puts first among all that the user did not have."""
    state, amf = recommender._state, AsymmetricMFSettings()
    history = np.zeros(50, np.int32)
    n, _ = recommender.users.history(user, recommender.actions.weights, history)
    slots = recommender.catalogue.slot_of[history[: min(n, amf.items)]]
    vector = (amf.decay ** np.arange(len(slots)))[:, None] * state.amf.x[slots].astype(np.float64)
    whole = vector.sum(0)
    scores = state.amf.y @ (whole / np.linalg.norm(whole)) + state.amf.bias
    order = np.argsort(-scores[: recommender.catalogue.slots])
    numbers = state.items.number[order].tolist()
    return [number for number in numbers if number not in had][:10]


def had_by(recommender: Recommender) -> dict[str, set[int]]:
    numbers = recommender.catalogue.numbers
    return {user: {numbers[e.item] for e in events() if e.user == user} for user in USERS}


def agreeing(recommender: Recommender) -> float:
    """The share of users whose list is the best of the whole catalogue."""
    slots, had = slots_of(recommender.users, USERS), had_by(recommender)
    lists = recommender.refresh(slots).items.tolist()
    same = [
        set(found) == set(best_of_all(recommender, int(slot), had[user]))
        for user, slot, found in zip(USERS, slots, lists, strict=True)
    ]
    return float(np.mean(same))


def test_a_model_that_scores_every_item_finds_the_best_of_all_where_it_may_look() -> None:
    assert agreeing(taught(ModelSettings(**FEW, dense_candidates=50))) == 1.0


@pytest.mark.parametrize("limits", [{"dense_candidates": 0}, {"dense_candidates": 50, "dense_limit": 100}])
def test_it_chooses_among_what_the_others_found_where_it_may_not(limits: dict[str, int]) -> None:
    assert agreeing(taught(ModelSettings(**FEW, **limits))) < 0.5
