"""Training by as many processes as torchrun starts, each of which reads its share of the partitions.

In: settings, the events topics up to their present ends. Out: one snapshot, written and announced by the first process.
A partition number, of all input topics, is a shard (`models.training.distributed`): all of a user's events are in one,
and the steps do not depend on the number of processes. Never moves the live pointer, and keeps no state: it trains anew
each time.

    headrace models train --broker HOST:PORT --snapshots DIR
    torchrun --nproc-per-node 2 -m stream_app.cli models train --broker HOST:PORT --snapshots DIR

What the worker decides by its state is decided more simply here: an event id counts once among the last `IDS` of a
user, late events are taken in by their time, and an `erase` forgets all that was read of the user so far, and what is
as old in the topics that are read after its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from aiokafka import ConsumerRecord, TopicPartition

from models.sequence import snapshot
from models.sequence.transformer import band_for
from models.training.distributed import DistributedTrainer, Group
from models.training.event_log import EventLog
from stream_app.batch.careful import ERASE
from stream_app.batch.decode import Decoded, EventDecoder
from stream_app.brokers.topic_reader import TopicReader, open_reader
from stream_app.errors import UsageError
from stream_app.settings import EventSettings, Settings
from stream_app.training.event_feed import name_of
from stream_app.training.new_version import check_registry, put
from stream_app.training.ranker import TRANSFORMER
from stream_app.training.shadow import Events, events_of
from stream_app.training.trainer import pick_device

BATCH = 2_000
IDS = 64
"""Event ids of a user that are remembered."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The version that was written, and what it was made of.

    Attributes:
        events: learned from, of `shards` partitions, by `processes`.
        dropped: older events, for which there was no room.
        refused: bad records that were skipped.
        losses: mean loss of each step.
    """

    version: str
    events: int
    dropped: int
    refused: int
    shards: int
    processes: int
    losses: list[float]

    @property
    def last(self) -> float:
        """Mean loss of the last tenth of the steps."""
        return float(np.mean(self.losses[-max(len(self.losses) // 10, 1) :]))


def train_sharded(settings: Settings, tokens_per_event: float, curve: Path | None = None) -> Trained | None:
    """Read, train, write, announce; None in all processes but the first.

    Raises:
        UsageError: another model is asked for, the topics hold nothing to learn from, or there are fewer GPUs than
            processes.
        HeadraceError: no broker, a missing topic, CUDA asked for but absent, a folder that can't be written to.
    """
    ranker = settings.models.ranker
    if ranker != TRANSFORMER:
        raise UsageError(
            f"models.ranker is {ranker}, and only the Transformer can be trained here",
            f"Let `headrace trainer` train {ranker}, or leave out models.ranker.",
        )
    if not settings.models.transformer.enabled:
        raise UsageError(
            "models.transformer.enabled is false, so there is nothing to train", "Set it to true."
        )
    device = _device(settings)
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if os.environ.get("RANK", "0") == "0":
        check_registry(settings)
    if together:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        return _train(settings, tokens_per_event, curve, Group(device))
    finally:
        if together:
            dist.destroy_process_group()


def _device(settings: Settings) -> str:
    """This process's own."""
    device = pick_device(settings.trainer.device)
    if device != "cuda":
        return device
    processes, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > devices:
        raise UsageError(
            f"{processes} processes on this machine, but {devices} GPUs",
            f"Start {devices}, or train on the CPU: --set trainer.device=cpu",
        )
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    torch.cuda.set_device(device)
    return device


