"""Leave-one-out explanations name what a model's score rests on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from models.base import F32, I32
from models.family.contract import NOBODY, Interactions, Model, Queries
from models.family.explain import leave_one_out, shortened
from models.family.registry import make
from tests.models.family.planted import asked, checkerboard, interactions, ring

LEARNED = {"epochs": 4, "width": 32, "least_steps": 800}
SETTINGS: dict[str, dict[str, Any]] = {"item-item": {"half_life": 1.0}, "sasrec": LEARNED, "gru4rec": LEARNED}
USERS, LENGTH = 60, 8


def world() -> Interactions:
    """Each user's last six items on a ring of 12: what comes next rests on the last one most."""
    return ring(users=USERS, items=12, each=6)


def taught(name: str) -> Model:
    model = make(name, SETTINGS[name], seed=1)
    model.fit(world())
    return model


def without(events: Interactions, user: int, nth: int) -> Queries:
    """The user as they stand if their `nth` event had not been: built from the events, not by `shortened`."""
    of_user = np.flatnonzero(events.user == user)
    return asked(events.take(np.delete(np.arange(len(events)), of_user[nth])), [user], LENGTH)


def standing(model: Model, queries: Queries, item: int) -> float:
    """How many items the score of `item` is above, less how many it is below."""
    scores = model.score(queries)[0]
    return float(np.sign(scores[item] - scores).sum())


@pytest.mark.parametrize("name", SETTINGS)
def test_without_the_named_cause_an_item_falls_further_than_without_another(name: str) -> None:
    model, events = taught(name), world()
    queries = asked(events, list(range(USERS)), LENGTH)
    listed: I32 = model.retrieve(queries, 1)[0][:, 0]
    loss = leave_one_out(model, queries, listed)
    rng = np.random.default_rng(3)
    difference = []
    for user in range(USERS):
        there = np.flatnonzero(queries.items[user] != NOBODY)
        nth = int(np.nanargmax(loss[user, there]))
        other = int(rng.choice(np.delete(np.arange(len(there)), nth)))
        item = int(listed[user])
        named, random = (standing(model, without(events, user, e), item) for e in (nth, other))
        difference.append(random - named)
    assert wilcoxon(difference, alternative="greater").pvalue < 1e-4


def test_the_last_item_is_the_cause_where_order_is_all_there_is() -> None:
    model = taught("sasrec")
    queries = asked(world(), list(range(USERS)), LENGTH)
    following = ((queries.items[:, -1] + 1) % 12).astype(np.int32)
    assert (np.nanargmax(leave_one_out(model, queries, following), axis=1) == LENGTH - 1).mean() > 0.9


def test_a_history_s_items_are_the_causes_of_items_of_the_same_taste_only() -> None:
    model = make("item-item", {"half_life": 0.0})
    model.fit(checkerboard())
    mixed = asked(interactions([0, 0, 0], [2, 5, 7]), [0], 4)
    (loss,) = leave_one_out(model, mixed, np.array([9], np.int32))
    assert np.isnan(loss[0])  # no event
    assert loss[1] == pytest.approx(0.0, abs=1e-6)  # an even item says nothing of an odd one
    assert min(loss[2], loss[3]) > 0.01


def test_a_model_that_ignores_the_history_has_no_causes() -> None:
    model = make("popularity")
    model.fit(checkerboard())
    loss: F32 = leave_one_out(model, asked(checkerboard(), [1], 4), np.array([3], np.int32))
    assert (loss == 0.0).all()


def test_a_shortened_history_keeps_its_order_and_stays_as_long() -> None:
    queries = asked(interactions([0, 0, 0], [4, 5, 6]), [0, 0], 4)
    short = shortened(queries, np.array([1, 3]))
    assert short.items.tolist() == [[NOBODY, NOBODY, 5, 6], [NOBODY, NOBODY, 4, 5]]
    assert short.ts.tolist() == [[0, 0, 60_000, 120_000], [0, 0, 0, 60_000]]
