"""Small worlds with a known right answer, on which every model of the family is tried."""

from __future__ import annotations

import numpy as np

from models.base import I32
from models.family.contract import Content, Interactions, Queries
from models.family.histories import Histories

LENGTH = 20


def interactions(user: list[int], item: list[int], value: list[float] | None = None) -> Interactions:
    """Events a minute apart."""
    n = len(user)
    return Interactions(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.full(n, np.nan, np.float32) if value is None else np.array(value, np.float32),
        np.arange(n, dtype=np.int64) * 60_000,
    )


def checkerboard(users: int = 40, items: int = 20, each: int = 8, seed: int = 0) -> Interactions:
    """Even users take even items, odd users odd ones (`each` of them, in random order): two tastes and no overlap."""
    rng = np.random.default_rng(seed)
    rows = [
        (u, int(i))
        for u in range(users)
        for i in rng.permutation(np.arange(u % 2, items, 2))[: min(each, items // 2)]
    ]
    order = rng.permutation(len(rows))
    user = [rows[at][0] for at in order]
    return interactions(user, [rows[at][1] for at in order], [5.0] * len(user))


def ring(users: int = 60, items: int = 12, each: int = 8, seed: int = 0) -> Interactions:
    """Whoever takes item i takes item i + 1 next (modulo `items`); users start anywhere: order is all there is."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, items, users)
    pairs = [(u, int((starts[u] + step) % items)) for step in range(each) for u in range(users)]
    return interactions([u for u, _ in pairs], [i for _, i in pairs])


def halves(items: int = 20) -> Content:
    """Content that tells even from odd items, in words and in a vector."""
    tokens = [["drama", "slow"] if i % 2 == 0 else ["comedy", "fast"] for i in range(items)]
    vectors = np.array([[1.0, 0.0] if i % 2 == 0 else [0.0, 1.0] for i in range(items)], np.float32)
    return Content(tokens, vectors)


def asked(events: Interactions, users: I32 | list[int], length: int = LENGTH) -> Queries:
    """These users as they stand after the events."""
    histories = Histories(length)
    histories.add(events)
    return histories.queries(np.asarray(users, np.int32))
