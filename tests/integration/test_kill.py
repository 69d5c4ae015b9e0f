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

import pytest

from producers.simulate import Simulation
from producers.traffic import send
from stream_app.brokers.broker import Broker
from stream_app.settings import TopicSettings
from stream_app.worker.failpoints import POINTS, VARIABLE
from tests.integration.harness import Feeder, Stage

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


def kill_at_every_failpoint(stage: Stage, feeder: Feeder) -> None:
    for point in POINTS:
        feeder.send(CHUNK)
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


@pytest.mark.slow
def test_with_one_partition_and_a_list_an_event_the_state_of_a_killed_worker_is_the_undisturbed_one_to_the_byte(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(partitions=1, **{"worker.one_list_per_event": True})
    feeder = Feeder(stage, disturbed((len(POINTS) + 1) * CHUNK))
    kill_at_every_failpoint(stage, feeder)
    feeder.send(CHUNK)
    finish(stage, feeder.ledger.events_accepted)
    expected = stage.undisturbed().take_dirty()
    state = stage.state()
    assert state["users"] == {(partition, user): row for partition, user, row in expected.users}
    assert state["items"] == dict(expected.items)
    assert state["meta"] == dict(expected.meta)


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
