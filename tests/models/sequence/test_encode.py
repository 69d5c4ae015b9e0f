"""A block in one pass gives what one event at a time gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import TransformerSettings
from models.sequence import encode as encode_module
from models.sequence.encode import Events, encode, encode_block, ragged
from models.sequence.transformer import CausalTransformer

SCALE = (1.0, 5.0)
BAND = 4


def small_model() -> CausalTransformer:
    torch.manual_seed(0)
    model = CausalTransformer(TransformerSettings(d_model=16, layers=2, heads=2), 30, 3, BAND).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def random_events(rng: np.random.Generator, n: int) -> Events:
    values = rng.integers(1, 6, n).astype(np.float32)
    values[rng.random(n) < 0.3] = np.nan
    return Events(
        rows=rng.integers(-1, 31, n).astype(np.int32),
        actions=rng.integers(0, 4, n).astype(np.int32),
        values=values,
        gaps=rng.integers(-1, 10**7, n),
    )


def last_vector(model: CausalTransformer, events: Events) -> np.ndarray:
    return encode(model, events, np.array([0, len(events)]), SCALE)[-1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 20), users=st.integers(1, 6))
def test_block_equals_one_event_at_a_time(seed: int, n: int, users: int) -> None:
    rng, model = np.random.default_rng(seed), small_model()
    held = rng.integers(0, 12, users)
    offsets = np.concatenate(([0], np.cumsum(held)))
    context, events = random_events(rng, int(offsets[-1])), random_events(rng, n)
    user = rng.integers(0, users, n)

    before, after = encode_block(model, user, events, context, offsets, SCALE)

    everything = encode_module.concatenate(context, events)
    history = [list(range(offsets[u], offsets[u + 1])) for u in range(users)]
    for i in range(n):
        mine = history[user[i]]
        expected = last_vector(model, everything.take(np.array(mine))) if mine else np.zeros(16)
        np.testing.assert_allclose(before[i], expected, atol=1e-5)
        mine.append(len(context) + i)
        np.testing.assert_allclose(after[i], last_vector(model, everything.take(np.array(mine))), atol=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, model = np.random.default_rng(1), small_model()
    events, offsets = random_events(rng, 120), np.array([0, 3, 3, 90, 120])
    whole = encode(model, events, offsets, SCALE)
    monkeypatch.setattr(encode_module, "CHUNK", 7)
    np.testing.assert_allclose(encode(model, events, offsets, SCALE), whole, atol=1e-5)


def test_users_do_not_see_each_other() -> None:
    rng, model = np.random.default_rng(2), small_model()
    events = random_events(rng, 20)
    together = encode(model, events, np.array([0, 8, 20]), SCALE)
    alone = encode(model, events.take(np.arange(8, 20)), np.array([0, 12]), SCALE)
    np.testing.assert_allclose(together[8:], alone, atol=1e-5)


def test_user_without_events_has_the_zero_vector_before_the_first() -> None:
    model = small_model()
    empty = random_events(np.random.default_rng(0), 0)
    before, after = encode_block(
        model, np.array([0]), random_events(np.random.default_rng(0), 1), empty, np.array([0, 0]), SCALE
    )
    assert not before.any()
    assert after.any()


def test_empty_block() -> None:
    none = random_events(np.random.default_rng(0), 0)
    before, after = encode_block(small_model(), np.zeros(0, np.int64), none, none, np.array([0]), SCALE)
    assert before.shape == after.shape == (0, 16)


def test_ragged_skips_empty_runs() -> None:
    assert ragged(np.array([7, 9, 1]), np.array([1, 0, 2])).tolist() == [7, 1, 2]
