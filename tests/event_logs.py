"""A trainer's event log out of two functions: who does what at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from models.training.event_log import EventLog


def log_of(
    n: int,
    user: Callable[[int], str],
    item: Callable[[int], str],
    *,
    value: float = np.nan,
    gap_ms: int = 1000,
    kind: str = "click",
    offsets: Mapping[str, int] | None = None,
) -> EventLog:
    """A log of `n` events, `gap_ms` apart; event i is user(i) taking item(i)."""
    log = EventLog(max(n, 1))
    log.append(
        [user(i) for i in range(n)],
        [item(i) for i in range(n)],
        [kind] * n,
        np.full(n, value, np.float32),
        np.ones(n, np.float32),
        gap_ms * np.arange(n),
        offsets or {},
    )
    return log
