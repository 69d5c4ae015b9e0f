import asyncio
import shutil
import uuid
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from stream_app.brokers.connection import BrokerUnreachableError, MissingTopicError, client_options
from stream_app.events import Live, Manifest
from stream_app.settings import Settings, load
from stream_app.training import registry
from stream_app.training.registry import Registry, RegistryError


def manifest(version: str, against: str | None = None) -> Manifest:
    gate = {} if against is None else {"against": against, "go": True}
    return Manifest(
        name="transformer", version=version, sha256="0" * 64, cut={"events-0": 7}, created_ts=5, gate=gate
    )


def settings_for(address: str, folder: Path, topic: str) -> Settings:
    return load(
        {
            "broker.url": address,
            "broker.connect_timeout_s": 5.0,
            "topics.models": topic,
            "trainer.snapshots": folder / "snapshots",
            "trainer.keep_snapshots": 2,
        }
    )


@pytest.fixture
def settings(embedded_broker: object, tmp_path: Path) -> Settings:
    address = embedded_broker.address  # type: ignore[attr-defined]
    made = settings_for(address, tmp_path, f"models-{uuid.uuid4().hex[:8]}")

    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        await admin.create_topics([NewTopic(made.topics.models, 1, 1)])
        await admin.close()

    asyncio.run(create())
    return made


def test_what_is_announced_is_listed_in_another_process(settings: Settings) -> None:
    async def trainer() -> None:
        async with Registry(settings, now_ms=lambda: 11) as r:
            await r.announce(manifest("000001"))
            assert await r.set_live("000001")
            await r.announce(manifest("000002"))
            await r.announce(manifest("000002", against="000001"))

    asyncio.run(trainer())
    rows = registry.list_models(settings)
    assert [(r.version, r.live, r.pinned) for r in rows] == [
        ("000001", True, False),
        ("000002", False, False),
    ]
    assert rows[1].gate == {"against": "000001", "go": True}


def test_a_rollback_pins_the_version_live_before_and_only_unpin_frees_the_pointer(settings: Settings) -> None:
    async def story() -> None:
        async with Registry(settings) as trainer, Registry(settings) as operator:
            for version, against in (("000001", None), ("000002", "000001"), ("000003", "000002")):
                await trainer.announce(manifest(version, against))
                assert await trainer.set_live(version)
            assert (await operator.rollback()).version == "000002"
            assert not await trainer.set_live("000003")
            pointer = (await trainer.read_all()).live
            assert pointer is not None
            assert (pointer.version, pointer.pinned, pointer.by) == ("000002", True, "operator")
            assert (await operator.rollback()).version == "000001", "a second rollback goes further back"
            with pytest.raises(RegistryError, match="no earlier version is kept before 000001"):
                await operator.rollback()
            freed = await operator.unpin()
            assert (freed.version, freed.pinned) == ("000001", False)
            assert await operator.unpin() == freed
            assert await trainer.set_live("000003")

    asyncio.run(story())


def test_a_pin_written_between_the_trainers_look_and_its_write_is_put_back(settings: Settings) -> None:
    async def story() -> None:
        async with Registry(settings) as trainer, Registry(settings) as operator:
            for version in ("000001", "000002", "000003"):
                await trainer.announce(manifest(version))
            await trainer.set_live("000002")
            write = trainer._write

            async def write_after_a_pin(version: str, value: bytes | None) -> int:
                trainer._write = write  # type: ignore[method-assign]
                await operator.rollback("000001")
                return await write(version, value)

            trainer._write = write_after_a_pin  # type: ignore[method-assign]
            assert not await trainer.set_live("000003")
            pointer = (await operator.read_all()).live
            assert pointer is not None
            assert (pointer.version, pointer.pinned) == ("000001", True)

    asyncio.run(story())


def test_a_rollback_to_what_is_not_there_says_what_is(settings: Settings) -> None:
    with pytest.raises(RegistryError, match="no model is live"):
        registry.rollback(settings)
    with pytest.raises(RegistryError, match="no model is live"):
        registry.unpin(settings)

    async def trainer() -> None:
        async with Registry(settings) as r:
            await r.announce(manifest("000001"))
            await r.announce(manifest("000002"))
            await r.set_live("000002")

    asyncio.run(trainer())
    with pytest.raises(RegistryError, match="Versions there are: 000001, 000002"):
        registry.rollback(settings, "000009")
    settings.trainer.snapshots.mkdir()
    with pytest.raises(RegistryError, match="snapshot 000001 is not in"):
        registry.rollback(settings, "000001")


