"""The worker killed at every step of the commit protocol, and at random: nothing lost, nothing counted twice.

`HEADRACE_TEST_EVENTS` and `HEADRACE_TEST_KILLS` scale the random part.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.config import TransformerSettings
from models.online.covisit_rows import GONE
from models.pipeline.recommender import Recommender
from models.sequence import snapshot
from models.sequence.reranker import Reranker
from models.state.item_rows import ENTRY, parse_key
from models.training.event_log import EventLog
from models.training.train import Trainer
from producers.simulate import START_MS, Simulation
from producers.traffic import send
from stream_app.batch.decode import EventDecoder
from stream_app.brokers.broker import Broker
from stream_app.settings import TopicSettings
from stream_app.store.state import StateStore
from stream_app.worker.failpoints import POINTS, VARIABLE
from stream_app.worker.new_recommender import new_recommender
from tests.integration.harness import Feeder, Stage
from tests.records import event

EVENTS = int(os.environ.get("HEADRACE_TEST_EVENTS", "20000"))
KILLS = int(os.environ.get("HEADRACE_TEST_KILLS", "3"))
CHUNK = 250

ORDER_FREE = (
    "events",
    "duplicates",
    "late",
    "repeats",
    "ratings",
    "popularity_mass",
    "covisit_mass",
    "items",
)
"""Figures that don't depend on how partitions were interleaved."""


