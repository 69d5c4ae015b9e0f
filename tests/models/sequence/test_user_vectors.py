"""Vectors of a batch are those of the user table, whichever way they are computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.base import DUPLICATE, EventBatch
from models.config import ModelSettings, SequenceSettings, TransformerSettings
from models.sequence import user_vectors
from models.sequence.encode import encode
from models.sequence.stored_events import RowsOf, Stored
from models.sequence.transformer import CausalTransformer, band_for
from models.sequence.user_vectors import Plan, UserVectors
from models.state.sequences import HISTORY, Histories
from models.state.users import UserTable

LENGTH = 8
SETTINGS = ModelSettings(sequence=SequenceSettings(length=LENGTH), max_cached_users=64)
SCALE = (1.0, 5.0)
ITEMS = 20
ROWS = RowsOf(np.arange(ITEMS, dtype=np.int32), np.arange(256, dtype=np.int32) % 4)


def small_model() -> CausalTransformer:
    torch.manual_seed(0)
    config = TransformerSettings(d_model=16, layers=2, heads=2)
    model = CausalTransformer(config, ITEMS, 3, band_for(LENGTH, 2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def histories(n: int) -> Histories:
    items, one, small = np.zeros((n, HISTORY), np.int32), np.zeros(n, np.int32), np.zeros(n, np.uint8)
    big = np.zeros(n, np.int64)
    return Histories(
        small.copy(), small.copy(), big.copy(), items.copy(), one.copy(), small.copy(), small.copy(), big.copy(),
        items.copy(), one.copy(), small.copy(), small.copy(), big.copy(),
    )  # fmt: skip


def table(n_users: int) -> UserTable:
    users = UserTable(SETTINGS)
    for user in range(n_users):
        users.admit(f"user-{user}", 0, None)
    return users


def batch_of(rng: np.random.Generator, n: int, n_users: int, clock: int, disorder: bool) -> EventBatch:
    ts = clock + np.sort(rng.integers(0, 100_000, n))
    if disorder:
        ts = ts - rng.integers(0, 2, n) * rng.integers(0, 300_000, n)
    return EventBatch(
        user=rng.integers(0, n_users, n).astype(np.int32),
        item=rng.integers(0, ITEMS, n).astype(np.int32),
        action=rng.integers(0, 5, n).astype(np.uint8),
        weight=np.ones(n, np.float32),
        value=np.where(rng.random(n) < 0.3, np.nan, rng.integers(1, 6, n)).astype(np.float32),
        ts=ts,
        event_id=rng.integers(0, 30, n).astype(np.uint64),
        key=np.zeros(n, np.uint64),
        offset=np.arange(n),
    )


def from_the_table(model: CausalTransformer, users: UserTable, slot: int) -> np.ndarray:
    held = Stored.take(users, np.array([slot]), np.array([LENGTH]))
    if not len(held.ts):
        return np.zeros(16, np.float32)
    return encode(model, held.events(ROWS), held.offsets, SCALE)[-1]


def check(seed: int, cached: int, batches: int, size: int, n_users: int, disorder: bool) -> None:
    """Run batches; after each, every vector must be what the table would have given at that moment."""
    rng, model = np.random.default_rng(seed), small_model()
    vectors = UserVectors(model, SCALE, cached)
    users, slow = table(n_users), table(n_users)
    weights = np.ones(256, np.float32)
    for number in range(batches):
        batch = batch_of(rng, size, n_users, 10**9 + number * 100_000, disorder)
        plan = Plan(vectors, users, batch, ROWS, None)
        out = histories(size)
        users.advance(batch, np.zeros(size, np.bool_), weights, np.zeros(256, np.uint8), out)
        accepted = out.status != DUPLICATE
        before, after = plan.finish(accepted)
        for i in range(size):
            user = int(batch.user[i])
            expected = from_the_table(model, slow, user)
            slow.advance(
                batch.slice(i, i + 1), np.zeros(1, np.bool_), weights, np.zeros(256, np.uint8), histories(1)
            )
            if accepted[i]:
                np.testing.assert_allclose(before[i], expected, atol=1e-5)
                np.testing.assert_allclose(after[i], from_the_table(model, slow, user), atol=1e-5)
            else:
                assert not before[i].any()
        now = vectors.current(users, np.arange(n_users), ROWS)
        for user in range(n_users):
            np.testing.assert_allclose(now[user], from_the_table(model, users, user), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cached", [0, 3, 6, 10])
@pytest.mark.parametrize("disorder", [False, True])
def test_vectors_are_those_of_the_table(seed: int, cached: int, disorder: bool) -> None:
    check(seed, cached, batches=3, size=12, n_users=6, disorder=disorder)


def test_one_user_with_many_events() -> None:
    check(1, cached=2, batches=2, size=40, n_users=1, disorder=False)


def test_cached_users_are_advanced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    vectors, users = UserVectors(model, SCALE, 10), table(4)
    rng, weights = np.random.default_rng(0), np.ones(256, np.float32)

    def run(number: int) -> None:
        batch = batch_of(rng, 4, 4, 10**9 + number * 100_000, disorder=False)
        batch.user[:], batch.event_id[:] = np.arange(4), 0
        plan = Plan(vectors, users, batch, ROWS, None)
        users.advance(batch, np.zeros(4, np.bool_), weights, np.zeros(256, np.uint8), histories(4))
        plan.finish(np.ones(4, np.bool_))

    run(0)
    monkeypatch.setattr(user_vectors, "encode_block", None)
    run(1)
    assert vectors.is_cached(users, np.arange(4)).all()


def test_missing_users_with_few_stored_events_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    vectors, users = UserVectors(model, SCALE, 4), table(8)
    rng, weights = np.random.default_rng(0), np.ones(256, np.float32)

    def run(number: int, slots: list[int]) -> None:
        batch = batch_of(rng, len(slots), 8, 10**9 + number * 100_000, disorder=False)
        batch.user[:], batch.event_id[:] = slots, 0
        plan = Plan(vectors, users, batch, ROWS, None)
        users.advance(
            batch, np.zeros(len(slots), np.bool_), weights, np.zeros(256, np.uint8), histories(len(slots))
        )
        after = plan.finish(np.ones(len(slots), np.bool_))[1]
        for row, slot in enumerate(slots):
            if slot not in slots[row + 1 :]:
                np.testing.assert_allclose(after[row], from_the_table(model, users, slot), atol=1e-5)

    with monkeypatch.context() as without:
        without.setattr(user_vectors, "encode_block", None)  # one pass would fail
        for number, slots in enumerate(([0, 1, 2], [0, 3, 3, 4], [5, 0, 6, 1], [0, 5, 6, 7])):
            run(number, slots)
        assert vectors.is_cached(users, np.array([0, 5, 6, 7])).all()
        without.setattr(user_vectors, "REPLAYED", 1)
        with pytest.raises(TypeError):
            run(4, [1, 2])
    run(5, [0, 1, 2, 3, 4])  # more than there is room for


def test_the_vectors_of_now_are_replayed_where_few_events_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    vectors, users = UserVectors(model, SCALE, 10), table(5)
    batch = batch_of(np.random.default_rng(0), 12, 4, 10**9, disorder=False)
    users.advance(
        batch, np.zeros(12, np.bool_), np.ones(256, np.float32), np.zeros(256, np.uint8), histories(12)
    )
    asked = np.array([3, 0, 4, 0])  # user 4 has no event
    with monkeypatch.context() as without:
        without.setattr(UserVectors, "encode", None)  # one pass would fail
        found = vectors.current(users, asked, ROWS)
        np.testing.assert_array_equal(vectors.current(users, asked, ROWS), found)
        without.setattr(user_vectors, "REPLAYED", 1)
        with pytest.raises(TypeError):
            vectors.current(users, np.array([1, 2]), ROWS)
    for row, slot in enumerate(asked.tolist()):
        expected = np.zeros(16) if slot == 4 else from_the_table(model, users, slot)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_users_changed_behind_the_cache_are_encoded_again() -> None:
    model = small_model()
    vectors, users = UserVectors(model, SCALE, 10), table(2)
    rng, weights, two = np.random.default_rng(0), np.ones(256, np.float32), np.arange(2)
    vectors.current(users, two, ROWS)
    assert vectors.is_cached(users, two).all()

    batch = batch_of(rng, 1, 1, 10**9, disorder=False)
    users.advance(batch, np.zeros(1, np.bool_), weights, np.zeros(256, np.uint8), histories(1))
    assert vectors.is_cached(users, two).tolist() == [False, True]

    users.erase(1)
    users.admit("someone else", 0, None)
    assert vectors.is_cached(users, two).tolist() == [False, False]


@pytest.mark.parametrize("cached", [0, 10])
def test_only_wanted_users_are_encoded(cached: int) -> None:
    model = small_model()
    vectors, others, users = UserVectors(model, SCALE, cached), UserVectors(model, SCALE, cached), table(3)
    rng, every = np.random.default_rng(0), np.ones(9, np.bool_)
    for number in range(3):
        batch = batch_of(rng, 9, 3, 10**9 + number * 100_000, disorder=False)
        batch.event_id[:] = 0
        wanted = batch.user == 1
        plan = Plan(vectors, users, batch, ROWS, wanted)
        everyone = Plan(others, users, batch, ROWS, None)
        users.advance(
            batch, np.zeros(9, np.bool_), np.ones(256, np.float32), np.zeros(256, np.uint8), histories(9)
        )
        (before, after), all_of_them = plan.finish(every), everyone.finish(every)
        np.testing.assert_allclose(before[wanted], all_of_them[0][wanted], atol=1e-5)
        np.testing.assert_allclose(after[wanted], all_of_them[1][wanted], atol=1e-5)
        assert wanted.any()
        assert not after[~wanted].any()
        assert vectors.is_cached(users, np.arange(3)).tolist() == [False, cached > 0, False]
