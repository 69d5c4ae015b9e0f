"""The worker's pipeline over a data set, with no broker: the same recommendations, scored event by event.

In: a `Dataset`, settings. Out: a `Report`. Events go through `models.pipeline.recommender.Recommender` in the order of
the data set, as records of partition 0 with their row as the offset; the Transformer is refreshed after fixed
numbers of events. Never reads the clock for anything but how long its own steps took.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.base import I32, I64, Bool, EventBatch, Outcome
from models.metrics import lists as metrics
from producers.columns import Dataset
from stream_app.backtests import report as reports
from stream_app.backtests.dataset_batches import DatasetBatches
from stream_app.backtests.prequential import Marks, Prequential, gap_slices, slice_of
from stream_app.backtests.report import Report, Score, Slice
from stream_app.backtests.stream_curves import StreamCurves
from stream_app.settings import Settings
from stream_app.worker.new_recommender import new_recommender
from stream_app.worker.warm_up import warm_up

if TYPE_CHECKING:
    from stream_app.backtests.refresh_inline import InlineRefresher

BLOCK = 5000
"""Events given to the recommender at a time, at most; results do not depend on it."""

PACKAGES = ("headrace", "numpy", "numba", "torch")
OnProgress = Callable[[int, int, float], None]
"""Called after each block with the events done, those there are, and HR@k so far."""


def run(
    dataset: Dataset,
    settings: Settings,
    *,
    limit: int | None = None,
    transformer: bool = True,
    seed: int = 0,
    window_ms: int | None = None,
    baselines: bool = True,
    out: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Run a data set through the pipeline and score every event before it is learned from.

    Args:
        limit: how many events, from the first; None for all.
        transformer: whether the Transformer is trained and re-ranks.
        seed: of everything that is random.
        window_ms: None makes a list after every event. A number makes one for each user and window of event
            time of this length, after the user's last event in it: events inside a window are scored against
            the list that the user had before it.
        baselines: also score each single source.
        out: folder for `report.html` and `report.json`; None writes nothing.
    """
    backtest = Backtest(dataset, settings, limit, transformer, seed, window_ms, baselines=baselines)
    report = backtest.run(on_progress)
    if out is not None:
        reports.write(report, out)
    return report


def every_list(user: I32, ts: I64, window_ms: int | None) -> Bool:
    """Events after which a list is made: all of them, or each user's last one in each window of event time.

    >>> every_list(np.array([1, 1, 2, 1]), np.array([0, 500, 700, 1200]), 1000).tolist()
    [False, True, True, True]
    """
    wanted = np.ones(len(user), np.bool_)
    if window_ms is None or not len(user):
        return wanted
    window = ts // window_ms
    order = np.argsort(user, kind="stable")
    wanted[order[:-1]] = (user[order][1:] != user[order][:-1]) | (window[order][1:] != window[order][:-1])
    return wanted