def test_expired_snapshots_are_deleted_from_folder_and_topic(settings: Settings) -> None:
    folder = settings.trainer.snapshots
    for version in range(1, 6):
        (folder / f"{version:06d}").mkdir(parents=True)

    async def story() -> list[str]:
        async with Registry(settings) as r:
            await r.announce(manifest("000001"))
            await r.announce(manifest("000002", against="000001"))
            await r.set_live("000002")
            for version in ("000003", "000004", "000005"):
                await r.announce(manifest(version, against="000002"))
            return await r.delete_expired()

    assert asyncio.run(story()) == ["000003"]
    assert sorted(p.name for p in folder.iterdir()) == ["000001", "000002", "000004", "000005"]
    assert [r.version for r in registry.list_models(settings)] == ["000001", "000002", "000004", "000005"]


def test_a_snapshot_that_the_disk_keeps_is_said_and_the_others_are_deleted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = settings.trainer.snapshots
    for version in range(1, 5):
        (folder / f"{version:06d}").mkdir(parents=True)
    rmtree = shutil.rmtree

    def refuses(path: Path) -> None:
        if path.name == "000001":
            raise PermissionError(13, "Permission denied", str(path))
        rmtree(path)

    async def story() -> list[list[str]]:
        async with Registry(settings) as r:
            await r.announce(manifest("000001"))
            monkeypatch.setattr(shutil, "rmtree", refuses)
            first = await r.delete_expired()
            assert list(r.view.manifests) == ["000001"]
            monkeypatch.setattr(shutil, "rmtree", rmtree)
            return [first, await r.delete_expired()]

    assert asyncio.run(story()) == [["000002"], ["000001"]]
    assert sorted(p.name for p in folder.iterdir()) == ["000003", "000004"]
    assert "000001 is old, but can't be deleted" in caplog.text


def test_a_snapshots_folder_that_cannot_be_listed_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied(_: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", "snapshots")

    async def story() -> list[str]:
        async with Registry(settings) as r:
            return await r.delete_expired()

    monkeypatch.setattr(registry, "versions_taken", denied)
    assert asyncio.run(story()) == []
    assert "Permission denied" in caplog.text


def test_no_record_on_the_topic_leads_the_deletion_out_of_the_folder(
    settings: Settings, tmp_path: Path
) -> None:
    folder = settings.trainer.snapshots
    for outside in (tmp_path / "valuable", tmp_path / "000000"):
        outside.mkdir()
    for version in range(1, 6):
        (folder / f"{version:06d}").mkdir(parents=True)

    async def story() -> list[str]:
        async with Registry(settings) as r:
            for name in (str(tmp_path / "valuable"), "../valuable", "../000000", "..", "."):
                await r.announce(manifest(name))
            await r.announce(manifest("000003"))
            await r.set_live("000005")
            return await r.delete_expired()

    assert asyncio.run(story()) == ["000001", "000002", "000003"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000", "snapshots", "valuable"]
    assert sorted(p.name for p in folder.iterdir()) == ["000004", "000005"]


def test_broken_records_on_the_topic_do_not_hide_the_good_ones(settings: Settings) -> None:
    async def story() -> None:
        producer = AIOKafkaProducer(**client_options(settings.broker))
        await producer.start()
        topic = settings.topics.models
        await producer.send_and_wait(topic, b"\xff", key=b"transformer/000001")
        await producer.send_and_wait(
            topic, msgspec.json.encode(Live(version="000002")), key=b"transformer/live"
        )
        await producer.stop()
        async with Registry(settings) as r:
            assert r.view.unreadable == 1
            assert r.view.live is not None

    asyncio.run(story())


def test_a_missing_topic_is_named_with_the_command_that_makes_it(settings: Settings, tmp_path: Path) -> None:
    lacking = settings_for(settings.broker.url, tmp_path, "no-such-topic")
    with pytest.raises(
        MissingTopicError, match=r"there is no topic 'no-such-topic'.*\n.*headrace topics create"
    ):
        registry.list_models(lacking)


def test_no_broker_is_one_clear_message(free_port: int) -> None:
    absent = load({"broker.url": f"127.0.0.1:{free_port}", "broker.connect_timeout_s": 0.1})
    with pytest.raises(
        BrokerUnreachableError, match=r"no Kafka broker answers at 127.0.0.1.*\n.*headrace broker"
    ):
        registry.list_models(absent)


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