@pytest.fixture
def make_stage(
    broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(partitions: int, **options: object) -> Stage:
        directory = tmp_path / str(len(stages))
        directory.mkdir()
        stages.append(Stage(broker, topics_of(), directory, partitions, options))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def disturbed(events: int) -> Simulation:
    return Simulation(
        users=300, items=200, events=events, new_items=0.2, bots=0.02, duplicates=0.03, late=0.03, broken=0.03,
        scenarios=3, seed=5, largest_bytes=300_000,
    )  # fmt: skip


def kill_at_every_failpoint(stage: Stage, feeder: Feeder, *, erasing: int = 0) -> None:
    """... after some events each; so many users want to be erased before each, two of them more than once."""
    for number, point in enumerate(POINTS):
        feeder.send(CHUNK // 2)
        users = [f"u{u}" for u in (0, 1, *range(3 * number + 2, 3 * number + erasing))][:erasing]
        stage.send([(user.encode(), event(user, kind="erase", ts=START_MS)) for user in users])
        feeder.send(CHUNK - CHUNK // 2)
        error = {"HEADRACE_TEST_POISON": "all"} if point.startswith("8") else {}
        worker = stage.worker({VARIABLE: point, **error})
        assert worker.wait() == -signal.SIGKILL, f"{point} was not reached:\n{worker.said}"


def finish(stage: Stage, accepted: int) -> None:
    worker = stage.worker()
    worker.until_events(accepted)
    assert worker.stop() == 0, worker.said


def check_exact_and_covered(stage: Stage, simulation: Simulation) -> None:
    ledger = simulation.ledger
    assert stage.accepted() == ledger.accepted
    assert sum(stage.dead_letters().values()) == ledger.dead_letters
    figures, expected = stage.figures(), stage.undisturbed().metrics()
    assert {name: figures[name] for name in ORDER_FREE} == pytest.approx({n: expected[n] for n in ORDER_FREE})
    assert figures["events"] == ledger.events_accepted
    coverage = stage.coverage()
    assert coverage.complete, coverage.examples
    assert coverage.duplicates == ledger.duplicates


@pytest.mark.slow
def test_a_worker_killed_at_every_failpoint_is_exact_and_all_events_are_covered(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(partitions=4)
    simulation = disturbed((len(POINTS) + 1) * CHUNK)
    feeder = Feeder(stage, simulation)
    kill_at_every_failpoint(stage, feeder)
    feeder.send(CHUNK)
    finish(stage, feeder.ledger.events_accepted)
    check_exact_and_covered(stage, simulation)


def taught_by(stage: Stage) -> Trainer:
    """A Transformer that has learned the events on the stage's topic."""
    records = stage.records(stage.topics.events[0])
    events = EventDecoder(stage.settings.events, stage.topics.events).decode(records, time.time() * 1000)
    n = len(events)
    log = EventLog(n)
    log.append(
        events.user, events.item, events.kind, np.array(events.value, np.float32), np.ones(n, np.float32),
        np.array(events.ts), {},
    )  # fmt: skip
    trainer = Trainer(TransformerSettings(d_model=16, heads=2), band=50, seed=0)
    trainer.refresh(log, 0, 5000)
    return trainer


def rows_of(learned: Recommender) -> dict[str, dict[object, bytes]]:
    """What a state holds once all of this was committed."""
    delta = learned.take_dirty()
    return {
        "users": {(partition, user): row for partition, user, row in delta.users if row is not None},
        "items": {key: row for key, row in delta.items if row is not None},
        "meta": dict(delta.meta),
    }


def with_what_is_no_more_as_such(items: dict[Any, bytes]) -> dict[Any, bytes]:
    """Co-visitation rows whose evicted neighbours are GONE: a row that was written before has their numbers."""
    there = {parse_key(key)[1] for key in items if key[:1] == b"i"}
    made = {}
    for key, row in items.items():
        if key[:1] == b"c":
            size = (len(row) - 1) // ENTRY
            numbers = np.frombuffer(row, np.int32, size, offset=1)
            known = np.where(np.isin(numbers, list(there)), numbers, GONE).astype(np.int32)
            made[key] = row[:1] + known.tobytes() + row[1 + known.nbytes :]
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits",
    [{}, {"models.max_items": 90, "models.max_cached_users": 60}],
    ids=["room for all", "items and users leave"],
)
def test_with_one_partition_and_a_list_an_event_the_state_of_a_killed_worker_is_the_undisturbed_one_to_the_byte(
    make_stage: Callable[..., Stage], limits: dict[str, int]
) -> None:
    """With users who are erased, too, and some of them come back."""
    stage = make_stage(partitions=1, **{"worker.one_list_per_event": True}, **limits)
    feeder = Feeder(stage, disturbed((len(POINTS) + 1) * CHUNK))
    kill_at_every_failpoint(stage, feeder, erasing=3)
    feeder.send(CHUNK)
    finish(stage, feeder.ledger.events_accepted)
    undisturbed = stage.undisturbed()
    expected, state = rows_of(undisturbed), stage.state()
    figures = undisturbed.metrics()
    assert len(state["users"]) > 100
    assert (figures["items_evicted"] > 0) == bool(limits)
    assert {kind: state[kind].keys() for kind in state} == {kind: expected[kind].keys() for kind in expected}
    for rows in (state["items"], expected["items"]):
        rows.update(with_what_is_no_more_as_such(rows))
    assert state == expected


@pytest.mark.slow
def test_with_a_re_ranker_the_blend_of_a_killed_worker_is_the_undisturbed_one_but_for_rounding(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    folder = tmp_path / "snapshots"
    options = {"models.transformer.enabled": True, "worker.snapshots": str(folder)}
    stage = make_stage(partitions=1, **{"worker.one_list_per_event": True}, **options)
    feeder = Feeder(stage, disturbed(7 * CHUNK))
    feeder.send(CHUNK)
    stage.go_live("000001", snapshot.write(folder / "000001", taught_by(stage), "000001"))
    for point in ("4-after:2", "5-sent:2", "6-before", "6-after"):
        feeder.send(CHUNK)
        assert stage.worker({VARIABLE: point}).wait() == -signal.SIGKILL, point
    feeder.send(2 * CHUNK)
    finish(stage, feeder.ledger.events_accepted)
    alone = stage.undisturbed(Reranker(snapshot.read(folder / "000001")))
    settings = stage.settings
    with StateStore.read(settings.worker.state_dir) as store:
        killed = new_recommender(settings)
        killed.load(store.items(), store.model_meta())
    assert killed.blend_weights() == pytest.approx(alone.blend_weights(), abs=1e-4)
    assert killed.blend_weights() != pytest.approx(new_recommender(settings).blend_weights(), abs=1e-3)
    assert {name: killed.metrics()[name] for name in ORDER_FREE} == {
        n: alone.metrics()[n] for n in ORDER_FREE
    }
    assert killed.metrics()["hr@10"] == pytest.approx(alone.metrics()["hr@10"], abs=0.005)


@pytest.mark.slow
def test_a_worker_killed_at_random_under_traffic_is_exact_and_all_events_are_covered(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(partitions=4)
    simulation = disturbed(EVENTS)
    draw = random.Random(11)
    traffic = threading.Thread(
        target=send,
        args=(simulation, stage.settings.broker, stage.topics),
        kwargs={"rate": EVENTS / (4 * KILLS)},
    )
    traffic.start()
    for _ in range(KILLS):
        worker = stage.worker()
        worker.until_said("ready:")
        time.sleep(draw.random() * 2)  # a random moment, not a wait for something
        worker.kill()
    traffic.join()
    finish(stage, simulation.ledger.events_accepted)
    check_exact_and_covered(stage, simulation)
