from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from producers import replay as module
from producers import resume
from producers.columns import Dataset, catalogue, from_frame
from producers.delivery import partition_of
from producers.replay import Progress, Summary, replay, select
from producers.resume import true_ends
from stream_app.brokers.broker import Broker, EmbeddedBroker
from stream_app.events import Event, Item
from stream_app.settings import BrokerSettings, TopicSettings

PARTITIONS = 4


TOLD = {"text": "Nought", "tags": ["round"], "price": 0.1, "available": False}
VECTORS = {"e": [0.1, -2.0]}


def dataset(n: int = 1000, **columns: list[object]) -> Dataset:
    """`n` events of 20 users, a second apart; every third has a value."""
    base: dict[str, list[object]] = {
        "user": [f"u{i * 7 % 20}" for i in range(n)],
        "item": [f"i{i % 50}" for i in range(n)],
        "type": ["rating" if i % 3 == 0 else "view" for i in range(n)],
        "ts": [1_000_000 + 1000 * i for i in range(n)],
        "value": [float(i % 5 + 1) if i % 3 == 0 else None for i in range(n)],
    }
    items = catalogue(
        [
            {"item_id": "i0", "title": "Zero", "categories": ["Drama"], **TOLD}
            | {"embeddings": [{"name": name, "vector": vector} for name, vector in VECTORS.items()]},
            {"item_id": "i1", "title": "Naïve", "categories": []},
            {"item_id": "i2"},
        ]
    )
    return from_frame(pl.DataFrame(base | columns, strict=False), name="t", source="t", items=items)


