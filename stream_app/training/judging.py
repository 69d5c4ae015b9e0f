"""Whether a candidate may go live: it and the live snapshot rank the same candidates of the same events.

In: a candidate, a closed gate window, the version that is live. Out: a verdict with its figures and a reason
for people. Never moves a pointer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.sequence import snapshot
from models.training import gate
from stream_app.settings import Settings
from stream_app.training import ranker
from stream_app.training.gate_window import GateWindow

MIN_SCORED = 30
"""A bootstrap over fewer events says nothing: a candidate waits for them, at most until the next is due."""


class Cut(msgspec.Struct, kw_only=True, frozen=True):
    """A candidate: up to where it was trained, and on how much; its last loss, where the model has one to tell."""

    version: str
    at: int
    offsets: dict[str, int]
    created_ts: int
    new_events: int
    tokens: int
    steps: int
    loss: float | None
    sha256: str


class Verdict(msgspec.Struct, kw_only=True, frozen=True):
    """The gate's decision about a candidate, with its figures; NDCG@10 means over the scored events of `users`."""

    version: str
    go: bool
    reason: str
    against: str | None = None
    scored: int = 0
    users: int | None = None
    ndcg: float | None = None
    ndcg_live: float | None = None
    difference: float | None = None
    lower: float | None = None
    margin: float | None = None

    def figures(self) -> dict[str, Any]:
        """What a manifest tells of the decision: all but the version and what was not measured."""
        return {k: v for k, v in msgspec.to_builtins(self).items() if k != "version" and v is not None}


def judge(settings: Settings, cut: Cut, window: GateWindow, live: str | None) -> Verdict:
    """The verdict about `cut` against the version `live`.

    With nothing live, or nothing readable, there is nothing to be worse than: the candidate may go.
    """
    if live is None:
        return Verdict(version=cut.version, go=True, reason="the first snapshot: nothing was live")
    if live == cut.version:
        return Verdict(version=cut.version, go=True, reason="it is live already")

    def reranker(version: str) -> ranker.AnyReranker:
        return ranker.read(settings, settings.trainer.snapshots / version, None, "cpu")

    try:
        incumbent = reranker(live)
    except snapshot.SnapshotError as error:
        reason = f"the live one can't be read: {error}"
        return Verdict(version=cut.version, go=True, against=live, reason=reason)
    if window.scored < MIN_SCORED:
        reason = f"only {window.scored} events could be scored"
        return Verdict(version=cut.version, go=False, against=live, scored=window.scored, reason=reason)
    try:
        candidate = reranker(cut.version)
    except snapshot.SnapshotError as error:
        reason = f"it can't be read: {error}"
        return Verdict(version=cut.version, go=False, against=live, reason=reason)
    ours, theirs = window.ndcg(candidate), window.ndcg(incumbent)
    margin = settings.trainer.gate_margin
    decision = gate.decide(ours, theirs, window.scored_users(), margin=margin, seed=settings.seed + cut.at)
    return Verdict(
        version=cut.version,
        go=decision.go,
        reason="no worse than the live one" if decision.go else "may be worse than the live one",
        against=live,
        scored=decision.n,
        users=decision.users,
        ndcg=float(ours.mean()),
        ndcg_live=float(theirs.mean()),
        difference=decision.mean,
        lower=decision.lower,
        margin=margin,
    )