class Backtest:
    """One run; use it through `run` where its report is all that is wanted.

    Args:
        baselines: also score each single source; without, a run is faster and its lists are the same.

    Attributes:
        process: what learns a block and makes its lists; who wants to look between its events puts another here.
    """

    process: Callable[[EventBatch, Bool], Outcome]

    def __init__(
        self,
        dataset: Dataset,
        settings: Settings,
        limit: int | None,
        transformer: bool,
        seed: int,
        window_ms: int | None,
        *,
        baselines: bool = True,
    ) -> None:
        self.dataset, self.settings, self.seed, self.window_ms = dataset, settings, seed, window_ms
        self.n = len(dataset) if limit is None else min(limit, len(dataset))
        self.baselines = baselines
        self.recommender = new_recommender(settings, seed=seed, baselines=baselines)
        self.process = partial(self.recommender.process, because=False)  # nobody looks at reasons here
        self.batches = DatasetBatches(dataset, settings, self.recommender)
        self.refresher: InlineRefresher | None = None
        if transformer and settings.models.transformer.enabled:
            from stream_app.backtests.refresh_inline import (
                InlineRefresher,  # torch is loaded where it is used
            )

            self.refresher = InlineRefresher(settings, seed, self.recommender, dataset)
        self.k = settings.models.policy.k
        features = self.batches.features()
        self.scorer = Prequential(
            len(dataset.user_ids),
            len(dataset.item_ids),
            self.k,
            features=features,
        )
        self.basis = "categories" if features is not None else "the items' users"
        self.along = StreamCurves(self.n, self.k)
        self.rank = np.full(self.n, metrics.MISSED, np.int32)
        self.scored = np.zeros(self.n, np.bool_)
        self.gap = np.zeros(self.n, np.uint8)
        self.early = np.zeros(self.n, np.bool_)
        self.counts = dict.fromkeys(("first", "repeat", "dropped", "disliked", "erased"), 0)

    def run(self, on_progress: OnProgress | None) -> Report:
        """Every event, then the report; what is compiled on its first call is compiled before the clock runs."""
        compiling = time.perf_counter()
        warm_up(self.settings)
        started = time.perf_counter()
        self.along.stages_s["compile, before the run"] = started - compiling
        wanted = every_list(self.dataset.user[: self.n], self.dataset.ts[: self.n], self.window_ms)
        at = 0
        while at < self.n:
            due = self.refresher.due if self.refresher is not None else self.n + 1
            stop = min(at + min(BLOCK, self.batches.most), self.n, due, self.along.window_end(at))
            self.along.at = at
            for first, last, erased in self.batches.spans(at, stop):
                if last > first:
                    self._block(first, last, wanted[first:last])
                if erased is not None:
                    self.batches.erase(erased)
                    self.scorer.forget(erased)
                    if self.refresher is not None:
                        self.refresher.erase(self.dataset.user_ids[erased])
                    self.counts["erased"] += 1
            if stop == due and stop < self.n:
                self._refresh(stop)
            at = stop
            if on_progress is not None:
                on_progress(at, self.n, self.along.hr.mean())
        return self._report(time.perf_counter() - started)

    def _block(self, start: int, stop: int, wanted: Bool) -> None:
        while start < stop:
            with self.along.timed("read and number"):
                batch = self.batches.read(start, stop)
            n = len(batch)
            self._learn(start, batch, wanted[:n])
            start, wanted = start + n, wanted[n:]
            if start < stop:
                self.recommender.make_room()

    def _learn(self, start: int, batch: EventBatch, wanted: Bool) -> None:
        stop = start + len(batch)
        with self.along.timed("learn and list"):
            outcome = self.process(batch, wanted)
            self.batches.processed(batch, outcome.status)
        user, item = self.dataset.user[start:stop], self.dataset.item[start:stop]
        with self.along.timed("score"):
            made = outcome.lists
            marks = self.scorer.mark(user, item, batch.ts, outcome.status, batch.weight > 0)
            lists = self.batches.codes(made.items)
            self.scorer.place(marks, user, item, made.event, user[made.event], lists)
            self._collect(start, stop, marks)
        if self.refresher is not None:
            with self.along.timed("keep for training"):
                self.refresher.append(self.batches, batch, start + np.flatnonzero(~marks.dropped), start)

    def _collect(self, start: int, stop: int, marks: Marks) -> None:
        rows = slice(start, stop)
        self.rank[rows], self.scored[rows], self.gap[rows] = marks.rank, marks.scored, marks.gap
        self.early[rows] = (marks.ordinal >= 0) & (marks.ordinal < 5)
        self.counts["first"] += int(marks.first.sum())
        self.counts["repeat"] += int((marks.repeat & ~marks.first).sum())
        self.counts["dropped"] += int(marks.dropped.sum())
        rest = ~(marks.dropped | marks.first | marks.repeat)
        self.counts["disliked"] += int((marks.disliked & rest).sum())
        self.along.scored(start + np.flatnonzero(marks.scored), marks.rank[marks.scored])
        hits = {name: hits for name, (hits, _) in self.sources().items()}
        self.along.sources(int(marks.scored.sum()), hits)
        self.along.weighed(stop, self.recommender.blend_weights())

    def _refresh(self, at: int) -> None:
        assert self.refresher is not None
        since = self.refresher.log[-1].at if self.refresher.log else 0
        with self.along.timed("train", since):
            self.refresher.refresh(at)
        with self.along.timed("refresh lists", since):
            slots, users = self.batches.recent(self.settings.worker.refresh_users)
            lists = self.recommender.refresh(slots)
            self.scorer.publish(users[np.searchsorted(slots, lists.user)], self.batches.codes(lists.items))

    def _report(self, seconds: float) -> Report:
        settings, data, n = self.settings, self.dataset, self.n
        scored = int(self.scored.sum())
        position = np.arange(n)
        everything = self._slice("all events", np.ones(n, np.bool_))
        tenth = position < n // 10
        return Report(
            title=f"Backtest of {data.name}",
            data=data.name if data.name == data.source else f"{data.name} ({data.source})",
            data_sha256=data.sha256,
            data_notes=[_sentence(data.note)] if data.note else [],
            users=len(np.unique(data.user[:n])),
            items=len(np.unique(data.item[:n])),
            first_ts=int(data.ts[0]) if n else None,
            last_ts=int(data.ts[n - 1]) if n else None,
            events=n,
            accepted=n - self.counts["dropped"] - self.counts["erased"],
            scored=scored,
            unscored={
                "a user's first event": self.counts["first"],
                "an item that the user already had": self.counts["repeat"],
                "a type that does not teach positively": self.counts["disliked"],
                "a repeated event id": self.counts["dropped"],
                "an erasure": self.counts["erased"],
            },
            seconds=seconds,
            k=self.k,
            hr=everything.score.hr,
            ndcg=everything.score.ndcg,
            sample=self._sample(),
            pipeline=self.recommender.metrics(),
            coverage=self.scorer.coverage(),
            novelty=self.recommender.metrics()["novelty"],
            diversity=_known(self.scorer.diversity()),
            diversity_basis=self.basis,
            lists=self.scorer.n_lists,
            baselines={name: Score.of(scored, hits, gain) for name, (hits, gain) in self.sources().items()},
            slices=[
                self._slice("first 10 % of the stream", tenth),
                self._slice("the other 90 %", ~tenth),
                self._slice("users' first five events", self.early),
                self._slice("users' later events", ~self.early),
            ],
            by_gap=gap_slices(self.rank, self.scored, self.gap, self.k),
            curves=self.along.curves(),
            weights=self.along.weights,
            refreshes=self.refresher.log if self.refresher else [],
            stages_s=self.along.stages_s,
            seed=self.seed,
            window=reports.milliseconds(self.window_ms) if self.window_ms else "",
            transformer=self.refresher is not None,
            settings={
                "models": settings.models.model_dump(mode="json"),
                "trainer": settings.trainer.model_dump(mode="json"),
                "events": settings.events.model_dump(mode="json"),
            },
            versions={"python": platform.python_version()}
            | {name: metadata.version(name) for name in PACKAGES if _installed(name)},
            machine=f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, {platform.system()}",
            notes=self._notes(),
        )

    def _slice(self, name: str, chosen: Bool) -> Slice:
        return slice_of(name, self.rank, self.scored, chosen, self.k)

    def sources(self) -> dict[str, tuple[float, float]]:
        """Hits and sum of NDCG of each single source so far; empty without baselines."""
        if not self.baselines:
            return {}
        counts = self.recommender.baseline_counts()
        if self.refresher is None:
            del counts[self.settings.models.ranker]
        return counts

    def _sample(self) -> list[Slice]:
        """What was served beside the frozen first model, on the sample of users for which it lists."""
        counted = self.recommender.metrics()
        k = self.k
        n = int(counted["sample_scored"])
        if self.refresher is None or not n:
            return []
        return [
            Slice(
                name=name,
                score=Score(scored=n, hr=counted[f"{key}_hr@{k}"], ndcg=counted[f"{key}_ndcg@{k}"]),
            )
            for name, key in (("served", "sample"), ("frozen first model", "frozen"))
        ]

    def _notes(self) -> list[str]:
        counters = self.recommender.metrics()
        notes = []
        ours = {
            "scored": float(self.scored.sum()),
            f"hr@{self.k}": self.along.hr.mean(),
            f"ndcg@{self.k}": self.along.ndcg.mean(),
        }
        for name in ours.keys() & counters.keys() if ours["scored"] else ():
            if not math.isclose(counters[name], ours[name], rel_tol=1e-6, abs_tol=1e-9):
                notes.append(
                    f"The pipeline's own counter of {name} says {counters[name]:.6g}, the scorer outside "
                    f"of it {ours[name]:.6g}: please report this."
                )
        return notes


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
