from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ConsumerStoppedError, KafkaError

from stream_app.brokers.broker import Broker
from stream_app.brokers.connection import MissingTopicError
from stream_app.brokers.topics import create
from stream_app.events import Control, Live, Manifest
from stream_app.settings import Settings, TopicSettings, load
from stream_app.worker.followers import FollowError, Followers, Switches
from stream_app.worker.freshness import WorkerMetrics
from stream_app.worker.live_snapshot import Swap

encode = msgspec.json.encode
Records = list[tuple[str, bytes, bytes | None]]


class TestSwitches:
    def test_a_group_is_paused_and_resumed_by_its_name_or_by_all(self) -> None:
        switches = Switches("mine")
        for scope in (b"mine", b"all"):
            switches.apply(scope, encode(Control(action="pause")))
            assert switches.paused
            switches.apply(scope, encode(Control(action="resume")))
            assert not switches.paused

    def test_another_group_is_none_of_ours(self) -> None:
        switches = Switches("mine")
        switches.apply(b"other", encode(Control(action="pause")))
        assert not switches.paused

    def test_a_tombstone_resumes(self) -> None:
        switches = Switches("mine")
        switches.apply(b"mine", encode(Control(action="pause")))
        switches.apply(b"mine", None)
        assert not switches.paused

    def test_what_a_pause_does_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        switches = Switches("mine")
        for action in ("resume", "pause", "pause", "resume"):
            switches.apply(b"mine", encode(Control(action=action, by="ann")))
        assert [message.split(" by ")[0] for message in caplog.messages] == ["paused", "resumed"]
        assert caplog.messages[0].endswith("for scope 'mine' (ann)")

    @pytest.mark.parametrize(
        "value", [b"{", encode(Control(action="stop")), encode(Control(v=2, action="resume"))]
    )
    def test_what_cannot_be_read_changes_nothing_and_is_said(
        self, value: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        switches = Switches("mine")
        switches.apply(b"mine", encode(Control(action="pause")))
        switches.apply(b"mine", value)
        assert switches.paused
        assert "is ignored" in caplog.text


@pytest.fixture
def settings(embedded_broker: Broker, topics_of: Callable[..., TopicSettings], tmp_path: Path) -> Settings:
    settings = load(
        {
            "broker.url": embedded_broker.address,
            "broker.group": "mine",
            "broker.connect_timeout_s": 5,
            "topics": topics_of().model_dump(),
            "worker.snapshots": tmp_path,
        }
    )
    create(settings.broker, settings.topics, 2)
    return settings


async def write(settings: Settings, records: Records) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.broker.url) as producer:
        for topic, key, value in records:
            await producer.send(topic, value, key=key)
        await producer.flush()


def live(settings: Settings, version: str) -> Records:
    """A manifest, and the pointer to it."""
    manifest = Manifest(name="transformer", version=version, sha256=f"sha {version}", cut={}, created_ts=0)
    topic = settings.topics.models
    return [
        (topic, f"transformer/{version}".encode(), encode(manifest)),
        (topic, b"transformer/live", encode(Live(version=version))),
    ]


@asynccontextmanager
async def following(settings: Settings, load_snapshot: Any) -> Any:
    followers = Followers(settings, WorkerMetrics(), load_snapshot)
    await followers.start()
    try:
        yield followers
    finally:
        await followers.stop()


async def caught_up(followers: Followers) -> list[bytes | None]:
    """Keys of the item records that are there now."""
    keys: list[bytes | None] = []

    async def apply(records: Any) -> None:
        keys.extend(record.key for record in records)

    await asyncio.wait_for(followers.catch_up(apply), 20)
    return keys


