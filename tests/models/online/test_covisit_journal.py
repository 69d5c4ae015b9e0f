"""A commit that writes what was learned instead of every changed row, and what a restart makes of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from models.config import CovisitSettings, ModelSettings
from models.online import covisit_rows
from models.online.covisit_journal import KIND, TURNS, new_words
from models.pipeline.recommender import Recommender
from tests.batches import WEIGHTS, Event, Store, feed, traffic

SHEDDING = ModelSettings(covisit=CovisitSettings(max_neighbours=24))


def new(settings: ModelSettings = SHEDDING) -> Recommender:
    return Recommender(settings, weights=WEIGHTS, seed=3)


def rows(recommender: Recommender) -> dict[str, bytes]:
    """Every item's co-visitation row, bytes for bytes."""
    found = {}
    for item, number in recommender.catalogue.numbers.items():
        keys, weight = covisit_rows.row(
            recommender._state.covisit, int(recommender.catalogue.slot_of[number])
        )
        found[item] = keys.tobytes() + weight.tobytes()
    return found


def segments(store: Store) -> int:
    return sum(key.startswith(KIND) for key in store.items)


def pieces(events: list[Event], size: int) -> list[list[Event]]:
    return [events[at : at + size] for at in range(0, len(events), size)]


def test_what_a_restart_loads_is_what_was_there_after_every_single_commit() -> None:
    recommender, store = new(), Store()
    most = 0
    for some in pieces(traffic(700, items=60), 14):
        feed(recommender, some, lists=False)
        store.commit(recommender, whole=False)
        most = max(most, segments(store))
        assert rows(store.into(new())) == rows(recommender)
    assert most == TURNS - 1
    assert np.count_nonzero(recommender._state.covisit.learned) > 500


def test_a_worker_that_restarts_again_and_again_ends_with_the_state_of_an_undisturbed_one() -> None:
    undisturbed, store, plain = new(), Store(), Store()
    for at, some in enumerate(pieces(traffic(900, items=60), 30)):
        feed(undisturbed, some, store=plain)
        plain.commit(undisturbed)
        restarted = store.into(new())
        feed(restarted, some, store=store)
        store.commit(restarted, whole=at == 29)
    assert segments(store) == 0
    assert store.items == plain.items
    assert store.meta == plain.meta


def test_a_whole_commit_leaves_nothing_of_the_journal() -> None:
    recommender, store = new(), Store()
    for some in pieces(traffic(200, items=60), 20):
        feed(recommender, some, lists=False)
        store.commit(recommender, whole=False)
    assert recommender.owes_rows
    assert segments(store)
    store.commit(recommender)
    assert not recommender.owes_rows
    assert not segments(store)
    assert store.commit(recommender) == 0


def test_it_weighs_less_than_the_rows() -> None:
    written = []
    for whole in (True, False):
        recommender, store, size = new(ModelSettings()), Store(), 0
        for some in pieces(traffic(3000, items=400), 100):
            feed(recommender, some, lists=False)
            size += sum(
                len(row or b"")
                for key, row in recommender.take_dirty(whole=whole).items
                if key[:1] in {b"c", KIND}
            )
            store.commit(recommender, whole=whole)
        written.append(size)
    assert written[1] < written[0] / 3


def test_small_rows_are_written_instead() -> None:
    recommender, store = new(), Store()
    feed(recommender, traffic(40, items=3), lists=False)
    store.commit(recommender, whole=False)
    assert not segments(store)
    assert rows(store.into(new())) == rows(recommender)


def test_more_than_a_segment_holds_is_written_as_rows() -> None:
    recommender, store = new(), Store()
    recommender._persistence.journal.words = new_words(40)
    recommender._state = recommender._state._replace(journal=recommender._persistence.journal.words)
    feed(recommender, traffic(300, items=60), lists=False)
    store.commit(recommender, whole=False)
    assert not segments(store)
    assert rows(store.into(new())) == rows(recommender)
    feed(recommender, [Event("u1", "i1", ts=10**7, offset=301, event_id=999)], lists=False)
    store.commit(recommender, whole=False)
    assert segments(store) == 1
    assert rows(store.into(new())) == rows(recommender)


def test_an_eviction_ends_the_journal() -> None:
    settings = SHEDDING.model_copy(update={"max_items": 64})
    recommender, store = new(settings), Store()
    for at, some in enumerate(pieces(traffic(600, items=90), 10)):
        feed(recommender, some, lists=False)
        store.commit(recommender, whole=False)
        if at % 7 == 0:
            assert rows(store.into(new(settings))) == rows(recommender)
    assert recommender.metrics()["items_evicted"] > 0
    assert rows(store.into(new(settings))) == rows(recommender)


def test_a_failed_write_is_tried_again_with_the_same() -> None:
    recommender = new()
    feed(recommender, traffic(300, items=60), lists=False)
    Store().commit(recommender)
    feed(recommender, traffic(20, items=60, seed=2), lists=False)
    first = copy.deepcopy(recommender.take_dirty(whole=False))
    assert any(key.startswith(KIND) for key, _ in first.items)
    assert recommender.take_dirty(whole=False) == first
    assert recommender.take_dirty() != first


def test_a_missing_segment_is_refused() -> None:
    recommender, store = new(), Store()
    for some in pieces(traffic(120, items=60), 20):
        feed(recommender, some, lists=False)
        store.commit(recommender, whole=False)
    keys = sorted(key for key in store.items if key.startswith(KIND))
    assert len(keys) > 2
    del store.items[keys[1]]
    with pytest.raises(ValueError, match="a segment is missing"):
        store.into(new())


def test_the_ids_of_items_are_written_once() -> None:
    recommender, store = new(), Store()
    feed(recommender, traffic(300, items=10), lists=False)
    names = [key for key, _ in recommender.take_dirty().items if key.startswith(b"i")]
    assert len(names) == len(recommender.catalogue)
    store.commit(recommender)
    feed(recommender, traffic(100, items=10, seed=5), lists=False)
    assert not [key for key, _ in recommender.take_dirty().items if key.startswith(b"i")]