class Log:
    """Topics of a broker, with what was written to them."""

    def __init__(self, broker: Broker, topics: TopicSettings) -> None:
        self.broker = BrokerSettings(url=broker.address)
        self.topics = topics
        self.create(topics.events[0], PARTITIONS)
        self.create(topics.items, 1)

    def create(self, name: str, partitions: int) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.broker.url)
        admin.create_topics([NewTopic(name, partitions, 1)])
        admin.close()

    def read(self, topic: str | None = None) -> list[tuple[int, str, bytes]]:
        """(partition, key, value) of all records, in order within a partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.broker.url, fetch_max_wait_ms=20)
        topic = topic or self.topics.events[0]
        parts = [TopicPartition(topic, p) for p in range(PARTITIONS if topic in self.topics.events else 1)]
        consumer.assign(parts)
        ends = true_ends(consumer, parts)
        consumer.seek_to_beginning(*parts)
        found = []
        while any(consumer.position(p) < ends[p] for p in parts):
            for part, records in consumer.poll(timeout_ms=10_000).items():
                found += [(part.partition, r.key.decode(), r.value) for r in records]
        consumer.close()
        return found

    def events(self) -> list[Event]:
        return [msgspec.json.decode(value, type=Event) for _, _, value in self.read()]

    def replay(self, data: Dataset, folder: Path, **arguments: object) -> Summary:
        return replay(data, self.broker, self.topics, folder=folder, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def log(broker: Broker, topics_of: Callable[..., TopicSettings]) -> Log:
    return Log(broker, topics_of())


def rows_of(events: list[Event]) -> list[int]:
    """Row numbers out of the event ids."""
    return [int(str(e.event_id).split("-")[1]) for e in events]


def test_every_event_is_written_once_as_the_contract_says(log: Log, tmp_path: Path) -> None:
    data = dataset()
    summary = log.replay(data, tmp_path)
    assert (summary.acknowledged, summary.failed, summary.events, summary.finished) == (1000, 0, 1000, True)
    written = log.read()
    assert summary.value_bytes == sum(len(value) for _, _, value in written)
    by_row = {}
    for partition, key, value in written:
        event = msgspec.json.decode(value, type=Event)
        assert key == event.user_id
        assert partition == partition_of(key.encode(), PARTITIONS)
        by_row[rows_of([event])[0]] = event
    assert sorted(by_row) == list(range(1000))
    for row, event in by_row.items():
        assert event.user_id == f"u{row * 7 % 20}"
        assert event.item_id == f"i{row % 50}"
        assert event.ts == 1_000_000 + 1000 * row
        assert (event.type, event.value) == (("rating", row % 5 + 1) if row % 3 == 0 else ("view", None))


def test_a_users_events_stay_in_order(log: Log, tmp_path: Path) -> None:
    log.replay(dataset(), tmp_path)
    times: dict[str | int, int] = {}
    for event in log.events():
        assert event.ts > times.get(event.user_id, -1)
        times[event.user_id] = event.ts


def test_titles_and_genres_go_to_items(log: Log, tmp_path: Path) -> None:
    assert log.replay(dataset(5), tmp_path).items == 3
    films = [(key, msgspec.json.decode(value, type=Item)) for _, key, value in log.read(log.topics.items)]
    assert [(key, i.item_id, i.title, i.categories) for key, i in films] == [
        ("i0", "i0", "Zero", ["Drama"]),
        ("i1", "i1", "Naïve", []),
        ("i2", "i2", None, []),
    ]
    assert {name: getattr(films[0][1], name) for name in TOLD} == TOLD
    assert [item.embeddings for _, item in films] == [VECTORS, {}, {}]
    assert [item.available for _, item in films] == [False, True, True]


def test_an_erase_is_written_without_an_item(log: Log, tmp_path: Path) -> None:
    log.replay(dataset(2, item=["a", None], type=["view", "erase"], user=["u", "u"]), tmp_path)
    _, erase = log.events()
    assert (erase.type, erase.item_id) == ("erase", None)


def test_scenarios_are_written_where_there_are_any(log: Log, tmp_path: Path) -> None:
    log.replay(dataset(3, scenario=["shop", None, "home"], user=["u", "u", "u"]), tmp_path)
    assert [event.scenario for event in log.events()] == ["shop", None, "home"]
    assert all(b"null" not in value for _, _, value in log.read())


def test_ids_of_the_source_are_kept_where_it_has_them(log: Log, tmp_path: Path) -> None:
    log.replay(dataset(2, event_id=["mine", None], user=["u", "u"]), tmp_path, run_id="r")
    first, second = log.events()
    assert first.event_id == "mine"
    assert str(second.event_id).endswith("-1-r")


def test_a_new_run_gives_new_ids_and_the_same_run_the_same(log: Log, tmp_path: Path) -> None:
    for run in ("a", "b", "a"):
        log.replay(dataset(10), tmp_path, run_id=run)
    assert sorted(Counter(e.event_id for e in log.events()).values()) == [1] * 10 + [2] * 10


def test_a_range_and_a_limit_choose_rows_by_event_time() -> None:
    data = dataset(10)
    assert select(data, 1_002_000, 1_005_000, None).tolist() == [2, 3, 4]
    assert select(data, 1_002_000, None, 4).tolist() == [2, 3, 4, 5]
    assert select(data, None, 1_002_000, 4).tolist() == [0, 1]
    assert select(data, 9_000_000, None, 4).tolist() == []


def stopped_after(count: int) -> tuple[threading.Event, Callable[[Progress], None]]:
    """What stops a run once `count` events were sent."""
    stop = threading.Event()

    def look(progress: Progress) -> None:
        if progress.sent >= count:
            stop.set()

    return stop, look


def test_a_stopped_run_goes_on_where_it_was(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_EVERY_S", 0.0)
    data = dataset(5000)
    stop, look = stopped_after(2000)
    first = log.replay(data, tmp_path, stop=stop, on_progress=look)
    assert not first.finished
    assert 2000 <= first.acknowledged < 5000
    second = log.replay(data, tmp_path, resume=True)
    assert second.finished
    assert second.run_id == first.run_id
    assert second.before == first.acknowledged
    assert second.items == 0
    assert sorted(rows_of(log.events())) == list(range(5000))


def test_what_was_written_after_the_last_save_is_not_sent_again(log: Log, tmp_path: Path) -> None:
    data = dataset(1000)
    done = log.replay(data, tmp_path)
    state = resume.load(tmp_path, data.sha256, done.run_id)
    marks = dict(state.marks)
    for partition, mark in marks.items():
        if partition != 1:  # as if killed before these were saved
            rows = [
                r for r in range(mark.row) if partition_of(f"u{r * 7 % 20}".encode(), PARTITIONS) == partition
            ]
            keep = len(rows) // 2
            state.marks[partition] = resume.Mark(rows[keep], keep)
        else:
            state.marks[partition] = resume.Mark()
    resume.save(resume.path_of(tmp_path, data.sha256, done.run_id), state)
    again = log.replay(data, tmp_path, resume=True, run_id=done.run_id)
    assert (again.before, again.acknowledged, again.finished) == (1000, 0, True)
    assert len(log.read()) == 1000


def test_resuming_what_is_not_there_or_not_the_same_is_refused(log: Log, tmp_path: Path) -> None:
    data = dataset(10)
    with pytest.raises(resume.ResumeError, match="no run of these events"):
        log.replay(data, tmp_path, resume=True)
    log.replay(data, tmp_path, run_id="r")
    with pytest.raises(resume.ResumeError, match="no run other of these events"):
        log.replay(data, tmp_path, resume=True, run_id="other")
    with pytest.raises(
        resume.ResumeError, match=r"started with neither .*, and is gone on with --from 7 --limit 5\n"
    ):
        log.replay(data, tmp_path, resume=True, from_ms=7, limit=5)
    resume.path_of(tmp_path, data.sha256, "r").write_text("{")
    with pytest.raises(resume.ResumeError, match="not readable"):
        log.replay(data, tmp_path, resume=True)


def test_a_topic_that_was_made_anew_is_not_resumed_into(log: Log, tmp_path: Path) -> None:
    data = dataset(10)
    log.replay(data, tmp_path, run_id="r")
    state = resume.load(tmp_path, data.sha256, "r")
    state.topic = log.topics.events[0] + ".again"
    log.create(state.topic, PARTITIONS)
    resume.save(resume.path_of(tmp_path, data.sha256, "r"), state)
    with pytest.raises(resume.ResumeError, match="this is not the topic that it wrote to"):
        log.replay(data, tmp_path, resume=True, topic=state.topic)


@pytest.mark.kafka
def test_a_log_whose_compression_can_not_be_read_is_not_resumed_into_blindly(
    kafka_broker: Broker,
    topics_of: Callable[..., TopicSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kafka.codec.zstd", None)
    log, data = Log(kafka_broker, topics_of()), dataset(10)
    log.replay(data, tmp_path, run_id="r")
    state = resume.load(tmp_path, data.sha256, "r")
    state.marks = {}
    resume.save(resume.path_of(tmp_path, data.sha256, "r"), state)
    asyncio.run(write_compressed(log, "zstd"))
    with pytest.raises(resume.ResumeError, match=r"(?s)can't be read.*zstd.*install"):
        log.replay(data, tmp_path, resume=True)


@pytest.mark.kafka
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_compressed_log_is_read_for_what_was_written(
    codec: str, kafka_broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    log, data = Log(kafka_broker, topics_of()), dataset(10)
    log.replay(data, tmp_path, run_id="r")
    state = resume.load(tmp_path, data.sha256, "r")
    state.marks = {}
    resume.save(resume.path_of(tmp_path, data.sha256, "r"), state)
    asyncio.run(write_compressed(log, codec))
    assert len(resume.written_since(log.broker, state)) == 10
    assert log.replay(data, tmp_path, resume=True).acknowledged == 0


async def write_compressed(log: Log, codec: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=log.broker.url, compression_type=codec) as producer:
        await producer.send_and_wait(log.topics.events[0], b"{}" * 100, partition=0)


def test_progress_ends_with_all_acknowledged(log: Log, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    log.replay(dataset(100), tmp_path, on_progress=lambda p: seen.append((p.acknowledged, p.total)))
    assert seen[-1] == (100, 100)


def test_an_event_that_is_too_large_is_on_the_account_and_the_rest_goes_on(log: Log, tmp_path: Path) -> None:
    data = dataset(3, item=["a", "x" * 3_000_000, "b"])
    summary = log.replay(data, tmp_path)
    assert (summary.acknowledged, summary.failed, summary.finished) == (2, 1, True)
    assert "row 1: too large" in summary.failures[0]
    assert log.replay(data, tmp_path, resume=True).before == 3


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from producers import delivery
from producers.replay import replay
from stream_app.errors import HeadraceError
from stream_app.settings import BrokerSettings, TopicSettings
from test_replay import dataset
url, events, items, folder, delivery_s = sys.argv[3:]
delivery.DELIVERY_TIMEOUT_S = float(delivery_s)
delivery.REQUEST_TIMEOUT_S = min(1.0, delivery.DELIVERY_TIMEOUT_S)
topics = TopicSettings(events=(events,), items=items)
try:
    replay(dataset(20000), BrokerSettings(url=url), topics, rate=4000.0, run_id="r", folder=Path(folder),
           on_progress=lambda p: print(p.acknowledged, flush=True))
except HeadraceError as error:
    print(str(error).replace(chr(10), " "))
"""
"""A run of its own process: its data set at a rate that takes five seconds, telling what was acknowledged."""


