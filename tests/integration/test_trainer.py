"""The trainer on a broker: it refreshes, judges, obeys a pin, and goes on after kill -9 wherever it came."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from models.family.serving import snapshot as family
from models.sequence import snapshot
from models.training.event_log import EventLog
from stream_app.brokers.broker import Broker, EmbeddedBroker, KafkaBroker
from stream_app.brokers.connection import client_options
from stream_app.brokers.topics import create
from stream_app.events import Live
from stream_app.settings import Settings, TopicSettings, load
from stream_app.training.model_versions import ModelsView
from stream_app.training.registry import Registry
from stream_app.training.trainer import TrainerService

PATIENCE_S = 300


def small(address: str, topics: TopicSettings, folder: Path, **more: object) -> Settings:
    return load(
        {
            "broker.url": address,
            "broker.connect_timeout_s": 10.0,
            "topics": topics.model_dump(),
            "trainer.state_dir": folder / "trainer",
            "trainer.snapshots": folder / "snapshots",
            "trainer.every_events": 400,
            "trainer.warmup_events": 0,
            "trainer.tokens_per_event": 4.0,
            "trainer.gate_events": 100,
            "models.max_items": 500,
            "models.transformer.d_model": 16,
            "models.transformer.layers": 1,
            "models.transformer.batch_tokens": 64,
            **more,
        }
    )


def walk(user: int, steps: range) -> list[tuple[str, bytes]]:
    """Events of a user who goes through 60 items in a circle."""
    return [
        (
            f"u{user}",
            msgspec.json.encode(
                {
                    "v": 1,
                    "event_id": f"{user}-{step}",
                    "user_id": f"u{user}",
                    "item_id": f"i{(7 * user + step) % 60}",
                    "type": "click",
                    "ts": 1_700_000_000_000 + 60_000 * step + user,
                }
            ),
        )
        for step in steps
    ]


def walks(users: range, steps: range) -> list[tuple[str, bytes]]:
    """Many users, interleaved step by step."""
    return [event for step in steps for user in users for event in walk(user, range(step, step + 1))]


async def produce(settings: Settings, records: list[tuple[str, bytes]], *, items: bool = False) -> None:
    topic = settings.topics.items if items else settings.topics.events[0]
    producer = AIOKafkaProducer(**client_options(settings.broker))
    await producer.start()
    try:
        for key, value in records:
            await producer.send(topic, value, key=key.encode())
        await producer.flush()
    finally:
        await producer.stop()


async def models_when(settings: Settings, condition: Callable[[ModelsView], bool]) -> ModelsView:
    """The `models` topic as soon as `condition` holds."""
    async with Registry(settings) as registry, asyncio.timeout(PATIENCE_S):
        while not condition(await registry.read_all()):  # noqa: ASYNC110  # noqa: ASYNC110 -- a topic sets no event
            await asyncio.sleep(0.05)
        return registry.view


@asynccontextmanager
async def trainer(settings: Settings) -> AsyncIterator[TrainerService]:
    service = TrainerService(settings, "cpu")
    running = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        service.stop()
        await running


def live(version: str) -> Callable[[ModelsView], bool]:
    return lambda view: view.live is not None and view.live.version == version


def announced(version: str) -> Callable[[ModelsView], bool]:
    return lambda view: version in view.manifests


def judged(version: str) -> Callable[[ModelsView], bool]:
    return lambda view: version in view.manifests and "go" in view.manifests[version].gate


def decisions(settings: Settings) -> list[dict[str, object]]:
    path = settings.trainer.state_dir / "decisions.jsonl"
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_snapshots_are_made_announced_judged_and_put_live(
    broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    settings = small(broker.address, topics_of(), tmp_path)
    create(settings.broker, settings.topics, partitions=2)

    async def story() -> ModelsView:
        async with trainer(settings):
            await produce(settings, [("x", b"not json"), *walks(range(40), range(12))])
            await models_when(settings, live("000001"))
            await produce(settings, walks(range(40), range(12, 24)))
            await models_when(settings, announced("000002"))
            await produce(settings, walks(range(40), range(24, 28)))
            view = await models_when(settings, judged("000002"))
            while len(decisions(settings)) < 2:  # noqa: ASYNC110  the topic is told before the trainer's own record is written
                await asyncio.sleep(0.02)
            return view

    view = asyncio.run(story())
    first, second = decisions(settings)[:2]
    assert (first["version"], first["go"], first["live"]) == ("000001", True, True)
    assert second["against"] == "000001"
    assert second["scored"] == 100
    assert second["go"] is (second["lower"] >= -second["margin"])  # type: ignore[operator]
    gate = view.manifests["000002"].gate
    assert gate["ndcg"] == second["ndcg"]
    read = snapshot.read(settings.trainer.snapshots / "000002")
    assert sum(read.manifest.cut.values()) == sum(view.manifests["000002"].cut.values()) > 400
    assert set(read.manifest.item_ids) == {f"i{n}" for n in range(60)}


def test_a_model_that_learns_from_content_knows_the_catalogue_and_what_comes_into_it(
    broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    tiny = {"width": 8, "epochs": 1, "least_steps": 20, "batch": 64, "length": 20, "buckets": 64}
    settings = small(
        broker.address,
        topics_of(),
        tmp_path,
        **{"models.ranker": "two-tower", "models.ranker_settings": tiny},
    )
    create(settings.broker, settings.topics, partitions=2)

    def described(*names: str) -> list[tuple[str, bytes]]:
        return [
            (name, msgspec.json.encode({"v": 1, "item_id": name, "title": f"Part {n % 3}", "tags": ["new"]}))
            for n, name in enumerate(names)
        ]

    async def story() -> None:
        await produce(settings, [("bad", b"{"), *described("i1", "i2", "unmet")], items=True)
        async with trainer(settings):
            await produce(settings, walks(range(40), range(12)))
            await models_when(settings, live("000001"))
            await produce(settings, described("later"), items=True)
            await produce(settings, walks(range(40), range(12, 24)))
            await models_when(settings, announced("000002"))

    asyncio.run(story())
    first, second = (family.read(settings.trainer.snapshots / version) for version in ("000001", "000002"))
    assert set(first.manifest.item_ids) == {f"i{n}" for n in range(60)} | {"unmet"}
    assert set(second.manifest.item_ids) == set(first.manifest.item_ids) | {"later"}
    assert second.model.content is not None
    at = second.manifest.item_ids.index("later")
    assert second.model.content.tokens[at] == ["part", "0", "tag:new"]


def test_a_pinned_pointer_stays_until_it_is_unpinned(
    embedded_broker: EmbeddedBroker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    settings = small(embedded_broker.address, topics_of(), tmp_path, **{"trainer.gate_margin": 1.0})
    create(settings.broker, settings.topics, partitions=2)

    async def story() -> tuple[Live | None, Live | None]:
        async with trainer(settings), Registry(settings) as operator:
            await produce(settings, walks(range(40), range(12)))
            await models_when(settings, live("000001"))
            await operator.rollback("000001")
            await produce(settings, walks(range(40), range(12, 24)))
            await models_when(settings, announced("000002"))
            await produce(settings, walks(range(40), range(24, 28)))
            pinned = (await models_when(settings, judged("000002"))).live
            await operator.unpin()
            await produce(settings, walks(range(40), range(28, 38)))
            await models_when(settings, announced("000003"))
            await produce(settings, walks(range(40), range(38, 42)))
            return pinned, (await models_when(settings, live("000003"))).live

    pinned, freed = asyncio.run(story())
    assert pinned is not None
    assert freed is not None
    assert (pinned.version, pinned.pinned) == ("000001", True)
    assert not freed.pinned
    by_version = {d["version"]: d for d in decisions(settings)}
    assert (by_version["000002"]["live"], by_version["000002"]["pinned"]) == (False, True)


KILLED = """
import os, signal, sys
from pathlib import Path
from models.sequence import snapshot
from models.training.train import Trainer
from stream_app.training.refresher import Refresher
from stream_app.training.registry import Registry
from stream_app.settings import load
from stream_app.training.trainer import run_trainer
import msgspec

