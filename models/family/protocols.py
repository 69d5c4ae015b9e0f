"""Protocols of evaluation: from a stream to who is asked for a list and when, what would be right, and what is learned.

In: interactions, oldest first. Out: a `Plan`. Pure, and the same for all models, so that what they say can be compared
question by question. In every protocol a question is asked with the user's exact history before a row of the stream;
items of that history are not listed and not relevant; all other items compete (full ranking).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from models.base import I32, I64, Bool
from models.family.contract import NOBODY, Interactions
from models.metrics.rankings import Relevant

FIRST = "a user's first event"
REPEAT = "an item that the user already had"
SHORT = "of a user with fewer than three events"


@dataclass(frozen=True, slots=True)
class Questions:
    """Users who are asked for, one row a list, in the order in which they are asked.

    Attributes:
        user: code, int32 [n].
        before: row of the stream before which the user is asked for, int64 [n].
        relevant: what would be right: items that the user took then, and never before.
        row: row of the stream in which each relevant item was taken, int64 [m].
        user_events: events of the user before, int64 [n].
        item_events: events of each relevant item that could have been learned before, int64 [m].
    """

    user: I32
    before: I64
    relevant: Relevant
    row: I64
    user_events: I64
    item_events: I64

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows of the stream to learn, int64 [n]; then questions `first` up to `last` to ask."""

    learn: I64
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An evaluation: stages in order. The first `learn` that is not empty is a `fit`, the later ones a `partial_fit`.

    Attributes:
        unscored: why test events are not among the relevant items, and how many.
    """

    questions: Questions
    stages: list[Stage]
    unscored: dict[str, int] = field(default_factory=dict)


def frequent(events: Interactions, least: int) -> tuple[Interactions, I32]:
    """Only items with at least so many events, renumbered without gaps, and their former codes, int32 [items].

    Users are not renumbered, and those who lose events by it stay. With `least` 5, ML-1M keeps 3,416 items: the split
    on which SASRec and gSASRec are compared (Petrov and Macdonald: gSASRec, RecSys 2023, section 5.1).
    """
    counts = np.bincount(events.item)
    kept = np.flatnonzero(counts >= max(least, 1)).astype(np.int32)
    number = np.full(len(counts), NOBODY, np.int32)
    number[kept] = np.arange(len(kept))
    some = events.take(number[events.item] >= 0)
    return replace(some, item=number[some.item]), kept


def leave_one_out(events: Interactions, *, on: str = "test", learn_validation: bool = False) -> Plan:
    """Each user's last event is the test, the one before it the validation; one question a user.

    Users with fewer than three events teach only. Everything but tests and validations is learned, at once, before
    all questions: other users' later events too, as in most publications. The question is asked before the user's
    test event, with the validation item in the history; with `on` "validation", before the validation event. An item
    that the user had before is no question.

    Args:
        on: "test" or "validation".
        learn_validation: whether the validation events are learned too, as where a protocol knows the test alone
            (He et al.: Neural Collaborative Filtering, WWW 2017, section 4.1).
    """
    order = np.argsort(events.user, kind="stable")
    user = events.user[order]
    last = np.flatnonzero(np.append(user[1:] != user[:-1], True)) if len(user) else order
    enough = np.diff(np.concatenate([[-1], last])) >= 3
    test, validation = order[last[enough]], order[last[enough] - 1]
    learned = np.ones(len(events), np.bool_)
    learned[test] = False
    if on == "validation" or not learn_validation:
        learned[validation] = False
    target = np.sort(test if on == "test" else validation)
    new = _first_time(events)[target]
    learn = np.flatnonzero(learned)
    target = target[new]
    questions = _one_each(events, target, _learned_events(events, learn)[events.item[target]])
    return Plan(
        questions,
        [Stage(learn, 0, len(questions))],
        {SHORT: int((~enough).sum()), REPEAT: int((~new).sum())},
    )


def temporal(events: Interactions, *, on: str = "test", learn: float = 0.8, validation: float = 0.1) -> Plan:
    """Two cuts in time, the same for everybody: by default after 80 % and 90 % of the events.

    The first part is learned. Each user with events in the last part is asked for once, as they stood at the second
    cut: events of the middle part are history, but were not learned from. Relevant are the items that the user took
    in the last part and never before, however many. With `on` "validation" the middle part is what is asked for, as
    of the first cut. Users without a history at the cut are asked for too: `user_events` is 0 (they are told apart).
    """
    n = len(events)
    first, second = int(n * learn), int(n * (learn + validation))
    begin, end = (second, n) if on == "test" else (first, second)
    new = _first_time(events)
    rows = np.arange(begin, end)
    taken = rows[new[begin:end]]
    taken = taken[np.argsort(events.user[taken], kind="stable")]
    user, sizes = np.unique(events.user[taken], return_counts=True)
    before = np.full(len(user), begin, np.int64)
    learned = np.arange(first)
    questions = Questions(
        user=user.astype(np.int32),
        before=before,
        relevant=Relevant(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), events.item[taken]),
        row=taken,
        user_events=np.bincount(events.user[:begin], minlength=int(user.max(initial=-1)) + 1)[user],
        item_events=_learned_events(events, learned)[events.item[taken]],
    )
    return Plan(questions, [Stage(learned, 0, len(questions))], {REPEAT: int((~new[begin:end]).sum())})


def due(n: int) -> int:
    """Events between two learnings of a stream of so many, where nobody says: a twentieth of it, at most 20,000.

    What comes before the first learning is all misses, so a short stream can't wait as long as a long one.

    >>> due(1_000_209), due(6_000), due(3)
    (20000, 300, 1)
    """
    return min(20_000, max(1, n // 20))


def prequential(events: Interactions, *, every: int | None = None) -> Plan:
    """Every event is asked for before it is learned; learning takes place after every `every` events (see `due`).

    As `headrace backtest` counts: a user's first event and an item that the user already had are learned from and not
    asked for; an item that was never seen is a miss. Histories are exact to the event, however rarely the model
    learns. Questions before the first learning are misses, as all lists are empty then. The counting is the same, the
    moment is not: a backtest's list is made after the user's last event, here with all that was learned since.
    """
    n = len(events)
    every = due(n) if every is None else every
    new = _first_time(events)
    first = np.zeros(n, np.bool_)
    first[np.unique(events.user, return_index=True)[1]] = True
    asked = np.flatnonzero(new & ~first)
    questions = _one_each(events, asked, _running_count(events.item)[asked])
    bounds = [*range(0, n, every), n]
    at = np.searchsorted(asked, bounds)
    nothing = np.zeros(0, np.int64)
    stages = [
        Stage(
            np.arange(bounds[block - 1], bounds[block]) if block else nothing,
            int(at[block]),
            int(at[block + 1]),
        )
        for block in range(len(bounds) - 1)
    ]
    return Plan(questions, stages, {FIRST: int(first.sum()), REPEAT: int((~new & ~first).sum())})


def negatives(plan: Plan, events: Interactions, count: int, seed: int = 0) -> I32:
    """Items that each asked user never took, before or after, int32 [n, count]; NOBODY where there are too few.

    For sampled metrics alone: the one relevant item is ranked among these instead of all items, as in He et al. (2017),
    whose HR@10 with 99 negatives can't be compared with that of a full ranking (Krichene and Rendle, KDD 2020). Drawn
    without replacement, once for all models, keyed by (seed, user).
    """
    n_items = int(events.item.max(initial=-1)) + 1
    order = np.argsort(events.user, kind="stable")
    user = events.user[order]
    drawn = np.full((len(plan.questions), count), NOBODY, np.int32)
    for row, code in enumerate(plan.questions.user.tolist()):
        start, stop = np.searchsorted(user, [code, code + 1])
        free = np.ones(n_items, np.bool_)
        free[events.item[order[start:stop]]] = False
        never = np.flatnonzero(free)
        rng = np.random.Generator(np.random.SFC64([seed, code]))
        some = rng.choice(never, min(count, len(never)), replace=False)
        drawn[row, : len(some)] = some
    return drawn


PROTOCOLS: dict[str, Callable[..., Plan]] = {
    "prequential": prequential,
    "leave-one-out": leave_one_out,
    "temporal": temporal,
}
"""By the names that `headrace evaluate --protocol` takes."""


def _one_each(events: Interactions, rows: I64, item_events: I64) -> Questions:
    """A question for each of these rows, its own item being what is right."""
    return Questions(
        user=events.user[rows],
        before=rows,
        relevant=Relevant(np.arange(len(rows) + 1), events.item[rows]),
        row=rows,
        user_events=_running_count(events.user)[rows],
        item_events=item_events,
    )


def _first_time(events: Interactions) -> Bool:
    """Rows whose user had not taken the item before, bool [n]."""
    first = np.zeros(len(events), np.bool_)
    pairs = (events.user.astype(np.int64) << 32) | events.item
    first[np.unique(pairs, return_index=True)[1]] = True
    return first


def _running_count(codes: I32) -> I64:
    """How often each row's code occurred in the rows before it, int64 [n]."""
    order = np.argsort(codes, kind="stable")
    grouped = codes[order]
    start = np.searchsorted(grouped, grouped)
    count = np.empty(len(codes), np.int64)
    count[order] = np.arange(len(codes)) - start
    return count


def _learned_events(events: Interactions, learn: I64) -> I64:
    """Events of each item code among the rows that are learned, int64 [items]."""
    return np.bincount(events.item[learn], minlength=int(events.item.max(initial=-1)) + 1)
