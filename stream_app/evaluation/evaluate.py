"""Several models on one protocol: each learns and answers in a process of its own, then all are compared.

In: a `Stream`, the models with their settings, seeds, a `Protocol`. Out: a `Table`. A model that fails is a row that
says why; the others go on. Every model is asked the same questions, and the popularity baseline is asked first, since
serendipity is measured against its lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.base import I32
from models.family.protocols import Plan, due, leave_one_out, negatives, prequential, temporal
from models.family.registry import NEEDS
from stream_app.errors import HeadraceError
from stream_app.evaluation import apart
from stream_app.evaluation.data import Stream
from stream_app.evaluation.examine import Examination, Findings, examine
from stream_app.evaluation.table import Entry, Table

BASELINE = "popularity"
EARLY = 0.1
"""Share of the lists that may be due before anything is learned without a word about it."""
OnProgress = Callable[[str, str, int, int], None]
"""Told the model and seed, what it does, the questions it answered, and all of them."""


class EvaluationError(HeadraceError):
    """Nothing can be evaluated: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How models are asked (see `models.family.protocols`).

    Attributes:
        name: prequential, leave-one-out or temporal.
        on: which events are asked for: test or validation; of a prequential run always all.
        every: events between two learnings of a prequential run; None: by the stream's length (see `due`).
        negatives: 0 ranks all items; else the one relevant item is ranked among so many that the user never took
            (leave-one-out alone; the same for all models, others with each seed), and validation events are learned as
            the protocol of He et al. (2017) does.
        learn_validation: whether leave-one-out learns the validation events too, once all that they were for is chosen.
    """

    name: str
    on: str = "test"
    every: int | None = None
    negatives: int = 0
    learn_validation: bool = False


def plan_of(stream: Stream, protocol: Protocol) -> Plan:
    """The questions and what is learned before each.

    Raises:
        EvaluationError: the stream has no question for this protocol.
    """
    if protocol.name == "prequential":
        plan = prequential(stream.events, every=protocol.every)
    elif protocol.name == "temporal":
        plan = temporal(stream.events, on=protocol.on)
    else:
        learn_validation = protocol.learn_validation or protocol.negatives > 0
        plan = leave_one_out(stream.events, on=protocol.on, learn_validation=learn_validation)
    if not (plan.questions.user_events > 0).any():
        raise EvaluationError(
            f"{stream.name}: none of its {len(stream.events):,} events can be asked for by {protocol.name}",
            "More events, or another --protocol: a user needs a history, and an item that is not in it.",
        )
    if not any(len(stage.learn) and stage.first < stage.last for stage in plan.stages):
        raise EvaluationError(
            f"{stream.name}: all lists of its {len(stream.events):,} events are due before anything is learned",
            f"Learn more often: --every {due(len(stream.events))}",
        )
    return plan


def unfit(name: str, stream: Stream) -> str | None:
    """Why the lists of this model would mean nothing on this stream; None where they may."""
    needs = NEEDS.get(name)
    if needs == "content" and stream.content is None:
        return "nothing is known of the items: the data has no catalogue (see --items)"
    if needs == "ratings" and np.isnan(stream.events.value).all():
        return "no ratings: no event that teaches has a value"
    return None


def notes(stream: Stream, plan: Plan) -> list[str]:
    """What makes the figures of all models something else than they seem; empty where nothing does."""
    return [*_of_ratings(stream), *_of_learning(plan)]


def _of_ratings(stream: Stream) -> list[str]:
    if not stream.clamped or stream.spread is None:
        return []
    (low, high), (least, most) = stream.scale, stream.spread
    return [
        f"{stream.clamped:,} ratings outside of {low:g} to {high:g} were clamped; they go from {least:g} to {most:g}:"
        f" name the scale with --set events.rating_low={min(low, least):g} --set events.rating_high={max(high, most):g}"
    ]


def _of_learning(plan: Plan) -> list[str]:
    before = next((stage.first for stage in plan.stages if len(stage.learn)), len(plan.questions))
    counted = plan.questions.user_events > 0
    early, lists = int(counted[:before].sum()), int(counted.sum())
    if early <= EARLY * lists:
        return []
    return [
        f"{early:,} of {lists:,} lists ({early / lists:.0%}) are due before anything is learned, and are misses"
        " of every model: learn more often with a smaller --every"
    ]


def run(
    stream: Stream,
    models: dict[str, dict[str, Any]],
    protocol: Protocol,
    *,
    seeds: Sequence[int] = (0,),
    k: int = 10,
    checkpoints: Path | None = None,
    on_progress: OnProgress | None = None,
    on_record: Callable[[Table], object] | None = None,
    on_note: Callable[[str], object] | None = None,
) -> Table:
    """Ask every model with every seed.

    Args:
        models: name → settings that differ from the model's defaults.
        checkpoints: folder in which training under way is kept, so that the same run, started again, goes on with it.
        on_record: given the table after each record, so that a long run that is broken off leaves what it has; the
            comparison with the best is in the last one alone.
        on_note: told beforehand what the reader of the figures has to know.
    """
    plan = plan_of(stream, protocol)
    for note in notes(stream, plan):
        if on_note is not None:
            on_note(note)
    drawn = {
        seed: negatives(plan, stream.events, protocol.negatives, seed) if protocol.negatives else None
        for seed in seeds
    }
    done = Table(_facts(stream, protocol, plan, k), k)

    def ask(name: str, settings: dict[str, Any], seed: int, expected: I32 | None = None) -> Findings:
        task = Examination(
            name=name,
            settings=settings,
            seed=seed,
            events=stream.events,
            content=stream.content,
            plan=plan,
            vectors=stream.vectors,
            k=k,
            scale=stream.scale,
            expected=expected,
            negatives=drawn[seed],
            keep_lists=expected is None,
            checkpoints=checkpoints,
        )

        def tell(message: tuple[str, int, int]) -> None:
            if on_progress is not None:
                on_progress(f"{name}, seed {seed}", *message)

        found: Findings = apart.call(examine, task, on_progress=tell)
        return found

    # Popularity draws nothing: it answers alike with every seed, unless it is asked about other negatives.
    different = seeds if protocol.negatives else seeds[:1]
    try:
        baselines = {seed: ask(BASELINE, {}, seed) for seed in different}
    except apart.ApartError as error:
        raise EvaluationError(f"the baseline that every model is compared with failed: {error}") from error
    for name, settings in models.items():
        why_not = unfit(name, stream)
        for seed in seeds:
            baseline = baselines.get(seed, baselines[seeds[0]])
            same = name == BASELINE and not settings and seed in baselines
            try:
                if why_not is not None:
                    raise apart.ApartError(why_not)
                found = baseline if same else ask(name, settings, seed, baseline.lists)
                done.add(Entry(name, seed, settings, found, None))
            except apart.ApartError as error:
                done.add(Entry(name, seed, settings, None, str(error)))
            if on_record is not None:
                on_record(done)
    done.compare()
    return done


def _facts(stream: Stream, protocol: Protocol, plan: Plan, k: int) -> dict[str, Any]:
    return {
        "data": stream.name,
        "data_sha256": stream.sha256,
        "events": len(stream.events),
        "users": stream.users,
        "items": stream.items,
        "left_out": {why: count for why, count in stream.left_out.items() if count},
        "protocol": protocol.name,
        "on": "all events" if protocol.name == "prequential" else protocol.on,
        "validation_learned": protocol.on == "test" and (protocol.learn_validation or protocol.negatives > 0),
        "every": (protocol.every or due(len(stream.events))) if protocol.name == "prequential" else None,
        "ranking": f"sampled: {protocol.negatives} negatives" if protocol.negatives else "full",
        "k": k,
        "not_asked": {why: count for why, count in plan.unscored.items() if count},
        "diversity_by": stream.described_by,
        "described_items": stream.described,
        "rating_scale": list(stream.scale),
        "ratings_clamped": stream.clamped,
    }
