"""The compiled way of simple batches: which batches are simple, and buckets as the vectorised code has them.

That it gives the vectors of the other ways is tested in `test_user_vectors.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.kernels import kernel
from models.sequence import follow
from models.sequence.follow import Cached, Known, survey
from models.sequence.transformer import gap_buckets, value_buckets

MOST = 3


@kernel
def gaps_of(gaps: Any, out: Any) -> None:
    for i in range(len(gaps)):
        out[i] = follow.gap_bucket(gaps[i])


@kernel
def values_of(values: Any, low: Any, high: Any, out: Any) -> None:
    for i in range(len(values)):
        out[i] = follow.value_bucket(values[i], low, high)


def world() -> tuple[Known, Cached]:
    """Four users in the cache; the newest event of each is at 100, but user 3 has none."""
    times = np.zeros((4, 5), np.int64)
    times[:3, 1] = 100
    known = Known(
        np.array([7, 8, 9, 1 << 63], np.uint64),
        np.array([2, 2, 2, 0]),
        np.array([2, 2, 2, 0], np.int32),
        times,
    )
    newest = np.array([100, 100, 100, -1])
    stamps = np.stack((known.hashes.view(np.int64), known.events, newest), 1)
    return known, Cached(stamps, np.array([3, 2, 1, 0]))


def surveyed(
    known: Known, cached: Cached, slots: list[int], ts: list[int]
) -> tuple[list[int] | None, Any, Any]:
    """Who is missing, None for a batch that can't be followed; the rows of firsts and their users' newest times."""
    n = len(slots)
    first, newest, missing = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int32)
    row = np.arange(10, dtype=np.int32)[::-1].copy()  # whatever an earlier batch left there
    absent = survey(known, cached, row, np.array(slots, np.int32), np.array(ts), MOST, first, newest, missing)
    return None if absent < 0 else missing[:absent].tolist(), first, newest


def test_a_batch_of_cached_users_in_order_is_simple() -> None:
    missing, first, newest = surveyed(*world(), [2, 0, 2, 3], [100, 150, 101, 5])
    assert missing == []
    assert first.tolist() == [0, 1, 0, 3]
    assert newest[[0, 1, 3]].tolist() == [100, 100, -1]


@pytest.mark.parametrize(
    ("slots", "ts"),
    [([0], [99]), ([0, 1, 0], [200, 100, 199]), ([1] * (MOST + 1), [100] * (MOST + 1))],
    ids=["older than what is stored", "older than one before", "too many of one user"],
)
def test_a_batch_out_of_order_or_too_full_is_not(slots: list[int], ts: list[int]) -> None:
    assert surveyed(*world(), slots, ts)[0] is None


@pytest.mark.parametrize("change", ["hash", "events", "newest", "place", "unknown"])
def test_a_user_whom_the_cache_has_otherwise_is_missing(change: str) -> None:
    known, cached = world()
    if change == "hash":
        known.hashes[1] = 5
    elif change == "events":
        known.events[1] += 1
    elif change == "newest":
        known.times[1, 1] = 101
    elif change == "place":
        cached.place[1] = -1
    else:
        cached = Cached(cached.stamps[:1], cached.place)
    missing, first, _ = surveyed(known, cached, [1, 0, 1], [200, 200, 201])
    assert missing == [1]
    assert first.tolist() == [0, 1, 0]
    assert surveyed(known, cached, [0], [200])[0] == []


def test_gaps_fall_into_the_same_buckets() -> None:
    rng = np.random.default_rng(0)
    gaps = np.concatenate(
        ([-1, 0, 999, 1000, 1999, 2000, 10**15], (10 ** rng.uniform(0, 13, 500)).astype(np.int64))
    )
    out = np.zeros(len(gaps), np.int64)
    gaps_of(gaps, out)
    np.testing.assert_array_equal(out, gap_buckets(gaps))


@pytest.mark.parametrize(("low", "high"), [(1.0, 5.0), (0.0, 100.0), (3.0, 3.0)])
def test_values_fall_into_the_same_buckets(low: float, high: float) -> None:
    values = np.concatenate(([np.nan], np.linspace(low - 1, high + 1, 301))).astype(np.float32)
    out = np.zeros(len(values), np.int64)
    values_of(values, low, high, out)
    np.testing.assert_array_equal(out, value_buckets(values, low, high))
