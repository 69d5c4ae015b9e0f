"""Whether a candidate may go live: a paired bootstrap over the users whose events both were scored on.

In: NDCG of candidate and live model for the same events, and whose events they are. Out: a decision with its figures.
Never moves a pointer.

As in `models.metrics.significance` the user is the unit, because the events of one user are not independent: users are
resampled with all their events (cluster bootstrap: Efron and Tibshirani 1993, ch. 8 and 16). The bound is the tenth
percentile of the resampled mean differences, so that the true difference lies above it with 90 % confidence. Of fewer
than `MIN_USERS` users nothing can be said about others; their events are resampled, and the bound is about them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.base import F64, I64
from models.metrics.significance import resampled

RESAMPLES = 2000
CONFIDENCE = 0.9
MIN_USERS = 10


@dataclass(frozen=True, slots=True)
class Decision:
    """Candidate minus live: the mean difference and its lower bound, over `n` events of so many users."""

    go: bool
    lower: float
    mean: float
    n: int
    users: int


def decide(candidate: F64, live: F64, users: I64, *, margin: float = 0.001, seed: int = 0) -> Decision:
    """Go when the lower bound of the mean difference is at least -`margin`; without events there is no go.

    Args:
        candidate, live: NDCG@10 of each event, float [n].
        users: a number for each event's user, int [n].
        margin: how much worse the candidate may be.
        seed: of the resamples.

    Raises:
        ValueError: the two were not scored on the same events, or a score is not finite.
    """
    if not candidate.shape == live.shape == users.shape or candidate.ndim != 1:
        raise ValueError(
            f"scores of the same events are compared; got {candidate.shape} and {live.shape} of {users.shape}"
        )
    difference = candidate.astype(np.float64) - live.astype(np.float64)
    n = len(difference)
    if not np.isfinite(difference).all():
        raise ValueError("a score is not a finite number")
    if n == 0:
        return Decision(go=False, lower=float("nan"), mean=float("nan"), n=0, users=0)
    n_users = len(np.unique(users))
    units = np.unique(users if n_users >= MIN_USERS else np.arange(n), return_inverse=True)[1]
    counts, sums = (np.bincount(units, w).astype(np.float64) for w in (None, difference))
    means = resampled(sums[:, None], counts, seed, RESAMPLES)
    lower = float(np.quantile(means, 1 - CONFIDENCE))
    return Decision(go=lower >= -margin, lower=lower, mean=float(difference.mean()), n=n, users=n_users)
