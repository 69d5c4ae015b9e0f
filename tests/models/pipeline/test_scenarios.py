"""Where an event took place: what is popular there is proposed, and counts for more, to those who are there."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.config import ModelSettings
from models.explanation.explain import explain
from models.pipeline.recommender import Recommender
from models.vocabulary import kind_of
from tests.batches import Event, Store, feed, named, slots_of

SETTINGS = ModelSettings()
RARE = 0.03
"""Share of the users who are in the camp; all others are at home, where the items are others."""


def events(n: int = 5000) -> list[Event]:
    """Everyone stays where they are, and takes what is popular there: nothing but the place says what comes next."""
    rng = random.Random(4)
    made = []
    for at in range(n):
        user = rng.randrange(n // 2)
        place, items = ("camp", 30) if user < RARE * n / 2 else ("home", 100)
        item = f"{place} {int(items * rng.random() ** 2)}"
        made.append(Event(f"u{user}", item, ts=at, offset=at, event_id=at + 1, kind=kind_of("click", place)))
    return made


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    recommender = Recommender(SETTINGS, seed=1)
    feed(recommender, events())
    return recommender


def first_list(recommender: Recommender, user: str, kind: str) -> list[str]:
    """A new user's list, after an event of an item that nobody else ever had."""
    click = Event(user, f"only {user}'s", ts=10**6, offset=10**6, kind=kind)
    ((_, _, items),) = feed(recommender, [click])
    return items


def at_camp(items: list[str]) -> int:
    return sum(item.startswith("camp") for item in items)


def test_a_new_user_gets_what_is_popular_where_they_are(recommender: Recommender) -> None:
    assert at_camp(first_list(recommender, "someone", "click")) == 0
    assert at_camp(first_list(recommender, "host", kind_of("click", "home"))) == 0
    listed = first_list(recommender, "camper", kind_of("click", "camp"))
    assert at_camp(listed) >= 6
    assert at_camp(listed[:2]) == 2


def test_a_place_that_nobody_was_at_yet_is_as_if_none_were_named(recommender: Recommender) -> None:
    new = first_list(recommender, "pioneer", kind_of("click", "moon"))
    assert at_camp(new) == 0
    assert new == first_list(recommender, "drifter", kind_of("click", "sea"))
    assert recommender.actions.scenarios[recommender.actions.code(kind_of("click", "sea"))] == 4


def test_the_explanation_is_of_the_list_that_is_made(recommender: Recommender) -> None:
    listed = first_list(recommender, "curious", kind_of("click", "camp"))
    explained = explain(recommender, recommender.users.slot("curious")).explained
    names = [recommender.catalogue.id_of(one.item) for one in explained]
    assert names == listed
    assert explained[0].source.startswith("popularity")
    assert "popularity-5000" in explained[0].proposed_by


def test_a_restart_remembers_every_place() -> None:
    store = Store()
    other = Recommender(SETTINGS, seed=1)
    feed(other, events(), lists=False)
    store.commit(other)
    again = store.into(Recommender(SETTINGS, seed=1))
    for one in (other, again):
        slots_of(one.users, ["u1", "u2"], store)
    users = [one.users.slot("u1") for one in (other, again)]
    lists = [
        named(one, one.refresh(np.array([user], np.int32)))
        for one, user in zip((other, again), users, strict=True)
    ]
    assert lists[0] == lists[1]
    assert first_list(other, "late", kind_of("click", "camp")) == first_list(
        again, "late", kind_of("click", "camp")
    )
    assert np.array_equal(other._state.here.top[:2] >= 0, again._state.here.top[:2] >= 0)


def test_the_place_makes_the_lists_better() -> None:
    """Who goes on where they are is served better when events say where that is."""
    rng = random.Random(7)
    told = []
    for at in range(6000):
        user = rng.randrange(3000)
        place = user % 8
        item = f"{place}/{int(40 * rng.random() ** 2)}"
        told.append(
            Event(f"u{user}", item, ts=at, offset=at, event_id=at + 1, kind=kind_of("view", f"{place}"))
        )
    untold = [Event(e.user, e.item, e.ts, e.offset, "view", event_id=e.event_id) for e in told]
    rates = []
    for stream in (told, untold):
        one = Recommender(SETTINGS, seed=1)
        feed(one, stream)
        rates.append(one.metrics()["hr@10"])
    assert rates[0] > rates[1] + 0.03
