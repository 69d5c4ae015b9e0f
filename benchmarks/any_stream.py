"""Do the default settings beat the best single source on any stream, unseen and untuned?

    python -m benchmarks.any_stream [without|with|both] [SEED] [STREAM,…]

Each stream of `benchmarks.streams` goes through the pipeline as served, everything empty at first, one event at a time,
so that each event's hit is known of the served list and of every single source's. Beside them: the source that was best
in hindsight, warm-up included, and the 95 % interval of the difference, by bootstrap over users.
"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np

from benchmarks import record, streams
from models.base import Bool, EventBatch, Lists, Outcome
from models.metrics import lists as metrics
from models.metrics.significance import intervals
from producers.columns import Dataset
from stream_app.backtests.backtest import Backtest
from stream_app.settings import load

PARTS = 4
"""The difference is also given for each quarter of the stream, so that a warm-up can be seen."""


class ByEvent:
    """A backtest, and of each event the hit of the served list (column 0) and of every source's."""

    def __init__(self, data: Dataset, transformer: bool, seed: int) -> None:
        self.backtest = Backtest(data, load(), streams.EVENTS, transformer, seed, None)
        self.backtest.process = self._one_by_one
        self.sources = list(self.backtest.sources())
        self.hits = np.zeros((self.backtest.n, 1 + len(self.sources)))
        self._before = np.zeros(len(self.sources))

    def run(self) -> dict[str, Any]:
        """The figures of the stream."""
        self.report = self.backtest.run(None)
        return self._figures()

    def _one_by_one(self, batch: EventBatch, wanted: Bool) -> Outcome:
        statuses, made = [], []
        for n in range(len(batch)):
            one = self.backtest.recommender.process(batch.slice(n, n + 1), wanted[n : n + 1], because=False)
            statuses.append(one.status)
            made.append(replace(one.lists, event=one.lists.event + n))
            so_far = np.array([hits for hits, _ in self.backtest.sources().values()])
            self.hits[batch.offset[n], 1:] = so_far - self._before
            self._before = so_far
        columns = (np.concatenate([getattr(lists, f.name) for lists in made]) for f in fields(Lists))
        return Outcome(np.concatenate(statuses), Lists(*columns))

    def _figures(self) -> dict[str, Any]:
        done, report = self.backtest, self.report
        scored = np.flatnonzero(done.scored)
        hits = self.hits[scored]
        hits[:, 0] = metrics.hits(done.rank[scored], 10)
        best = int(hits[:, 1:].sum(axis=0).argmax())
        difference = hits[:, 0] - hits[:, 1 + best]
        users, of_user = np.unique(done.dataset.user[scored], return_inverse=True)
        sums = np.bincount(of_user, difference, minlength=len(users))
        counts = np.bincount(of_user, minlength=len(users)).astype(np.float64)
        low, high = intervals(sums[:, None], counts)[0]
        rates = dict(zip(self.sources, hits[:, 1:].mean(axis=0), strict=True))
        quarter = scored * PARTS // done.n
        return {
            "events": report.events,
            "scored": report.scored,
            "users": len(users),
            "hr@10": _rounded(hits[:, 0].mean()),
            "ndcg@10": _rounded(report.ndcg),
            "best_source": self.sources[best],
            "best_source_hr@10": _rounded(hits[:, 1 + best].mean()),
            "difference": _rounded(difference.mean()),
            "interval_95": [_rounded(low), _rounded(high)],
            "difference_by_quarter": [_rounded(difference[quarter == q].mean()) for q in range(PARTS)],
            "sources_hr@10": {name: _rounded(rate) for name, rate in rates.items()},
            "weights_at_the_end": {name: round(w, 3) for name, w in done.recommender.blend_weights().items()},
            "seconds": round(report.seconds, 1),
        }


def verdict(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """On how many streams the whole interval is above 0, and the lowest bound of all."""
    lows = {run["stream"]: run["interval_95"][0] for run in runs}
    return {
        "streams": len(lows),
        "surely_better": sum(low > 0 for low in lows.values()),
        "lowest_bound": min(lows.values()),
        "on": min(lows, key=lambda name: lows[name]),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 5)


def main() -> None:
    which, seed, chosen = (*sys.argv[1:], *("both", "0", ",".join(streams.names()))[len(sys.argv) - 1 :])
    taken_on = record.machine()
    figures: dict[str, Any] = {"streams": {name: streams.what(name) for name in chosen.split(",")}}
    for transformer in {"without": (False,), "with": (True,), "both": (False, True)}[which]:
        runs = []
        for name in chosen.split(","):
            runs.append(
                {"stream": name} | ByEvent(streams.load(name, int(seed)), transformer, int(seed)).run()
            )
            shown = ("stream", "hr@10", "best_source", "best_source_hr@10", "interval_95", "seconds")
            print("with" if transformer else "without", {key: runs[-1][key] for key in shown}, flush=True)
        key = "with the Transformer" if transformer else "without"
        figures[key] = {"verdict": verdict(runs), "runs": runs}
    suffix = "" if which == "both" else f"_{which}"
    record.write(
        f"any_stream{suffix}", f"python -m benchmarks.any_stream {which} {seed} {chosen!r}", figures, taken_on
    )


if __name__ == "__main__":
    main()
