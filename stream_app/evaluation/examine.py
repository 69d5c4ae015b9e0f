"""One model, one seed: learns what a plan says, answers its questions, and what its answers and its work were like.

In: an `Examination`. Out: `Findings`, small whatever the number of questions: sums by user. Lists are made in batches,
so that memory stays bounded. Reads the clock for how long learning and listing took; what numba compiles on a first
call, and has not cached, is in the time of learning.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.base import F64, I32, I64, Bool
from models.family.contract import NOBODY, Content, Interactions, Model, Queries, best
from models.family.histories import Timeline
from models.family.protocols import Plan
from models.family.registry import make, with_defaults
from models.metrics import lists as metrics
from models.metrics.beyond_accuracy import gini, mean_of_listed, serendipity
from models.metrics.rankings import RANKING, hit_rate, hits
from stream_app.evaluation.answers import Answers
from stream_app.evaluation.apart import forget_peak, memory_mb

HISTORY, WHOLE = 200, 4096
"""Events of a user that a question shows, at most; where each user is asked for once, practically all. A model may look
at fewer."""

BATCH, BATCH_BYTES = 256, 64 << 20
"""Questions asked at a time: at most so many, and so few that scores and blocked items take no more than this."""

COLD = 5
"""Users and items with fewer events than this are cold."""

TIMED, TIMED_S = 500, 20.0
"""Questions asked one at a time for the distribution of scoring time, and after how many seconds that is given up."""

CURVE_POINTS = 50

Clock = Callable[[], float]
Tell = Callable[[tuple[str, int, int]], None]
"""Is told what is being done, the questions answered, and all there are."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What is asked of one model.

    Attributes:
        name, settings, seed: of the model, as in `models.family.registry`.
        vectors: a description of each item for the diversity of lists, float [items, d].
        k: length of a list.
        scale: the lowest and the highest rating, for models that don't see for themselves.
        expected: the popularity baseline's list for each question, int32 [n, k]; None: the model's own lists are it.
        negatives: items among which alone the relevant one is ranked, int32 [n, count]; None ranks all items.
        keep_lists: whether the lists are among the findings.
        checkpoints: folder in which training under way is kept, to be gone on with.
    """

    name: str
    settings: dict[str, Any]
    seed: int
    events: Interactions
    content: Content | None
    plan: Plan
    vectors: F64
    k: int
    scale: tuple[float, float] = (1.0, 5.0)
    expected: I32 | None = None
    negatives: I32 | None = None
    keep_lists: bool = False
    checkpoints: Path | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the questions, by the user who was asked for: what intervals and comparisons are made of.

    Attributes:
        users: codes, ascending, int32 [u].
        lists: how many questions of each, float64 [u].
        sums: of each metric over the user's questions, float64 [u].
    """

    users: I32
    lists: F64
    sums: dict[str, F64]


@dataclass(frozen=True, slots=True)
class Findings:
    """What came out.

    Attributes:
        groups: `all` (users with a history), `cold users` (with fewer than COLD events), `cold items` (only relevant
            items with fewer than COLD events count), `new users` (without a history; in no other group).
        figures: what is one number for all lists of `all`; NaN where there is nothing to measure.
        unlearned: questions of `all` that were asked before anything was learned.
        curve: end of each window of the stream, in events, and HR in it; empty with a single learning.
        lists: int32 [n, k], where they were to be kept.
    """

    groups: dict[str, Group]
    figures: dict[str, float]
    unlearned: int
    curve: tuple[list[int], list[float]]
    lists: I32 | None


def examine(tell: Tell, task: Examination, clock: Clock = time.perf_counter) -> Findings:
    """Run the plan with a fresh model; `clock` says the seconds that learning and listing took."""
    return _Desk(task, clock).run(tell)


