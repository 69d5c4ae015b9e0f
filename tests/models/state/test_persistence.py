"""State that is written and read back goes on as if nothing had been, and only what changed is written."""

from __future__ import annotations

import pytest

from tests.batches import SETTINGS, Store, clicks, feed, new, traffic


@pytest.mark.parametrize("cut", [1, 133, 400])
def test_a_restart_goes_on_as_if_it_had_not_been(cut: int) -> None:
    events = traffic(600)
    undisturbed, whole = new(), Store()
    before = feed(undisturbed, events[:cut], size=40)
    whole.commit(undisturbed)
    after = feed(undisturbed, events[cut:], size=40)
    whole.commit(undisturbed)

    first, store = new(), Store()
    assert feed(first, events[:cut], size=40) == before
    store.commit(first)
    second = store.into(new())
    assert feed(second, events[cut:], size=40, store=store) == after
    store.commit(second)
    assert store.users == whole.users
    assert store.items == whole.items
    assert store.meta == whole.meta
    assert second.metrics() == undisturbed.metrics()


def test_the_order_in_which_rows_are_loaded_within_a_kind_is_that_of_their_keys() -> None:
    recommender, store = new(), Store()
    feed(recommender, traffic(200))
    store.commit(recommender)
    sorted_store = Store(store.users, dict(sorted(store.items.items())), store.meta)
    a, b = store.into(new()), sorted_store.into(new())
    more = traffic(50, seed=9)
    assert feed(a, more, store=store) == feed(b, more, store=store)


def test_what_was_not_taken_stays_dirty() -> None:
    recommender = new()
    feed(recommender, traffic(60))
    first, again = recommender.take_dirty(), recommender.take_dirty()
    assert first == again
    recommender.mark_clean()
    empty = recommender.take_dirty()
    assert (empty.users, empty.items, empty.meta) == ([], [], [])
    assert recommender.dirty_bytes == 0


def test_only_what_changed_is_written() -> None:
    recommender, store = new(), Store()
    feed(recommender, clicks(("a", "x"), ("b", "y"), ("c", "z")))
    store.commit(recommender)
    feed(recommender, clicks(("a", "x"), start=10), lists=False)
    delta = recommender.take_dirty()
    assert [user for _, user, _ in delta.users] == ["a"]
    heads = {key[1:] for key, _ in delta.items if key[:1] == b"h"}
    assert heads == {(0).to_bytes(4, "big")}


def test_state_of_other_settings_is_refused() -> None:
    recommender, store = new(), Store()
    feed(recommender, traffic(30))
    store.commit(recommender)
    other = SETTINGS.popularity.model_copy(update={"half_lives": (100, 0)})
    with pytest.raises(ValueError, match="other settings"):
        store.into(new(SETTINGS.model_copy(update={"popularity": other})))


def test_what_may_not_be_shown_survives_a_restart() -> None:
    recommender, store = new(), Store()
    feed(recommender, clicks(("a", "x"), ("a", "y")))
    recommender.catalogue.retire("x")
    recommender.catalogue.retire("unknown")
    feed(recommender, clicks(("a", "z"), start=5))
    store.commit(recommender)
    assert store.into(new()).catalogue.unavailable == {"x", "unknown"}
