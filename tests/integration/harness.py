"""What the tests of the worker share: a worker in a process of its own, traffic, and a look at what it
left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord
from kafka import TopicPartition
from kafka.admin import ConfigResource

from models.pipeline.recommender import Recommender
from models.pipeline.reranking import Reranker
from models.state.persistence import Delta
from models.state.user_rows import unpack_row
from producers.simulate import Ledger, Simulation
from stream_app.batch.pipeline import Pipeline
from stream_app.brokers.broker import Broker, free_port
from stream_app.brokers.topic_facts import connect
from stream_app.brokers.topic_reader import open_reader
from stream_app.brokers.topics import create
from stream_app.events import Live, Manifest
from stream_app.settings import Settings, TopicSettings, load
from stream_app.store.state import StateStore
from stream_app.views.coverage import Coverage, check
from stream_app.views.worker_metrics import Sample, read_sample
from stream_app.worker.new_recommender import new_recommender
from tests.integration.worker_main import start_worker

PATIENCE_S = 90.0


@dataclass
class Worker:
    """A worker process; its log is in a file beside the state folder."""

    settings: Settings
    overrides: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._log = Path(f"{self.settings.worker.state_dir}.log")
        self._log.touch()
        self._log_from = self._log.stat().st_size
        self.process = start_worker(self.overrides, self.environment, self._log)

    @property
    def said(self) -> str:
        """What this process has logged so far."""
        with self._log.open() as file:
            file.seek(self._log_from)
            return file.read()

    def sample(self) -> Sample | None:
        return read_sample(f"http://127.0.0.1:{self.settings.worker.web_port}/metrics")

    def until(self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for a condition while the process lives."""
        deadline = time.monotonic() + patience_s
        while not condition():
            assert self.process.is_alive(), f"the worker ended before {what}:\n{self.said}"
            assert time.monotonic() < deadline, f"no {what} within {patience_s:g} s:\n{self.said[-4000:]}"
            time.sleep(0.05)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.said, f"{text!r} in the log")

    def until_events(self, count: int) -> None:
        """Wait until so many events are accepted, counted since the state was empty, and nothing is left."""

        def there() -> bool:
            sample = self.sample()
            return sample is not None and sample.events >= count and sample.lag == 0

        self.until(there, f"{count} events", PATIENCE_S + count / 500)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """The exit code, once the process has ended; below 0, the signal that ended it."""
        self.process.join(patience_s)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"the worker did not end:\n{self.said[-4000:]}")
        return self.process.exitcode

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.join()


