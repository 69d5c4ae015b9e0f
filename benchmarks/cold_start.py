"""What new users and new items are shown, against popularity: with exploration or without, and knowing where they are.

    python -m benchmarks.cold_start [SEED] [STREAM,…]

Streams of `benchmarks.streams` go through the pipeline as served, everything empty at first, no Transformer, one event
at a time. HR@10 of the served list and of popularity's (what the worker reports beside its own), over all scored events
and over the cold ones: those whose user, or whose item, had fewer than five events before. The quota of exploration is
0, 1 and 2, and 1 where the catalogue announces each item 250 events before its first one; a stream whose events name a
scenario is compared with itself untold.
"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import Any

import numpy as np

from benchmarks import record, streams
from models.base import I64, Bool, EventBatch, Lists, Outcome
from producers.columns import Dataset
from stream_app.backtests.backtest import Backtest
from stream_app.settings import load

COLD = 5
QUOTAS = ((0, False), (1, False), (1, True), (2, False))
"""Places of a list that are given to new items, and whether the catalogue announces items."""
LEAD = 250
"""Events by which an item is announced before its first one."""
STREAMS = "bursts,ml-100k,places,places untold"


class ByEvent:
    """A backtest, and of each event whether the served list, and popularity's, had the item."""

    def __init__(self, data: Dataset, quota: int, announced: bool, seed: int) -> None:
        settings = load({"models.policy.exploration": quota})
        self.backtest = Backtest(data, settings, streams.EVENTS, False, seed, None, baselines=False)
        self.backtest.process = self._one_by_one
        self.hits = {kind: np.zeros(self.backtest.n) for kind in ("served", "popularity")}
        self._so_far = dict.fromkeys(self.hits, 0.0)
        self.announcements: dict[int, list[str]] = {}
        if announced:
            items, first = np.unique(data.item[: self.backtest.n], return_index=True)
            for item, row in zip(items.tolist(), first.tolist(), strict=True):
                self.announcements.setdefault(max(0, row - LEAD), []).append(data.item_ids[item])

    def figures(self) -> dict[str, Any]:
        """HR@10 of what was served and of popularity, by slice."""
        done = self.backtest
        report = done.run(None)
        user, item = done.dataset.user[: done.n], done.dataset.item[: done.n]
        cold_user, cold_item = (before(codes) < COLD for codes in (user, item))
        slices = {
            "all": np.ones(done.n, np.bool_),
            "cold user": cold_user,
            "cold item": cold_item,
            "cold user or item": cold_user | cold_item,
            "item without an event": before(item) == 0,
        }
        rates = {}
        for name, rows in slices.items():
            at = done.scored & rows
            rates[name] = {"events": int(at.sum())} | {
                f"{kind}_hr@10": round(float(hits[at].mean()), 5) for kind, hits in self.hits.items()
            }
        return {"slices": rates, "coverage": report.coverage}

    def _one_by_one(self, batch: EventBatch, wanted: Bool) -> Outcome:
        recommender = self.backtest.recommender
        statuses, made = [], []
        for n in range(len(batch)):
            for item in self.announcements.get(int(batch.offset[n]), []):
                recommender.catalogue.set_item(item, available=True)
            one = recommender.process(batch.slice(n, n + 1), wanted[n : n + 1], because=False)
            statuses.append(one.status)
            made.append(replace(one.lists, event=one.lists.event + n))
            counted = recommender.metrics()
            for kind, name in (("served", "hr@10"), ("popularity", "popularity_hr@10")):
                so_far = counted[name] * counted["scored"]
                self.hits[kind][batch.offset[n]] = round(so_far - self._so_far[kind])
                self._so_far[kind] = so_far
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
        for quota, announced in QUOTAS:
            found = ByEvent(streams.load(name, int(seed)), quota, announced, int(seed)).figures()
            runs.append({"stream": name, "exploration": quota, "announced": announced} | found)
            print(name, quota, announced, found, flush=True)
    figures = {"streams": {name: streams.what(name) for name in chosen.split(",")}, "runs": runs}
    record.write("cold_start", f"python -m benchmarks.cold_start {seed} {chosen}", figures, taken_on)


if __name__ == "__main__":
    main()
