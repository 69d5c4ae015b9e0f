"""One event at a time gives what the whole sequence gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import TransformerSettings
from models.sequence.encode import Events, concatenate, encode
from models.sequence.incremental import IncrementalEncoder
from models.sequence.transformer import PERIOD, CausalTransformer

SCALE = (1.0, 5.0)


def make(layers: int = 2, band: int = 5, capacity: int = 8) -> IncrementalEncoder:
    torch.manual_seed(0)
    model = CausalTransformer(TransformerSettings(d_model=16, layers=layers, heads=2), 30, 3, band).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return IncrementalEncoder(model, capacity, SCALE)


def random_events(rng: np.random.Generator, n: int) -> Events:
    return Events(
        rng.integers(-1, 31, n).astype(np.int32),
        rng.integers(0, 4, n).astype(np.int32),
        rng.integers(1, 6, n).astype(np.float32),
        rng.integers(-1, 10**7, n),
    )


def last(encoder: IncrementalEncoder, events: Events) -> np.ndarray:
    return encode(encoder.model, events, np.array([0, len(events)]), SCALE)[-1]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_advance_equals_the_full_encode(layers: int, seed: int) -> None:
    rng, encoder = np.random.default_rng(seed), make(layers)
    history = [random_events(rng, int(n)) for n in rng.integers(0, 25, 4)]
    slots = np.array([3, 900, 0, 5000])
    joined = history[0]
    for events in history[1:]:
        joined = concatenate(joined, events)
    offsets = np.concatenate(([0], np.cumsum([len(events) for events in history])))
    encoder.rebuild(slots, joined, offsets)
    for _ in range(23):
        chosen = np.flatnonzero(rng.random(4) < 0.7)
        new = random_events(rng, len(chosen))
        known = encoder.vector(slots[chosen])
        before, vectors = encoder.advance(slots[chosen], new)
        np.testing.assert_array_equal(before, known)
        for row, user in enumerate(chosen):
            history[user] = concatenate(history[user], new.take(np.array([row])))
            np.testing.assert_allclose(vectors[row], last(encoder, history[user]), atol=1e-5)
    for user, slot in enumerate(slots):
        np.testing.assert_allclose(
            encoder.vector(np.array([slot]))[0], last(encoder, history[user]), atol=1e-5
        )


def test_a_user_may_come_several_times_in_one_call() -> None:
    rng, encoder, one_by_one = np.random.default_rng(1), make(), make()
    slots, events = np.array([4, 9, 4, 4, 9]), random_events(rng, 5)
    for each in (encoder, one_by_one):
        each.rebuild(np.array([4, 9]), events.take(np.arange(3)), np.array([0, 1, 3]))
    before, after = encoder.advance(slots, events)
    for at in range(5):
        expected = one_by_one.advance(slots[at : at + 1], events.take(np.array([at])))
        np.testing.assert_allclose(before[at], expected[0][0], atol=1e-5)
        np.testing.assert_allclose(after[at], expected[1][0], atol=1e-5)


def test_rebuild_from_the_stored_tail_is_enough() -> None:
    rng, encoder = np.random.default_rng(0), make()
    events, new = random_events(rng, 60), random_events(rng, 1)
    tail = events.take(np.arange(60 - encoder.model.reach, 60))
    encoder.rebuild(np.array([1]), tail, np.array([0, len(tail)]))
    vector = encoder.advance(np.array([1]), new)[1][0]
    np.testing.assert_allclose(vector, last(encoder, concatenate(events, new)), atol=1e-5)


def test_positions_beyond_the_period() -> None:
    rng, encoder = np.random.default_rng(0), make()
    events = random_events(rng, PERIOD + 10)
    encoder.rebuild(np.array([0]), events.take(np.arange(PERIOD - 3)), np.array([0, PERIOD - 3]))
    for at in range(PERIOD - 3, PERIOD + 10):
        vector = encoder.advance(np.array([0]), events.take(np.array([at])))[1][0]
    np.testing.assert_allclose(vector, last(encoder, events), atol=1e-5)


def test_user_without_events_starts_at_zero() -> None:
    rng, encoder = np.random.default_rng(0), make()
    encoder.rebuild(np.array([7]), random_events(rng, 0), np.array([0, 0]))
    assert not encoder.vector(np.array([7])).any()
    event = random_events(rng, 1)
    np.testing.assert_allclose(encoder.advance(np.array([7]), event)[1][0], last(encoder, event), atol=1e-5)


def test_least_recently_used_is_forgotten() -> None:
    rng, encoder = np.random.default_rng(0), make(capacity=3)
    for slot in (10, 11, 12):
        encoder.rebuild(np.array([slot]), random_events(rng, 2), np.array([0, 2]))
    encoder.advance(np.array([10]), random_events(rng, 1))
    encoder.rebuild(np.array([13]), random_events(rng, 2), np.array([0, 2]))
    assert encoder.has(np.array([10, 11, 12, 13])).tolist() == [True, False, True, True]


def test_a_full_cache_forgets_a_sixteenth_at_once() -> None:
    rng, encoder = np.random.default_rng(0), make(capacity=48)
    for slot in range(48):
        encoder.rebuild(np.array([slot]), random_events(rng, 1), np.array([0, 1]))
    encoder.advance(np.array([1]), random_events(rng, 1))
    encoder.rebuild(np.array([100]), random_events(rng, 1), np.array([0, 1]))
    assert np.flatnonzero(~encoder.has(np.arange(48))).tolist() == [0, 2, 3]
    encoder.invalidate(np.array([7, 7]))
    encoder.rebuild(np.arange(101, 104), random_events(rng, 3), np.arange(4))  # two were free, and that of 7
    assert encoder.has(np.arange(48)).sum() == 44
    assert encoder.has(np.arange(100, 104)).all()


def test_users_of_one_call_do_not_evict_each_other() -> None:
    rng, encoder = np.random.default_rng(0), make(capacity=3)
    encoder.rebuild(np.arange(3), random_events(rng, 3), np.arange(4))
    encoder.rebuild(np.array([2, 5, 6]), random_events(rng, 3), np.arange(4))
    assert encoder.has(np.array([0, 1, 2, 5, 6])).tolist() == [False, False, True, True, True]


def test_invalidated_user_must_be_rebuilt() -> None:
    rng, encoder = np.random.default_rng(0), make()
    encoder.rebuild(np.arange(2), random_events(rng, 2), np.arange(3))
    encoder.invalidate(np.array([1, 400]))
    assert encoder.has(np.arange(2)).tolist() == [True, False]
    with pytest.raises(KeyError, match="rebuild them first"):
        encoder.advance(np.arange(2), random_events(rng, 2))


def test_more_users_than_places_are_refused() -> None:
    encoder = make(capacity=2)
    with pytest.raises(ValueError, match="3 users do not fit into an encoder for 2"):
        encoder.rebuild(np.arange(3), random_events(np.random.default_rng(0), 3), np.arange(4))
