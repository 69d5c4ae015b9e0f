"""Which events are trained on: windows over the users' sequences, and batches of them.

In: a log's sequences, the number of the first new event, a number of tokens, a generator. Out: batches, each
a flat run of context and target events. Never trains.

A *target* is an event that the model learns to predict from the user's events before it. A window is a run of
targets of one user, at most `window` of them; one that is not full begins after up to `context` events that are
only read. New events are covered again and again until their share is spent; the replay covers every event held
equally often, without replacement. Window borders lie elsewhere in each pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.base import F32, I64
from models.sequence.encode import ragged
from models.training.event_log import Sequences


@dataclass(frozen=True, slots=True)
class Windows:
    """Runs of targets: events `start` to `stop` of the sorted sequences; reading begins at `context`."""

    context: I64
    start: I64
    stop: I64

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: I64 | slice) -> Windows:
        return Windows(self.context[index], self.start[index], self.stop[index])

    @property
    def targets(self) -> I64:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Batch:
    """One training step.

    Attributes:
        events: indices of the events read, window after window, int64 [n].
        segments: the window of each, int64 [n].
        sources: which of them a prediction is made after, index into `events`, int64 [m].
        targets: the event to be predicted, index into the sequences, int64 [m].
        weights: weight of each prediction, float32 [m]; their sum is m.
    """

    events: I64
    segments: I64
    sources: I64
    targets: I64
    weights: F32


def cut(sequences: Sequences, first: I64, window: int, context: int, rng: np.random.Generator) -> Windows:
    """All targets at or after `first[user]`, cut into windows at a random phase for each user.

    A user's first event is never a target: nothing comes before it.
    """
    starts, stops = sequences.starts[:-1], sequences.starts[1:]
    begin = np.maximum(first, starts + 1)
    length = np.maximum(stops - begin, 0)
    phase = np.where(length > window, rng.integers(0, window, len(starts)), 0)
    pieces = -(-(length + phase) // window)
    user = np.repeat(np.arange(len(starts)), pieces)
    nth = ragged(np.zeros(len(starts), np.int64), pieces)
    start = begin[user] + nth * window - phase[user]
    stop = np.minimum(start + window, stops[user])
    start = np.maximum(start, begin[user])
    read = np.minimum(context, window - (stop - start))
    return Windows(np.maximum(start - 1 - read, starts[user]), start, stop)


def plan(
    sequences: Sequences,
    new_from: int,
    tokens: int,
    replay_share: float,
    window: int,
    context: int,
    rng: np.random.Generator,
) -> Windows:
    """Windows of about `tokens` targets in random order, `replay_share` of them from all of the history."""
    everything = sequences.starts[:-1]
    is_new = np.flatnonzero(sequences.number >= new_from)
    newest = np.full(len(everything), len(sequences))
    owner = np.searchsorted(sequences.starts, is_new, side="right") - 1
    np.minimum.at(newest, owner, is_new)
    fresh = round(tokens * (1 - replay_share)) if len(is_new) else 0
    parts: list[Windows] = []
    for first, wanted in ((newest, fresh), (everything, tokens - fresh)):
        while wanted > 0:
            windows = cut(sequences, first, window, context, rng)
            windows = windows.take(rng.permutation(len(windows)))
            used = int(np.searchsorted(np.cumsum(windows.targets), wanted)) + 1
            if not len(windows):
                break
            parts.append(windows.take(np.arange(min(used, len(windows)))))
            wanted -= int(parts[-1].targets.sum())
    if not parts:
        empty = np.zeros(0, np.int64)
        return Windows(empty, empty, empty)
    together = Windows(
        np.concatenate([p.context for p in parts]),
        np.concatenate([p.start for p in parts]),
        np.concatenate([p.stop for p in parts]),
    )
    return together.take(rng.permutation(len(together)))


def grouped(windows: Windows, tokens: int) -> list[Windows]:
    """The windows, in their order, in groups of about `tokens` targets; only slices of their columns are made."""
    ends = np.cumsum(windows.targets)
    number = (ends - 1) // tokens
    borders = np.concatenate(([0], np.flatnonzero(np.diff(number)) + 1, [len(windows)]))
    return [windows.take(slice(a, b)) for a, b in pairwise(borders.tolist()) if a < b]


def batch_of(sequences: Sequences, windows: Windows) -> Batch | None:
    """A training step of these windows; None without an event of positive weight, as only such are predicted."""
    events_read = windows.stop - 1 - windows.context
    events = ragged(windows.context, events_read)
    targets = ragged(windows.start, windows.targets)
    sources = ragged(np.cumsum(events_read) - windows.targets, windows.targets)
    weight = np.maximum(sequences.weight[targets], 0)
    good = weight > 0
    if not good.any():
        return None
    weights = weight[good] * (good.sum() / weight[good].sum())
    return Batch(
        events=events,
        segments=np.repeat(np.arange(len(windows)), events_read),
        sources=sources[good],
        targets=targets[good],
        weights=weights.astype(np.float32),
    )


def batches(sequences: Sequences, windows: Windows, tokens: int) -> Iterator[Batch]:
    """The windows in training steps of about `tokens` targets."""
    for group in grouped(windows, tokens):
        batch = batch_of(sequences, group)
        if batch is not None:
            yield batch
