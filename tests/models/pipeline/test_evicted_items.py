"""More items than the settings allow: those longest without an event make room, and that is exact too."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from models.config import ModelSettings
from tests.batches import Event, Store, clicks, feed, new, traffic

SMALL = ModelSettings(max_items=32)


def test_items_beyond_the_limit_make_room_for_new_ones() -> None:
    recommender, store = new(SMALL), Store()
    events = clicks(*((f"u{n % 7}", f"i{n // 2}") for n in range(600)))
    for start in range(0, 600, 50):
        lists = feed(recommender, events[start : start + 50])
        store.commit(recommender)
        assert recommender.metrics()["items"] <= 32
        assert all(items for _, _, items in lists[-5:])
    assert recommender.metrics()["items_evicted"] > 200
    assert len({key for key in store.items if key[:1] == b"h"}) <= 32
    assert {key[:1] for key in store.items} == {b"i", b"h", b"y", b"c"}


def test_a_state_with_evicted_items_can_be_loaded_and_goes_on() -> None:
    recommender, store = new(SMALL), Store()
    for start in range(0, 300, 50):
        feed(recommender, clicks(*((f"u{n % 7}", f"i{n // 2}") for n in range(50)), start=start))
        feed(recommender, clicks(*((f"u{n % 7}", f"i{start + n}") for n in range(50)), start=1000 + start))
    store.commit(recommender)
    assert recommender.metrics()["items_evicted"] > 0
    other = store.into(new(SMALL))
    assert other.metrics() == recommender.metrics()
    assert other.catalogue.numbers == recommender.catalogue.numbers
    for start in range(2000, 2100, 20):
        more = clicks(*((f"u{n % 7}", f"i{290 + n}") for n in range(20)), start=start)
        assert all(items for _, _, items in feed(other, more, store=store))
        store.commit(other)
    assert other.metrics()["items"] <= 32
    known = {key[1:] for key in store.items if key[:1] == b"i"}
    assert {key[1:] for key in store.items} == known


def drifting(n: int) -> list[Event]:
    """Traffic over items that come and go; some come back after they were evicted."""
    rng = random.Random(7)
    return [replace(e, item=f"i{n // 4 + rng.randrange(-40, 12)}") for n, e in enumerate(traffic(n, users=9))]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_what_is_evicted_does_not_depend_on_where_a_batch_is_cut(size: int) -> None:
    stores, lists = [], []
    for cut in (size, 50):
        recommender, store = new(SMALL), Store()
        lists.append(feed(recommender, drifting(500), size=cut))
        store.commit(recommender)
        assert recommender.metrics()["items_evicted"] > 50
        stores.append(store)
    assert stores[0] == stores[1]
    assert lists[0] == lists[1]
    assert not any(item.startswith("?") for _, _, items in lists[0] for item in items)


@pytest.mark.parametrize("at", [137, 250, 401])
def test_what_is_evicted_does_not_depend_on_a_restart(at: int) -> None:
    events = drifting(500)
    undisturbed, store = new(SMALL), Store()
    feed(undisturbed, events, size=50)
    store.commit(undisturbed)
    killed, kept = new(SMALL), Store()
    for start in range(0, at, 30):
        feed(killed, events[start : min(start + 30, at)])
        kept.commit(killed)
    restarted = kept.into(new(SMALL))
    feed(restarted, events[at:], size=50, store=kept)
    kept.commit(restarted)
    assert kept == store
