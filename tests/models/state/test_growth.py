"""A state that is made larger keeps what it knew, and its new rows know nothing."""

from __future__ import annotations

import numpy as np

from models.config import ModelSettings
from models.pipeline.candidates import Reranked
from models.pipeline.recommender import Recommender
from models.state import growth
from models.state.catalogue import Catalogue
from tests.batches import Event, feed


def test_what_was_learned_stays_and_new_rows_are_empty() -> None:
    recommender = Recommender(ModelSettings())
    feed(recommender, [Event(f"u{n % 5}", f"i{n % 17}", ts=n, offset=n, event_id=n + 1) for n in range(200)])
    old = recommender._state
    slots = len(old.items.number)
    items = type(old.items)(*(np.concatenate([c, np.zeros_like(c)]) for c in old.items))
    new = growth.fitted(old, items)
    assert new.items is items
    for name, before, after in (
        ("popularity", old.popularity.mass, new.popularity.mass),
        ("row sums", old.covisit.row_sum, new.covisit.row_sum),
        ("input vectors", old.amf.x, new.amf.x),
        ("output vectors", old.amf.y, new.amf.y),
        ("explicit factors", old.mf, new.mf),
    ):
        assert np.array_equal(after[:slots], before), name
        assert len(after) == 2 * slots
        assert not after[slots:].any(), name
    assert (new.covisit.size_class[slots:] == -1).all()
    assert (new.covisit.stale[slots:] == 1).all()


def test_new_slots_have_no_row_of_the_snapshot() -> None:
    old = Reranked(
        True, np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.array([2, -1, 1], np.int32)
    )
    assert growth.with_slots(old, 5).row_of.tolist() == [2, -1, 1, -1, -1]


def test_a_catalogue_that_outgrows_its_columns_takes_the_state_along() -> None:
    recommender = Recommender(ModelSettings())
    room = len(Catalogue(ModelSettings().max_items).columns.number)
    events = [Event("u", f"i{n}", ts=n, offset=n, event_id=n + 1) for n in range(room + 50)]
    feed(recommender, events[:room], lists=False)
    before = recommender._state.amf.x[:room].copy()
    feed(recommender, events[room:], lists=False)
    assert len(recommender._state.amf.x) == len(recommender.catalogue.columns.number) > room
    assert recommender._state.amf.x.shape[1] == before.shape[1]
    assert recommender.metrics()["items"] == room + 50