@dataclass
class Stage:
    """A broker with fresh topics and an empty state folder."""

    broker: Broker
    topics: TopicSettings
    directory: Path
    partitions: int = 4
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.started: list[Worker] = []
        create(self.settings.broker, self.topics, self.partitions)

    @property
    def overrides(self) -> dict[str, Any]:
        return {
            "broker.url": self.broker.address,
            "broker.group": self.topics.events[0],
            "broker.connect_timeout_s": 5,
            "worker.state_dir": str(self.directory / "state"),
            "worker.web_port": self.port,
            "worker.commit_s": 0.2,
            "models.transformer.enabled": False,
            "topics": self.topics.model_dump(mode="json"),
            **self.options,
        }

    @property
    def settings(self) -> Settings:
        return load(self.overrides)

    def worker(self, environment: Mapping[str, str] | None = None, **changes: Any) -> Worker:
        overrides = self.overrides | {name.replace("__", "."): value for name, value in changes.items()}
        worker = Worker(load(overrides), overrides, environment or {})
        self.started.append(worker)
        return worker

    def close(self) -> None:
        for worker in self.started:
            worker.kill()

    # -- what happens to it ------------------------------------------------------------------------------------
    def send(self, records: Sequence[tuple[bytes | None, bytes | None]], topic: str | None = None) -> None:
        """Send keys and values; returns when they are acknowledged."""

        async def run() -> None:
            limit = 2 * self.topics.max_message_bytes
            async with AIOKafkaProducer(
                bootstrap_servers=self.broker.address, max_request_size=limit
            ) as producer:
                for key, value in records:
                    await producer.send(topic or self.topics.events[0], value, key=key)
                await producer.flush()

        asyncio.run(run())

    def go_live(self, version: str, sha256: str) -> None:
        """Announce a snapshot and point to it."""
        manifest = Manifest(name="transformer", version=version, sha256=sha256, cut={}, created_ts=0)
        records = [
            (f"transformer/{version}".encode(), msgspec.json.encode(manifest)),
            (b"transformer/live", msgspec.json.encode(Live(version=version))),
        ]
        self.send(records, self.topics.models)

    def until_gone(self, topic: str) -> None:
        """Wait until a deleted topic can be made anew."""
        deadline = time.monotonic() + PATIENCE_S
        with connect(self.settings.broker) as admin:
            while topic in admin.list_topics():
                assert time.monotonic() < deadline, f"{topic} is still there"
                time.sleep(0.05)

    def delete_records_before_the_end(self, topic: str) -> None:
        with connect(self.settings.broker) as admin:
            admin.delete_records({TopicPartition(topic, number): -1 for number in range(self.partitions)})

    def limit_message_bytes(self, topic: str, limit: int) -> None:
        with connect(self.settings.broker) as admin:
            admin.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": str(limit)})])

    def set_offset(self, topic: str, partition: int, offset: int) -> None:
        """Move a stored offset of the stopped worker ahead."""
        with StateStore.open(self.settings.worker.state_dir, self.settings) as store:
            store.commit(Delta(), {(topic, partition): offset})

    # -- what is there afterwards ----------------------------------------------------------------------------
    def coverage(self) -> Coverage:
        async def judge() -> Coverage:
            async with open_reader(self.settings) as reader:
                return await check(reader, self.settings)

        return asyncio.run(judge())

    def records(self, topic: str) -> list[ConsumerRecord]:
        """Everything that is on a topic."""

        async def read() -> list[ConsumerRecord]:
            async with open_reader(self.settings) as reader:
                return [record async for record in reader.to_end(reader.partitions(topic))]

        return asyncio.run(read())

    def dead_letters(self) -> Counter[str]:
        """Distinct sources of dead letters, by reason."""
        letters = {}
        for record in self.records(self.topics.dead_letters):
            headers = dict(record.headers)
            letters[headers["source"]] = headers["reason"].decode()
        return Counter(letters.values())

    def accepted(self) -> dict[str, int]:
        """User → events accepted, as the state of the stopped worker says."""
        with StateStore.read(self.settings.worker.state_dir) as store:
            return {
                user: unpack_row(row).events
                for partition in store.partitions()
                for user, row in store.users(partition)
            }

    def figures(self) -> dict[str, float]:
        """The models' own figures in the state of the stopped worker."""
        settings = self.settings
        with StateStore.read(settings.worker.state_dir) as store:
            recommender = new_recommender(settings)
            recommender.load(store.items(), store.model_meta())
            return recommender.metrics()

    def offsets(self) -> dict[tuple[str, int], int]:
        with StateStore.read(self.settings.worker.state_dir) as store:
            return store.offsets

    # -- what should be there ----------------------------------------------------------------------------------
    def undisturbed(self, reranker: Reranker | None = None) -> Recommender:
        """What a recommender learns from the log as it is, partition by partition, without worker or broker.

        It has room for everybody, so that nobody ever has to leave its memory.
        """
        settings = load(self.overrides | {"models.max_cached_users": 100_000})
        recommender = new_recommender(settings)
        if reranker is not None:
            recommender.set_reranker(reranker)
        pipeline = Pipeline(
            settings, recommender, lambda _number, users: [None] * len(users), partitions=self.partitions
        )
        records = sorted(
            self.records(self.topics.events[0]), key=lambda record: (record.partition, record.offset)
        )
        for start in range(0, len(records), settings.worker.batch_events):
            batch = records[start : start + settings.worker.batch_events]
            assert pipeline.process(batch, received_ms=time.time() * 1000).taken == len(batch)
        return recommender

    def state(self) -> dict[str, dict[Any, bytes]]:
        """All rows of the stopped worker's state."""
        with StateStore.read(self.settings.worker.state_dir) as store:
            return {
                "users": {
                    (partition, user): row
                    for partition in store.partitions()
                    for user, row in store.users(partition)
                },
                "items": dict(store.items()),
                "meta": dict(store.model_meta()),
            }


class Feeder:
    """Sends a simulation's records bit by bit."""

    def __init__(self, stage: Stage, simulation: Simulation) -> None:
        self._stage = stage
        self._simulation = simulation
        self._records = simulation.records()

    @property
    def ledger(self) -> Ledger:
        """Of what was sent so far."""
        return self._simulation.ledger

    def send(self, events: int) -> None:
        """The next so many events, with the items that stand between them; returns when they are acknowledged."""
        topics = self._stage.topics

        async def run() -> None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._stage.broker.address, max_request_size=2 << 20, acks="all"
            )
            async with producer:
                left = events
                while left and (made := next(self._records, None)) is not None:
                    topic = topics.items if made.kind == "item" else topics.events[0]
                    # aiokafka refuses a record without key and value; the simulation makes none.
                    await producer.send(topic, made.value, key=made.key)
                    left -= made.kind != "item"
                await producer.flush()

        asyncio.run(run())
