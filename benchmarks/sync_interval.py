"""What a Transformer that lags behind costs: HR@10 by the events between two of its refreshes.

    python -m benchmarks.sync_interval DATA [--out DIR] [--limit N]

Frozen (trained once, after the longest interval), and refreshed every 100,000, 20,000 and 5,000 events, all with the
same budget of trained tokens an event and no warm-up. Only the events after the frozen one's training are scored. On a
stream of less than half a million events the intervals are scaled down as if it were a million: the figures say so.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import curve, record
from models.metrics import lists as metrics
from producers import datasets
from producers.columns import Dataset
from stream_app.backtests.backtest import Backtest
from stream_app.settings import load

INTERVALS = (100_000, 20_000, 5_000)
WHOLE, SCALED_BELOW = 1_000_000, 500_000


def intervals(events: int) -> tuple[int, ...]:
    """Events between two refreshes, the longest first; scaled down where the stream is short.

    >>> intervals(1_000_209), intervals(100_000)
    ((100000, 20000, 5000), (10000, 2000, 500))
    """
    if events >= SCALED_BELOW:
        return INTERVALS
    shortest = max(100, INTERVALS[-1] * events // WHOLE)
    return tuple(shortest * (every // INTERVALS[-1]) for every in INTERVALS)


class Synced:
    """A backtest whose Transformer is refreshed every so many events, or once; scored from event `cut` on."""

    def __init__(self, data: Dataset, limit: int | None, every: int, cut: int, frozen: bool) -> None:
        settings = load({"trainer.every_events": every, "trainer.warmup_events": 0})
        self.backtest = Backtest(data, settings, limit, True, 0, None)
        self.cut, self.frozen = cut, frozen
        self.before = 0.0

    def run(self) -> dict[str, Any]:
        """HR@10 of what was served and of the Transformer alone, after the cut."""
        report = self.backtest.run(self._after)
        done = self.backtest
        rank = done.rank[self.cut :][done.scored[self.cut :]]
        return {
            "scored": len(rank),
            "refreshes": len(report.refreshes),
            "trained_tokens": sum(refresh.tokens for refresh in report.refreshes),
            "hr@10": float(metrics.hits(rank, 10).mean()),
            "ndcg@10": float(metrics.ndcg(rank, 10).mean()),
            "transformer_alone_hr@10": (done.sources()["transformer"][0] - self.before) / len(rank),
            "seconds": round(report.seconds, 1),
        }

    def _after(self, at: int, _total: int, _hr: float) -> None:
        refresher = self.backtest.refresher
        assert refresher is not None
        if at == self.cut:  # a block ends where a refresh is due, and every interval divides the longest
            self.before = self.backtest.sources()["transformer"][0]
        if self.frozen and refresher.log:
            refresher.due = self.backtest.n + 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("run/sync_interval"))
    parser.add_argument("--limit", type=int)
    asked = parser.parse_args()
    taken_on, data = record.machine(), datasets.load(asked.data)
    events = min(asked.limit or len(data), len(data))
    every = intervals(events)
    cut = every[0]
    names = ["frozen", *(f"every {n:,}" for n in every)]
    points: list[dict[str, Any]] = []
    for name, interval in zip(names, (cut, *every), strict=True):
        points.append({"refreshed": name} | Synced(data, asked.limit, interval, cut, name == "frozen").run())
        print(points[-1], flush=True)
    command = f"python -m benchmarks.sync_interval {asked.data}" + f" --limit {asked.limit}" * bool(
        asked.limit
    )
    note = "" if every == INTERVALS else f" (intervals of a million events, scaled to {events:,})"
    figures = {
        "data_sha256": data.sha256,
        "events": events,
        "scored_from": cut,
        "scaled": bool(note),
        "points": points,
    }
    record.write(f"sync_interval_{asked.data}", command, figures, taken_on)
    curve.write(
        asked.out,
        "sync_interval",
        {"command": command, **figures},
        f"{asked.data}: what a Transformer that lags behind costs{note}",
        f"refreshes of the Transformer, in events; scored from event {cut:,} on",
        names,
        {
            "served": [point["hr@10"] for point in points],
            "the Transformer alone": [point["transformer_alone_hr@10"] for point in points],
        },
    )


if __name__ == "__main__":
    main()
