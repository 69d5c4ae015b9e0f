"""What new users and new items are shown, against popularity: with exploration or without, and knowing where they are.

    python -m benchmarks.cold_start [SEED] [STREAM,…]

Streams of `benchmarks.streams` go through the pipeline as served, everything empty at first, no Transformer, one event
at a time. HR@10 of the served list and of popularity's (what the worker reports beside its own), over all scored events
and over the cold ones: those whose user, or whose item, had fewer than five events before. The quota of exploration is
0, 1 and 2; a stream whose events name a scenario is compared with itself untold.
"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np

from benchmarks import record, streams
from models.base import I64, Bool, EventBatch, Lists, Outcome
from models.metrics import lists as metrics
from producers.columns import Dataset
from stream_app.backtests.backtest import Backtest
from stream_app.settings import load

COLD = 5
QUOTAS = (0, 1, 2)
STREAMS = "bursts,ml-100k,places,places untold"


class ByEvent:
    """A backtest, and of each event whether popularity's list had the item."""

    def __init__(self, data: Dataset, quota: int, seed: int) -> None:
        settings = load({"models.policy.exploration": quota})
        self.backtest = Backtest(data, settings, streams.EVENTS, False, seed, None, baselines=False)
        self.backtest.process = self._one_by_one
        self.popular = np.zeros(self.backtest.n)
        self._before = 0.0

    def figures(self) -> dict[str, Any]:
        """HR@10 of what was served and of popularity, by slice."""
        done = self.backtest
        report = done.run(None)
        user, item = done.dataset.user[: done.n], done.dataset.item[: done.n]
        cold_user, cold_item = (before(codes) < COLD for codes in (user, item))
        hits = metrics.hits(done.rank)
        slices = {
            "all": np.ones(done.n, np.bool_),
            "cold user": cold_user,
            "cold item": cold_item,
            "cold user or item": cold_user | cold_item,
        }
        rates = {}
        for name, rows in slices.items():
            at = done.scored & rows
            served, popular = hits[at].mean(), self.popular[at].mean()
            rates[name] = {
                "events": int(at.sum()),
                "served_hr@10": round(float(served), 5),
                "popularity_hr@10": round(float(popular), 5),
            }
        return {"slices": rates, "coverage": report.coverage}

    def _one_by_one(self, batch: EventBatch, wanted: Bool) -> Outcome:
        recommender = self.backtest.recommender
        statuses, made = [], []
        for n in range(len(batch)):
            one = recommender.process(batch.slice(n, n + 1), wanted[n : n + 1], because=False)
            statuses.append(one.status)
            made.append(replace(one.lists, event=one.lists.event + n))
            counted = recommender.metrics()
            so_far = counted["popularity_hr@10"] * counted["scored"]
            self.popular[batch.offset[n]] = round(so_far - self._before)
            self._before = so_far
        columns = (np.concatenate([getattr(lists, f.name) for lists in made]) for f in fields(Lists))
        return Outcome(np.concatenate(statuses), Lists(*columns))


def before(codes: np.ndarray[Any, Any]) -> I64:
    """How many earlier rows have the same code, int64 [n]."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    nth = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    out = np.empty(len(codes), np.int64)
    out[order] = nth
    return out


def main() -> None:
    seed, chosen = (*sys.argv[1:], *("0", STREAMS)[len(sys.argv) - 1 :])
    taken_on = record.machine()
    runs = []
    for name in chosen.split(","):
        for quota in QUOTAS:
            found = ByEvent(streams.load(name, int(seed)), quota, int(seed)).figures()
            runs.append({"stream": name, "exploration": quota} | found)
            print(name, quota, found, flush=True)
    figures = {"streams": {name: streams.what(name) for name in chosen.split(",")}, "runs": runs}
    record.write("cold_start", f"python -m benchmarks.cold_start {seed} {chosen}", figures, taken_on)


if __name__ == "__main__":
    main()