def _train(settings: Settings, tokens_per_event: float, curve: Path | None, group: Group) -> Trained | None:
    model = settings.models.transformer
    trainer = DistributedTrainer(
        model,
        band_for(settings.models.sequence.length, model.layers),
        settings.seed,
        device=group.device,
        threads=settings.trainer.torch_threads,
        scale=(settings.events.rating_low, settings.events.rating_high),
        max_items=settings.models.max_items,
    )
    read = asyncio.run(_read(settings, group.rank, group.size))
    logs = {number: shard.log for number, shard in read.items()}
    said = group.gather([(len(s.log), s.log.first, s.refused, s.offsets) for s in read.values()])
    parts = [part for those in said for part in those]
    events, dropped, refused = (sum(part[at] for part in parts) for at in range(3))
    losses = trainer.train(logs, round(tokens_per_event * events), group)
    if group.rank:
        return None
    if not losses:
        raise UsageError(
            f"{', '.join(settings.topics.events)}: nothing to learn from in {events:,} events"
            f" ({refused:,} bad records were skipped)",
            "A user needs two events, and one that teaches positively. Are the fields mapped (--map)?",
        )
    cut = {name: offset for *_, offsets in parts for name, offset in offsets.items()}
    version = put(settings, lambda folder, new: snapshot.write(folder, trainer, new, cut), announce=True)
    if curve is not None:
        try:
            curve.write_bytes(msgspec.json.encode(losses))
        except OSError as error:
            raise UsageError(
                f"--curve {curve}: {error.strerror}", f"Snapshot {version} is written."
            ) from error
    return Trained(version, events, dropped, refused, len(parts), group.size, losses)


async def _read(settings: Settings, rank: int, size: int) -> dict[int, _Shard]:
    """This process's shards by number."""
    decoder = EventDecoder(settings.events, settings.topics.events)
    async with open_reader(settings) as reader:
        partitions = [at for topic in settings.topics.events for at in reader.partitions(topic)]
        numbers = sorted({at.partition for at in partitions})
        capacity = max(1, settings.trainer.history_events // len(numbers))
        shards = {number: _Shard(EventLog(capacity), settings.events) for number in numbers[rank::size]}
        for number, shard in shards.items():
            for at in partitions:
                if at.partition == number:
                    await shard.read(reader, at, decoder)
    return shards


class _Shard:
    """The events of one partition number, topic after topic.

    Attributes:
        refused: bad records.
        offsets: after the last record of each partition.
    """

    def __init__(self, log: EventLog, settings: EventSettings) -> None:
        self.log, self.refused = log, 0
        self.offsets: dict[str, int] = {}
        self._settings = settings
        self._ids: dict[str, deque[int]] = {}
        self._erased: dict[str, tuple[str, int]] = {}  # the topic that said so, and when

    async def read(self, reader: TopicReader, at: TopicPartition, decoder: EventDecoder) -> None:
        """Take in a partition up to its present end."""
        waiting: list[ConsumerRecord] = []
        async for record in reader.to_end([at]):
            waiting.append(record)
            self.offsets[name_of(at)] = record.offset + 1
            if len(waiting) == BATCH:
                self._take(at.topic, decoder.decode(waiting, time.time() * 1000))
                waiting = []
        self._take(at.topic, decoder.decode(waiting, time.time() * 1000))

    def _take(self, topic: str, decoded: Decoded) -> None:
        self.refused += len(decoded.dead_letters)
        events = events_of(decoded, self._settings)
        kept: list[int] = []
        for row, (user, kind, number, ts) in enumerate(
            zip(events.user, events.kind, events.event_id.tolist(), events.ts.tolist(), strict=True)
        ):
            if kind == ERASE:
                self._append(events, kept)
                kept = []
                self.log.erase(user)
                self._ids.pop(user, None)
                self._erased[user] = (topic, ts)
                continue
            by, until = self._erased.get(user, (topic, ts))
            if by != topic and ts <= until:
                continue
            if number:
                ids = self._ids.setdefault(user, deque(maxlen=IDS))
                if number in ids:
                    continue
                ids.append(number)
            kept.append(row)
        self._append(events, kept)

    def _append(self, events: Events, rows: list[int]) -> None:
        some = events.take(np.array(rows, np.int64))
        self.log.append(some.user, some.item, some.kind, some.value, some.weight, some.ts, {})