@contextlib.contextmanager
def running(log: Log, folder: Path, delivery_s: float) -> Iterator[subprocess.Popen[str]]:
    """The program above, once it had 3,000 events acknowledged."""
    here = Path(__file__).parent
    names = [log.broker.url, log.topics.events[0], log.topics.items, str(folder), str(delivery_s)]
    command = [sys.executable, "-c", PROGRAM, str(here.parents[1]), str(here), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert any(int(line) >= 3000 for line in child.stdout)
        yield child


def test_a_killed_run_goes_on_without_a_gap_or_a_repeat(log: Log, tmp_path: Path) -> None:
    with running(log, tmp_path, 60.0) as child:
        child.kill()
    before = len(log.read())
    assert 3000 <= before < 20000
    summary = log.replay(dataset(20000), tmp_path, resume=True)
    assert summary.before >= 3000
    assert sorted(rows_of(log.events())) == list(range(20000))


def test_a_broker_that_goes_away_ends_the_run_with_the_way_to_resume(
    topics_of: Callable[..., TopicSettings], tmp_path: Path
) -> None:
    with EmbeddedBroker() as own:
        there = Log(own, topics_of())
        with running(there, tmp_path, 1.5) as child:
            own.kill()
            assert child.stdout is not None
            *_, said = child.stdout
    assert "the broker did not take row" in said
    assert "events were acknowledged" in said
    assert "--resume --run r" in said
    state = resume.load(tmp_path, dataset(20000).sha256, "r")
    assert not state.finished
    assert 0 < max(mark.row for mark in state.marks.values()) < 19_999
