"""The prequential objective of a trial: the backtest of its settings, event by event, as a worker would serve them.

In: a data set and settings. Out: HR and NDCG over the scored events, at the length of a list (`models.policy.k`), and
what was reached so far along the stream. Never scores single sources: lists and figures are those of `headrace
backtest` without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from producers.columns import Dataset
from stream_app.backtests.backtest import Backtest
from stream_app.settings import Settings


class Step(NamedTuple):
    """How far a trial is.

    Attributes:
        done, total: events.
        gain: NDCG so far, summed over the scored events and divided by all events of the stream. It never falls,
            unlike the mean so far, which a lucky beginning lifts; pruners look at the best that a trial ever reported.
        hr, ndcg: mean so far; NaN before an event was scored.
    """

    done: int
    total: int
    gain: float
    hr: float
    ndcg: float


class Score(NamedTuple):
    """What a whole run reached: NDCG and HR over `scored` events, in `seconds`."""

    ndcg: float
    hr: float
    scored: int
    seconds: float


OnStep = Callable[[Step], None]
"""Called after each block; what it raises ends the run."""


@dataclass(frozen=True)
class Prequential:
    """The objective over a data set: call it with the settings of a trial.

    Args:
        limit: how many events, from the first; None for all.
        transformer: whether the Transformer is trained and re-ranks.
        seed: of everything that is random in a run; the same for all trials.
    """

    dataset: Dataset
    limit: int | None
    transformer: bool
    seed: int

    @property
    def events(self) -> int:
        """How many events a run has."""
        return len(self.dataset) if self.limit is None else min(self.limit, len(self.dataset))

    def __call__(self, settings: Settings, on_step: OnStep) -> Score:
        backtest = Backtest(
            self.dataset, settings, self.limit, self.transformer, self.seed, None, baselines=False
        )
        along = backtest.along

        def step(done: int, total: int, hr: float) -> None:
            ndcg, scored = along.ndcg.mean(), along.ndcg.counts().sum()
            on_step(Step(done, total, ndcg * scored / total if scored else 0.0, hr, ndcg))

        report = backtest.run(step)
        return Score(report.ndcg or 0.0, report.hr or 0.0, report.scored, report.seconds)