class _Desk:
    """The run of one examination."""

    def __init__(self, task: Examination, clock: Clock) -> None:
        self.clock = clock
        self.task, self.plan, self.questions = task, task.plan, task.plan.questions
        n = len(self.questions)
        once = n == len(np.unique(self.questions.user))
        longest = int(self.questions.user_events.max(initial=1))
        self.timeline = Timeline(task.events, max(1, min(longest, WHOLE if once else HISTORY)))
        self.lists = np.full((n, task.k), NOBODY, np.int32)
        self.novelty, self.popularity, self.distance = (np.full(n, np.nan) for _ in range(3))
        self.answers = Answers(task.events, self.questions)
        self.counts = np.zeros(len(task.vectors), np.int64)
        self.main: Bool = self.questions.user_events > 0
        self.listing = 0.0

    def run(self, tell: Tell) -> Findings:
        task = self.task
        settings = with_defaults(
            task.name, task.settings, dict(zip(("low", "high"), task.scale, strict=True))
        )
        model = make(task.name, settings, seed=task.seed, content=task.content)
        model.checkpoints = task.checkpoints
        forget_peak()
        before, _ = memory_mb()
        learning, learned, unlearned = 0.0, False, 0
        for stage in self.plan.stages:
            if len(stage.learn):
                tell(("learns", stage.first, len(self.questions)))
                events = self.task.events.take(stage.learn)
                started = self.clock()
                (model.partial_fit if learned else model.fit)(events)
                learning += self.clock() - started
                self.counts += np.bincount(events.item, minlength=len(self.counts))
                learned = True
            if not learned:
                unlearned += int(self.main[stage.first : stage.last].sum())
                continue
            self._answer(model, stage.first, stage.last, tell)
        tell(("is timed", len(self.questions), len(self.questions)))
        times = self._one_at_a_time(model) if learned else np.zeros(0)
        _, peak = memory_mb()
        return Findings(
            groups=self._groups(),
            figures=self._figures()
            | {
                # of a training that was gone on with, only the last part was timed
                "train_s": learning if not model.resumed_from else float("nan"),
                "resumed_from": float(model.resumed_from),
                "score_s": self.listing,
                "score_p50_ms": _percentile(times, 50),
                "score_p99_ms": _percentile(times, 99),
                "memory_mb": max(peak - before, 0.0),
                "peak_mb": peak,
            },
            unlearned=unlearned,
            curve=self._curve(),
            lists=self.lists if self.task.keep_lists else None,
        )

    def _answer(self, model: Model, first: int, last: int, tell: Tell) -> None:
        information = metrics.self_information(self.counts)
        step = max(1, min(BATCH, BATCH_BYTES // (5 * max(model.n_items, 1))))
        for start in range(first, last, step):
            rows = slice(start, min(start + step, last))
            asked = self._asked(model, rows)
            started = self.clock()
            lists = self._listed(model, *asked)
            self.listing += self.clock() - started
            self.lists[rows] = lists
            self.answers.ask(model, rows, asked[0])
            self.novelty[rows] = mean_of_listed(lists, information)
            self.popularity[rows] = mean_of_listed(lists, self.counts)
            self.distance[rows] = metrics.diversity(lists, self.task.vectors)
            tell(("answers", rows.stop, len(self.questions)))

    def _asked(self, model: Model, rows: slice) -> tuple[Queries, Bool, I32 | None]:
        """The questions, what may not be listed, and, where not all items are ranked, those that are."""
        users, before = self.questions.user[rows], self.questions.before[rows]
        queries = self.timeline.queries(users, before)
        if self.task.negatives is None:
            return queries, self.timeline.blocked(users, before, model.n_items), None
        target = self.questions.relevant.item[rows]  # one each: see `evaluate.plan_of`
        # the target stands last, so that a tie goes against it
        some = np.concatenate([self.task.negatives[rows], target[:, None]], axis=1)
        return queries, np.zeros((len(users), 0), np.bool_), some

    def _listed(self, model: Model, queries: Queries, blocked: Bool, some: I32 | None) -> I32:
        if some is None:
            return model.retrieve(queries, self.task.k, blocked)[0]
        known = (some >= 0) & (some < model.n_items)
        scores = model.score(queries, np.where(known, some, 0).astype(np.int32))
        columns, _ = best(np.where(known, scores, np.float32(-np.inf)), self.task.k)
        return np.where(columns >= 0, np.take_along_axis(some, np.maximum(columns, 0), 1), NOBODY)

    def _one_at_a_time(self, model: Model) -> F64:
        """Milliseconds of making one list, without gathering the history: the last questions of the plan's order."""
        n = len(self.questions)
        took: list[float] = []
        until = self.clock() + TIMED_S
        for row in np.unique(np.linspace(0, n - 1, min(n, TIMED)).astype(np.int64)).tolist():
            asked = self._asked(model, slice(row, row + 1))
            started = self.clock()
            self._listed(model, *asked)
            ended = self.clock()
            took.append(1000.0 * (ended - started))
            if ended > until:
                break
        return np.array(took[1:] or took)  # the first one may compile

    def _groups(self) -> dict[str, Group]:
        questions = self.questions
        cold = questions.user_events < COLD
        rare = (questions.item_events < COLD) & self.main[questions.relevant.owner]
        everything = np.ones(len(questions.row), np.bool_)
        return {
            "all": self._group(self.main, everything),
            "cold users": self._group(self.main & cold, everything),
            "cold items": self._group(self.main, rare),
            "new users": self._group(~self.main, everything),
        }

    def _group(self, asked: Bool, entries: Bool) -> Group:
        """Of these questions [n] those with any of these relevant items [m], the only ones that count."""
        rows, relevant = self.questions.relevant.narrowed(entries & asked[self.questions.relevant.owner])
        lists, sizes = self.lists[rows], relevant.sizes
        hit = hits(lists, relevant)
        values = {name: metric(hit, sizes) for name, metric in RANKING.items()}
        expected = self.lists if self.task.expected is None else self.task.expected
        values["serendipity"] = serendipity(lists, hit, expected[rows])
        users, at, counts = np.unique(self.questions.user[rows], return_inverse=True, return_counts=True)
        sums: dict[str, F64] = {
            name: np.bincount(at, value, minlength=len(users)).astype(np.float64)
            for name, value in values.items()
        }
        return Group(users.astype(np.int32), counts.astype(np.float64), sums)

    def _figures(self) -> dict[str, float]:
        lists = self.lists[self.main]
        shown: I64 = np.bincount(lists[lists >= 0], minlength=len(self.counts))
        return {
            "coverage": metrics.coverage(shown, len(self.counts)),
            "novelty": _mean(self.novelty[self.main]),
            "diversity": _mean(self.distance[self.main]),
            "arp": _mean(self.popularity[self.main]),
            "gini": gini(shown),
        } | self.answers.figures(self.main)

    def _curve(self) -> tuple[list[int], list[float]]:
        if len(self.plan.stages) < 2:
            return [], []
        hit = hit_rate(hits(self.lists, self.questions.relevant), self.questions.relevant.sizes)
        window = max(1, -(-len(self.task.events) // CURVE_POINTS))
        curve = metrics.Progressive(window)
        curve.add(self.questions.before, hit)
        return curve.positions().tolist(), curve.means().tolist()


def _mean(values: F64) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _percentile(values: F64, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")
