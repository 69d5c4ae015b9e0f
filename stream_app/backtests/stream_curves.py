"""How a run goes along its stream: hit rates, the single sources, the blend's weights, the cost of an event.

In: figures of one block after the other, and stages to be timed. Out: the curves of a report. Never scores
anything itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from models.base import F64, I32, I64
from models.metrics import lists as metrics
from models.metrics.lists import Progressive
from stream_app.backtests.report import Curves, Weights

MOST = 60
ROUND = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class StreamCurves:
    """Collects over a stream of `n` events with lists of `k`, in windows of a round number of events, at most 60.

    What is counted once a block belongs to the window in which the block begins, so blocks should end with windows.
    """

    def __init__(self, n: int, k: int) -> None:
        self.n, self.k = n, k
        self.window = next((size for size in ROUND if n <= MOST * size), 0) or _round_up(n)
        self.hr, self.ndcg = Progressive(self.window), Progressive(self.window)
        self.weights = Weights()
        self.stages_s: dict[str, float] = {}
        """Seconds spent on each stage."""
        self.at = 0
        """Event that is being worked on."""
        self._stages: dict[str, Progressive] = {}
        self._sources: dict[str, Progressive] = {}
        self._before: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str, since: int | None = None) -> Iterator[None]:
        """Counts the time of what is inside to `stage`, evenly over the events from `since` on."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.stages_s[stage] = self.stages_s.get(stage, 0.0) + seconds
            curve = self._stages.setdefault(stage, Progressive(self.window))
            windows = np.arange(
                (self.at if since is None else since) // self.window, self.at // self.window + 1
            )
            curve.add(windows * self.window, np.full(len(windows), seconds / len(windows)))

    def window_end(self, at: int) -> int:
        """The event after the last one of the window that `at` is in."""
        return (at // self.window + 1) * self.window

    def scored(self, position: I64, rank: I32) -> None:
        """Ranks of scored events at these positions of the stream."""
        self.hr.add(position, metrics.hits(rank, self.k))
        self.ndcg.add(position, metrics.ndcg(rank, self.k))

    def sources(self, scored: int, hits: Mapping[str, float]) -> None:
        """Hits of each single source since the beginning, `scored` events after the last call."""
        for name, total in hits.items():
            curve = self._sources.setdefault(name, Progressive(self.window))
            fresh = total - self._before.get(name, 0.0)
            curve.add(np.array([self.at]), np.array([fresh]), np.array([float(scored)]))
            self._before[name] = total

    def weighed(self, stop: int, weights: Mapping[str, float]) -> None:
        """The blend's weights after `stop` events."""
        self.weights.events.append(stop)
        for name, weight in weights.items():
            self.weights.sources.setdefault(name, []).append(float(weight))

    def curves(self) -> Curves:
        """Everything per window, all of one length."""
        ends = np.minimum(self.hr.positions(), self.n)
        return Curves(
            window=self.window,
            events=ends.tolist(),
            hr=_padded(self.hr.means(), len(ends)),
            ndcg=_padded(self.ndcg.means(), len(ends)),
            baselines_hr={name: _padded(curve.means(), len(ends)) for name, curve in self._sources.items()},
            cost_us={name: _cost(curve, ends) for name, curve in self._stages.items()},
        )


def _cost(curve: Progressive, ends: I64) -> list[float | None]:
    """Microseconds an event, from the seconds of each window; None where none were spent."""
    seconds = np.zeros(len(ends))
    spent = np.nan_to_num(curve.means() * curve.counts())
    seconds[: len(spent)] = spent[: len(ends)]
    seconds[seconds == 0.0] = np.nan
    return _padded(1e6 * seconds / np.diff(ends, prepend=0), len(ends))


def _padded(values: F64, length: int) -> list[float | None]:
    padded = np.r_[values, np.full(max(0, length - len(values)), np.nan)][:length]
    return [float(value) if math.isfinite(value) else None for value in padded]


def _round_up(n: int) -> int:
    return int(10 ** math.ceil(math.log10(n / MOST)))
