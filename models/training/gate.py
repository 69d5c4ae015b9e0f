"""Whether a candidate may go live: a paired bootstrap over the events that both were scored on.

In: NDCG of candidate and live model for the same events. Out: a decision with its figures. Never moves a
pointer.

Events are resampled with replacement (Efron and Tibshirani 1993, ch. 16); the bound is the tenth percentile
of the resampled mean differences, so that the true difference lies above it with 90 % confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.base import F64

RESAMPLES = 2000
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Decision:
    """Candidate minus live: the mean difference, its lower bound, the events it was measured on."""

    go: bool
    lower: float
    mean: float
    n: int


def decide(candidate: F64, live: F64, *, margin: float = 0.001, seed: int = 0) -> Decision:
    """Go when the lower bound of the mean difference is at least -`margin`; without events there is no go.

    Args:
        candidate, live: NDCG@10 of each event, float [n].
        margin: how much worse the candidate may be.
        seed: of the resamples.

    Raises:
        ValueError: the two were not scored on the same events, or a score is not finite.
    """
    if candidate.shape != live.shape or candidate.ndim != 1:
        raise ValueError(f"scores of the same events are compared; got {candidate.shape} and {live.shape}")
    difference = candidate.astype(np.float64) - live.astype(np.float64)
    n = len(difference)
    if not np.isfinite(difference).all():
        raise ValueError("a score is not a finite number")
    if n == 0:
        return Decision(go=False, lower=float("nan"), mean=float("nan"), n=0)
    rng = np.random.Generator(np.random.SFC64(seed))
    # The scores take few values, so a resample is a multinomial draw over the distinct differences.
    values, counts = np.unique(difference, return_counts=True)
    means = rng.multinomial(n, counts / n, size=RESAMPLES) @ values / n
    lower = float(np.quantile(means, 1 - CONFIDENCE))
    return Decision(go=lower >= -margin, lower=lower, mean=float(difference.mean()), n=n)
