"""Asymmetric MF taught beside the event loop: the same factors as within it, bit for bit."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.config import BlendSettings, ModelSettings
from models.pipeline.recommender import Recommender
from tests.batches import Event, feed

NO_BLEND = ModelSettings(blend=BlendSettings(lr=0.0))


def events_of(n: int) -> list[Event]:
    """Items appear one after another, so that what can be drawn as a negative changes within a batch."""
    rng = random.Random(4)
    events = []
    for offset in range(n):
        again = offset > 0 and rng.random() < 0.05
        weight = rng.choice([1.0, 1.0, 0.5, -0.5, 0.0])
        event = Event(
            user=f"u{rng.randrange(12)}", item=f"i{rng.randrange(2 + offset // 8)}", ts=offset, offset=offset,
            weight=weight, event_id=offset + 1,
        )  # fmt: skip
        events.append(events[-1] if again else event)
    return events


@pytest.mark.parametrize("cut", [1, 7, 400])
def test_learns_what_the_event_loop_would_have_learned(cut: int) -> None:
    events = events_of(400)
    beside, within = Recommender(NO_BLEND, seed=3), Recommender(NO_BLEND, seed=3)
    for at in range(0, len(events), cut):
        feed(beside, events[at : at + cut], lists=False)
        feed(within, events[at : at + cut], lists=True)
    for name, one, other in zip(beside._state.amf._fields, beside._state.amf, within._state.amf, strict=True):
        assert np.array_equal(one, other), name
    assert np.any(beside._state.amf.y != 0.0)


def test_what_it_changed_is_written() -> None:
    beside, within = Recommender(NO_BLEND, seed=3), Recommender(NO_BLEND, seed=3)
    feed(beside, events_of(300), lists=False)
    feed(within, events_of(300), lists=True)
    outputs = [
        {name: data for name, data in one.take_dirty().items if name.startswith(b"y")}
        for one in (beside, within)
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 20


def test_lists_after_it_know_what_it_learned() -> None:
    beside, within = Recommender(NO_BLEND, seed=3), Recommender(NO_BLEND, seed=3)
    feed(beside, events_of(300), lists=False)
    feed(within, events_of(300), lists=True)
    slots = np.arange(12, dtype=np.int32)
    assert np.array_equal(beside.refresh(slots).items, within.refresh(slots).items)
