"""Vectors for whole blocks of events, in one causal pass.

In: columns of new events of many users in log order, and the stored events that came before them. Out: each
user's vector before and after each new event, as if they had come one at a time. Never keeps anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from models.base import F32, I32, I64
from models.sequence.transformer import CausalTransformer, KeysValues, gap_buckets, value_buckets

CHUNK = 8192
"""Events encoded at a time: bounds the memory of a block."""

Sink = Callable[[int, list[KeysValues]], None]
Encoder = Callable[["Events", I64], F32]


@dataclass(frozen=True, slots=True)
class Events:
    """Events as the model reads them, one row each.

    Attributes:
        rows: item row of the model, int [n]; below 1 for an item it does not know.
        actions: action row of the model, int [n]; 0 for one it does not know.
        values: rating, float32 [n]; NaN where there is none.
        gaps: ms since the user's previous event, int64 [n]; below 0 where there is none.
    """

    rows: I32
    actions: I32
    values: F32
    gaps: I64

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: I64) -> Events:
        """The events at `index`."""
        return Events(self.rows[index], self.actions[index], self.values[index], self.gaps[index])

    def buckets(self, low: float, high: float) -> I64:
        """What the model embeds, int64 [4, n]; ratings are on the scale from `low` to `high`."""
        stacked: I64 = np.stack(
            (
                np.maximum(self.rows, 0).astype(np.int64),
                self.actions.astype(np.int64),
                value_buckets(self.values, low, high),
                gap_buckets(self.gaps),
            )
        )
        return stacked


def ragged(starts: I64, lengths: I64) -> I64:
    """The indices start, start + 1, … of each run, one run after the other.

    >>> ragged(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    index: I64 = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return index


def concatenate(first: Events, second: Events) -> Events:
    """The events of `first`, then those of `second`."""
    return Events(
        np.concatenate((first.rows, second.rows)),
        np.concatenate((first.actions, second.actions)),
        np.concatenate((first.values, second.values)),
        np.concatenate((first.gaps, second.gaps)),
    )


def encode(
    model: CausalTransformer,
    events: Events,
    offsets: I64,
    scale: tuple[float, float],
    sink: Sink | None = None,
) -> F32:
    """Vectors [n, d] after each event; user u's events are `offsets[u]` to `offsets[u + 1]`, oldest first.

    `sink` gets the keys and values of every event once, in runs: the index of the run's first event, and for
    each layer the rotated keys and the values of the run.
    """
    n, device = len(events), model.item.device
    vectors = np.zeros((n, model.config.d_model), np.float32)
    buckets = events.buckets(*scale)
    segments = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    positions = np.arange(n) - np.repeat(offsets[:-1], np.diff(offsets))
    with torch.inference_mode():
        for start in range(0, n, CHUNK):
            begin, stop = max(start - model.reach + 1, 0), min(start + CHUNK, n)
            part = slice(begin, stop)
            keep: list[KeysValues] | None = None if sink is None else []
            out = model(
                torch.from_numpy(buckets[:, part]).to(device),
                torch.from_numpy(segments[part]).to(device),
                torch.from_numpy(positions[part]).to(device),
                keep,
            )
            if sink is not None and keep is not None:
                sink(start, [(k[start - begin :], v[start - begin :]) for k, v in keep])
            vectors[start:stop] = out[start - begin :].cpu().numpy()
    return vectors


def encode_block(
    model: CausalTransformer,
    users: I64,
    events: Events,
    context: Events,
    offsets: I64,
    scale: tuple[float, float],
    encoder: Encoder | None = None,
) -> tuple[F32, F32]:
    """The vectors [n, d] of each event's user before and after it.

    Args:
        model: in eval mode.
        users: which user each new event belongs to, int [n], 0 to U - 1.
        events: the new events, in log order.
        context: the stored events of all users, user after user, oldest first.
        offsets: user u's stored events are `offsets[u]` to `offsets[u + 1]`, int64 [U + 1]; more than
            `model.reach` of them change nothing.
        scale: lowest and highest rating.
        encoder: encodes the users' joined sequences instead of `encode`, as one that keeps keys and values.

    A user without any earlier event has the zero vector.
    """
    n, d = len(events), model.config.d_model
    held = np.diff(offsets)
    used = np.minimum(held, model.reach)
    order = np.argsort(users, kind="stable")
    fresh = np.bincount(users, minlength=len(held))
    both = concatenate(context, events)
    ends = np.cumsum(used + fresh)
    starts = ends - used - fresh
    index = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
    index[ragged(starts, used)] = ragged(offsets[1:] - used, used)
    places = ragged(starts + used, fresh)
    index[places] = len(context) + order
    joined, borders = both.take(index), np.concatenate((np.zeros(1, np.int64), ends))
    vectors = encode(model, joined, borders, scale) if encoder is None else encoder(joined, borders)
    before, after = np.zeros((n, d), np.float32), np.empty((n, d), np.float32)
    after[order] = vectors[places]
    known = places > starts[users[order]]
    before[order[known]] = vectors[places[known] - 1]
    return before, after
