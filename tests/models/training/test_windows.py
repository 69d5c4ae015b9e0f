"""What is trained on: every event equally often, new ones more, each after its own context."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.event_log import EventLog, Sequences
from models.training.windows import batches, cut, plan


def sequences(lengths: list[int], dislikes: int = 0) -> Sequences:
    """Users with so many events, one user after the other; the first `dislikes` events have no weight."""
    n = sum(lengths)
    log = EventLog(max(n, 1))
    users = [f"u{u}" for u, length in enumerate(lengths) for _ in range(length)]
    weights = np.ones(n, np.float32)
    weights[:dislikes] = -1.0
    log.append(users, [str(i) for i in range(n)], ["x"] * n, weights, weights, np.arange(n), {})
    return log.sequences()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_cut_covers_every_event_but_the_first_once() -> None:
    s = sequences([1, 2, 7, 50, 3])
    windows = cut(s, s.starts[:-1], window=8, context=4, rng=rng())
    covered = np.concatenate([np.arange(a, b) for a, b in zip(windows.start, windows.stop, strict=True)])
    assert sorted(covered) == sorted(set(range(len(s))) - set(s.starts[:-1].tolist()))
    assert windows.targets.max() <= 8


def test_borders_move_between_cuts() -> None:
    s, generator = sequences([100]), rng()
    borders = {tuple(cut(s, s.starts[:-1], 8, 4, generator).start) for _ in range(10)}
    assert len(borders) > 3


def test_new_events_get_their_share() -> None:
    s = sequences([100, 100, 100])
    windows = plan(s, new_from=250, tokens=6000, replay_share=0.5, window=20, context=10, rng=rng())
    count = np.zeros(len(s))
    for a, b in zip(windows.start, windows.stop, strict=True):
        count[a:b] += 1
    assert abs(count.sum() - 6000) < 100
    replayed = 3000 / 297
    assert count[1:100].mean() == pytest.approx(replayed, rel=0.1)
    assert count[250:].mean() == pytest.approx(replayed + 3000 / 50, rel=0.1)


def test_without_new_events_all_is_replay() -> None:
    s = sequences([100])
    windows = plan(s, new_from=100, tokens=500, replay_share=0.5, window=20, context=10, rng=rng())
    assert abs(int(windows.targets.sum()) - 500) < 30


def test_nothing_to_predict() -> None:
    for lengths in ([], [1, 1, 1]):
        s = sequences(lengths)
        windows = plan(s, 0, 500, 0.5, 20, 10, rng())
        assert len(windows) == 0
        assert list(batches(s, windows, 100)) == []


def test_batches_predict_the_next_event_of_the_same_user() -> None:
    s = sequences([30, 40, 2])
    windows = plan(s, 50, 900, 0.5, 9, 5, rng())
    seen = 0
    for batch in batches(s, windows, 64):
        np.testing.assert_array_equal(batch.events[batch.sources] + 1, batch.targets)
        owner = np.searchsorted(s.starts, batch.events, side="right")
        np.testing.assert_array_equal(
            owner[batch.sources], np.searchsorted(s.starts, batch.targets, side="right")
        )
        for segment in np.unique(batch.segments):
            run = batch.events[batch.segments == segment]
            np.testing.assert_array_equal(run, np.arange(run[0], run[0] + len(run)))
        assert len(batch.targets) <= 64 + 9
        seen += len(batch.targets)
    assert seen == windows.targets.sum()


def test_disliked_events_are_read_but_never_predicted() -> None:
    s = sequences([40], dislikes=20)
    windows = plan(s, 40, 200, 0.5, 10, 5, rng())
    read, predicted = set(), set()
    for batch in batches(s, windows, 30):
        read |= set(batch.events.tolist())
        predicted |= set(batch.targets.tolist())
        assert batch.weights.sum() == pytest.approx(len(batch.targets), rel=1e-5)
    assert predicted == set(range(20, 40))
    assert read & set(range(20))