async def until(condition: Callable[[], Any]) -> Any:
    """What a condition gives once it gives something."""
    async with asyncio.timeout(20):
        while not (found := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found


def no_snapshot(_folder: Path, _sha256: str | None) -> Any:
    raise AssertionError("no snapshot is live")


def test_all_items_are_there_before_the_first_event_and_later_ones_follow(settings: Settings) -> None:
    topic = settings.topics.items

    async def run() -> None:
        await write(settings, [(topic, b"%d" % n, b"{}") for n in range(500)])
        async with following(settings, no_snapshot) as followers:
            assert sorted(await caught_up(followers)) == sorted(b"%d" % n for n in range(500))
            await write(settings, [(topic, b"late", b"{}")])
            late = await until(followers.take_items)
            assert [record.key for record in late] == [b"late"]
            assert followers.take_items() == []

    asyncio.run(run())


def test_with_empty_topics_there_is_nothing_to_wait_for(settings: Settings) -> None:
    async def run() -> None:
        async with following(settings, no_snapshot) as followers:
            assert await caught_up(followers) == []
            assert followers.take_swap() is None
            assert not followers.paused

    asyncio.run(run())


def test_the_live_snapshot_is_loaded_before_the_first_event_and_swapped_when_the_pointer_moves(
    settings: Settings, tmp_path: Path
) -> None:
    async def run() -> None:
        await write(settings, [*live(settings, "000001"), *live(settings, "000002")])
        async with following(settings, lambda folder, sha256: (folder, sha256)) as followers:
            await caught_up(followers)
            assert followers.take_swap() == Swap("000002", (tmp_path / "000002", "sha 000002"))
            await write(settings, live(settings, "000001")[1:])
            swap = await until(followers.take_swap)
            assert swap == Swap("000001", (tmp_path / "000001", "sha 000001"))
            assert followers.take_swap() is None

    asyncio.run(run())


def test_a_corrupt_snapshot_is_said_and_counted_and_the_worker_stays_with_the_old_one(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def load_snapshot(folder: Path, _sha256: str | None) -> Any:
        if folder.name == "000002":
            raise ValueError("weights.safetensors is damaged")
        return folder.name

    async def run() -> None:
        metrics = WorkerMetrics()
        followers = Followers(settings, metrics, load_snapshot)
        await write(settings, live(settings, "000001"))
        await followers.start()
        await caught_up(followers)
        assert followers.take_swap() == Swap("000001", "000001")
        await write(settings, live(settings, "000002"))
        await until(lambda: metrics.registry.get_sample_value("headrace_snapshot_errors_total"))
        assert followers.take_swap() is None
        await write(settings, live(settings, "000003"))
        assert await until(followers.take_swap) == Swap("000003", "000003")
        await followers.stop()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "weights.safetensors is damaged" in caplog.text
    assert "stays with the model it has" in caplog.text
    assert "headrace models rollback" in caplog.text


def test_a_snapshot_whose_folder_comes_later_than_its_pointer_is_loaded_then(
    settings: Settings, tmp_path: Path
) -> None:
    def load_snapshot(folder: Path, _sha256: str | None) -> Any:
        return (folder / "manifest.json").read_text()

    async def run() -> None:
        await write(settings, live(settings, "000001"))
        async with following(settings, load_snapshot) as followers:
            await caught_up(followers)
            assert followers.take_swap() is None
            (tmp_path / "000001").mkdir()
            (tmp_path / "000001" / "manifest.json").write_text("here")
            assert await until(followers.take_swap) == Swap("000001", "here")

    asyncio.run(run())


def test_records_of_models_that_cannot_be_used_are_shown(settings: Settings) -> None:
    topic = settings.topics.models

    async def run() -> None:
        metrics = WorkerMetrics()
        followers = Followers(settings, metrics, no_snapshot)
        await write(settings, [(topic, b"transformer/live", b"{"), (topic, b"transformer/../x", b"{}")])
        await followers.start()
        await caught_up(followers)
        await followers.stop()
        assert metrics.registry.get_sample_value("headrace_models_ignored") == 2

    asyncio.run(run())


def test_a_pause_is_obeyed_from_the_start_and_ended_by_a_resume(settings: Settings) -> None:
    topic = settings.topics.control

    async def run() -> None:
        await write(settings, [(topic, b"mine", encode(Control(action="pause")))])
        async with following(settings, no_snapshot) as followers:
            await caught_up(followers)
            assert followers.paused
            await write(settings, [(topic, b"mine", encode(Control(action="resume")))])
            await until(lambda: not followers.paused)

    asyncio.run(run())


@pytest.mark.parametrize("error", [KafkaError("no leader"), MemoryError("no room")])
def test_a_topic_that_can_no_longer_be_read_is_said_and_told_to_whoever_asks(
    settings: Settings, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def getmany(**_: Any) -> Any:
        raise error

    async def run() -> None:
        async with following(settings, no_snapshot) as followers:
            await caught_up(followers)
            followers.check()
            followers._consumer.getmany = getmany
            await until(lambda: followers._failure)
            with pytest.raises(FollowError, match=rf"can't be followed: {type(error).__name__}.*{error}"):
                followers.check()

    asyncio.run(run())
    assert f"{settings.topics.control} can't be followed" in caplog.text


def test_a_stop_is_no_failure(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with following(settings, no_snapshot) as followers:
            await caught_up(followers)
            asked, gone = asyncio.Event(), asyncio.Event()

            async def getmany(**_: Any) -> Any:
                asked.set()
                await gone.wait()
                raise ConsumerStoppedError

            stop = followers._consumer.stop

            async def stop_and_be_noticed() -> None:
                gone.set()
                await stop()

            followers._consumer.getmany, followers._consumer.stop = getmany, stop_and_be_noticed
            await asyncio.wait_for(asked.wait(), 20)
        followers.check()

    asyncio.run(run())
    assert "can't be followed" not in caplog.text


def test_a_missing_topic_is_named(settings: Settings) -> None:
    topics = settings.topics.model_copy(update={"control": "no.control"})
    elsewhere = settings.model_copy(update={"topics": topics})

    async def run() -> None:
        followers = Followers(elsewhere, WorkerMetrics(), None)
        try:
            await followers.start()
        finally:
            await followers.stop()

    with pytest.raises(MissingTopicError, match=r"there is no topic 'no\.control'"):
        asyncio.run(run())
