"""The exploration quota: new items at a list's end, by lot, with the chance that each had."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models.config import ModelSettings, PolicySettings
from models.pipeline.exploration import WINDOW
from models.pipeline.recommender import EXPLORATION, Recommender
from models.randomness import hash64
from models.state.announced import code_of
from tests.batches import Event, Store, batch_of, feed, slots_of

QUOTA = 2
SETTINGS = ModelSettings(policy=PolicySettings(exploration=QUOTA))
OLD = [f"old{n}" for n in range(30)]
NEW = [f"new{n}" for n in range(6)]


def events(askers: int = 0) -> list[Event]:
    """Forty users take old items; then each new item is taken once; then everybody asks for the first time."""
    taken = [(f"u{n % 40}", OLD[(n * 7 + n // 40) % 30]) for n in range(600)]
    taken += [("scout", item) for item in NEW]
    taken += [(f"asker{n}", OLD[n % 3]) for n in range(askers)]
    return [Event(user, item, ts=1000 * n, offset=n, event_id=n + 1) for n, (user, item) in enumerate(taken)]


def made(settings: ModelSettings) -> Recommender:
    recommender = Recommender(settings, seed=3)
    described(recommender)
    feed(recommender, events()[:600], lists=False)
    feed(recommender, events()[600:], lists=False)
    described(recommender)
    return recommender


def described(recommender: Recommender) -> None:
    """new0 is like the first old items, new1 is not for sale."""
    for item in (*OLD[:3], NEW[0]):
        recommender.catalogue.set_item(item, available=True, categories=["war"])
    recommender.catalogue.set_item(NEW[1], available=False)


def explored(recommender: Recommender, askers: int) -> Iterator[list[tuple[str, float, int]]]:
    """For each asker, the explored items with propensity and place."""
    first = len(events())
    asked = events(askers)[first:]
    items = recommender.catalogue.intern([e.item for e in asked])
    users = slots_of(recommender.users, (e.user for e in asked))
    lists = recommender.process(
        batch_of(asked, users, items, recommender.actions), np.full(len(asked), True)
    ).lists
    of = recommender.credits.index(EXPLORATION)
    for m in range(len(lists)):
        places = np.flatnonzero(lists.source[m] == of).tolist()
        assert len(set(lists.items[m].tolist())) == 10
        yield [
            (recommender.catalogue.id_of(int(lists.items[m, j])) or "", float(lists.scores[m, j]), j)
            for j in places
        ]


def test_the_last_places_are_new_items_that_may_be_shown() -> None:
    for found in explored(made(SETTINGS), 50):
        assert [place for _, _, place in found] == [8, 9]
        assert {item for item, _, _ in found} <= set(NEW) - {NEW[1]}


def test_without_a_quota_nothing_is_explored_and_the_places_before_it_are_the_same() -> None:
    assert all(found == [] for found in explored(made(ModelSettings()), 5))
    with_quota, without = made(SETTINGS), made(ModelSettings())
    user = slots_of(with_quota.users, ["u1"])
    listed = with_quota.refresh(user).items[0], without.refresh(slots_of(without.users, ["u1"])).items[0]
    assert listed[0][:8].tolist() == listed[1][:8].tolist()


def test_items_are_drawn_as_often_as_their_propensity_says() -> None:
    """What each first draw was said to have as a chance is the share of lists in which it came."""
    first: dict[str, list[float]] = {}
    lists = list(explored(made(SETTINGS), 1500))
    for found in lists:
        item, propensity, _ = found[0]
        first.setdefault(item, []).append(propensity)
    assert set(first) == set(NEW) - {NEW[1]}
    for propensities in first.values():
        (p,) = {round(q, 5) for q in propensities}
        error = 4 * np.sqrt(p * (1 - p) / len(lists))
        assert len(propensities) / len(lists) == pytest.approx(p, abs=error)
    assert first[NEW[0]][0] == pytest.approx(
        2 * first[NEW[2]][0]
    )  # it shares a category with what askers took


ANNOUNCED = [f"announced{n}" for n in range(4)]


def announcing(recommender: Recommender, ids: list[str] = ANNOUNCED) -> Recommender:
    for item in ids:
        recommender.catalogue.set_item(item, available=True, categories=["war"] if item == ids[0] else [])
    return recommender


def test_what_is_announced_is_drawn_before_its_first_event_as_often_as_its_propensity_says() -> None:
    recommender = announcing(made(SETTINGS))
    recommender.catalogue.retire(ANNOUNCED[3])
    lists = list(explored(recommender, 1500))
    first: dict[str, list[float]] = {}
    for found in lists:
        item, propensity, _ = found[0]
        first.setdefault(item, []).append(propensity)
    assert set(first) == {*NEW, *ANNOUNCED} - {NEW[1], ANNOUNCED[3]}
    for propensities in first.values():
        (p,) = {round(q, 5) for q in propensities}
        assert len(propensities) / len(lists) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / len(lists)))
    assert first[ANNOUNCED[0]][0] == pytest.approx(2 * first[ANNOUNCED[1]][0])
    assert len(recommender.catalogue) == len(OLD) + len(NEW)  # to be shown makes nothing known of an item


def test_without_a_quota_what_is_announced_is_not_kept() -> None:
    assert len(announcing(made(ModelSettings())).catalogue.announced) == 0


def test_of_more_than_a_list_can_look_at_each_has_the_same_chance() -> None:
    many = [f"many{n}" for n in range(3 * WINDOW // 2)]
    recommender = announcing(made(SETTINGS), many)
    drawn = [(item, p) for found in explored(recommender, 1500) for item, p, place in found if place == 8]
    of_many = [(item, p) for item, p in drawn if item.startswith("many")]
    old_new = [p for item, p in drawn if not item.startswith("many")]
    assert len(of_many) > 1400
    assert len({item for item, _ in of_many}) > 1000
    # inverse propensities count, on average, those that there are
    assert np.mean([1 / p if item in many else 0.0 for item, p in drawn]) == pytest.approx(
        len(many), rel=0.02
    )
    assert all(p > 1 / len(many) for p in old_new)


def test_an_item_that_was_listed_before_it_had_a_number_is_a_hit() -> None:
    settings = ModelSettings(policy=PolicySettings(k=10, exploration=10))
    taken = [Event("u", "a", ts=1, offset=0, event_id=1), Event("u", "z", ts=2, offset=1, event_id=2)]
    recommender = announcing(Recommender(settings), ["z"])
    (listed, _) = feed(recommender, taken, size=1)
    assert recommender.metrics()["hr@10"] == 1.0
    assert listed[2] == [f"?{code_of(np.uint64(hash64('z')))}"]


@pytest.mark.parametrize("cut", [1, 37])
def test_what_is_announced_is_drawn_the_same_wherever_batches_are_cut(cut: int) -> None:
    """Also where some of it has its first events on the way, and after a restart."""
    stream = events(60) + [
        Event(f"asker{n}", ANNOUNCED[n % 2], ts=10**7 + n, offset=2000 + n, event_id=2001 + n)
        for n in range(40)
    ]
    whole, store = announcing(Recommender(SETTINGS, seed=3)), Store()
    expected = feed(whole, stream)
    before = announcing(Recommender(SETTINGS, seed=3))
    lists = feed(before, stream[:680], size=cut, store=store)
    store.commit(before)
    after = announcing(store.into(Recommender(SETTINGS, seed=3)))
    lists += feed(after, stream[680:], size=cut, store=store)
    assert any(code < -1 for code in whole.users.columns.served.ravel())
    assert lists == expected
    assert after.metrics() == whole.metrics()


@pytest.mark.parametrize("cut", [1, 37])
def test_a_restart_draws_the_same_wherever_batches_are_cut(cut: int) -> None:
    stream = events(60)
    whole, store = Recommender(SETTINGS, seed=3), Store()
    expected = feed(whole, stream)
    before = Recommender(SETTINGS, seed=3)
    lists = feed(before, stream[:630], size=cut, store=store)
    store.commit(before)
    after = store.into(Recommender(SETTINGS, seed=3))
    lists += feed(after, stream[630:], size=cut, store=store)
    assert lists == expected
