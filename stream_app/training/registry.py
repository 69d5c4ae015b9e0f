"""The model registry: which snapshots exist, which one is live, and how an operator takes one back.

In: manifests and pointers on the `models` topic (compacted, one partition), keyed NAME/VERSION and NAME/live;
the trainer's announcements; an operator's rollback or unpin. Out: the same records, and a view of them.
Workers obey NAME/live alone. Never loads weights, never decides whether a snapshot is good.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from stream_app.brokers.connection import check_topics, client_options, start_client
from stream_app.errors import HeadraceError
from stream_app.events import Live, Manifest
from stream_app.settings import Settings
from stream_app.training.model_versions import ModelRow, ModelsView, versions_on_disk, versions_taken

log = logging.getLogger(__name__)

TRAINER, OPERATOR = "trainer", "operator"
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class RegistryError(HeadraceError):
    """The registry can't do what was asked; the message says what to do."""


class Registry:
    """The `models` topic, opened: `async with Registry(settings) as registry`.

    A pinned pointer is never moved by `set_live`, although the operator may pin it between the trainer's look
    and its write: the order of the log decides, so `set_live` writes, reads on up to its own record, and puts
    a pin that it finds there back on top.
    """

    def __init__(self, settings: Settings, *, now_ms: Callable[[], int] | None = None) -> None:
        self._settings = settings
        self._topic = TopicPartition(settings.topics.models, 0)
        self._now_ms = now_ms or (lambda: int(time.time() * 1000))
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self.view = ModelsView()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> None:
        broker = self._settings.broker
        self._consumer = AIOKafkaConsumer(
            auto_offset_reset="none", enable_auto_commit=False, fetch_max_wait_ms=20, **client_options(broker)
        )
        await start_client(self._consumer, broker)
        check_topics([self._topic.topic], await self._consumer.topics(), broker)
        self._consumer.assign([self._topic])
        begin = await self._consumer.beginning_offsets([self._topic])
        self._consumer.seek(self._topic, begin[self._topic])
        await self.read_all()

    async def close(self) -> None:
        """Close the connections; harmless when there are none."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def read_all(self) -> ModelsView:
        """Read what was written since the last call, up to the topic's end now."""
        await self._catch_up()
        return self.view

    async def _catch_up(self) -> list[tuple[int, Live]]:
        assert self._consumer is not None, "the registry is closed"
        pointers: list[tuple[int, Live]] = []
        end = (await self._consumer.end_offsets([self._topic]))[self._topic]
        patience = self._settings.broker.connect_timeout_s
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while (at := await self._consumer.position(self._topic)) < end:
            for record in (await self._consumer.getmany(self._topic, timeout_ms=100)).get(self._topic, []):
                pointer = self.view.apply(record.key, record.value)
                if pointer is not None:
                    pointers.append((record.offset, pointer))
                deadline = loop.time() + patience
            # A broker may say less about its end than there is; what comes with a fetch is right.
            end = max(end, self._consumer.highwater(self._topic) or 0)
            if loop.time() > deadline:
                raise RegistryError(
                    f"{self._topic.topic}-0 can't be read from offset {at} to its end at {end}: nothing came "
                    f"for {patience:g} s",
                    f"Is the broker at {self._settings.broker.url} well? Try again when it answers.",
                )
        return pointers

    async def _write(self, version: str, value: bytes | None) -> int:
        if self._producer is None:
            producer = AIOKafkaProducer(acks="all", linger_ms=0, **client_options(self._settings.broker))
            await producer.start()
            self._producer = producer
        key = f"{self.view.name}/{version}".encode()
        record = await self._producer.send_and_wait(self._topic.topic, value, key=key, partition=0)
        return int(record.offset)

    async def announce(self, manifest: Manifest) -> None:
        """Write the snapshot's manifest; a second announcement of a version replaces the first."""
        await self._write(manifest.version, _encode(manifest))

    async def forget(self, version: str) -> None:
        """Take a version out of the topic (a tombstone)."""
        await self._write(version, None)

    async def set_live(self, version: str, *, by: str = TRAINER) -> bool:
        """Point to `version`. False, and nothing has moved, where an operator has pinned the pointer."""
        await self._catch_up()
        if self.view.live is not None and self.view.live.pinned:
            return False
        mine = await self._write("live", _encode(Live(version=version, by=by, at=self._now_ms())))
        rivals = [pin for offset, pin in await self._catch_up() if offset < mine and pin.pinned]
        if not rivals:
            return True
        await self._write("live", _encode(rivals[-1]))
        await self._catch_up()
        return False

    async def rollback(self, to: str | None = None, *, by: str = OPERATOR) -> Live:
        """Point to an earlier version (by default the one live before this one) and pin it there."""
        await self._catch_up()
        live = self.view.live
        if live is None:
            raise RegistryError(
                "no model is live, so there is nothing to roll back", "See: headrace models list"
            )
        target = to or self.view.previous(live.version)
        if target is None:
            raise RegistryError(
                f"no earlier version is kept before {live.version}",
                "Name one with --to VERSION; `headrace models list` shows what there is.",
            )
        if target not in self.view.manifests:
            known = ", ".join(sorted(self.view.manifests)) or "none"
            raise RegistryError(
                f"version {target!r} was never announced or is deleted",
                f"Versions there are: {known}.",
            )
        folder = self._settings.trainer.snapshots
        if folder.is_dir() and target not in versions_on_disk(folder):
            raise RegistryError(
                f"snapshot {target} is not in {folder}, so workers could not load it",
                "Bring its folder back, or roll back to another version with --to VERSION.",
            )
        return await self._point(Live(version=target, pinned=True, by=by, at=self._now_ms()))

    async def unpin(self, *, by: str = OPERATOR) -> Live:
        """Let the trainer move the pointer again; the version stays as it is."""
        await self._catch_up()
        live = self.view.live
        if live is None:
            raise RegistryError("no model is live, so nothing is pinned", "See: headrace models list")
        if not live.pinned:
            return live
        return await self._point(Live(version=live.version, pinned=False, by=by, at=self._now_ms()))

    async def _point(self, pointer: Live) -> Live:
        await self._write("live", _encode(pointer))
        await self._catch_up()
        return pointer

    async def delete_expired(self) -> list[str]:
        """Delete snapshots beyond `trainer.keep_snapshots`, folder first, then the manifest; which were deleted.

        Nothing is deleted but what was found in the snapshots folder. What the disk refuses is said, and stays
        announced: it is tried again the next time.
        """
        folder = self._settings.trainer.snapshots
        await self._catch_up()
        deleted: list[str] = []
        try:
            here = versions_taken(folder)
        except OSError as error:
            log.warning("old snapshots are not deleted: %s", error)
            return deleted
        for version in self.view.expired(here, self._settings.trainer.keep_snapshots):
            if version in here and not await asyncio.to_thread(_delete, folder / version):
                continue
            if version in self.view.manifests:
                await self.forget(version)
            deleted.append(version)
        await self._catch_up()
        return deleted


def _delete(folder: Path) -> bool:
    """Delete a snapshot; whether it is gone."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if not folder.exists():
            return True
        log.warning("snapshot %s is old, but can't be deleted: %s", folder, error)
        return False
    return True


def ask(settings: Settings, question: Callable[[Registry], Awaitable[T]]) -> T:
    """Open the registry, ask it one thing, close it: for commands.

    `ask(settings, lambda r: r.rollback("000003"))`, `ask(settings, Registry.unpin)`.
    """

    async def run() -> T:
        async with Registry(settings) as registry:
            return await question(registry)

    return asyncio.run(run())


def list_models(settings: Settings) -> list[ModelRow]:
    """Every announced snapshot, oldest first, with live and pinned marks."""

    async def rows(registry: Registry) -> list[ModelRow]:
        return registry.view.rows()

    return ask(settings, rows)


def rollback(settings: Settings, to: str | None = None) -> Live:
    """Pin the pointer to `to`, or to the version that was live before the current one."""
    return ask(settings, lambda registry: registry.rollback(to))


def unpin(settings: Settings) -> Live:
    """Let the trainer move the pointer again."""
    return ask(settings, Registry.unpin)