owner = {c.__name__: c for c in (Trainer, Refresher, Registry)} | {"snapshot": snapshot}
name, moment = sys.argv[1], sys.argv[2]
where, attribute = name.split(".")
whole = getattr(owner[where], attribute)

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def after(*args, **kwargs):
    whole(*args, **kwargs)
    kill()

async def after_awaited(*args, **kwargs):
    await whole(*args, **kwargs)
    kill()

calls = 0

def before_call(number):
    def counted(*args, **kwargs):
        global calls
        calls += 1
        if calls == number:
            kill()
        return whole(*args, **kwargs)
    return counted

before_second, before_fifth = before_call(2), before_call(5)

setattr(owner[where], attribute, globals()[moment])
run_trainer(load(msgspec.json.decode(sys.stdin.read())))
"""

MOMENTS = [
    ("Trainer._step", "before_fifth"),
    ("Trainer.save", "after"),
    ("snapshot.write_durably", "before_second"),
    ("snapshot.write", "after"),
    ("Registry.announce", "after_awaited"),
    ("Registry.set_live", "after_awaited"),
    ("Refresher.settle", "after"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "moment"), MOMENTS)
def test_training_resumes_after_a_kill(
    embedded_broker: EmbeddedBroker,
    topics_of: Callable[..., TopicSettings],
    tmp_path: Path,
    place: str,
    moment: str,
) -> None:
    settings = small(embedded_broker.address, topics_of(), tmp_path)
    create(settings.broker, settings.topics, partitions=2)
    events = walks(range(40), range(12))

    asyncio.run(produce(settings, events))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, place, moment],
        input=msgspec.json.encode(settings.model_dump(mode="json")),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    async def resume() -> ModelsView:
        async with trainer(settings):
            await models_when(settings, lambda view: view.live is not None)
            await produce(settings, walks(range(40), range(12, 24)))
            await models_when(settings, lambda view: len(view.manifests) > 1)
            await produce(settings, walks(range(40), range(24, 28)))
            return await models_when(
                settings, lambda view: sum("go" in m.gate for m in view.manifests.values()) > 1
            )

    view = asyncio.run(resume())
    for version in view.manifests:
        snapshot.read(settings.trainer.snapshots / version)
    log = EventLog.load(settings.trainer.state_dir / "log", settings.trainer.history_events)
    assert log.end == 40 * 28, "each event is in the history once"
    assert sum(log.offsets.values()) == log.end
    versions = [d["version"] for d in decisions(settings)]
    assert versions == sorted(set(versions)), "each candidate is decided on once"


@pytest.mark.kafka
def test_a_broker_that_goes_away_and_comes_back_is_waited_for(
    kafka_available: None,  # noqa: ARG001
    topics_of: Callable[..., TopicSettings],
    tmp_path: Path,
) -> None:
    with KafkaBroker(tmp_path / "kafka", heap="384m") as kafka:
        settings = small(kafka.address, topics_of(), tmp_path)
        create(settings.broker, settings.topics, partitions=2)

        async def story() -> None:
            async with trainer(settings):
                await produce(settings, walks(range(40), range(12)))
                await models_when(settings, live("000001"))
                kafka.kill()
                await asyncio.to_thread(kafka.start)
                await produce(settings, walks(range(40), range(12, 24)))
                await models_when(settings, announced("000002"))
                await produce(settings, walks(range(40), range(24, 28)))
                await models_when(settings, judged("000002"))

        asyncio.run(story())
    log = EventLog.load(settings.trainer.state_dir / "log", settings.trainer.history_events)
    assert log.end == 40 * 28


def test_events_that_the_broker_has_dropped_are_passed_over(
    embedded_broker: EmbeddedBroker,
    topics_of: Callable[..., TopicSettings],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A topic made anew is shorter than the stored offset."""
    settings = small(embedded_broker.address, topics_of(), tmp_path)
    create(settings.broker, settings.topics, partitions=1)
    ahead = EventLog(1000)
    nothing = np.zeros(0, np.float32)
    ahead.append(
        [], [], [], nothing, nothing, nothing.astype(np.int64), {f"{settings.topics.events[0]}-0": 10_000}
    )
    settings.trainer.state_dir.mkdir(parents=True)
    ahead.save(settings.trainer.state_dir / "log")

    async def story() -> None:
        await produce(settings, walks(range(40), range(12)))
        async with trainer(settings):
            await models_when(settings, live("000001"))

    asyncio.run(story())
    assert "offset 10000 is not among what the broker has" in caplog.text
